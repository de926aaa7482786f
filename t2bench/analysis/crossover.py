"""From which length a variant beats the reference.

The log ratio of a variant to its reference is interpolated over log length between measured neighbours. The crossover
is where it falls through 0 for good; its interval holds the lengths, connected with it, at which the interpolated
ratio is compatible with 1: an inverted t test, so 95 % hold the true crossing also with three launches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from t2bench.analysis import stats
from t2bench.analysis.results import Crossover, Interval, Verdict
from t2bench.analysis.stats import MeanEstimate

_SIGN: dict[Verdict, int] = {"lower": -1, "higher": 1, "not distinguishable": 0, "undecidable": 0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One measured length.

    Attributes:
        length: tokens per sequence.
        log_ratio: mean over launches of log(variant / reference).
        verdict: of the effect at this length, by the run's family rule.
    """

    length: int
    log_ratio: MeanEstimate
    verdict: Verdict

    @property
    def sign(self) -> int:
        """-1 lower, 1 higher, 0 not told apart (with one launch, nothing is)."""
        return _SIGN[self.verdict]


def crossover(series: str, variant: str, reference: str, metric: str, points: Sequence[Point]) -> Crossover:
    """Where the variant becomes lower than the reference and stays so.

    Args:
        series: group id without its length.
        variant: variant name.
        reference: reference name.
        metric: what is compared.
        points: at least one measured length, any order.
    """
    ordered = sorted(points, key=lambda point: point.length)
    length, note = _answer(ordered)
    return Crossover(series=series, variant=variant, reference=reference, metric=metric, length=length, note=note)


def _answer(points: Sequence[Point]) -> tuple[Interval | None, str]:
    by_sign: Mapping[int, list[int]] = {
        sign: [point.length for point in points if point.sign == sign] for sign in (-1, 0, 1)
    }
    told = [point for point in points if point.sign]
    open_note = f"; not distinguishable at {_listed(by_sign[0])}" if by_sign[0] else ""
    if all(point.verdict == "undecidable" for point in points):
        ratios = ", ".join(f"{stats.exp(point.log_ratio.mean):.3g} at {point.length}" for point in points)
        return None, f"one launch decides nothing; the ratio is {ratios}"
    if not told:
        return None, f"not distinguishable at {_everywhere(points)}"
    if not by_sign[1] or not by_sign[-1]:
        word = "higher" if by_sign[1] else "lower"
        where = f"at {_listed(by_sign[told[0].sign])}" if by_sign[0] else f"at {_everywhere(points)}"
        return None, f"{word} {where}{open_note}"
    changes = [(left, right) for left, right in pairwise(told) if left.sign != right.sign]
    if len(changes) > 1:
        spans = ", ".join(f"{left.length} and {right.length}" for left, right in changes)
        return None, f"crosses {len(changes)} times: between {spans}{open_note}"
    before, after = changes[0]
    crossing = _crossing(points, before.length, after.length)
    if after.sign > 0:
        return None, f"lower up to about {crossing.value:.0f}, higher from there on{open_note}"
    return crossing, f"higher up to {before.length}, lower from {after.length}{open_note}"


def _everywhere(points: Sequence[Point]) -> str:
    if len(points) == 1:
        return f"the one measured length ({points[0].length})"
    return f"every measured length ({points[0].length} to {points[-1].length})"


def _listed(lengths: Sequence[int]) -> str:
    return ", ".join(map(str, lengths))


def _crossing(points: Sequence[Point], before: int, after: int) -> Interval:
    """The last change of sign between two lengths whose signs are told apart, with its interval."""
    between = [point for point in points if before <= point.length <= after]
    rising = between[0].log_ratio.mean > 0
    # The last one: with unsure points in between there may be several, and "from here on" must hold.
    last = max(i for i, point in enumerate(between[:-1]) if (point.log_ratio.mean > 0) == rising)
    left, right = between[last], between[last + 1]
    share = left.log_ratio.mean / (left.log_ratio.mean - right.log_ratio.mean)
    value = left.length * (right.length / left.length) ** share
    return Interval(
        value=value,
        low=_edge(points, value, [point.length for point in reversed(points) if point.length < value]),
        high=_edge(points, value, [point.length for point in points if point.length > value]),
    )


def _edge(points: Sequence[Point], crossing: float, milestones: Sequence[int]) -> float:
    """End of the compatible lengths on one side, walking over the measured ones so that no clear point is skipped."""
    reached = crossing
    for milestone in milestones:
        reached = stats.boundary(lambda length: _compatible(points, length), reached, float(milestone))
        if reached != milestone:
            break
    return reached


def _compatible(points: Sequence[Point], length: float) -> bool:
    """Whether the interpolated ratio at `length` may be 1: not excluded, or known from one launch only."""
    right = next(i for i, point in enumerate(points) if point.length >= length)
    if points[right].length == length:
        estimate = points[right].log_ratio
    else:
        near, far = points[right - 1], points[right]
        share = math.log(length / near.length) / math.log(far.length / near.length)
        estimate = stats.weighted_sum([1.0 - share, share], [near.log_ratio, far.log_ratio])
    p_value = estimate.p_value()
    return p_value is None or p_value > 1.0 - stats.CONFIDENCE
