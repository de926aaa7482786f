"""The turns of a launch, with scripted workers: who works when, what a failure leaves, when rounds are added."""

import itertools
from collections import Counter

import pytest

from t2bench.runner.launcher import WorkerFailed
from t2bench.runner.recording import Recorder, unit_of_metric
from t2bench.runner.turns import Bench, measure_launch
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.suite import Limits, Measure


class ScriptedWorker:
    """Answers like a worker and writes every request into a common log."""

    def __init__(self, log, script):
        self.log, self.script, self.variant, self.turns = log, script, "?", itertools.count()

    def ask(self, message, timeout_s):
        op = message["op"]
        if op == "open":
            self.variant = message["case"]["variant"]
        self.log.append((op, self.variant))
        plan = self.script.get(self.variant, {})
        if op == plan.get("fails_at"):
            raise WorkerFailed(plan["status"], "as scripted")
        if op == "warm":
            return {
                "warmup_s": [0.2, 0.1],
                "steady": plan.get("steady", True),
                "step_s": plan.get("step_s", 0.1),
                "calls": 1,
                "host_bound": False,
                "build_s": 0.0,
                "busy_s": 0.3,
                "observed": {"checksum": 1.0},
            }
        if op == "turn":
            number = next(self.turns)
            if number == plan.get("fails_at_turn"):
                raise WorkerFailed(plan["status"], "as scripted")
            return {
                "metrics": {"step_time_s": 0.1 + number, "forward_time_s": 0.05},
                "start_s": float(number),
                "wait_s": 0.0,
                "contended": number in plan.get("contended", ()),
                "calls": 1,
                "host_bound": False,
                "busy_s": 0.2,
                "settle": message["settle"],
            }
        return {}

    def close(self):
        self.log.append(("close", self.variant))


class ScriptedLauncher:
    isolation = "scripted"

    def __init__(self, script=None):
        self.log, self.script = [], script or {}

    def start(self):
        return ScriptedWorker(self.log, self.script)


def case(variant: str) -> Case:
    return Case(
        variant=variant, model=ModelSpec(), workload=WorkloadSpec(), length=8, batch=2, dtype="fp32", device="cpu"
    )


def play(launcher, variants=("a", "b", "c"), *, rounds=6, max_rounds=12, launch=0, interleave="token"):
    bench = Bench(
        launcher=launcher,
        setup={},
        tokens={},
        measure=Measure(rounds=rounds, max_rounds=max_rounds),
        limits=Limits(),
        recorder=Recorder("r"),
        seed=7,
    )
    return measure_launch(bench, [case(v) for v in variants], launch, interleave=interleave, watch=lambda _: None)


def turns_of(log):
    return [variant for op, variant in log if op == "turn"]


def test_every_round_has_each_variant_once_in_a_balanced_order_that_the_records_state():
    launcher = ScriptedLauncher()
    records, inside_s = play(launcher)
    taken = turns_of(launcher.log)
    assert len(taken) == 18
    for start in range(0, 18, 3):
        assert sorted(taken[start : start + 3]) == ["a", "b", "c"]
    for block in range(2):  # Latin square: in three rounds each variant stood at each position once
        rows = [taken[9 * block + 3 * i : 9 * block + 3 * i + 3] for i in range(3)]
        assert all(sorted(column) == ["a", "b", "c"] for column in zip(*rows, strict=True))
    for record in records:
        assert list(record.turns["round"]) == list(range(6))
        for number, position in zip(record.turns["round"], record.turns["position"], strict=True):
            assert taken[3 * number + position] == record.variant
    assert inside_s == pytest.approx(3 * (0.3 + 6 * 0.2))


def test_all_are_warm_before_the_first_turn_and_closed_after_the_last():
    launcher = ScriptedLauncher()
    play(launcher)
    ops = [op for op, _ in launcher.log]
    assert max(i for i, op in enumerate(ops) if op == "warm") < ops.index("turn")
    assert ops.index("close") > max(i for i, op in enumerate(ops) if op == "turn")
    assert Counter(ops)["close"] == Counter(ops)["configure"] == 3


def test_launches_have_different_orders_and_equal_seeds_the_same():
    logs = []
    for launch in (0, 1, 1):
        launcher = ScriptedLauncher()
        play(launcher, launch=launch)
        logs.append(turns_of(launcher.log))
    assert logs[0] != logs[1] == logs[2]


@pytest.mark.parametrize(
    "script",
    [
        {"b": {"fails_at": "open", "status": "oom"}},
        {"b": {"fails_at": "warm", "status": "timeout"}},
        {"b": {"fails_at_turn": 2, "status": "crashed"}},
    ],
)
def test_a_failing_worker_becomes_a_row_and_the_others_go_on(script):
    launcher = ScriptedLauncher(script)
    records, _ = play(launcher)
    by_variant = {record.variant: record for record in records}
    assert by_variant["b"].status == script["b"]["status"]
    assert by_variant["b"].reason == "as scripted"
    for variant in "ac":
        assert by_variant[variant].status == "ok"
        assert len(by_variant[variant].metrics["step_time_s"].samples) == 6
    assert ("close", "b") in launcher.log


def test_the_samples_before_a_crash_are_kept():
    records, _ = play(ScriptedLauncher({"b": {"fails_at_turn": 2, "status": "crashed"}}))
    crashed = next(record for record in records if record.variant == "b")
    assert crashed.metrics["step_time_s"].samples == (0.1, 1.1)


def test_a_contended_round_is_kept_marked_and_followed_by_another():
    records, _ = play(ScriptedLauncher({"b": {"contended": {1, 4}}}))
    by_variant = {record.variant: record for record in records}
    assert len(by_variant["a"].metrics["step_time_s"].samples) == 8
    assert by_variant["b"].turns["contended"] == [n in (1, 4) for n in range(8)]
    assert by_variant["b"].status == "ok"


def test_too_few_clean_turns_is_could_not_measure_with_the_data_kept():
    records, _ = play(ScriptedLauncher({"b": {"contended": set(range(100))}}))
    by_variant = {record.variant: record for record in records}
    assert by_variant["b"].status == "not_steady"
    assert "could not measure: only 0 of 12" in by_variant["b"].reason
    assert len(by_variant["b"].metrics["step_time_s"].samples) == 12
    assert by_variant["a"].status == "ok"


def test_a_variant_that_never_gets_steady_says_so():
    records, _ = play(ScriptedLauncher({"a": {"steady": False}}))
    assert [r.status for r in records] == ["not_steady", "ok", "ok"]
    assert "drifting" in records[0].reason


def test_long_steps_are_not_preceded_by_an_untimed_one():
    settled = {}
    for step_s in (0.1, 2.0):
        launcher = ScriptedLauncher({"a": {"step_s": step_s}})
        asked = []
        original = ScriptedWorker.ask

        def ask(self, message, timeout_s, asked=asked, original=original):
            if message["op"] == "turn":
                asked.append(message["settle"])
            return original(self, message, timeout_s)

        ScriptedWorker.ask = ask
        try:
            play(launcher)
        finally:
            ScriptedWorker.ask = original
        settled[step_s] = set(asked)
    assert settled == {0.1: {1}, 2.0: {0}}


def test_groups_that_do_not_fit_together_are_measured_one_worker_at_a_time():
    launcher = ScriptedLauncher()
    records, _ = play(launcher, interleave="launches")
    alive = most = 0
    for op, _ in launcher.log:
        alive += (op == "configure") - (op == "close")
        most = max(most, alive)
    assert most == 1
    assert all(record.observed["interleave"] == "launches" for record in records)


def test_units_follow_from_names():
    assert unit_of_metric("step_time_s") == "s"
    assert unit_of_metric("tokens_per_s") == "tokens/s"
    assert unit_of_metric("tracked_peak_bytes") == "bytes"
    with pytest.raises(KeyError):
        unit_of_metric("speed")
