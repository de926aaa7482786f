"""Completeness, exact counters, history, policy and the verdict, on values alone."""

import math
import random

import pytest
from small_gate import counted

from t2bench.gate import history
from t2bench.gate.completeness import completeness, redefined
from t2bench.gate.counted import Counted, counted_cases
from t2bench.gate.exact import exact, stale
from t2bench.gate.policy import policy_of, thresholds, worse_by
from t2bench.gate.results import GateReport, GateRow
from t2bench.gate.verdict import Findings, concluded, decide
from t2bench.records import Metric, Record
from t2bench.spec.gate import Gate, Margin

CASE = "train_step/fp32/L8/vanilla"
METRICS = ("executed_flops", "saved_for_backward_bytes")


def rows(base, new, refused=None):
    return completeness(base, new, refused or {}) + exact(base, new, METRICS)


def verdicts(found):
    return {(row.case, row.metric): row.verdict for row in found}


def test_equal_counts_pass_and_one_byte_more_fails():
    assert set(verdicts(rows({CASE: counted()}, {CASE: counted()})).values()) == {"pass"}
    more = counted(executed_flops=100.0, saved_for_backward_bytes=65.0)
    found = verdicts(rows({CASE: counted()}, {CASE: more}))
    assert found[CASE, "saved_for_backward_bytes"] == "fail"
    assert found[CASE, "executed_flops"] == "pass"


def test_a_fall_is_green_and_asks_to_be_accepted():
    less = counted(executed_flops=99.0, saved_for_backward_bytes=64.0)
    found = [row for row in rows({CASE: counted()}, {CASE: less}) if row.metric == "executed_flops"]
    assert found[0].verdict == "improved"
    assert "accept" in found[0].why


def test_a_count_that_was_lost_is_red():
    without = counted(executed_flops=100.0)
    assert verdicts(rows({CASE: counted()}, {CASE: without}))[CASE, "saved_for_backward_bytes"] == "missing"


def test_a_counter_that_depends_on_the_hash_seed_is_demoted_and_not_judged():
    shaky = counted(executed_flops=100.0, unstable={"saved_for_backward_bytes": (64.0, 96.0)})
    found = rows({CASE: counted()}, {CASE: shaky})
    assert verdicts(found)[CASE, "saved_for_backward_bytes"] == "demoted"
    report = concluded(blank(), Findings(rows=found, skipped={}))
    assert any("NOT EXACT" in warning for warning in report.warnings)


def test_a_counter_that_was_shaky_in_the_base_is_demoted_too():
    shaky = counted(executed_flops=100.0, unstable={"saved_for_backward_bytes": (64.0, 96.0)})
    assert verdicts(rows({CASE: shaky}, {CASE: counted()}))[CASE, "saved_for_backward_bytes"] == "demoted"


def test_one_flop_more_in_a_trillion_fails():
    assert verdicts(rows({CASE: counted(executed_flops=1e12)}, {CASE: counted(executed_flops=1e12 + 1)})) == {
        (CASE, "status"): "pass",
        (CASE, "executed_flops"): "fail",
    }


def test_operators_on_fake_tensors_are_not_compared_with_those_on_real_ones():
    real, fake = counted(ops=10.0), counted(ops=12.0, real=False)
    assert exact({CASE: real}, {CASE: fake}, ["ops"]) == []
    assert [row.verdict for row in exact({CASE: fake}, {CASE: counted(ops=13.0, real=False)}, ["ops"])] == ["fail"]


def test_a_new_case_that_does_not_run_is_red():
    found = completeness({}, {CASE: counted(status="wrong_numerics", reason="why")}, {})
    assert [(row.verdict, row.why) for row in found] == [("fail", "wrong_numerics: why")]


def test_another_workload_under_the_same_id_is_another_case():
    old = counted().definition
    other = {**old, "workload": {**old["workload"], "kind": "forward"}}
    assert redefined(old, other) != []


@pytest.mark.parametrize("status", ["oom", "crashed", "wrong_numerics", "wrong_backend", "timeout", "error"])
def test_a_case_that_was_ok_and_no_longer_is_fails(status):
    found = rows({CASE: counted()}, {CASE: counted(status=status, reason="why")})
    assert verdicts(found) == {(CASE, "status"): "fail"}
    assert decide(Findings(rows=found, skipped={}))[0] == "regression"


def test_another_back_end_than_before_fails_even_if_it_is_the_declared_one():
    found = rows({CASE: counted()}, {CASE: counted(backends=("sdpa_flash",))})
    assert verdicts(found)[CASE, "status"] == "fail"


def test_a_refused_case_is_missing_with_its_reason():
    found = rows({CASE: counted()}, {}, {CASE: "no such kernel"})
    assert [(row.verdict, row.why) for row in found] == [("missing", "refused: no such kernel")]


def test_a_case_defined_otherwise_makes_the_baseline_stale():
    changed = counted(changes={"batch": 4})
    assert stale({CASE: counted()}, {CASE: changed}) == [f"{CASE}: batch: 2 -> 4"]
    assert decide(Findings(rows=[], skipped={}, stale=["x"]))[0] == "baseline"


def test_a_field_that_only_a_newer_version_has_redefines_nothing():
    old, new = counted().definition, counted().definition
    shorter = {**old, "model": {key: value for key, value in old["model"].items() if key != "activation"}}
    assert redefined(shorter, new) == []
    other = {**new, "model": {**new["model"], "width": 2 * new["model"]["width"]}}
    assert redefined(old, other) != []


def record(pass_, launch, value, *, status="ok", observed=None):
    return Record(
        run="r",
        case=CASE,
        group="g",
        variant="vanilla",
        workload="train_step",
        axes={},
        pass_=pass_,
        launch=launch,
        status=status,
        metrics={"executed_flops": Metric(value=value, unit="flops")},
        observed=observed or {},
    )


def test_counts_of_real_tensors_replace_predicted_ones_and_seeds_must_agree():
    real = [record("counters", seed, 10.0, observed={"backends": ["math"], "ops": 7}) for seed in (0, 1)]
    predicted = [record("plan", seed, 9.0) for seed in (0, 1)]
    found = counted_cases([*predicted, *real], {CASE: {}}, 2)[CASE]
    assert (found.values, found.real, found.backends) == ({"executed_flops": 10.0, "ops": 7.0}, True, ("math",))
    real[1] = record("counters", 1, 11.0, observed={"backends": ["math"], "ops": 7})
    assert counted_cases([*predicted, *real], {CASE: {}}, 2)[CASE].unstable == {"executed_flops": (10.0, 11.0)}
    assert counted_cases(predicted, {CASE: {}}, 2)[CASE].real is False
    assert counted_cases([predicted[0]], {CASE: {}}, 2)[CASE].status == "error"  # one seed alone counts for nothing


def test_what_a_case_lost_to_a_failed_pass_is_its_status():
    bad = record("truth", 0, None, status="wrong_numerics")
    assert counted_cases([record("plan", 0, 1.0), bad], {CASE: {}}, 2)[CASE].status == "wrong_numerics"


def test_the_policy_lays_the_suite_over_the_defaults():
    policy = policy_of(Gate(metrics={"ops": "off", "step_time_s": Margin(tolerance=0.1), "process_peak_bytes": "off"}))
    assert "ops" not in policy.exact
    assert policy.margins["step_time_s"].tolerance == 0.1
    assert "process_peak_bytes" not in policy.margins
    with pytest.raises(ValueError, match="noise"):
        policy_of(Gate(metrics={"step_time_s": "exact"}))
    with pytest.raises(ValueError, match="counted"):
        policy_of(Gate(metrics={"ops": Margin()}))


def test_more_is_worse_for_times_and_better_for_rates_and_quality():
    relative, points = Margin(tolerance=0.03, detect=0.05), Margin(tolerance=0.5, detect=0.5, absolute=True)
    assert worse_by("step_time_s", relative, 1.1, 1.0) == pytest.approx(math.log(1.1))
    assert worse_by("tokens_per_s", relative, 0.9, 1.0) == pytest.approx(-math.log(0.9))
    assert worse_by("bleu", points, 29.0, 30.0) == pytest.approx(1.0)
    assert thresholds(points) == (0.5, 1.0)
    assert thresholds(relative) == pytest.approx((math.log(1.03), math.log(1.08)))


def blank():
    return GateReport(suite="s", suite_path="s.yaml", base="b", candidate="c", verdict="pass", exit_code=0, headline="")


def row(verdict, layer="L1", **more):
    return GateRow(case=CASE, metric="m", layer=layer, verdict=verdict, **more)


@pytest.mark.parametrize(
    ("found", "failures", "stale_words", "expected"),
    [
        (["pass"], [], [], 0),
        (["pass", "fail"], ["x"], ["y"], 1),
        (["pass", "missing"], [], [], 1),
        (["pass", "inconclusive"], [], [], 3),
        (["pass"], ["a crash"], [], 5),
        (["pass"], [], ["stale"], 4),
        ([], [], [], 3),
        (["demoted"], [], [], 3),
        (["new"], [], [], 3),
        (["pass", "demoted", "new", "improved"], [], [], 0),
    ],
)
def test_exit_codes(found, failures, stale_words, expected):
    findings = Findings(rows=[row(verdict) for verdict in found], skipped={}, failures=failures, stale=stale_words)
    assert concluded(blank(), findings).exit_code == expected


def test_completeness_alone_judges_nothing():
    assert concluded(blank(), Findings(rows=[row("pass", "L0"), row("pass", "L3")], skipped={})).exit_code == 3


def test_a_report_survives_its_file(tmp_path):
    report = concluded(blank(), Findings(rows=rows({CASE: counted()}, {CASE: counted()}), skipped={"L2": "no base"}))
    report.save(tmp_path)
    assert GateReport.load(tmp_path) == report


def past(values, fingerprint=None):
    return [
        history.PastRun(
            when=f"2026-01-{day + 1:02d}",
            commit=f"c{day}",
            fingerprint=fingerprint or {"hw": "h"},
            values={CASE: {"step_time_s": value}},
        )
        for day, value in enumerate(values)
    ]


def noisy(count, seed=0):
    rng = random.Random(seed)
    return [math.exp(rng.gauss(0.0, 0.02)) for _ in range(count)]


def test_history_warns_above_what_it_predicts_and_never_fails():
    assert history.judge(past(noisy(9)), past([5.0])[0]) == []  # too few to predict from
    usual, high = (history.judge(past(noisy(20)), past([value])[0])[0] for value in (1.0, 1.2))
    assert (usual.verdict, high.verdict) == ("pass", "warn")
    assert "second run" in high.why


def test_history_finds_a_step_that_no_single_run_shows():
    series = noisy(12) + [1.04 * value for value in noisy(12, seed=1)]
    found = history.judge(past(series), past([1.04])[0])[0]
    assert found.verdict == "warn"
    assert "step" in found.why
    calm = [history.judge(past(noisy(24, seed)), past([1.0])[0])[0].verdict for seed in range(100)]
    assert calm.count("warn") <= 5


def test_history_is_of_one_fingerprint_and_only_grows(tmp_path):
    path = history.runs_file(tmp_path, "suite", "h")
    for run in [*past([1.0, 2.0]), *past([3.0], {"hw": "other"})]:
        history.remember(path, run)
    with path.open("a") as file:
        file.write("half a li")
    assert [run.values[CASE]["step_time_s"] for run in history.recall(path, {"hw": "h"})] == [1.0, 2.0]


def test_the_anchor_shows_what_small_steps_add_up_to():
    anchor = {"accepted": {"when": "2026-01-01"}, "cases": {CASE: {"executed_flops": 50.0}}}
    found = history.against_anchor(anchor, {CASE: counted()})
    assert [(one.verdict, one.layer) for one in found] == [("warn", "L3")]
    assert "+100 %" in found[0].why
    assert history.against_anchor({}, {CASE: counted()}) == []


def test_counted_survives_its_file():
    case = counted(unstable={"ops": (1.0, 2.0)})
    assert Counted.from_dict(case.to_dict()) == case
