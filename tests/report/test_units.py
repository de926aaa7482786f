import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2bench.analysis.results import Effect, Interval
from t2bench.report import units


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.412, "s", "412 ms"),
        (1.5, "s", "1.50 s"),
        (0.0000123, "s", "12.3 us"),
        (0.99996, "s", "1.00 s"),
        (1.3e9, "bytes", "1.21 GiB"),
        (1024, "bytes", "1.00 KiB"),
        (0, "bytes", "0 B"),
        (5.15e10, "flops", "51.5 GFLOP"),
        (2.2e12, "flops", "2.20 TFLOP"),
        (12400.0, "tokens/s", "12.4 k tokens/s"),
        (9.996, "1", "10.0"),
        (None, "s", "n/a"),
        (float("nan"), "bytes", "n/a"),
        (float("inf"), "s", "n/a"),
    ],
)
def test_quantity(value, unit, shown):
    assert units.quantity(value, unit) == shown


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (2.3137, 2.2702, 2.3601, "2.31x [2.27, 2.36]"),
        (1.0421, 1.0303, 1.0542, "1.042x [1.030, 1.054]"),
        (2.3, None, None, "2.30x"),
        (1.0004, 1.00012, 1.0007, "1.0004x [1.0001, 1.0007]"),
        (0.9, 0.2, 9.0, "0.90x [0.20, 9.00]"),
        (120.0, 90.0, 150.0, "120x [90, 150]"),
    ],
)
def test_an_interval_shows_the_digits_it_supports(value, low, high, shown):
    assert units.times(Interval(value=value, low=low, high=high)) == shown


@given(st.floats(0.05, 50), st.floats(1e-4, 0.4), st.floats(1e-4, 0.4))
def test_rounding_never_contradicts_the_side_of_one(value, below, above):
    low, high = value * (1 - below), value * (1 + above)
    numbers = re.findall(r"[\d.]+", units.times(Interval(value=value, low=low, high=high)))
    shown_value, shown_low, shown_high = map(float, numbers)
    assert shown_low <= shown_value <= shown_high
    assert shown_value == pytest.approx(value, rel=0.06)
    if low > 1.000002:
        assert shown_low > 1
    if high < 0.999998:
        assert shown_high < 1


@given(st.floats(1e-7, 1e4))
def test_a_duration_reads_back_to_three_digits(value):
    number, unit = units.quantity(value, "s").split()
    assert float(number) * {"s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[unit] == pytest.approx(value, rel=0.006)


def effect(ratio, low, high, verdict, mde=0.031):
    return Effect(
        group="g/L1",
        metric="step_time_s",
        variant="b",
        reference="a",
        ratio=Interval(value=ratio, low=low, high=high),
        mde=mde,
        verdict=verdict,
        paired=True,
        num_launches=3,
    )


def test_effects_in_words():
    assert units.in_words(effect(0.4329, 0.4237, 0.4405, "lower")) == "2.31x [2.27, 2.36] faster"
    assert units.in_words(effect(1.25, 1.2, 1.3, "higher")) == "1.25x [1.20, 1.30] slower"
    same = effect(1.01, 0.99, 1.03, "not distinguishable")
    assert units.in_words(same) == "not distinguishable (could have seen 3.1 %)"
    assert "no interval" in units.in_words(effect(0.5, None, None, "undecidable", None))


@pytest.mark.parametrize(
    ("coefficients", "shown"),
    [
        ((0, 3072, 12), "12 L^2 + 3072 L bytes, exact"),
        ((-5, 0, Fraction(1, 2)), "1/2 L^2 - 5 bytes, exact"),
        ((0, 0, 0), "0 bytes, exact"),
        ((7, -2, 0), "-2 L + 7 bytes, exact"),
    ],
)
def test_polynomials_are_exact(coefficients, shown):
    assert units.polynomial(tuple(map(Fraction, coefficients)), "bytes") == shown


def test_values_shown_together_share_a_unit_and_keep_what_is_unknown():
    assert units.together([2.0**30, None, 2.0**29], "bytes") == "1.00 / n/a / 0.50 GiB"
    assert units.together([None, None], "bytes") == "n/a"
    assert units.together([0, 0], "bytes") == "0 / 0 B"
