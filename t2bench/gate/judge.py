"""The verdict of paired tests: arrays in, verdicts out, nothing measured here.

One number per launch and test: the median over rounds of how much worse the candidate was (for a time: the log ratio to
the base inside one round). With K launches their mean has Student's t with K - 1 degrees of freedom. For each test

    H0: the change for the worse is within the tolerance.
    fail          H0 is rejected by Holm's rule (1979) over all tests of the gate run.
    pass          the upper 95 % bound lies below tolerance + detect.
    inconclusive  neither.

There are two looks, fixed beforehand. The first spends `SPENT_FIRST` of the family's alpha. Whatever did not pass is
measured again in as many fresh launches, and judged on all launches together with `SPENT_SECOND` of it. By Bonferroni's
inequality over the two looks the chance of any false alarm is at most alpha. Nothing is called a failure before fresh
launches have agreed: those of the second look alone must reject H0 too, at the level `CONFIRM`.

All arrays have the shape [..., tests, launches]: the leading axes are independent gate runs, which is how
tests/gate/test_judge.py plays thousands of them through this very code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2bench.analysis import student
from t2bench.analysis.stats import CONFIDENCE, POWER, Floats

# Shares of alpha. A tenth is in reserve: on a machine that is in one of two states for a whole launch, Student's t is
# exceeded a little more often than its level says.
SPENT_FIRST, SPENT_SECOND = 0.2, 0.7
CONFIRM = 0.10  # one-sided level at which the fresh launches alone must agree with any alarm
PASS_CONFIDENCE = 0.95
MAX_LAUNCHES = 1000

PASS, INCONCLUSIVE, FAIL = 0, 1, 2
Flags = NDArray[np.bool_]
Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What some launches say about each test; every array has the shape [..., tests].

    Attributes:
        mean: change for the worse, mean over launches.
        error: its standard error.
        t: (mean - bound) / error.
        low: lower end of the two-sided 95 % interval of the change.
        high: its upper end.
        upper: one-sided upper 95 % bound of the change.
    """

    mean: Floats
    error: Floats
    t: Floats
    low: Floats
    high: Floats
    upper: Floats
    df: float


def look(launches: Floats, bounds: Floats) -> Look:
    """Means, errors and intervals.

    Args:
        launches: change for the worse of each launch, [..., tests, launches], two launches at least.
        bounds: the tolerance of each test on the same scale, [tests].
    """
    count = launches.shape[-1]
    if count < 2:
        raise ValueError(f"a test needs at least two launches, got {count}")
    df = count - 1.0
    mean = launches.mean(axis=-1)
    error = launches.std(axis=-1, ddof=1) / math.sqrt(count)
    excess = mean - bounds
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(error > 0.0, excess / error, np.where(excess > 0.0, np.inf, -np.inf))
    half = student.quantile(0.5 + CONFIDENCE / 2, df) * error
    return Look(
        mean=mean,
        error=error,
        t=t,
        low=mean - half,
        high=mean + half,
        upper=mean + student.quantile(PASS_CONFIDENCE, df) * error,
        df=df,
    )


def rejected(t: Floats, df: float, alpha: float) -> Flags:
    """Holm's step-down rule over the last axis: the largest t against alpha / m, the next against alpha / (m - 1), ...

    Equal degrees of freedom make the order of t that of the p-values.
    """
    tests = t.shape[-1]
    order = np.argsort(-t, axis=-1, kind="stable")
    steps = np.array([student.quantile(1.0 - alpha / (tests - rank), df) for rank in range(tests)])
    held = np.logical_and.accumulate(np.take_along_axis(t, order, axis=-1) > steps, axis=-1)
    found = np.zeros_like(held)
    np.put_along_axis(found, order, held, axis=-1)
    return found


def first_look(launches: Floats, bounds: Floats, limits: Floats, alpha: float) -> Codes:
    """Verdicts after the first look; a FAIL is an alarm that fresh launches have yet to confirm.

    Args:
        launches: [..., tests, launches].
        bounds: tolerance per test, [tests].
        limits: tolerance + detect per test, [tests].
        alpha: the family's chance of a false alarm, both looks together.
    """
    seen = look(launches, bounds)
    alarmed = rejected(seen.t, seen.df, SPENT_FIRST * alpha)
    return _codes(alarmed, seen.upper < limits)


def second_look(first: Floats, fresh: Floats, bounds: Floats, limits: Floats, alpha: float) -> Codes:
    """Final verdicts, of all tests that did not pass at the first look.

    Args:
        first: launches of the first look, [..., tests, launches].
        fresh: launches of the second look; those of tests that passed at the first are not looked at (NaN will do).
        bounds: tolerance per test, [tests].
        limits: tolerance + detect per test, [tests].
        alpha: the family's chance of a false alarm, both looks together.
    """
    early = first_look(first, bounds, limits, alpha)
    passed = early == PASS
    # A test that passed has no second look; it stays in the family, where nothing rejects it.
    fresh = np.where(passed[..., None], first, fresh)
    again, pooled = look(fresh, bounds), look(np.concatenate([first, fresh], axis=-1), bounds)
    late = rejected(np.where(passed, -np.inf, pooled.t), pooled.df, SPENT_SECOND * alpha)
    confirmed = again.t > student.quantile(1.0 - CONFIRM, again.df)
    failed = (late | (early == FAIL)) & confirmed & ~passed
    return np.where(passed, PASS, _codes(failed, pooled.upper < limits))


def _codes(failed: Flags, passed: Flags) -> Codes:
    return np.where(failed, FAIL, np.where(passed, PASS, INCONCLUSIVE)).astype(np.int64)


def p_value(t: float, df: float) -> float:
    """One-sided p of H0, before Holm's rule."""
    return student.upper_tail(t, df)


def detectable(spread: float, launches: int, tests: int, alpha: float) -> float:
    """Excess over the tolerance, on the scale of the launches, that is called a failure with 90 % probability.

    Args:
        spread: standard deviation between launches.
        launches: of one look; the second doubles them.
        tests: size of the family; Holm's first and strictest step is assumed.
        alpha: the family's chance of a false alarm.
    """
    total = 2 * launches
    level = 1.0 - SPENT_SECOND * alpha / tests
    return student.detectable_shift(level, POWER, total - 1.0) * spread / math.sqrt(total)


def launches_needed(spread: float, detect: float, tests: int, alpha: float) -> int | None:
    """Launches per look with which `detect` beyond the tolerance would be found with 90 % probability.

    Returns:
        None if even MAX_LAUNCHES would not do.
    """
    if detectable(spread, MAX_LAUNCHES, tests, alpha) > detect:
        return None
    low, high = 1, MAX_LAUNCHES
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if detectable(spread, middle, tests, alpha) <= detect else (middle, high)
    return high


def advisory(p_values: Sequence[float], rate: float = 0.1) -> list[bool]:
    """Benjamini and Hochberg's rule (1995): among those it marks, a share of at most `rate` is expected to be noise."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    last = max((rank for rank, i in enumerate(order, start=1) if p_values[i] <= rank * rate / len(order)), default=0)
    marked = set(order[:last])
    return [index in marked for index in range(len(p_values))]


def clopper_pearson(events: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a rate (Clopper & Pearson 1934), by bisection on the binomial distribution."""
    tail = (1.0 - confidence) / 2

    def at_most(count: int, rate: float) -> float:
        if rate <= 0.0:
            return 1.0
        if rate >= 1.0:
            return float(count >= trials)
        logs = (
            math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
            + k * math.log(rate) + (trials - k) * math.log1p(-rate)
            for k in range(count + 1)
        )  # fmt: skip
        return math.fsum(map(math.exp, logs))

    def solve(count: int, target: float) -> float:
        """The rate at which P(X <= count) = target; it falls with the rate."""
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if at_most(count, middle) > target else (low, middle)
        return 0.5 * (low + high)

    lower = 0.0 if events == 0 else solve(events - 1, 1.0 - tail)
    upper = 1.0 if events == trials else solve(events, tail)
    return lower, upper
