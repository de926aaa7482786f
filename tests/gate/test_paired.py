"""From records of paired launches to rows; calibration; stored baselines."""

import json
import math

import numpy as np
import pytest
from small_gate import counted

from t2bench.gate import baseline, calibrate, judge, paired
from t2bench.gate.completeness import redefined
from t2bench.gate.policy import policy_of
from t2bench.gate.selftest import SCENARIOS, Outcome, self_test, verdict
from t2bench.records import Metric, Record
from t2bench.spec.gate import Gate, Margin

NEW, BASE = "train_step/fp32/L8/a", "train_step/fp32/L8/a@base"
POLICY = policy_of(Gate(launches=5, rounds=9, metrics={"process_peak_bytes": "off"}))
FIRST, SECOND = range(5), range(5, 10)


def record(
    case, launch, samples=(), *, status="ok", interleave="token", value=None, metric="step_time_s", pass_="time"
):
    value = float(np.median(samples)) if len(samples) else value
    return Record(
        run="r",
        case=case,
        group="train_step/fp32/L8",
        variant=case.rsplit("/", 1)[-1],
        workload="train_step",
        axes={},
        pass_="time",
        launch=launch,
        status=status,
        reason="" if status == "ok" else "as scripted",
        metrics={} if value is None else {metric: Metric(value=value, unit="s", samples=tuple(samples) or None)},
        turns={"round": list(range(len(samples)))},
        observed={"interleave": interleave},
    )


def launches(slowdown, count, *, noise=0.005, seed=0, **more):
    rng = np.random.default_rng(seed)
    found = []
    for launch in range(count):
        wander = rng.normal(0, 0.2, 9)  # the machine's, shared by both sides of a round
        for case, factor in ((NEW, 1 + slowdown), (BASE, 1.0)):
            noise_here = rng.normal(0, noise, 9) + rng.normal(0, noise)
            found.append(record(case, launch, np.exp(wander + noise_here) * factor, **more))
    return found


def judged(records, second=SECOND):
    tests, broken = paired.tests_of(records, {NEW: BASE}, POLICY)
    return paired.rows(tests, POLICY, FIRST, second), broken


def test_equal_sides_pass_at_the_first_look():
    (row,), broken = judged(launches(0.0, 5), second=())
    assert (row.verdict, broken, row.num_launches) == ("pass", [], 5)
    assert row.effect.low < 1.0 < row.effect.high
    assert row.tolerance == 0.03


def test_a_slowdown_is_red_after_the_second_look_only():
    (early,), _ = judged(launches(0.15, 5), second=())
    assert early.verdict == "inconclusive"
    (row,), _ = judged(launches(0.15, 10))
    assert row.verdict == "fail"
    assert row.effect.value == pytest.approx(1.15, rel=0.02)
    assert row.p_value < 0.001


@pytest.mark.parametrize(("change", "expected"), [(0.15, "pass"), (-0.15, "fail")])
def test_a_rate_is_worse_when_it_falls(change, expected):
    margins = {"step_time_s": "off", "process_peak_bytes": "off", "tokens_per_s": Margin(tolerance=0.03, detect=0.05)}
    policy = policy_of(Gate(launches=5, rounds=9, metrics=margins))
    tests, _ = paired.tests_of(launches(change, 10, metric="tokens_per_s"), {NEW: BASE}, policy)
    (row,) = paired.rows(tests, policy, FIRST, SECOND)
    assert row.verdict == expected
    assert row.effect.value == pytest.approx(1 + change, rel=0.02)


def test_the_wandering_of_the_machine_is_in_no_interval():
    (row,), _ = judged(launches(0.0, 5), second=())
    assert row.effect.high - row.effect.low < 0.03  # while the times themselves wander by 20 %


def test_missing_launches_decide_nothing():
    (row,), _ = judged(launches(0.15, 8))  # the second look is not complete
    assert row.verdict == "inconclusive"
    (row,), _ = judged(launches(0.0, 4), second=())
    assert row.verdict == "inconclusive"


def test_sides_that_took_no_turns_are_not_judged():
    (row,), _ = judged(launches(0.15, 10, interleave="launches"))
    assert row.verdict == "inconclusive"


@pytest.mark.parametrize(("who", "regressed"), [((NEW,), True), ((BASE,), False), ((NEW, BASE), False)])
def test_a_crash_of_the_candidate_alone_is_a_regression(who, regressed):
    records = [*launches(0.0, 5), *(record(case, 9, status="crashed") for case in who)]
    rows, broken = judged(records)
    assert rows == []
    assert [one.regressed for one in broken] == [regressed]


def test_quality_has_a_margin_of_its_own_and_more_is_better():
    policy = policy_of(Gate(launches=5, metrics={"bleu": Margin(tolerance=0.5, detect=0.5, absolute=True)}))
    rng = np.random.default_rng(1)

    def scored(drop):
        return [
            record(case, seed, value=30.0 - (drop if case == NEW else 0.0) + rng.normal(0, 0.05), metric="bleu")
            for seed in range(10)
            for case in (NEW, BASE)
        ]

    for drop, expected in ((0.0, "pass"), (2.0, "fail"), (-2.0, "pass")):
        tests, _ = paired.tests_of(scored(drop), {NEW: BASE}, policy)
        (row,) = paired.rows(tests, policy, FIRST, SECOND)
        assert row.verdict == expected, drop


def test_advisory_metrics_are_never_red():
    policy = policy_of(Gate(launches=5, metrics={"step_time_s": Margin(advisory=True), "process_peak_bytes": "off"}))
    tests, _ = paired.tests_of(launches(0.5, 10), {NEW: BASE}, policy)
    (row,) = paired.rows(tests, policy, FIRST, SECOND)
    assert row.verdict == "warn"


def test_a_calibration_knows_the_spread_and_refuses_what_it_cannot_resolve():
    found = calibrate.calibrate(launches(0.0, 16, noise=0.01), {NEW: BASE}, POLICY, when="2026-01-01")
    entry = found["cases"][NEW]["step_time_s"]
    assert 0.005 < entry["launch_sd"] < 0.03
    assert abs(entry["paired_autocorrelation"]) < 0.5
    assert found["false_alarms"]["null"]["high"] < 0.01
    assert found["false_alarms"]["worst"]["events"] <= 0.015 * calibrate.RESAMPLES
    assert json.loads(json.dumps(found)) == found
    assert calibrate.refusals(found, POLICY, [NEW]) == []
    loud = {**found, "cases": {NEW: {"step_time_s": {**entry, "launch_sd": 0.2}}}}
    (row,) = calibrate.refusals(loud, POLICY, [NEW])
    needed = judge.launches_needed(0.2, math.log(1.08 / 1.03), 1, POLICY.alpha)
    assert row.verdict == "inconclusive"
    assert f"{needed} launches" in row.why
    with pytest.raises(ValueError, match="three launches"):
        calibrate.calibrate(launches(0.0, 2), {NEW: BASE}, POLICY, when="2026-01-01")


ENVIRONMENT = {
    "device": "cpu",
    "fingerprint": {"hw": "h1", "sw": "s", "proto": "p"},
    "host": {"cpu": "a processor", "allowed_cores": 2},
    "torch": {"torch": "2.13.0+cpu"},
}


def stored(root, **changes):
    environment = {**ENVIRONMENT, **changes}
    found = baseline.baseline_of("suite", environment, {NEW: counted()}, launches(0.0, 2))
    return baseline.write(root, found, action="accept", why="because", commit="abc")


def test_a_baseline_keeps_counts_and_raw_samples(tmp_path):
    found, path = baseline.read(stored(tmp_path)), baseline.path_of(tmp_path, "suite", "h1")
    assert path.is_file()
    assert found.cases[NEW].values == counted().values
    assert redefined(found.cases[NEW].definition, counted().definition) == []
    assert (found.accepted["why"], found.accepted["commit"]) == ("because", "abc")
    assert [r.metrics["step_time_s"].samples for r in found.records()] == [
        r.metrics["step_time_s"].samples for r in launches(0.0, 2) if r.case == NEW
    ]


def test_the_history_only_grows_and_links_each_state_to_the_one_before(tmp_path):
    stored(tmp_path)
    stored(tmp_path)
    first, second = (json.loads(line) for line in (tmp_path / "suite/history.jsonl").read_text().splitlines())
    assert first["previous"] is None
    assert second["previous"] == first["checksum"]
    assert {"who", "when", "why", "commit", "action", "hw"} <= first.keys()


def test_counters_of_another_machine_hold_where_torch_is_the_same(tmp_path):
    stored(tmp_path)
    elsewhere = {**ENVIRONMENT, "fingerprint": {"hw": "h2", "sw": "other", "proto": "other"}}
    assert baseline.find(tmp_path, "suite", elsewhere)[0].fingerprint["hw"] == "h1"
    for change in ({"torch": {"torch": "2.14.0"}}, {"device": "cuda"}):
        with pytest.raises(baseline.BaselineError, match="counted"):
            baseline.find(tmp_path, "suite", {**elsewhere, **change})
        with pytest.raises(baseline.BaselineError, match="stale"):
            baseline.find(tmp_path, "suite", {**ENVIRONMENT, **change})


def test_counters_of_a_gpu_hold_on_that_gpu_only(tmp_path):
    gpu = {**ENVIRONMENT, "device": "cuda"}
    stored(tmp_path, device="cuda")
    assert baseline.find(tmp_path, "suite", gpu)[0].device == "cuda"
    with pytest.raises(baseline.BaselineError, match="another machine"):
        baseline.find(tmp_path, "suite", {**gpu, "fingerprint": {"hw": "h2"}})


@pytest.mark.parametrize("damage", [lambda t: t[:-20], lambda t: t.replace("100", "101"), lambda t: "[]", lambda t: ""])
def test_a_damaged_baseline_is_refused(tmp_path, damage):
    path = stored(tmp_path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(baseline.BaselineError):
        baseline.check(tmp_path, "suite")


def test_a_baseline_of_another_protocol_is_stale(tmp_path, monkeypatch):
    stored(tmp_path)
    monkeypatch.setattr(baseline, "PROTOCOL", baseline.PROTOCOL + 1)
    with pytest.raises(baseline.BaselineError, match="stale"):
        baseline.check(tmp_path, "suite")


def test_a_pin_survives_what_is_accepted_later(tmp_path):
    path = stored(tmp_path)
    baseline.write(tmp_path, baseline.pinned(baseline.read(path)), action="pin", why="release", commit="abc")
    again = baseline.read(stored(tmp_path))
    assert again.anchor["cases"][NEW] == counted().values
    assert again.anchor["accepted"]["commit"] == "abc"


def test_a_self_test_is_right_only_if_every_answer_is():
    right = self_test(lambda scenario: (scenario.exit_code, ""), SCENARIOS)
    assert verdict(right) == 0
    assert {0, 1, 4} == {outcome.exit_code for outcome in right}
    blind = self_test(lambda scenario: (0, ""), SCENARIOS)
    assert verdict(blind) == 1
    timed = next(scenario for scenario in SCENARIOS if scenario.timed)
    assert verdict([Outcome(scenario=timed, exit_code=3, headline="")]) == 3


@pytest.mark.parametrize(("peak_bytes", "verdict"), [(15 << 20, "pass"), (1 << 30, "fail")])
def test_a_process_may_take_two_mebibytes_more_whatever_its_size(peak_bytes, verdict):
    """A share of a small process is less than what the loading of another checkout's modules costs it."""
    rng = np.random.default_rng(0)
    more = (1 << 20) if peak_bytes < 1 << 25 else peak_bytes // 8
    records = [
        record(case, launch, value=size + float(rng.normal(0, 1000)), metric="process_peak_bytes")
        for launch in range(10)
        for case, size in ((NEW, peak_bytes + more), (BASE, peak_bytes))
    ]
    policy = policy_of(Gate(launches=5, metrics={"step_time_s": "off"}))
    tests, _ = paired.tests_of(records, {NEW: BASE}, policy)
    (row,) = paired.rows(tests, policy, FIRST, SECOND)
    assert row.verdict == verdict
