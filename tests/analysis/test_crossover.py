"""Crossover lengths on curves whose crossing is known."""

import math

import numpy as np
import pytest

from t2bench.analysis.crossover import Point, crossover
from t2bench.analysis.stats import mean_over_launches

LENGTHS = (128, 256, 512, 1024, 2048)


def points(log_ratios, launches=None, generator=None, noise=0.0, lengths=LENGTHS):
    found = []
    for length, log_ratio in zip(lengths, log_ratios, strict=True):
        values = np.full(launches or 3, log_ratio)
        if generator is not None:
            values = values + noise * generator.normal(0, 1, len(values))
        estimate = mean_over_launches(values)
        p_value = estimate.p_value()
        verdict = "undecidable"
        if p_value is not None:
            verdict = "not distinguishable" if p_value > 0.05 else "lower" if estimate.mean < 0 else "higher"
        found.append(Point(length=length, log_ratio=estimate, verdict=verdict))
    return found


def answer(*args, **kwargs):
    return crossover("s", "flash", "math", "step_time_s", points(*args, **kwargs))


def test_interpolates_between_neighbours_on_logarithms():
    found = answer([0.2, 0.1, -0.1, -0.3, -0.4])
    assert found.length.value == pytest.approx(math.sqrt(256 * 512))
    assert found.note == "higher up to 256, lower from 512"


def test_interval_holds_the_crossing():
    generator = np.random.default_rng(0)
    truth = 400.0
    held = 0
    simulations = 400
    for _ in range(simulations):
        curve = [-0.3 * math.log(n / truth) for n in LENGTHS]
        found = answer(curve, generator=generator, noise=0.05, launches=3)
        held += found.length is not None and found.length.low <= truth <= found.length.high
    assert 0.92 <= held / simulations <= 0.98


def test_interval_widens_over_unsure_points():
    generator = np.random.default_rng(2)
    sharp = answer([0.4, 0.2, -0.2, -0.4, -0.6], generator=generator, noise=0.01)
    vague = answer([0.4, 0.02, -0.02, -0.4, -0.6], generator=generator, noise=0.05)
    assert 256 < sharp.length.low < sharp.length.value < sharp.length.high < 512
    assert vague.length.low < 256
    assert vague.length.high > 512
    assert "not distinguishable at 256, 512" in vague.note


@pytest.mark.parametrize(
    ("log_ratios", "note"),
    [
        ([-0.1, -0.2, -0.2, -0.3, -0.4], "lower at every measured length (128 to 2048)"),
        ([0.1, 0.2, 0.2, 0.3, 0.4], "higher at every measured length (128 to 2048)"),
        ([0.0, 0.0, 0.0, 0.0, 0.0], "not distinguishable at every measured length (128 to 2048)"),
        ([0.0, 0.0, -0.2, -0.3, -0.4], "lower at 512, 1024, 2048; not distinguishable at 128, 256"),
        ([-0.2, -0.1, 0.1, 0.3, 0.4], "lower up to about 362, higher from there on"),
        ([0.1, -0.1, 0.1, 0.3, -0.4], "crosses 3 times: between 128 and 256, 256 and 512, 1024 and 2048"),
    ],
)
def test_without_one_crossing_downwards_the_note_says_what_is(log_ratios, note):
    found = answer(log_ratios)
    assert found.length is None
    assert found.note == note


def test_of_several_unsure_crossings_the_last_one_counts():
    """Only after the last change of sign does "lower from here on" hold."""
    curve = [0.4, -0.02, 0.02, -0.4, -0.5]
    spread = {256: 0.05, 512: 0.05}
    found = []
    for length, log_ratio in zip(LENGTHS, curve, strict=True):
        unsure = spread.get(length, 0.001)
        estimate = mean_over_launches([log_ratio - unsure, log_ratio, log_ratio + unsure])
        verdict = "not distinguishable" if length in spread else "higher" if log_ratio > 0 else "lower"
        found.append(Point(length=length, log_ratio=estimate, verdict=verdict))
    crossing = crossover("s", "flash", "math", "step_time_s", found).length
    assert 512 < crossing.value < 1024
    assert crossing.low < 256


def test_one_launch_decides_nothing_and_gives_the_ratios():
    found = answer([0.2, -0.1], launches=1, lengths=(128, 256))
    assert found.length is None
    assert found.note == "one launch decides nothing; the ratio is 1.22 at 128, 0.905 at 256"


def test_a_length_with_one_launch_widens_the_interval():
    """An interrupted run: 512 has one launch, so the crossing may lie anywhere between its neighbours."""
    whole = points([0.3, 0.1, -0.1, -0.3, -0.4])
    cut = points([0.3, 0.1, -0.1, -0.3, -0.4], launches=1)
    found = crossover("s", "flash", "math", "step_time_s", [*whole[:2], cut[2], *whole[3:]])
    assert found.length.value == pytest.approx(math.sqrt(256 * 512))
    assert (found.length.low, found.length.high) == pytest.approx((256, 1024), rel=1e-6)
    assert found.note == "higher up to 256, lower from 1024; not distinguishable at 512"


def test_a_single_length_is_enough_for_a_note():
    assert answer([-0.2], lengths=(512,)).note == "lower at the one measured length (512)"
    assert answer([0.0], lengths=(512,)).note == "not distinguishable at the one measured length (512)"


def test_an_exact_tie_at_the_last_unsure_length_is_no_error():
    found = answer([0.2, 0.0, -0.2, -0.3, 0.0])
    assert found.length.value == pytest.approx(256)
