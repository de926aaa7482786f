"""What the analysis concludes, as plain values: intervals, effects, fits, verdicts.

The functions that compute these live beside this file; the reports only show them. All intervals are 95 % unless a
field says otherwise. "Effect" always means variant / reference, so a time ratio of 0.5 is twice as fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from t2bench.analysis.quality_results import Quality, QualityRow

Verdict = Literal["lower", "higher", "not distinguishable", "undecidable"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A value with its 95 % interval; `low` and `high` are None where one launch allows no interval."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A case's own value of one metric.

    Attributes:
        interval: median of launch medians, with a Student t interval over launches (on the log scale for times).
        num_launches: replicates behind the interval.
        num_samples: timed windows behind the launch medians.
        warnings: plain words about drift, spikes, contention, few launches.
    """

    case: str
    group: str
    variant: str
    metric: str
    unit: str
    interval: Interval
    num_launches: int
    num_samples: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """Variant / reference of one metric within one group.

    Attributes:
        ratio: exp(mean over launches of the median over rounds of the paired log ratio).
        mde: the smallest ratio - 1 that would have been found with 90 % power by the first, strictest step of Holm's
            rule over the effects judged together; None with one launch, 0 if `exact`.
        verdict: `lower` / `higher` if the ratio is proven to differ from 1 by Holm's rule, which keeps the chance of
            any false one among all effects of that metric in the run at 5 %; so an interval (which is about this
            effect alone) may exclude 1 without a verdict, and a warning says so. `not distinguishable` otherwise;
            `undecidable` when one launch allows no interval, or where `doubt` says why there is no verdict at all. A
            ghost's verdict is that of its own interval.
        paired: rounds were shared (same launch, same round). Effects of timed metrics that are not say so in a warning.
        ghost: this is the reference against itself: the run's own null.
        implementation_only: the two variants differ in implementation axes only, so quality is not in question.
        exact: a counted metric: the ratio is an identity and the verdict needs no statistics.
        p_value: two-sided, of ratio = 1, before Holm's rule; None with one launch, if `exact`, or with a `doubt`.
        error: standard error of the log ratio; None with one launch or if `exact`.
        df: degrees of freedom of `error`.
        doubt: why a ratio that could be computed proves nothing; also the first of the warnings.
    """

    group: str
    metric: str
    variant: str
    reference: str
    ratio: Interval
    mde: float | None
    verdict: Verdict
    paired: bool
    num_launches: int
    ghost: bool = False
    implementation_only: bool = False
    exact: bool = False
    p_value: float | None = None
    error: float | None = None
    df: float = 0.0
    doubt: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ExactScaling:
    """A counted metric of one sequence as a polynomial in length: an identity, so it has no error bars.

    Attributes:
        series: group id without the length, for example `train_step/fp32`.
        lengths: lengths at which the metric was counted.
        coefficients: (c0, c1, c2) so that metric = c0 + c1 L + c2 L^2 holds exactly at every length; None if no such
            polynomial exists or fewer than four lengths were counted (then `refused` says so).
    """

    series: str
    variant: str
    metric: str
    unit: str
    lengths: tuple[int, ...]
    coefficients: tuple[Fraction, Fraction, Fraction] | None
    refused: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedScaling:
    """Time of one sequence (step time / batch) against length, with intervals over launches.

    Attributes:
        metric: `step_time_s`.
        values: time of one sequence in seconds at each length.
        exponent: log-log slope over all lengths; None for one length.
        local: (L1, L2, slope between them) for neighbouring lengths.
        coefficients: a + b L + c L^2, all non-negative, in seconds; None where the fit was refused. A term that the
            data do not support is 0, its interval says how large it could be.
        residual: largest relative deviation of the fit from a measured value; None if nothing was fitted.
        parity_length: where c L^2 = b L, inside twice the measured range; None otherwise. Its interval is cut to that
            range.
        refused: why no coefficients are given (too few lengths, residual too large, ...); empty if they are.
    """

    series: str
    variant: str
    metric: str
    lengths: tuple[int, ...]
    values: tuple[Interval, ...]
    exponent: Interval | None
    local: tuple[tuple[int, int, Interval], ...]
    coefficients: tuple[Interval, Interval, Interval] | None
    residual: float | None
    parity_length: Interval | None
    refused: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossover:
    """The length from which a variant's metric is below the reference's.

    Attributes:
        length: interpolated (log-log between measured neighbours), with the lengths that are compatible with equality
            as its interval; None if there is none in the measured range.
        note: the answer in words, for example "lower at every measured length (256 to 8192)".
    """

    series: str
    variant: str
    reference: str
    metric: str
    length: Interval | None
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a case ended: the first pass that was not ok decides.

    Attributes:
        status: a status of `t2bench.records`, or `incomplete` for a case the run never finished.
        expected: a refusal, an exclusion or a predicted OOM: not a failure of the run.
    """

    case: str
    group: str
    variant: str
    status: str
    reason: str
    expected: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """One step of a ladder: what changing `axes` bought over the previous rung.

    Attributes:
        effect: this rung / previous rung.
        cumulative: this rung / first rung.
        axes: axis -> (before, after).
    """

    variant: str
    previous: str
    group: str
    axes: Mapping[str, tuple[object, object]]
    effect: Effect
    cumulative: Effect


@dataclass(frozen=True, kw_only=True, slots=True)
class NullSummary:
    """What the run says about itself: the reference against its ghost, over all groups.

    Attributes:
        num_effects: ghost effects of the step time that have an interval.
        num_covering: how many of these intervals hold 1; 95 % of them should.
        widest: largest |ratio - 1| of any ghost effect: differences below this are within the run's own noise.
    """

    num_effects: int
    num_covering: int
    widest: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonRow:
    """One metric of one case on two sides.

    Attributes:
        case: case id; in a comparison of variants, that of the candidate.
        baseline: the baseline's value; None if it is missing there.
        candidate: the candidate's value; None if it is missing there.
        effect: candidate / baseline; None if either is missing or no ratio exists.
        note: why there is no effect, or empty.
        cause: what changed besides the time, where a difference is proven; empty where nothing is known.
    """

    case: str
    metric: str
    unit: str
    baseline: Interval | None
    candidate: Interval | None
    effect: Effect | None
    note: str = ""
    cause: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One candidate (a run, or a variant of a run) against one baseline.

    Attributes:
        baseline: run id, or variant name.
        candidate: likewise.
        differences: what differs between the two machines, installations or protocols, in words.
        redefined: variants and cases that bear one name and are two things, in words: their rows compare both changes.
        quality: translations, on every test set.
    """

    baseline: str
    candidate: str
    rows: tuple[ComparisonRow, ...]
    differences: tuple[str, ...] = ()
    redefined: tuple[str, ...] = ()
    quality: tuple[QualityRow, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Analysis:
    """Everything a report shows.

    Attributes:
        reference: the variant that effects are measured against.
        counted: case id -> metric -> value, from the counters pass (exact), `predicted`: likewise from the plan pass.
        measured_memory: case id -> metric -> value, from the memory pass.
        launches: the number of launches measured.
        inside_fraction: share of the run's wall time spent inside timed windows and warm-up; None while unknown.
        null: the ghost effects summed up; None without a ghost.
        warnings: about the run as a whole.
        quality: what was concluded about translations; None where nothing was trained to a quality.
    """

    reference: str
    outcomes: tuple[Outcome, ...]
    estimates: tuple[Estimate, ...]
    effects: tuple[Effect, ...]
    exact_scaling: tuple[ExactScaling, ...]
    timed_scaling: tuple[TimedScaling, ...]
    crossovers: tuple[Crossover, ...]
    ladder: tuple[Rung, ...]
    counted: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    predicted: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    measured_memory: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    launches: int = 0
    inside_fraction: float | None = None
    null: NullSummary | None = None
    warnings: tuple[str, ...] = ()
    quality: Quality | None = None
