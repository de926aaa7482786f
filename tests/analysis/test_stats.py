"""Intervals and warning signs, against scipy and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from t2bench.analysis import stats

finite = st.floats(-5, 5).map(lambda x: round(x, 6))


@settings(max_examples=50, deadline=None)
@given(st.lists(finite, min_size=2, max_size=9))
def test_mean_interval_and_p_agree_with_scipy(values):
    estimate = stats.mean_over_launches(values)
    interval = estimate.interval()
    if np.ptp(values) < 1e-9:
        assert interval.high - interval.low < 1e-6
        return
    low, high = oracle.t.interval(0.95, len(values) - 1, np.mean(values), oracle.sem(values))
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-7, abs=1e-9)
    assert estimate.p_value() == pytest.approx(oracle.ttest_1samp(values, 0).pvalue, abs=1e-9)


def test_difference_is_welchs():
    left, right = [1.0, 1.3, 0.9, 1.1], [0.2, 0.9, 0.4]
    found = stats.difference_of_means(stats.mean_over_launches(left), stats.mean_over_launches(right))
    expected = oracle.ttest_ind(left, right, equal_var=False)
    assert found.df == pytest.approx(expected.df)
    assert found.p_value() == pytest.approx(expected.pvalue)


def test_one_launch_allows_no_interval():
    one = stats.mean_over_launches([0.3])
    assert one.interval().low is None
    assert one.p_value() is None
    assert one.detectable() is None
    assert stats.difference_of_means(one, stats.mean_over_launches([1.0, 2.0])).error is None
    assert stats.median_interval([2.0]).high is None


def test_equal_launches_decide_without_dividing_by_zero():
    assert stats.mean_over_launches([0.5, 0.5, 0.5]).p_value() == 0.0
    assert stats.mean_over_launches([0.0, 0.0, 0.0]).p_value() == 1.0
    exact = stats.mean_over_launches([0.5, 0.5])
    assert stats.difference_of_means(exact, exact).p_value() == 1.0


@pytest.mark.parametrize("family", [1, 10])
@pytest.mark.parametrize("launches", [2, 5, 8])
def test_detectable_effect_is_found_with_nine_in_ten(launches, family):
    estimate = stats.mean_over_launches(np.random.default_rng(0).normal(0, 0.01, launches))
    shift = math.log1p(estimate.detectable(family)) / estimate.error
    critical = oracle.t.ppf(1 - 0.025 / family, launches - 1)
    assert oracle.nct.sf(critical, launches - 1, shift) == pytest.approx(0.9, abs=1e-3)


def test_median_interval_is_on_the_log_scale_and_holds_the_median():
    values = [1.0, 1.1, 8.0]
    interval = stats.median_interval(values)
    assert interval.value == 1.1
    assert interval.low <= 1.1 <= interval.high
    assert interval.low > 0
    scaled = stats.median_interval([1000 * value for value in values])
    assert scaled.low == pytest.approx(1000 * interval.low)
    assert stats.median_interval([0.0, 1.0, 2.0]).low < 0  # no logarithm of 0: the plain scale


def test_holm_steps_down():
    """Boundaries of four hypotheses are .05/4, .05/3, .05/2, .05."""
    assert stats.holm([0.012, 0.016, 0.024, 0.049]) == [True] * 4
    assert stats.holm([0.013, 0.001, 0.9, 0.02]) == [True, True, False, True]
    assert stats.holm([0.013, 0.02, 0.9, 0.02]) == [False] * 4
    assert stats.holm([]) == []


def test_boundary_bisects_on_the_logarithm_and_stops_at_the_limit():
    assert stats.boundary(lambda x: x < 300, 10.0, 5000.0) == pytest.approx(300, rel=1e-6)
    assert stats.boundary(lambda x: x > 3, 10.0, 0.1) == pytest.approx(3, rel=1e-6)
    assert stats.boundary(lambda _: True, 10.0, 5000.0) == 5000.0


def test_autocorrelation_sees_memory_and_not_noise():
    generator = np.random.default_rng(1)
    noise = generator.normal(size=4000)
    series = np.zeros(4000)
    for i in range(1, 4000):
        series[i] = 0.8 * series[i - 1] + noise[i]
    assert stats.lag1_autocorrelation(series) == pytest.approx(0.8, abs=0.04)
    assert stats.lag1_autocorrelation(noise) == pytest.approx(0.0, abs=0.04)
    assert stats.lag1_autocorrelation([1.0] * 9) is None
    assert stats.lag1_autocorrelation([1.0, 2.0]) is None


def test_drift_is_a_slope_that_one_spike_does_not_move():
    starts = np.arange(20) * 3.0
    values = np.exp(0.001 * starts)
    values[7] *= 10
    assert stats.drift_per_s(values, starts) == pytest.approx(0.001, rel=1e-6)
    assert stats.drift_per_s(values[:3], starts[:3]) is None
    assert stats.drift_per_s([1.0, 2.0, 3.0, 4.0], [0.0] * 4) is None


def test_outliers_are_counted_beyond_tukeys_fences():
    """Quartiles of 1..9 are 3 and 7: mild from 13 on, severe from 19 on."""
    base = [1.0, 2, 3, 4, 5, 6, 7, 8, 9]
    assert stats.tukey_outliers(base) == stats.Outliers(mild=0, severe=0)
    sample = [*base, *base, *base, *base, 14.5, 30.0, -20.0]
    assert stats.tukey_outliers(sample) == stats.Outliers(mild=1, severe=2)
    assert stats.tukey_outliers([1.0] * 8 + [2.0]).severe == 1
    assert stats.spike_rate([1.0, 1.0, 1.0, 2.0]) == 0.25
