"""The passes before timing, with scripted workers: what each answer becomes in the records."""

from dataclasses import replace

import pytest

from t2bench.runner import passes
from t2bench.runner.estimate import Estimator
from t2bench.runner.launcher import WorkerFailed
from t2bench.runner.recording import Recorder
from t2bench.runner.turns import Bench
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.quality import CorpusSpec, Decoding, QualitySpec, Recipe
from t2bench.spec.suite import Limits, Measure


def case(variant="vanilla", length=256, **model):
    return Case(
        variant=variant,
        model=ModelSpec(**model),
        workload=WorkloadSpec(),
        length=length,
        batch=2,
        dtype="fp32",
        device="cpu",
    )


class Answering:
    """A launcher whose workers give one prepared answer to each operation and remember what they were asked."""

    isolation = "scripted"

    def __init__(self, **answers):
        self.answers, self.asked, self.closed = answers, [], 0

    def start(self):
        return self

    def ask(self, message, timeout_s):
        self.asked.append(message)
        answer = self.answers.get(message["op"], {})
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        self.closed += 1


def bench(launcher):
    return Bench(
        launcher=launcher, setup={}, tokens={}, measure=Measure(), limits=Limits(), recorder=Recorder("r"), seed=0
    )


PASSED = {"name": "padding", "passed": True, "detail": ""}
COUNTED = {
    "metrics": {"executed_flops": 10, "saved_for_backward_bytes": 5, "tracked_peak_bytes": 7},
    "observed": {"backends": ["math"], "kernels": ["_softmax"], "checksum": 2.5},
}


def test_the_observed_back_end_decides_not_the_requested_one():
    launcher = Answering(counters=COUNTED)
    assert passes.count(bench(launcher), case()).status == "ok"
    fallen_back = passes.count(bench(launcher), case(attention="sdpa_flash"))
    assert fallen_back.status == "wrong_backend"
    assert fallen_back.reason == "sdpa_flash was requested, math ran"
    assert launcher.closed == 2


def test_two_back_ends_in_one_step_are_wrong_too():
    mixed = {**COUNTED, "observed": {**COUNTED["observed"], "backends": ["math", "sdpa_flash"]}}
    assert passes.count(bench(Answering(counters=mixed)), case()).status == "wrong_backend"


@pytest.mark.parametrize(
    ("name", "status"),
    [("numerics: logits", "wrong_numerics"), ("backend: forward", "wrong_backend"), ("causality", "wrong_numerics")],
)
def test_a_failed_check_ends_the_case_in_its_own_words(name, status):
    checks = [{"name": "padding", "passed": True, "detail": ""}, {"name": name, "passed": False, "detail": "is off"}]
    record = passes.TruthKeeper(bench(Answering(truth={"checks": checks}))).check(case())
    assert (record.status, record.reason) == (status, f"{name}: is off")
    assert record.observed["checks"] == checks


def test_truth_is_checked_once_per_variant_and_dtype_and_lent_to_other_lengths():
    launcher = Answering(truth={"checks": [PASSED]}, rows={"checks": [PASSED]})
    keeper = passes.TruthKeeper(bench(launcher))
    records = [keeper.check(case(length=length)) for length in (64, 256, 4096)]
    keeper.check(replace(case(), dtype="bf16"))
    keeper.check(case(activation="gelu"))
    asked = [message for message in launcher.asked if message["op"] == "truth"]
    assert len(asked) == 3
    assert {message["case"]["length"] for message in asked} == {passes.TRUTH_LENGTH}, "not the first case's own length"
    assert [record.case for record in records] == [f"train_step/fp32/L{n}/vanilla" for n in (64, 256, 4096)]


def test_attention_is_checked_at_every_length_and_a_mistake_there_ends_that_case():
    wrong = {"name": "attention rows: output", "passed": False, "detail": "math at L=4096 is off"}
    launcher = Answering(truth={"checks": [PASSED]}, rows={"checks": [PASSED]})
    keeper = passes.TruthKeeper(bench(launcher))
    assert keeper.check(case(length=256)).status == "ok"
    launcher.answers["rows"] = {"checks": [wrong]}
    record = keeper.check(case(length=4096))
    assert (record.status, record.reason) == ("wrong_numerics", "attention rows: output: math at L=4096 is off")
    assert [m["case"]["length"] for m in launcher.asked if m["op"] == "rows"] == [256, 4096]


def test_a_first_loss_that_is_no_number_is_wrong():
    nothing = {**COUNTED, "observed": {**COUNTED["observed"], "checksum": None}}
    assert passes.count(bench(Answering(counters=nothing)), case()).status == "wrong_numerics"


def test_a_case_predicted_not_to_fit_is_an_oom_row_with_both_figures():
    gib = 1 << 30
    metrics = {"tracked_peak_bytes": 3 * gib, "predicted_step_time_s": 1.0}
    with passes.Predictor(bench(Answering(predict={"metrics": metrics})), {}, 2 * gib) as predictor:
        record = predictor.predict(case())
    assert record.status == "oom"
    assert record.reason == "predicted: needs 3.00 GiB at least, the limit is 2.00 GiB"
    assert record.metrics["tracked_peak_bytes"].value == 3 * gib


@pytest.mark.parametrize("step", ["predict", "truth", "counters", "memory"])
def test_a_worker_that_fails_in_any_pass_becomes_that_pass_row(step):
    launcher = Answering(**{step: WorkerFailed("crashed", "killed by SIGKILL")})
    made = {
        "predict": lambda b: passes.Predictor(b, {}, 1).predict(case()),
        "truth": lambda b: passes.TruthKeeper(b).check(case()),
        "counters": lambda b: passes.count(b, case()),
        "memory": lambda b: passes.weigh(b, case()),
    }[step](bench(launcher))
    assert made.status == "crashed"
    assert "SIGKILL" in made.reason
    assert launcher.closed == 1


def test_variants_with_the_same_mathematics_must_have_the_same_loss():
    reference, flash, gelu = case(), case("flash", attention="sdpa_flash"), case("gelu", activation="gelu")
    assert passes.disagreement(flash, 6.2301, reference, 6.2300) is None
    assert "differs from vanilla's" in passes.disagreement(flash, 6.26, reference, 6.23)
    assert passes.disagreement(flash, float("nan"), reference, 6.23)
    assert passes.disagreement(gelu, 9.9, reference, 6.23) is None


def test_groups_fit_together_only_with_room_for_all_of_them():
    pair = [case("a"), case("b")]
    peaks = {pair[0].id: 3.0, pair[1].id: 4.0}
    assert passes.fits_together(pair, peaks, 7)
    assert not passes.fits_together(pair, peaks, 6)


@pytest.mark.parametrize(
    ("change", "less", "more"),
    [
        ({"recipe": Recipe(steps=900, accumulate=3)}, 2.5, 3.0),
        ({"decode": (Decoding(method="beam", beam=50),)}, 1.5, 2.5),
        ({"decode": (Decoding(), Decoding(method="mbr", samples=49))}, 1.5, 2.5),
        ({"corpus": CorpusSpec(test_lengths=((1, 9),) * 50)}, 1.5, 2.5),
        ({"recipe": Recipe(steps=900, validate_every=18)}, 1.3, 2.0),
        ({"recipe": Recipe(steps=450)}, 0.5, 0.7),
    ],
)
def test_the_estimate_of_a_training_knows_what_is_translated(change, less, more):
    """Nine hundred updates of 16 sentences, ten validations and a test set; then one thing more."""

    def seconds(**quality):
        learns = replace(case(), workload=WorkloadSpec(kind="translate"), quality=QualitySpec(**quality), batch=16)
        estimator = Estimator(Measure())
        values = {"predicted_step_time_s": 0.5, "tracked_peak_bytes": 1.0}
        estimator.learn(Recorder("r").record(learns, "plan", values=values))
        return estimator.launch_s([learns])

    plain = {"recipe": Recipe(steps=900), "decode": (Decoding(),)}
    before = seconds(**plain)
    assert 900 * 0.5 < before < 1.4 * 900 * 0.5
    assert less < seconds(**{**plain, **change}) / before < more


def test_the_estimate_follows_the_prediction_and_then_the_clock():
    estimator = Estimator(Measure(rounds=5, warmup_s=0.5))
    assert estimator.launch_s([case()]) == 0.0
    planned = Recorder("r").record(case(), "plan", values={"predicted_step_time_s": 2.0, "tracked_peak_bytes": 1.0})
    estimator.learn(planned)
    first = estimator.launch_s([case()])
    assert first > 5 * 2.0
    estimator.took(case().group, 9.0)
    estimator.learn(Recorder("r").record(case(), "counters"))
    assert estimator.launch_s([case()]) == 9.0
