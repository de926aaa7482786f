"""The verdict's rule on simulated machines whose truth is known: thousands of gate runs through the judging code."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from t2bench.gate import judge

TOLERANCE, DETECT, ALPHA = 0.03, 0.05, 0.01
TESTS, LAUNCHES, ROUNDS = 4, 8, 15
BOUNDS = np.full(TESTS, math.log1p(TOLERANCE))
LIMITS = np.full(TESTS, math.log1p(TOLERANCE + DETECT))
NOISES = ("normal", "heavy_tailed", "bimodal", "drifting", "autocorrelated")


def turns(noise, rng, shape):
    """Log speed of the machine at each turn of a launch, [..., 2 * ROUNDS]: both sides live through the same one."""
    size = (*shape, 2 * ROUNDS)
    white = rng.normal(0.0, 0.02, size)
    if noise == "normal":
        return white
    if noise == "heavy_tailed":  # t with 2 degrees of freedom has no variance
        return 0.02 * rng.standard_t(2, size)
    if noise == "bimodal":  # two clock speeds, 8 % apart
        return white + 0.08 * (rng.random(size) < 0.4)
    if noise == "drifting":  # up to 40 % in a launch, as a machine that heats up or gets a neighbour
        slope = rng.uniform(-0.4, 0.4, (*shape, 1))
        return white + slope * np.linspace(0.0, 1.0, 2 * ROUNDS)
    series = np.empty(size)
    series[..., 0] = rng.normal(0.0, 0.05, shape)
    for step in range(1, 2 * ROUNDS):
        series[..., step] = 0.9 * series[..., step - 1] + rng.normal(0.0, 0.05 * math.sqrt(1 - 0.81), shape)
    return series + 0.5 * white


def launches(noise, rng, runs, slowdown, kept_sd=0.01):
    """Launch estimates as a gate makes them, [runs, TESTS, LAUNCHES]: median over rounds of the paired log ratio."""
    shape = (runs, TESTS, LAUNCHES)
    speed = turns(noise, rng, shape).reshape(*shape, ROUNDS, 2)
    order = rng.integers(0, 2, (*shape, ROUNDS, 1))
    new, base = np.take_along_axis(speed, order, -1), np.take_along_axis(speed, 1 - order, -1)
    paired = np.median((new - base)[..., 0], axis=-1)
    # What a whole process keeps: memory layout, hash seeds. Some machines are in one of two states.
    kept = rng.normal(0.0, kept_sd, shape)
    if noise == "bimodal":
        kept = 0.5 * kept + kept_sd * rng.choice([-1.0, 1.0], shape)
    return paired + kept + math.log1p(slowdown)


def verdicts(noise, seed, runs, slowdown, kept_sd=0.01):
    rng = np.random.default_rng(seed)
    first, fresh = (launches(noise, rng, runs, slowdown, kept_sd) for _ in range(2))
    return judge.second_look(first, fresh, BOUNDS, LIMITS, ALPHA)


@pytest.mark.parametrize("noise", NOISES)
def test_false_alarms_are_at_most_one_in_a_hundred_gate_runs(noise):
    runs = 20_000
    # Nothing changed; and the worst change that is still allowed, in every test at once, on a machine so loud that
    # hardly any test passes at the first look, so that both looks spend their part of alpha.
    for slowdown, kept_sd in ((0.0, 0.01), (TOLERANCE, 0.01), (TOLERANCE, 0.06)):
        alarms = int((verdicts(noise, 1, runs, slowdown, kept_sd) == judge.FAIL).any(axis=-1).sum())
        assert alarms <= ALPHA * runs, (slowdown, kept_sd, judge.clopper_pearson(alarms, runs))
        if kept_sd == 0.01:
            assert judge.clopper_pearson(alarms, runs)[1] <= ALPHA


@pytest.mark.parametrize("noise", NOISES)
def test_a_slowdown_of_tolerance_and_detect_is_found_nine_times_in_ten(noise):
    found = verdicts(noise, 2, 4000, TOLERANCE + DETECT) == judge.FAIL
    assert found.mean(axis=0).min() >= 0.90  # in each test of the family


@pytest.mark.parametrize("noise", NOISES)
def test_nothing_changed_is_said_to_be_good(noise):
    assert (verdicts(noise, 3, 2000, 0.0) == judge.PASS).mean() >= 0.99


@pytest.mark.parametrize("noise", NOISES)
def test_intervals_hold_the_truth_as_often_as_they_say(noise):
    seen = judge.look(launches(noise, np.random.default_rng(4), 5000, 0.04), BOUNDS)
    truth = math.log1p(0.04)
    covered = ((seen.low <= truth) & (truth <= seen.high)).mean()
    assert 0.93 <= covered <= 0.97


def test_a_rule_without_launches_as_replicates_would_cry_wolf():
    """The control: one launch, its rounds taken for replicates, is what the simulation must be able to expose."""
    rng = np.random.default_rng(5)
    shape = (2000, TESTS, ROUNDS)
    kept = rng.normal(0.0, 0.01, (2000, TESTS, 1))
    rounds = rng.normal(0.0, 0.02 * math.sqrt(2), shape) + kept
    alarms = (judge.rejected(judge.look(rounds, np.zeros(TESTS)).t, ROUNDS - 1.0, ALPHA)).any(axis=-1)
    assert alarms.mean() > 5 * ALPHA


def test_holm_agrees_with_the_textbook():
    rng = np.random.default_rng(6)
    t = rng.normal(2.0, 2.0, (200, 5))
    p_values = scipy_stats.t.sf(t, 7.0)
    for row, flags in zip(p_values, judge.rejected(t, 7.0, 0.05), strict=True):
        order, expected = np.argsort(row), np.zeros(5, dtype=bool)
        for rank, index in enumerate(order):
            if row[index] > 0.05 / (5 - rank):
                break
            expected[index] = True
        assert (flags == expected).all()


def test_an_alarm_that_fresh_launches_do_not_confirm_is_no_failure():
    rng = np.random.default_rng(7)
    first = math.log1p(0.2) + rng.normal(0, 0.01, (1, 8))
    bounds, limits = BOUNDS[:1], LIMITS[:1]
    assert judge.first_look(first, bounds, limits, ALPHA)[0] == judge.FAIL
    calm = rng.normal(0, 0.01, (1, 8))
    assert judge.second_look(first, calm, bounds, limits, ALPHA)[0] == judge.INCONCLUSIVE
    assert judge.second_look(first, first + 0.001, bounds, limits, ALPHA)[0] == judge.FAIL


def test_equal_launches_need_no_spread_to_be_judged():
    same = np.full((1, 8), math.log1p(0.10))
    assert judge.second_look(same, same, BOUNDS[:1], LIMITS[:1], ALPHA)[0] == judge.FAIL
    allowed = np.full((1, 8), math.log1p(0.01))
    assert judge.first_look(allowed, BOUNDS[:1], LIMITS[:1], ALPHA)[0] == judge.PASS


def test_one_launch_is_no_test():
    with pytest.raises(ValueError, match="two launches"):
        judge.look(np.zeros((1, 1)), np.zeros(1))


def test_the_launches_said_to_be_needed_are_enough_and_not_too_many():
    needed = judge.launches_needed(0.02, math.log1p(0.05), 4, ALPHA)
    assert needed is not None
    assert judge.detectable(0.02, needed, 4, ALPHA) <= math.log1p(0.05) < judge.detectable(0.02, needed - 1, 4, ALPHA)
    assert judge.launches_needed(5.0, 0.001, 4, ALPHA) is None


@pytest.mark.parametrize(("launches", "tests"), [(3, 1), (8, 4), (12, 40)])
def test_what_is_said_to_be_detectable_is_found_nine_times_in_ten(launches, tests):
    """Against the noncentral t of both looks together, at the strictest step of Holm's rule."""
    total, spread = 2 * launches, 0.02
    critical = scipy_stats.t.ppf(1 - judge.SPENT_SECOND * ALPHA / tests, total - 1)
    shift = judge.detectable(spread, launches, tests, ALPHA) * math.sqrt(total) / spread
    assert scipy_stats.nct.sf(critical, total - 1, shift) == pytest.approx(0.9, abs=1e-3)


def test_benjamini_hochberg_agrees_with_scipy():
    p_values = np.random.default_rng(8).uniform(0, 0.2, 20)
    expected = scipy_stats.false_discovery_control(p_values) <= 0.1
    assert judge.advisory(list(p_values)) == list(expected)
    assert judge.advisory([]) == []


@pytest.mark.parametrize(("events", "trials"), [(0, 30), (1, 10), (9, 10), (30, 30), (37, 4000)])
def test_clopper_pearson_agrees_with_scipy(events, trials):
    exact = scipy_stats.binomtest(events, trials).proportion_ci(method="exact")
    assert judge.clopper_pearson(events, trials) == pytest.approx((exact.low, exact.high), abs=1e-9)
