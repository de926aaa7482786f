"""How a metric of one sequence grows with its length: exactly for counted metrics, with intervals for times.

Counted metrics are identities: a polynomial either passes through every length or it does not exist. Times get a
log-log exponent, local exponents between neighbouring lengths, and coefficients a + b L + c L^2 only where such a curve
really describes them: explicit attention on a CPU jumps six- to tenfold between L = 512 and 1024, and no polynomial
does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from t2bench.analysis import fit, stats
from t2bench.analysis.launches import STEP_TIME
from t2bench.analysis.results import ExactScaling, Interval, TimedScaling
from t2bench.analysis.stats import Floats, MeanEstimate

EXACT_MIN_LENGTHS = 4  # three define a parabola, the fourth can refute it
FIT_MIN_LENGTHS = 5
FIT_MIN_RANGE = 16.0
# A quadratic that misses a point by more than this describes something else. Attention kernels that do follow one are
# within 1 to 11 %, the stepped explicit attention misses by 28 to 42 %.
FIT_MAX_RESIDUAL = 0.20
EXTRAPOLATION = 2.0  # the fit is not used beyond this factor outside the measured lengths


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

    Lengths are measured in processes of their own, so they count as independent: exponents and coefficients are sums
    of launch means with Satterthwaite's degrees of freedom, the parity length has Fieller's interval. With three
    launches a bootstrap would be far too narrow, and a bootstrap-t twice as wide as needed.

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
        metric=STEP_TIME,
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Curve:
    """What the fit gives, or why not: fields as in TimedScaling."""

    refused: str = ""
    residual: float | None = None
    coefficients: tuple[Interval, Interval, Interval] | None = None
    parity_length: Interval | None = None


def _fit_curve(
    lengths: Sequence[int], logs: Sequence[MeanEstimate], launch_values: Mapping[int, Sequence[float]]
) -> _Curve:
    if len(lengths) < FIT_MIN_LENGTHS:
        return _Curve(refused=f"measured at {len(lengths)} lengths; coefficients need {FIT_MIN_LENGTHS}")
    spread = lengths[-1] / lengths[0]
    if spread < FIT_MIN_RANGE:
        return _Curve(refused=f"lengths span a factor of {spread:.3g}; coefficients need {FIT_MIN_RANGE:.0f}")
    values = np.exp([log.mean for log in logs])
    fits = fit.feasible_fits(lengths, values)
    best = fit.best(fits)
    if best.residual > FIT_MAX_RESIDUAL:
        worst = lengths[int(np.abs(best.misses).argmax())]
        return _Curve(
            residual=best.residual,
            refused=f"a + b L + c L^2 with no negative term misses the time at L = {worst} by {best.residual:.0%} "
            f"(more than {FIT_MAX_RESIDUAL:.0%}); read the local exponents instead",
        )
    within = [candidate for candidate in fits if candidate.residual <= FIT_MAX_RESIDUAL]
    scatter = sum(
        float(((np.log(launch_values[length]) - log.mean) ** 2).sum())
        for length, log in zip(lengths, logs, strict=True)
    )
    chosen = fit.most_supported(within, [log.num_launches for log in logs], scatter)
    linear = _LinearFit.of(lengths, values, logs, (0, 1, 2))
    a, b, c = (float(value) for value in chosen.coefficients)
    return _Curve(
        residual=chosen.residual,
        coefficients=(linear.coefficient(0, a), linear.coefficient(1, b), linear.coefficient(2, c)),
        parity_length=_parity_length(lengths, b, c, (linear, _LinearFit.of(lengths, values, logs, chosen.terms))),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _LinearFit:
    """An unconstrained fit of some terms: its coefficients are sums over lengths, so that t intervals are exact.

    Attributes:
        rows: (3, n) coefficients per measured value.
        values: measured values with their errors.
    """

    rows: Floats
    values: tuple[MeanEstimate, ...]

    @classmethod
    def of(
        cls, lengths: Sequence[int], values: Floats, logs: Sequence[MeanEstimate], terms: Sequence[int]
    ) -> _LinearFit:
        errors = [
            None if log.error is None else value * log.error for value, log in zip(values.tolist(), logs, strict=True)
        ]
        means = (
            replace(log, mean=value, error=error)
            for log, value, error in zip(logs, values.tolist(), errors, strict=True)
        )
        return cls(fit.projections(lengths, values, terms), tuple(means))

    def combine(self, weights: Floats) -> MeanEstimate:
        """Sum over the three coefficients of weight * coefficient."""
        return stats.weighted_sum((weights @ self.rows).tolist(), self.values)

    def coefficient(self, index: int, value: float) -> Interval:
        """Interval of one coefficient, cut at 0 (none is negative) and widened to hold the chosen fit's value."""
        around = self.combine(np.eye(3)[index]).interval()
        if around.low is None or around.high is None:
            return Interval(value=value)
        return Interval(value=value, low=min(max(around.low, 0.0), value), high=max(around.high, value))

    @property
    def parity(self) -> float:
        """The length b / c; infinite where c is not positive."""
        _, b, c = self.rows @ np.array([value.mean for value in self.values])
        return float(b / c) if c > 0.0 else np.inf

    def is_parity(self, length: float) -> bool:
        """Whether b = c L is compatible with the measurements (Fieller 1954)."""
        p_value = self.combine(np.array([0.0, 1.0, -length])).p_value()
        return p_value is not None and p_value > 1.0 - stats.CONFIDENCE


def _parity_length(lengths: Sequence[int], b: float, c: float, fits: Sequence[_LinearFit]) -> Interval | None:
    """Length where the quadratic term equals the linear one, if both exist and it is near the measured lengths.

    The interval is the union over `fits`: the chosen terms alone, and all three, since which are there is not known.
    """
    shortest, longest = lengths[0] / EXTRAPOLATION, lengths[-1] * EXTRAPOLATION
    if b <= 0.0 or c <= 0.0 or not shortest <= b / c <= longest:
        return None
    parity = b / c
    if any(value.error is None for one in fits for value in one.values):
        return Interval(value=parity)
    bounds = [parity]
    for one in fits:
        centre = min(max(one.parity, shortest), longest)
        bounds += [stats.boundary(one.is_parity, centre, shortest), stats.boundary(one.is_parity, centre, longest)]
    return Interval(value=parity, low=min(bounds), high=max(bounds))
