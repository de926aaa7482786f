"""Means, intervals and warning signs of small samples: arrays in, plain values out.

The replicate is the launch (a fresh process), so every interval here is Student's t over a handful of launches. The
spread is each comparison's own: pooling it over comparisons (moderated t, Smyth 2004) gives narrower intervals that
hold 95 % on average but only 77 to 91 % for the noisiest third of the comparisons (tests/analysis/test_coverage.py),
and those are the ones where a wrong claim would be made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2bench.analysis import student
from t2bench.analysis.results import Interval

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
POWER = 0.90


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanEstimate:
    """Mean over launches with its standard error.

    Attributes:
        error: standard error of the mean; None with one launch.
        df: degrees of freedom of `error`; 0 with one launch.
    """

    mean: float
    error: float | None
    df: float
    num_launches: int

    def interval(self) -> Interval:
        """Two-sided 95 % Student t interval."""
        if self.error is None:
            return Interval(value=self.mean)
        half = student.quantile(0.5 + CONFIDENCE / 2, self.df) * self.error
        return Interval(value=self.mean, low=self.mean - half, high=self.mean + half)

    def p_value(self) -> float | None:
        """Two-sided p of the hypothesis that the true mean is 0; None with one launch."""
        if self.error is None:
            return None
        if self.error == 0.0:
            return 1.0 if self.mean == 0.0 else 0.0
        return student.two_sided_p(self.mean / self.error, self.df)

    def detectable(self, family: int = 1) -> float | None:
        """The smallest true ratio - 1 that a two-sided test finds with 90 % power, for means of log ratios.

        Args:
            family: effects that are judged together; the test is the first step of Holm's rule over them, which is
                the strictest one.

        Returns:
            exp(shift * error) - 1 with the shift of `student.detectable_shift`; None with one launch; may be infinite.
        """
        if self.error is None:
            return None
        return expm1(student.detectable_shift(1.0 - (1.0 - CONFIDENCE) / (2 * family), POWER, self.df) * self.error)


def mean_over_launches(values: Sequence[float] | Floats) -> MeanEstimate:
    """Mean and standard error of one value per launch (at least one)."""
    launches = np.asarray(values, dtype=np.float64)
    count = launches.size
    if count == 0:
        raise ValueError("a mean needs at least one launch")
    if count == 1:
        return MeanEstimate(mean=float(launches[0]), error=None, df=0.0, num_launches=1)
    error = float(launches.std(ddof=1)) / math.sqrt(count)
    return MeanEstimate(mean=float(launches.mean()), error=error, df=count - 1.0, num_launches=count)


def difference_of_means(left: MeanEstimate, right: MeanEstimate) -> MeanEstimate:
    """Difference left - right for independent launches (Welch 1947). One launch on either side gives no interval."""
    return weighted_sum([1.0, -1.0], [left, right])


def weighted_sum(weights: Sequence[float], terms: Sequence[MeanEstimate]) -> MeanEstimate:
    """Sum of weight * mean for independent means, with Satterthwaite's (1946) degrees of freedom."""
    mean = sum(w * term.mean for w, term in zip(weights, terms, strict=True))
    launches = min(term.num_launches for term in terms)
    variances: list[float] = []
    for weight, term in zip(weights, terms, strict=True):
        if term.error is None:
            return MeanEstimate(mean=mean, error=None, df=0.0, num_launches=launches)
        variances.append((weight * term.error) ** 2)
    total = sum(variances)
    if total == 0.0:
        return MeanEstimate(mean=mean, error=0.0, df=sum(term.df for term in terms), num_launches=launches)
    # Shares before squares: the squares of tiny variances would underflow.
    df = 1.0 / sum((variance / total) ** 2 / term.df for variance, term in zip(variances, terms, strict=True))
    return MeanEstimate(mean=mean, error=math.sqrt(total), df=df, num_launches=launches)


def median_interval(launch_values: Sequence[float] | Floats) -> Interval:
    """Median of launch values with a t interval over launches, on the log scale if all are positive.

    The interval is that of the mean; it is widened to hold the median where a skewed launch pushes that outside.
    """
    values = np.asarray(launch_values, dtype=np.float64)
    logs = bool((values > 0).all())
    around = mean_over_launches(np.log(values) if logs else values).interval()
    median = float(np.median(values))
    if around.low is None or around.high is None:
        return Interval(value=median)
    low, high = (exp(around.low), exp(around.high)) if logs else (around.low, around.high)
    return Interval(value=median, low=min(low, median), high=max(high, median))


def exp_interval(interval: Interval) -> Interval:
    """A log-scale interval as a ratio."""
    return Interval(
        value=exp(interval.value),
        low=None if interval.low is None else exp(interval.low),
        high=None if interval.high is None else exp(interval.high),
    )


def exp(value: float) -> float:
    """Exponential that answers infinity instead of raising."""
    return math.exp(value) if value < 700.0 else math.inf


def expm1(value: float) -> float:
    """As math.expm1, but answers infinity instead of raising."""
    return math.expm1(value) if value < 700.0 else math.inf


def holm(p_values: Sequence[float], alpha: float = 1.0 - CONFIDENCE) -> list[bool]:
    """Which hypotheses fall when the chance of any false one is at most `alpha` (Holm 1979), in the given order."""
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] > alpha / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


def boundary(holds: Callable[[float], bool], inside: float, limit: float) -> float:
    """Where a statement about a positive number stops to hold on the way from `inside` to `limit`.

    Returns:
        `limit` itself if the statement holds there; else found by bisection on the logarithm.
    """
    if holds(limit):
        return limit
    for _ in range(30):
        middle = math.sqrt(inside * limit)
        if holds(middle):
            inside = middle
        else:
            limit = middle
    return inside


def lag1_autocorrelation(values: Sequence[float] | Floats) -> float | None:
    """Correlation of neighbours in time order; None for fewer than four or equal values."""
    series = np.asarray(values, dtype=np.float64)
    if series.size < 4:
        return None
    centred = series - series.mean()
    total = float(centred @ centred)
    return None if total == 0.0 else float(centred[1:] @ centred[:-1]) / total


def drift_per_s(values: Sequence[float] | Floats, starts_s: Sequence[float] | Floats) -> float | None:
    """Drift: median slope of log values over time between all pairs (Theil 1950, Sen 1968).

    Args:
        values: positive samples in time order.
        starts_s: their start offsets in seconds, as many.

    Returns:
        Change of the logarithm per second; None with fewer than four samples or no time between them.
    """
    logs, starts = np.log(np.asarray(values, dtype=np.float64)), np.asarray(starts_s, dtype=np.float64)
    if logs.size < 4:
        return None
    first, second = np.triu_indices(logs.size, k=1)
    gaps = starts[second] - starts[first]
    apart = gaps > 0
    if not apart.any():
        return None
    return float(np.median((logs[second] - logs[first])[apart] / gaps[apart]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Outliers:
    """Counts beyond Tukey's fences: `mild` 1.5 to 3 interquartile ranges outside the quartiles, `severe` beyond 3."""

    mild: int
    severe: int


def tukey_outliers(values: Sequence[float] | Floats) -> Outliers:
    """Outliers of one launch's samples, counted and never removed (Tukey 1977)."""
    samples = np.asarray(values, dtype=np.float64)
    if samples.size < 4:
        return Outliers(mild=0, severe=0)
    low, high = np.quantile(samples, [0.25, 0.75])
    outside = np.maximum(low - samples, samples - high) / (high - low if high > low else np.finfo(np.float64).tiny)
    severe = int((outside > 3.0).sum())
    return Outliers(mild=int((outside > 1.5).sum()) - severe, severe=severe)


def spike_rate(values: Sequence[float] | Floats, factor: float = 1.5) -> float:
    """Share of samples slower than `factor` times the median."""
    samples = np.asarray(values, dtype=np.float64)
    return float((samples > factor * np.median(samples)).mean()) if samples.size else 0.0
