"""What the scheduler makes of its workers' answers: who is checked first, who disagrees, who fits beside whom."""

import itertools
from dataclasses import replace

import pytest

from t2bench.runner import groups
from t2bench.runner.estimate import Estimator
from t2bench.runner.groups import Groups
from t2bench.runner.journal import Journal
from t2bench.runner.observer import Silent
from t2bench.runner.recording import Recorder
from t2bench.runner.state import RunState
from t2bench.runner.texts import Texts
from t2bench.runner.turns import Bench
from t2bench.spec.case import Case, Plan, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.suite import Limits, Measure

CHECKED = {"name": "padding", "passed": True, "detail": ""}


def case(variant, *, ghost=False, **model):
    return Case(
        variant=variant,
        model=ModelSpec(**model),
        workload=WorkloadSpec(),
        length=64,
        batch=2,
        dtype="fp32",
        device="cpu",
        ghost=ghost,
    )


class Workers:
    """Answers every operation; losses by variant, for the counters pass and for timed launches."""

    isolation = "scripted"

    def __init__(self, counted, timed=None):
        self.counted, self.timed, self.asked = counted, timed or {}, []
        self.alive = self.most_alive = 0

    def start(self):
        workers, turns = self, itertools.count()

        class Worker:
            variant = ""

            def ask(self, message, timeout_s):
                op = message["op"]
                self.variant = message["case"]["variant"] if "case" in message else self.variant
                workers.asked.append((op, self.variant))
                if op == "open":
                    workers.alive += 1
                    workers.most_alive = max(workers.most_alive, workers.alive)
                    self.opened = True
                attention = message["case"]["model"]["attention"] if "case" in message else ""
                loss = workers.counted.get(self.variant.removesuffix("@ghost"), 6.0)
                return {
                    "truth": {"checks": [CHECKED]},
                    "rows": {"checks": [CHECKED]},
                    "counters": {
                        "metrics": {"executed_flops": 1},
                        "observed": {"backends": [attention], "kernels": ["k"], "checksum": loss},
                    },
                    "memory": {"metrics": {"process_peak_bytes": 1}, "observed": {}},
                    "warm": {
                        "warmup_s": [0.1],
                        "steady": True,
                        "step_s": 0.1,
                        "calls": 1,
                        "build_s": 0.0,
                        "busy_s": 0.1,
                        "observed": {"checksum": workers.timed.get(self.variant, loss)},
                    },
                    "turn": {
                        "metrics": {"step_time_s": 0.1},
                        "start_s": float(next(turns)),
                        "wait_s": None,
                        "contended": None,
                        "calls": 1,
                        "host_bound": False,
                        "busy_s": 0.1,
                    },
                }.get(op, {})

            def close(self):
                if getattr(self, "opened", False):
                    workers.alive -= 1
                    self.opened = False

        return Worker()


@pytest.fixture
def measure(tmp_path):
    """Measure one launch of a group with scripted workers; returns the records by (variant, pass)."""
    with Journal(tmp_path / "run") as journal:

        def call(workers, cases, *, launch=0, limit_bytes=100, peaks=None):
            state = RunState(tmp_path / "run", journal, Silent(), {})
            estimator = Estimator(Measure())
            estimator.predicted_peak_bytes = peaks or {}
            bench = Bench(
                launcher=workers,
                setup={},
                tokens={},
                measure=Measure(rounds=2),
                limits=Limits(),
                recorder=Recorder("r"),
                seed=0,
            )
            Groups(
                "vanilla",
                bench,
                limit_bytes,
                estimator,
                Texts(Plan(cases=(), refusals=(), reference="vanilla"), None, tmp_path),
                state,
            ).measure(launch, cases, (0, 1, 0.0))
            return {(record.variant, record.pass_): record for record in journal.records}

        yield call


@pytest.mark.parametrize("order", [("vanilla", "flash"), ("flash", "vanilla")])
def test_the_reference_is_checked_first_and_a_variant_that_disagrees_is_not_timed(measure, order):
    cases = {"vanilla": case("vanilla"), "flash": case("flash", attention="sdpa_flash")}
    workers = Workers({"vanilla": 6.0, "flash": 6.1})
    records = measure(workers, [cases[name] for name in order])
    assert [variant for op, variant in workers.asked if op == "counters"] == ["vanilla", "flash"]
    assert records["flash", "counters"].status == "wrong_numerics"
    assert "6.1" in records["flash", "counters"].reason
    assert ("flash", "time") not in records
    assert records["vanilla", "time"].status == "ok"


def test_a_variant_with_other_mathematics_may_have_another_loss(measure):
    records = measure(Workers({"vanilla": 6.0, "gelu": 6.1}), [case("vanilla"), case("gelu", activation="gelu")])
    assert records["gelu", "time"].status == "ok"


def test_a_timed_launch_must_compute_what_was_verified(measure):
    cases = [case("vanilla"), case("flash", attention="sdpa_flash"), case("vanilla@ghost", ghost=True)]
    records = measure(Workers({}, timed={"flash": 5.0}), cases)
    assert records["flash", "time"].status == "wrong_numerics"
    assert "timed launch" in records["flash", "time"].reason
    assert records["vanilla@ghost", "time"].status == "ok"


def test_a_ghost_of_a_wrong_reference_is_not_timed_either(measure):
    records = measure(Workers({"vanilla": None}), [case("vanilla"), case("vanilla@ghost", ghost=True)])
    assert set(records) == {("vanilla", "truth"), ("vanilla", "counters")}


def test_variants_share_the_machine_only_if_all_fit(measure):
    cases = [case("vanilla"), case("flash", attention="sdpa_flash")]
    workers = Workers({})
    records = measure(workers, cases, limit_bytes=9, peaks={one.id: 5.0 for one in cases})
    assert workers.most_alive == 1
    assert records["flash", "time"].observed["interleave"] == "launches"


def test_they_take_turns_when_they_fit(measure):
    cases = [case("vanilla"), case("flash", attention="sdpa_flash")]
    workers = Workers({})
    records = measure(workers, cases, limit_bytes=10, peaks={one.id: 5.0 for one in cases})
    assert workers.most_alive == 2
    assert records["flash", "time"].observed["interleave"] == "token"
    assert list(records["flash", "time"].turns["contended"]) == [None, None], "unknown is not the same as no"


@pytest.mark.parametrize(("limit_bytes", "together"), [(9, False), (10, True)])
def test_what_learns_is_trained_with_the_number_of_its_launch_and_together_if_all_fit(
    measure, monkeypatch, limit_bytes, together
):
    asked = []

    class Training:
        def __init__(self, *_):
            pass

        def measure(self, cases, launch, *, together):
            asked.append(([one.variant for one in cases], launch, together))
            return []

        def forget(self):
            pass

    monkeypatch.setattr(groups, "TrainLaunch", Training)
    cases = [replace(case(name, arch="encdec"), workload=WorkloadSpec(kind="translate")) for name in ("vanilla", "two")]
    measure(Workers({}), cases, launch=3, limit_bytes=limit_bytes, peaks={one.id: 5.0 for one in cases})
    assert asked == [(["vanilla", "two"], 3, together)]
