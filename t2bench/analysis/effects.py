"""Effects: variant / reference of one metric, with an interval over launches and a verdict.

A timed effect is paired twice over: inside one round of one launch both variants ran within moments of each other, so
the machine's wandering cancels in d = log(t_variant / t_reference). The launch's estimate is the median of d over its
rounds, the effect the mean over launches, its interval Student's t with K - 1 degrees of freedom.

Verdicts follow Holm's rule over all effects of one metric in the run, so that the chance of any false "lower" or
"higher" among them is at most 5 %. Intervals stay 95 % each. Ghosts are no claims but the run's own null: they stand
outside the family, and each one's verdict is that of its interval, to be counted against the expected 1 in 20.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from t2bench.analysis import stats
from t2bench.analysis.launches import CLEAN_SHARE, STEP_TIME, LaunchSamples
from t2bench.analysis.results import Effect, Interval, NullSummary, Verdict
from t2bench.analysis.stats import Floats, MeanEstimate

FEW_LAUNCHES = 3
NOT_PAIRED_RUNS = "not paired: runs were not measured in turns"
NOT_PAIRED_ROUNDS = "not paired: the two variants share no round, so drift of the machine does not cancel"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Who is compared with whom: the labels of an effect."""

    group: str
    metric: str
    variant: str
    reference: str
    ghost: bool = False
    implementation_only: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class PairedLogs:
    """One paired log ratio per shared launch.

    Attributes:
        launches: launch numbers.
        values: median over shared rounds of log(variant / reference).
        num_contended: launches in which too few rounds were clean on both sides, so that all rounds were used.
    """

    launches: tuple[int, ...]
    values: Floats
    num_contended: int = 0


def paired_logs(variant: Sequence[LaunchSamples], reference: Sequence[LaunchSamples]) -> PairedLogs | None:
    """Launch estimates of the log ratio; None if the two share no round of any launch."""
    others = {launch.launch: launch for launch in reference}
    numbers: list[int] = []
    values: list[float] = []
    num_contended = 0
    for mine in variant:
        theirs = others.get(mine.launch)
        if theirs is None or not (mine.in_turns and theirs.in_turns):
            continue
        at = {turn: index for index, turn in enumerate(theirs.turns)}
        shared = [(index, at[turn]) for index, turn in enumerate(mine.turns) if turn in at]
        if not shared:
            continue
        left, right = (np.array(side) for side in zip(*shared, strict=True))
        logs = np.log(mine.values[left] / theirs.values[right])
        clean = mine.clean[left] & theirs.clean[right]
        if float(clean.mean()) < CLEAN_SHARE:
            num_contended += 1
        else:
            logs = logs[clean]
        numbers.append(mine.launch)
        values.append(float(np.median(logs)))
    if not numbers:
        return None
    return PairedLogs(tuple(numbers), np.array(values), num_contended)


@dataclass(frozen=True, slots=True)
class LogRatio:
    """Mean log ratio over launches and how it came about.

    Attributes:
        estimate: mean over launches, with its error.
        paired: from shared rounds.
        warnings: in plain words.
    """

    estimate: MeanEstimate
    paired: bool
    warnings: tuple[str, ...] = ()


def timed_log_ratio(variant: Sequence[LaunchSamples], reference: Sequence[LaunchSamples]) -> LogRatio | None:
    """log(variant / reference) of a timed metric; paired where rounds are shared, else Welch on launch medians.

    Returns:
        None if either side has no launch.
    """
    if not variant or not reference:
        return None
    logs = paired_logs(variant, reference)
    if logs is None:
        return LogRatio(
            _difference([launch.median for launch in variant], [launch.median for launch in reference]),
            paired=False,
            warnings=(NOT_PAIRED_ROUNDS,),
        )
    warnings: tuple[str, ...] = ()
    if logs.num_contended:
        warnings = (
            f"in {logs.num_contended} of {len(logs.launches)} launches fewer than half of the rounds were free of "
            "contention on both sides, so all rounds are used",
        )
    return LogRatio(stats.mean_over_launches(logs.values), paired=True, warnings=warnings)


def timed_effect(pair: Pair, variant: Sequence[LaunchSamples], reference: Sequence[LaunchSamples]) -> Effect | None:
    """Effect of a timed metric; None if either side has no launch.

    The verdict is that of this effect alone: see `with_family_verdicts`.
    """
    found = timed_log_ratio(variant, reference)
    return None if found is None else _effect(pair, found.estimate, paired=found.paired, warnings=found.warnings)


def unpaired_effect(
    pair: Pair, variant: Sequence[float], reference: Sequence[float], *, warnings: tuple[str, ...] = ()
) -> Effect | None:
    """Effect from independent positive launch values (Welch on logs); None if a value is missing or not positive."""
    if not variant or not reference or min(*variant, *reference) <= 0:
        return None
    return _effect(pair, _difference(variant, reference), paired=False, warnings=warnings)


def _difference(variant: Sequence[float], reference: Sequence[float]) -> MeanEstimate:
    return stats.difference_of_means(
        stats.mean_over_launches(np.log(variant)), stats.mean_over_launches(np.log(reference))
    )


def exact_effect(pair: Pair, variant: float, reference: float) -> Effect | None:
    """Effect of a counted metric: an identity; None where the reference is 0 and the variant is not."""
    if reference == 0:
        if variant != 0:
            return None
        ratio = 1.0
    else:
        ratio = variant / reference
    # Compared as counts: a ratio of large integers may round to 1.
    verdict: Verdict = "not distinguishable"
    if variant != reference:
        verdict = "lower" if variant < reference else "higher"
    return Effect(
        group=pair.group,
        metric=pair.metric,
        variant=pair.variant,
        reference=pair.reference,
        ratio=Interval(value=ratio),
        mde=0.0,
        verdict=verdict,
        paired=False,
        num_launches=0,
        ghost=pair.ghost,
        implementation_only=pair.implementation_only,
        exact=True,
    )


def _effect(pair: Pair, estimate: MeanEstimate, *, paired: bool, warnings: tuple[str, ...]) -> Effect:
    p_value = estimate.p_value()
    if 1 < estimate.num_launches < FEW_LAUNCHES:
        warnings += (f"{estimate.num_launches} launches: the interval is honest but very wide; use 3 or more",)
    return Effect(
        group=pair.group,
        metric=pair.metric,
        variant=pair.variant,
        reference=pair.reference,
        ratio=stats.exp_interval(estimate.interval()),
        mde=estimate.detectable(),
        verdict=_verdict(estimate.mean, None if p_value is None else p_value <= 1 - stats.CONFIDENCE),
        paired=paired,
        num_launches=estimate.num_launches,
        ghost=pair.ghost,
        implementation_only=pair.implementation_only,
        p_value=p_value,
        error=estimate.error,
        df=estimate.df,
        warnings=warnings,
    )


def _verdict(log_ratio: float, proven: bool | None) -> Verdict:
    if proven is None:
        return "undecidable"
    if not proven or log_ratio == 0.0:
        return "not distinguishable"
    return "lower" if log_ratio < 0 else "higher"


def with_family_verdicts(effects: Iterable[Effect]) -> tuple[Effect, ...]:
    """The same effects, verdicts and detectable sizes by Holm's rule within each metric; ghosts keep their own."""
    found = list(effects)
    families: dict[str, list[int]] = {}
    for index, effect in enumerate(found):
        if effect.p_value is not None and not effect.ghost:
            families.setdefault(effect.metric, []).append(index)
    for members in families.values():
        proven = stats.holm([found[index].p_value or 0.0 for index in members])
        for index, holds in zip(members, proven, strict=True):
            found[index] = _judged(found[index], holds, len(members))
    return tuple(found)


def _judged(effect: Effect, proven: bool, family: int) -> Effect:
    verdict = _verdict(effect.ratio.value - 1.0, proven)
    estimate = MeanEstimate(mean=0.0, error=effect.error, df=effect.df, num_launches=effect.num_launches)
    effect = replace(effect, mde=estimate.detectable(family))
    if verdict == "not distinguishable" and effect.verdict in ("lower", "higher"):
        doubt = f"the interval excludes 1, but among {family} effects of {effect.metric} that proves no difference"
        return replace(effect, verdict=verdict, warnings=(*effect.warnings, doubt))
    return replace(effect, verdict=verdict)


def null_summary(effects: Iterable[Effect]) -> NullSummary | None:
    """How far the reference differs from itself: over the ghost effects of the step time; None without a ghost."""
    ghosts = [effect.ratio for effect in effects if effect.ghost and effect.metric == STEP_TIME]
    if not ghosts:
        return None
    bounded = [(ratio.low, ratio.high) for ratio in ghosts if ratio.low is not None and ratio.high is not None]
    return NullSummary(
        num_effects=len(bounded),
        num_covering=sum(low <= 1.0 <= high for low, high in bounded),
        widest=max(abs(ratio.value - 1.0) for ratio in ghosts),
    )
