"""Claims about variants from their scores over seeds: one test, a margin, equivalence, and what could be resolved.

The one test is Student's t on differences paired by seed (equal seeds have equal data order), Welch's where the seeds
differ. Over 3 to 10 seeds the paired t keeps its 5 % whatever the correlation within pairs, unequal spreads, heavy
tails or a bad seed in ten (tests/analysis/test_quality_seeds.py holds the table). Welch's would be stronger where pairs
do not correlate (3 seeds, 2 sd apart: 37 % power against 29 %), and falls to 1 % false alarms, and less power, where
they do. The exact sign-flip permutation cannot reach 5 % with fewer than 6 seeds, and with Holm's rule over 5 variants
not with fewer than 8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from t2bench.analysis import stats, student
from t2bench.analysis.quality_results import Arm, Claim, Floor, QualityVerdict, Spread
from t2bench.analysis.stats import MeanEstimate

MIN_SENTENCES = 200  # fewer, and one output's own interval is several BLEU wide
ONE_SEED = "one seed proves nothing"
ANY = (-math.inf, math.inf)
_ALPHA = 1.0 - stats.CONFIDENCE


def spread(values: Sequence[float], scale: tuple[float, float] = ANY) -> Spread:
    """Mean with its interval and standard deviation over seeds (at least one).

    Args:
        values: one for each seed.
        scale: least and greatest value there can be; a mean's interval ends there.
    """
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    whole = stats.mean_over_launches(values).interval()
    low, high = (None if end is None else min(max(end, scale[0]), scale[1]) for end in (whole.low, whole.high))
    return Spread(interval=replace(whole, low=low, high=high), sd=sd, num_seeds=len(values))


def shared_seeds(arm: Arm, other: Arm) -> tuple[int, ...]:
    """Seeds that both were trained with to the end."""
    return tuple(seed for seed in arm.seeds if seed in other.seeds)


def same_outputs(arm: Arm, other: Arm) -> bool:
    """Whether the two wrote the same text for every seed that both have (at least one), all of them known by hash."""
    mine, theirs = dict(zip(arm.seeds, arm.hashes, strict=True)), dict(zip(other.seeds, other.hashes, strict=True))
    shared = shared_seeds(arm, other)
    return bool(shared) and all(mine[seed] and mine[seed] == theirs[seed] for seed in shared)


def seed_difference(arm: Arm, other: Arm, metric: str) -> tuple[MeanEstimate, bool] | None:
    """(difference of means over seeds, whether it is paired); None if either side lacks the metric.

    Seeds that only one side has are left out where at least two are shared.
    """
    if not arm.values.get(metric) or not other.values.get(metric):
        return None
    mine = dict(zip(arm.seeds, arm.values[metric], strict=True))
    theirs = dict(zip(other.seeds, other.values[metric], strict=True))
    shared = [seed for seed in mine if seed in theirs]
    if len(shared) >= 2 or (len(shared) == len(mine) == len(theirs) == 1):
        return stats.mean_over_launches([mine[seed] - theirs[seed] for seed in shared]), True
    sides = (stats.mean_over_launches(list(values.values())) for values in (mine, theirs))
    return stats.difference_of_means(*sides), False


def claim(arm: Arm, other: Arm, *, margin: float, agrees_by: str = "chrf", same_function: bool = False) -> Claim:
    """A variant against another, before Holm's rule: see `with_verdicts`.

    Args:
        arm: the variant's scores.
        other: the reference's.
        margin: difference of BLEU that matters.
        agrees_by: the metric that must have the same sign: `chrf` or `ter`.
        same_function: whether the two differ in how they compute only.
    """
    base = Claim(
        variant=arm.variant,
        reference=other.variant,
        verdict="undecidable",
        margin=margin,
        num_seeds=min(len(arm.seeds), len(other.seeds)),
        agrees_by=agrees_by,
        same_function=same_function,
    )
    if same_outputs(arm, other):
        shared = shared_seeds(arm, other)
        more = len(shared) < max(len(arm.seeds), len(other.seeds))
        which = "seed" if len(shared) == 1 else f"{len(shared)} seeds"
        only = f"in the {which} that both have" if more else ""
        return replace(base, verdict="identical", paired=True, num_seeds=len(shared), why=only)
    found = seed_difference(arm, other, "bleu")
    if found is None:
        return replace(base, why=_missing(arm, other))
    estimate, paired = found
    second = seed_difference(arm, other, agrees_by)
    sign = -1.0 if agrees_by == "ter" else 1.0
    return replace(
        base,
        difference=estimate.interval(),
        p_value=estimate.p_value(),
        within_p=_within(estimate, margin),
        error=estimate.error,
        df=estimate.df,
        paired=paired,
        num_seeds=estimate.num_launches,
        second=None if second is None else sign * second[0].mean,
    )


def _missing(arm: Arm, other: Arm) -> str:
    absent = [side for side in (arm, other) if not side.values.get("bleu")]
    words = [f"{side.variant} {'diverged with every seed' if side.diverged else 'has no score'}" for side in absent]
    return " and ".join(words)


def _within(estimate: MeanEstimate, margin: float) -> float | None:
    """The larger p of the two one-sided tests of a difference beyond -margin and beyond +margin."""
    if estimate.error is None:
        return None
    room = margin - abs(estimate.mean)
    if estimate.error == 0.0:
        return 0.0 if room > 0 else 1.0
    return student.upper_tail(room / estimate.error, estimate.df)


def with_verdicts(
    claims: Sequence[Claim], arms: Mapping[str, Arm], *, why_not: str = "", floor: Floor | None = None
) -> tuple[Claim, ...]:
    """The same claims, judged together: Holm's rule over those that a test was made for.

    Args:
        claims: against one reference, or the steps of one ladder, on one test set.
        arms: variant -> its scores.
        why_not: why nothing may be concluded on this test set; empty if something may.
        floor: the highest one: two variants below it are alike in having learned nothing, which is no finding.
    """
    tested = [index for index, each in enumerate(claims) if each.p_value is not None]
    differs = dict(zip(tested, stats.holm([claims[i].p_value or 0.0 for i in tested]), strict=True))
    within = dict(zip(tested, stats.holm([_or_one(claims[i].within_p) for i in tested]), strict=True))
    found = []
    for index, each in enumerate(claims):
        if each.verdict == "identical":
            found.append(each)
        elif why_not:
            found.append(replace(each, why=why_not))
        elif floor is not None and _both_below(each, arms, floor.bleu):
            found.append(replace(each, why=f"neither reaches the {floor.shown} BLEU of {floor.words}"))
        elif index not in differs:
            found.append(replace(each, why=each.why or ONE_SEED))
        else:
            found.append(_judged(each, differs[index], within[index], arms, len(tested)))
    return tuple(found)


def _both_below(each: Claim, arms: Mapping[str, Arm], floor: float) -> bool:
    scores = [arms[name].values.get("bleu", ()) for name in (each.variant, each.reference)]
    return all(values and float(np.mean(values)) < floor for values in scores)


def _or_one(value: float | None) -> float:
    return 1.0 if value is None else value


def _judged(each: Claim, differs: bool, within: bool, arms: Mapping[str, Arm], family: int) -> Claim:
    assert each.difference is not None
    value, broken = each.difference.value, _broken(each, arms)
    each = replace(each, resolves=_resolves(each, family))
    if differs and abs(value) >= each.margin:
        verdict: QualityVerdict = "better" if value > 0 else "worse"
        winner = each.variant if value > 0 else each.reference
        if each.same_function:
            why = f"they differ by {value:+.2f} BLEU although they compute the same function: one of them is at fault"
            return replace(each, verdict="undecidable", why=why)
        if arms[winner].diverged:
            return replace(each, verdict="undecidable", why=f"higher where it was trained to the end, but {broken}")
        if each.second is None or each.second * value <= 0:
            why = f"BLEU differs, but {each.agrees_by.replace('chrf', 'chrF').replace('ter', 'TER')} does not agree"
            return replace(each, verdict="unresolved", why=why)
        return replace(each, verdict=verdict, why=broken)
    if broken:
        return replace(each, verdict="undecidable", why=broken)
    if within:
        return replace(each, verdict="equivalent")
    if each.same_function:
        return replace(each, verdict="same function")
    why = f"the seeds differ, by less than the margin of {each.margin:g} BLEU" if differs else ""
    return replace(each, verdict="unresolved", why=why)


def _broken(each: Claim, arms: Mapping[str, Arm]) -> str:
    sides = (arms[name] for name in (each.variant, each.reference))
    return " and ".join(f"{s.variant} {diverged(s)}" for s in sides if s.diverged)


def diverged(arm: Arm) -> str:
    """`diverged in 1 of 3 seeds`; empty if none did."""
    total = len(arm.seeds) + len(arm.diverged)
    return f"diverged in {len(arm.diverged)} of {total} seeds" if arm.diverged else ""


def _resolves(each: Claim, family: int) -> float | None:
    """The true difference that the strictest step of Holm's rule and the margin let through with 90 % power."""
    if each.error is None:
        return None
    if each.error == 0.0:
        return each.margin
    floor = each.margin / each.error
    shift = student.detectable_shift(1.0 - _ALPHA / (2 * family), stats.POWER, each.df, floor)
    return shift * each.error
