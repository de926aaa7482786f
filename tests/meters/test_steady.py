"""The warm-up rule on scripted series."""

import random

import pytest

from t2bench.meters.clock import FakeClock, Mark
from t2bench.meters.steady import WarmUp, WarmUpResult, warm_up


def run(series: list[float], *, min_calls: int = 3, min_s: float = 0.5, max_s: float = 20.0) -> WarmUpResult:
    """Feed a series (its last value repeats) until done."""
    progress = WarmUp(min_calls=min_calls, min_s=min_s, max_s=max_s)
    index = 0
    while not progress.done:
        progress.feed(series[min(index, len(series) - 1)])
        index += 1
        assert index < 100_000
    return progress.result()


def test_nothing_is_steady_before_it_began() -> None:
    progress = WarmUp(min_calls=1, min_s=0.0, max_s=1.0)
    assert not progress.done
    assert progress.result() == WarmUpResult(series_s=(), steady=False, drift=None)


def test_constant_steps_end_with_the_minimum() -> None:
    result = run([0.1])
    assert result.steady
    assert len(result.series_s) == 10  # two windows of five
    assert result.drift == 0.0


def test_short_steps_last_for_the_minimum_time() -> None:
    assert sum(run([0.001]).series_s) == pytest.approx(0.5)


def test_a_slow_start_is_waited_for() -> None:
    falling = [1.0 / (1 + i) + 0.05 for i in range(60)]
    result = run([*falling, 0.05])
    assert result.steady
    assert len(result.series_s) > 20
    assert result.series_s[0] == 1.05


def test_one_outlier_does_not_matter() -> None:
    assert len(run([0.1] * 7 + [3.0] + [0.1]).series_s) == 10


def test_a_drift_of_three_percent_is_not_steady_and_of_one_is() -> None:
    assert not run([0.1] * 5 + [0.103] * 5, max_s=1.01).steady
    assert run([0.1] * 5 + [0.101] * 5, max_s=1.01).steady


def test_wandering_steps_are_given_up() -> None:
    growing = [0.1 * 1.03**i for i in range(60)]
    result = run(growing, max_s=5.0)
    assert not result.steady
    assert sum(result.series_s) >= 5.0
    assert result.drift is not None
    assert result.drift > 0.02


def test_a_step_longer_than_the_minimum_needs_two_calls() -> None:
    assert len(run([2.0]).series_s) == 2
    assert len(run([3.0, 2.0, 2.02]).series_s) == 3


def test_windows_shrink_for_slow_steps() -> None:
    assert len(run([0.2]).series_s) == 6  # windows of three
    assert len(run([0.3]).series_s) == 4  # windows of two


def test_at_least_min_calls() -> None:
    assert len(run([0.3], min_calls=9).series_s) == 9


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_one_percent_settles(seed: int) -> None:
    noise = random.Random(seed)
    assert run([0.02 * noise.gauss(1.0, 0.01) for _ in range(1000)]).steady


def test_warm_up_runs_the_step() -> None:
    calls = []

    def step(mark: Mark) -> None:
        calls.append(1)
        mark("forward")

    result = warm_up(FakeClock([0.9, 0.2]), step, ("forward",), min_calls=3, min_s=0.5, max_s=20.0)
    assert result.steady
    assert len(calls) == len(result.series_s) == 6
    assert result.series_s[0] == 0.9
