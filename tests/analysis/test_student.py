"""Student's t against scipy."""

import pytest
from scipy import stats as oracle

from t2bench.analysis import student

DF = (0.5, 1, 2, 2.37, 3, 7, 14, 29.5, 100, 9e4, 1.1e5, 1e8)
PROBABILITIES = (1e-6, 1e-3, 0.025, 0.3, 0.5, 0.7, 0.9, 0.975, 0.995, 1 - 1e-6)


@pytest.mark.parametrize("df", DF)
def test_quantiles_and_cdf_agree_with_scipy(df):
    for probability in PROBABILITIES:
        expected = oracle.t.ppf(probability, df) if df < 1e7 else oracle.norm.ppf(probability)
        tolerance = 1e-8 if df < 1e7 else 1e-6
        assert student.quantile(probability, df) == pytest.approx(expected, rel=tolerance, abs=tolerance)
        assert student.cdf(expected, df) == pytest.approx(oracle.t.cdf(expected, df), abs=1e-10)


def test_far_tails_keep_their_relative_accuracy():
    assert student.two_sided_p(60.0, 5) == pytest.approx(2 * oracle.t.sf(60.0, 5), rel=1e-9)
    assert student.two_sided_p(float("inf"), 5) == 0.0
    assert student.two_sided_p(-2.0, 5) == student.two_sided_p(2.0, 5)


@pytest.mark.parametrize(("probability", "df"), [(0.0, 3), (1.0, 3), (0.9, 0), (0.9, -1)])
def test_impossible_arguments_are_refused(probability, df):
    with pytest.raises(ValueError, match="must"):
        student.quantile(probability, df)
