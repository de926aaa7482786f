"""The ladder: what each step from one variant to the next buys, paired within the same rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from t2bench.analysis.effects import Pair, timed_effect, with_family_verdicts
from t2bench.analysis.index import Index
from t2bench.analysis.launches import STEP_TIME
from t2bench.analysis.results import Effect, Rung
from t2bench.analysis.trust import weighed


def ladder(index: Index, order: Sequence[str], metric: str = STEP_TIME) -> tuple[Rung, ...]:
    """Rungs of every group in which at least two variants of the ladder were measured.

    A variant that was not measured is stepped over: the next rung's `previous` and `axes` then span both steps, and a
    warning says so. Verdicts follow Holm's rule over all steps, and apart from them over all totals.

    Args:
        index: the run.
        order: variant names from the foot up; empty for no ladder.
        metric: a timed metric.
    """
    found: list[Rung] = []
    for group in index.groups:
        cases = index.variants(group)
        measured = [name for name in order if name in cases and index.launches(cases[name], metric)]
        for previous, variant in pairwise(measured):
            step = _effect(index, group, metric, variant, previous)
            total = _effect(index, group, metric, variant, measured[0])
            if step is None or total is None:
                continue
            found.append(
                Rung(
                    variant=variant,
                    previous=previous,
                    group=group,
                    axes=index.delta(variant, previous),
                    effect=_with_gap(step, order, previous, variant),
                    cumulative=_with_gap(total, order, None, measured[0]),
                )
            )
    return _judged(found)


def _effect(index: Index, group: str, metric: str, variant: str, reference: str) -> Effect | None:
    cases = index.variants(group)
    pair = Pair(
        group=group,
        metric=metric,
        variant=variant,
        reference=reference,
        implementation_only=index.implementation_only(variant, reference),
    )
    effect = timed_effect(pair, index.launches(cases[variant], metric), index.launches(cases[reference], metric))
    return None if effect is None else weighed(effect, [(index, cases[variant]), (index, cases[reference])])


def _with_gap(effect: Effect, order: Sequence[str], below: str | None, above: str) -> Effect:
    """Say which variants between `below` (None: the ground) and `above` were stepped over."""
    first = 0 if below is None else order.index(below) + 1
    missing = order[first : order.index(above)]
    if not missing:
        return effect
    return replace(
        effect, warnings=(*effect.warnings, f"{', '.join(missing)} was not measured here and is stepped over")
    )


def _judged(rungs: Sequence[Rung]) -> tuple[Rung, ...]:
    steps = with_family_verdicts(rung.effect for rung in rungs)
    totals = with_family_verdicts(rung.cumulative for rung in rungs)
    return tuple(
        replace(rung, effect=step, cumulative=total) for rung, step, total in zip(rungs, steps, totals, strict=True)
    )
