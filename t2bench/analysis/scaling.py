"""How a metric of one sequence grows with its length: exactly for counted metrics, with intervals for times.

Counted metrics are identities: a polynomial either passes through every length or it does not exist. Times get a
log-log exponent, local exponents between neighbouring lengths, and coefficients a + b L + c L^2 only where such a curve
really describes them: explicit attention on a CPU jumps six- to tenfold between L = 512 and 1024, and no polynomial
does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from t2bench.analysis import fit, stats
from t2bench.analysis.results import ExactScaling, Interval, TimedScaling
from t2bench.analysis.stats import Floats, MeanEstimate

SEQUENCE_TIME = "sequence_time_s"
EXACT_MIN_LENGTHS = 4  # three define a parabola, the fourth can refute it
FIT_MIN_LENGTHS = 5
FIT_MIN_RANGE = 16.0
# A quadratic that misses a point by more than this describes something else. Attention kernels that do follow one are
# within 1 to 11 %, the stepped explicit attention misses by 28 to 42 %.
FIT_MAX_RESIDUAL = 0.20
EXTRAPOLATION = 2.0  # the fit is not used beyond this factor outside the measured lengths
DRAWS = 2000
SEED = 20170612


def exact_scaling(series: str, variant: str, metric: str, unit: str, counts: Mapping[int, float]) -> ExactScaling:
    """The polynomial of degree <= 2 through all (length, count), or why there is none."""
    lengths = tuple(sorted(counts))
    coefficients: tuple[Fraction, Fraction, Fraction] | None = None
    if len(lengths) < EXACT_MIN_LENGTHS:
        refused = f"counted at {len(lengths)} lengths; an exact polynomial needs {EXACT_MIN_LENGTHS} to be refutable"
    else:
        coefficients, refused = _parabola([(length, Fraction(counts[length])) for length in lengths])
    return ExactScaling(
        series=series,
        variant=variant,
        metric=metric,
        unit=unit,
        lengths=lengths,
        coefficients=coefficients,
        refused=refused,
    )


def _parabola(points: Sequence[tuple[int, Fraction]]) -> tuple[tuple[Fraction, Fraction, Fraction] | None, str]:
    """Newton's divided differences through the first three points, checked at all."""
    (l0, y0), (l1, y1), (l2, y2) = points[:3]
    first, second = (y1 - y0) / (l1 - l0), (y2 - y1) / (l2 - l1)
    c2 = (second - first) / (l2 - l0)
    c1 = first - c2 * (l0 + l1)
    c0 = y0 - c1 * l0 - c2 * l0 * l0
    for length, counted in points[3:]:
        predicted = c0 + c1 * length + c2 * length * length
        if predicted != counted:
            return None, (
                f"no polynomial of degree 2: the one through L = {l0}, {l1}, {l2} gives {float(predicted):.6g} at "
                f"L = {length}, counted {float(counted):.6g}"
            )
    return (c0, c1, c2), ""


def timed_scaling(series: str, variant: str, launch_values: Mapping[int, Sequence[float]]) -> TimedScaling:
    """Growth of the time of one sequence.

    Lengths are measured in processes of their own, so they count as independent: exponents are contrasts of mean log
    times with Satterthwaite's degrees of freedom; coefficients and the parity length get bootstrap-t intervals.

    Args:
        series: group id without its length.
        variant: variant name.
        launch_values: length -> one positive time in seconds per launch.
    """
    lengths = tuple(sorted(launch_values))
    logs = [stats.mean_over_launches(np.log(launch_values[length])) for length in lengths]
    curve = _fit_curve(lengths, logs, launch_values)
    return TimedScaling(
        series=series,
        variant=variant,
        metric=SEQUENCE_TIME,
        lengths=lengths,
        values=tuple(stats.median_interval(launch_values[length]) for length in lengths),
        exponent=_slope(lengths, logs) if len(lengths) > 1 else None,
        local=tuple(
            (lengths[i], lengths[i + 1], _slope(lengths[i : i + 2], logs[i : i + 2])) for i in range(len(lengths) - 1)
        ),
        coefficients=curve.coefficients,
        residual=curve.residual,
        parity_length=curve.parity_length,
        refused=curve.refused,
    )


def _slope(lengths: Sequence[int], logs: Sequence[MeanEstimate]) -> Interval:
    """Least-squares slope of mean log time against log length."""
    x = np.log(np.array(lengths, dtype=np.float64))
    weights = (x - x.mean()) / float(((x - x.mean()) ** 2).sum())
    return stats.weighted_sum(weights.tolist(), logs).interval()


class _Curve:
    """What the fit gives, or why not."""

    __slots__ = ("coefficients", "parity_length", "refused", "residual")

    def __init__(
        self,
        *,
        refused: str = "",
        residual: float | None = None,
        coefficients: tuple[Interval, Interval, Interval] | None = None,
        parity_length: Interval | None = None,
    ) -> None:
        self.refused = refused
        self.residual = residual
        self.coefficients = coefficients
        self.parity_length = parity_length


def _fit_curve(
    lengths: Sequence[int], logs: Sequence[MeanEstimate], launch_values: Mapping[int, Sequence[float]]
) -> _Curve:
    if len(lengths) < FIT_MIN_LENGTHS:
        return _Curve(refused=f"measured at {len(lengths)} lengths; coefficients need {FIT_MIN_LENGTHS}")
    spread = lengths[-1] / lengths[0]
    if spread < FIT_MIN_RANGE:
        return _Curve(refused=f"lengths span a factor of {spread:.3g}; coefficients need {FIT_MIN_RANGE:.0f}")
    values = np.exp([log.mean for log in logs])
    point = fit.fit_subsets(lengths, values, values[None, :])
    scatter = sum(float(((np.log(launch_values[at]) - log.mean) ** 2).sum()) for at, log in zip(lengths, logs, strict=True))
    chosen = fit.choose_terms(point, [log.num_launches for log in logs], scatter)
    misses = np.abs(point.residuals[0, chosen])
    worst = int(misses.argmax())
    residual = float(misses[worst])
    if residual > FIT_MAX_RESIDUAL:
        return _Curve(
            residual=residual,
            refused=f"a + b L + c L^2 misses the time at L = {lengths[worst]} by {residual:.0%} "
            f"(more than {FIT_MAX_RESIDUAL:.0%}); read the local exponents instead",
        )
    best = point.coefficients[0, chosen]
    draws = None
    if all(log.error is not None for log in logs):
        drawn = np.exp(stats.student_draws(logs, DRAWS, SEED))
        draws = fit.nonnegative(fit.fit_subsets(lengths, values, drawn))
    a, b, c = (_around(float(best[i]), None if draws is None else draws[:, i]) for i in range(3))
    return _Curve(residual=residual, coefficients=(a, b, c), parity_length=_parity(lengths, best, draws))


def _around(value: float, draws: Floats | None) -> Interval:
    """Percentile interval, widened to hold a value whose small neighbours AICc dropped."""
    if draws is None:
        return Interval(value=value)
    low, high = stats.percentile_bounds(draws)
    return Interval(value=value, low=min(low, value), high=max(high, value))


def _parity(lengths: Sequence[int], best: Floats, draws: Floats | None) -> Interval | None:
    """Length where the quadratic term equals the linear one, if both exist and it is near the measured lengths."""
    _, b, c = (float(value) for value in best)
    shortest, longest = lengths[0] / EXTRAPOLATION, lengths[-1] * EXTRAPOLATION
    if b <= 0.0 or c <= 0.0 or not shortest <= b / c <= longest:
        return None
    if draws is None:
        return Interval(value=b / c)
    linear, quadratic = draws[:, 1], draws[:, 2]
    ratios = np.where(quadratic > 0, linear / np.where(quadratic > 0, quadratic, 1.0), math.inf)
    around = _around(b / c, np.clip(ratios, shortest, longest))
    return around
