"""Exact polynomials, exponents, coefficients: known truth, and the data that must be refused."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from t2bench.analysis import fit
from t2bench.analysis.scaling import exact_scaling, timed_scaling

LENGTHS = (128, 256, 512, 1024, 2048, 4096)
# Explicit attention, fp32 forward on a CPU, milliseconds at LENGTHS: a step between 512 and 1024.
STEPPED = (0.42, 2.43, 5.99, 39.43, 250.51, 1014.48)
# The flex back end on the same machine: a plain parabola.
SMOOTH = (0.88, 2.44, 7.65, 27.07, 101.24, 389.33)


@given(st.tuples(*[st.integers(-(10**15), 10**15)] * 3), st.sets(st.integers(1, 10**5), min_size=4, max_size=9))
@settings(max_examples=100, deadline=None)
def test_integer_parabolas_are_found_exactly(coefficients, lengths):
    c0, c1, c2 = coefficients
    found = exact_scaling("s", "v", "m", "bytes", {n: c0 + c1 * n + c2 * n * n for n in lengths})
    assert found.coefficients == (c0, c1, c2)
    assert found.refused == ""


def test_rational_coefficients_are_exact():
    """A count over a third of the positions, at lengths where it is whole."""
    found = exact_scaling("s", "v", "m", "flops", {n: (5 * n * n + n) // 3 for n in (3, 6, 9, 12, 30)})
    assert found.coefficients == (0, Fraction(1, 3), Fraction(5, 3))


@pytest.mark.parametrize(
    "curve",
    [lambda n: n**3, lambda n: 2 * n + (100 if n > 600 else 0), lambda n: n * n + (1 if n == 4096 else 0)],
    ids=["cubic", "step", "one byte at the last length"],
)
def test_what_is_no_parabola_is_refused_with_the_length_that_refutes_it(curve):
    found = exact_scaling("s", "v", "m", "bytes", {n: curve(n) for n in LENGTHS})
    assert found.coefficients is None
    assert "no polynomial of degree 2" in found.refused


def test_three_lengths_cannot_refute_a_parabola():
    found = exact_scaling("s", "v", "m", "bytes", dict.fromkeys(LENGTHS[:3], 7))
    assert found.coefficients is None
    assert "3 lengths" in found.refused


def noisy(generator, truth, launches, noise, lengths=LENGTHS):
    times = np.array([truth(n) for n in lengths])
    drawn = times * np.exp(noise * generator.normal(0, 1, (launches, len(lengths))))
    return {n: drawn[:, i].tolist() for i, n in enumerate(lengths)}


@pytest.mark.parametrize("launches", [3, 8])
def test_intervals_of_the_time_curve_hold_the_truth(launches):
    generator = np.random.default_rng(launches)
    a, b, c = 1e-3, 1e-5, 1e-8
    x = np.log(LENGTHS) - np.log(LENGTHS).mean()
    curve = lambda n: a + b * n + c * n * n  # noqa: E731
    truth = {
        "exponent": float(x @ np.log([curve(n) for n in LENGTHS]) / (x @ x)),
        "last octave": float(np.log2(curve(4096) / curve(2048))),
        "a": a,
        "b": b,
        "c": c,
        "parity": b / c,
    }
    held = dict.fromkeys(truth, 0)
    simulations = 400
    for _ in range(simulations):
        found = timed_scaling("s", "v", noisy(generator, curve, launches, 0.02))
        intervals = (found.exponent, found.local[-1][2], *found.coefficients, found.parity_length)
        for name, interval in zip(truth, intervals, strict=True):
            held[name] += interval.low <= truth[name] <= interval.high
    # Three sampling errors of 400 simulations at 95 % are 3 %.
    assert all(0.92 <= count / simulations <= 0.98 for count in held.values()), held


def test_precise_data_give_the_coefficients_back():
    found = timed_scaling("s", "v", {n: [1e-3 + 1e-5 * n + 1e-8 * n * n] * 3 for n in LENGTHS})
    assert [c.value for c in found.coefficients] == pytest.approx([1e-3, 1e-5, 1e-8], rel=1e-6)
    assert found.residual < 1e-9
    assert found.parity_length.value == pytest.approx(1000)
    assert found.refused == ""


def test_a_term_the_data_do_not_support_is_dropped_with_an_upper_bound():
    generator = np.random.default_rng(3)
    found = timed_scaling("s", "v", noisy(generator, lambda n: 1e-5 * n, 3, 0.01))
    a, b, c = found.coefficients
    assert (a.value, c.value) == (0.0, 0.0)
    assert b.value == pytest.approx(1e-5, rel=0.02)
    assert 0 < c.high * 4096**2 < 0.1 * b.value * 4096
    assert (a.low, c.low) == (0.0, 0.0), "no coefficient is negative"
    assert found.parity_length is None
    assert found.exponent.value == pytest.approx(1, abs=0.02)


def test_stepped_explicit_attention_is_refused_and_its_residual_printed():
    found = timed_scaling("s", "v", {n: [t / 1e3] * 3 for n, t in zip(LENGTHS, STEPPED, strict=True)})
    assert found.coefficients is None
    assert found.parity_length is None
    assert found.residual > 0.28
    assert f"{found.residual:.0%}" in found.refused
    steps = {(l1, l2): slope.value for l1, l2, slope in found.local}
    assert steps[(512, 1024)] == pytest.approx(np.log2(39.43 / 5.99))
    smooth = timed_scaling("s", "v", {n: [t / 1e3] * 3 for n, t in zip(LENGTHS, SMOOTH, strict=True)})
    assert smooth.refused == ""
    assert smooth.residual < 0.03


@pytest.mark.parametrize(
    ("lengths", "reason"), [((128, 512, 1024, 4096), "4 lengths"), ((128, 256, 384, 512, 1024), "factor of 8")]
)
def test_too_few_or_too_close_lengths_give_exponents_only(lengths, reason):
    found = timed_scaling("s", "v", {n: [1e-5 * n * n] * 3 for n in lengths})
    assert found.coefficients is None
    assert reason in found.refused
    assert found.exponent.value == pytest.approx(2)


def test_one_launch_or_one_length_still_gives_what_it_can():
    one_launch = timed_scaling("s", "v", {n: [1e-5 * n + 1e-8 * n * n] for n in LENGTHS})
    assert one_launch.exponent.low is None
    assert one_launch.coefficients[1].value == pytest.approx(1e-5)
    assert one_launch.coefficients[1].low is None
    assert one_launch.parity_length.value == pytest.approx(1000)
    one_length = timed_scaling("s", "v", {512: [1.0, 1.1, 0.9]})
    assert (one_length.exponent, one_length.local) == (None, ())
    assert one_length.values[0].value == 1.0


def test_parity_far_outside_the_measured_lengths_is_not_given():
    for parity in (10, 50_000):
        found = timed_scaling("s", "v", {n: [1e-5 * n + 1e-5 / parity * n * n] * 3 for n in LENGTHS})
        assert found.coefficients is not None
        assert found.parity_length is None


@pytest.mark.parametrize("signs", list(product([1, 0, -1], repeat=3))[:-1])
def test_the_nonnegative_fit_is_scipys(signs):
    """Truth with negative terms included, so that the optimum lies on every face."""
    generator = np.random.default_rng(11)
    truth = np.array(signs) * np.array([1e-3, 1e-5, 1e-8])
    powers = np.stack([np.array(LENGTHS, dtype=float) ** p for p in range(3)], axis=1)
    values = np.abs(powers @ truth + 2e-4) * np.exp(0.1 * generator.normal(size=len(LENGTHS)))
    found = fit.best(fit.feasible_fits(LENGTHS, values))
    scale = powers[-1]
    expected, norm = nnls(powers / scale / values[:, None], np.ones(len(LENGTHS)))
    assert found.coefficients * scale == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert np.sqrt((found.misses**2).sum()) == pytest.approx(norm, rel=1e-6)
