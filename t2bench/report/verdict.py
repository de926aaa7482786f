"""The verdict in a few sentences: what cannot run, who is faster, by how much, how sure, at what memory.

A run of few comparisons gets a sentence for each. Where there are many, one sentence a series names the proven ones
with their figures and lists the others; a ladder is told as a whole, then step by step.
"""

from __future__ import annotations

from collections.abc import Sequence

from t2bench.analysis.results import Effect, Rung, TimedScaling
from t2bench.report import units, words
from t2bench.report.safe import clean
from t2bench.report.view import TIME, View

_MAX_DETAILED = 3  # comparisons with a sentence of their own
_MAX_SERIES = 3
_MAX_FIGURES = 5  # variants named with their figures in one sentence
_MAX_WALLS = 2


def verdict(view: View) -> tuple[str, ...]:
    """Sentences, most important first; the run's own null is the last."""
    if not any(estimate.metric == TIME for estimate in view.analysis.estimates):
        return (_nothing(view),)
    told: list[str] = []
    for series in view.series:
        told.extend(_series(view, series))
    if len(told) > max(_MAX_SERIES, len(view.others) + 1) and len(view.series) > _MAX_SERIES:
        told = [*told[:_MAX_SERIES], "The tables below tell the other series."]
    walls = [_wall(view, wall) for wall in words.walls(view)[:_MAX_WALLS]]
    found = (*walls, *told, *_null(view))
    return found or (_alone(view),)


def _nothing(view: View) -> str:
    count = len(view.analysis.outcomes)
    return (
        f"Nothing was measured: none of the {count} cases has a time." if count else "Nothing was measured: no cases."
    )


def _alone(view: View) -> str:
    return f"{view.reference or 'The reference'} could not be compared with any other variant in this run."


def _wall(view: View, wall: words.Wall) -> str:
    who, others = words.listed(wall.variants, 4), words.listed(wall.running, 4)
    ends, run = ("runs" if len(wall.variants) == 1 else "run"), ("runs" if len(wall.running) == 1 else "run")
    told = "; ".join(filter(None, [view.of(wall.series).strip(" ()"), wall.reason]))
    why = f" ({told})" if told else ""
    return f"{who} {ends} out of memory at L={wall.length}{why}; {others} {run} there."


def _series(view: View, series: str) -> list[str]:
    rungs = view.rungs(series)
    climbed = {rung.variant for rung in rungs} if rungs and view.broad(series) else set()
    others = [v for v in view.others if v not in climbed]
    told = [_ladder(view, series, rungs)] if climbed else []
    compared = [v for v in others if view.largest_common(series, v) is not None]
    compared.sort(key=lambda variant: _last(view, series, variant).ratio.value)
    if len(compared) * len(view.series) <= _MAX_DETAILED and not climbed:
        told += [_one(view, series, variant) for variant in compared]
        told += _growth(view, series, (view.reference, *compared))
    elif compared:
        told.append(_many(view, series, compared))
    apart = [v for v in others if v not in compared and any(view.estimate(g, v) for g in view.series[series].values())]
    if apart:
        told.append(f"Measured, but never beside {view.reference}{view.of(series)}: {words.listed(apart)}.")
    return told


def _last(view: View, series: str, variant: str) -> Effect:
    """The effect at the largest length that variant and reference share; there must be one."""
    length = view.largest_common(series, variant)
    assert length is not None
    effect = view.effect(view.series[series][length], variant)
    assert effect is not None
    return effect


def _one(view: View, series: str, variant: str) -> str:
    """What one variant is against the reference at the largest length both have, and at which lengths it wins."""
    effect, length = _last(view, series, variant), view.largest_common(series, variant)
    parts = [f"{variant} {_is(effect, view.reference)} {view.at(series, length or 0)}"]
    parts.extend(words.memory(view, effect.group, variant, view.reference))
    return " ".join(filter(None, [f"{'; '.join(parts)}.", words.from_length(view, series, variant)]))


def _is(effect: Effect, reference: str) -> str:
    if effect.doubt:
        return f"cannot be judged against {reference} in speed: {clean(effect.doubt, limit=90)}"
    if effect.verdict == "not distinguishable":
        seen = (
            f"; a difference of {units.difference(effect.mde)} would have been seen" if units.known(effect.mde) else ""
        )
        return f"cannot be told from {reference} in speed ({units.times(units.speed_up(effect))}{seen})"
    sure = " (one launch: no interval)" if effect.verdict == "undecidable" else ""
    return f"is {_figure(effect)} than {reference}{sure}"


def _figure(effect: Effect) -> str:
    """`1.47x [1.43, 1.51] faster`, without the words about a single launch."""
    return units.in_words(effect).replace(" in a single launch, which allows no interval", "")


def _many(view: View, series: str, variants: Sequence[str]) -> str:
    """All comparisons of a series in one sentence: proven ones with figures, fastest first, then the others."""
    effects = {variant: _last(view, series, variant) for variant in variants}
    lengths = {view.largest_common(series, variant) or 0 for variant in variants}
    at = view.at(series, max(lengths)) if len(lengths) == 1 else f"at the largest length both have{view.of(series)}"
    return f"Against {view.reference} {at}: {_sorted(effects)}."


def _sorted(effects: dict[str, Effect]) -> str:
    proven = [f"{v} {_figure(e)}" for v, e in effects.items() if e.verdict in ("lower", "higher")]
    bare = [f"{v} {_figure(e)}" for v, e in effects.items() if e.verdict == "undecidable" and not e.doubt]
    barred = [f"{v} ({clean(e.doubt, limit=90)})" for v, e in effects.items() if e.doubt]
    unsure = {v: e for v, e in effects.items() if e.verdict == "not distinguishable"}
    parts = [", ".join(proven[:_MAX_FIGURES])] if proven else []
    parts += [f"{len(proven) - _MAX_FIGURES} more proven"] if len(proven) > _MAX_FIGURES else []
    if bare:
        more = f" and {len(bare) - _MAX_FIGURES} more" if len(bare) > _MAX_FIGURES else ""
        parts.append(f"one launch, so no interval: {', '.join(bare[:_MAX_FIGURES])}{more}")
    if barred:
        parts.append(f"not judged: {words.listed(barred, _MAX_FIGURES)}")
    if unsure:
        parts.append(f"not distinguishable: {words.listed(list(unsure))}{_power(list(unsure.values()))}")
    return "; ".join(parts)


def _power(effects: Sequence[Effect]) -> str:
    seen = sorted(e.mde for e in effects if e.mde is not None and units.known(e.mde))
    if not seen:
        return ""
    span = dict.fromkeys((units.difference(seen[0]), units.difference(seen[-1])))
    return f" (differences of {' to '.join(span)} would have been seen)"


def _ladder(view: View, series: str, rungs: Sequence[Rung]) -> str:
    """What the whole ladder bought, last rung over the first, and which of its steps are proven."""
    last, group = rungs[-1], rungs[-1].group
    foot, total = rungs[0].previous, rungs[-1].cumulative
    length = next(n for n, g in view.series[series].items() if g == group)
    bought = f"{units.times(units.speed_up(total))} the speed, not proven"
    if total.doubt:
        bought = f"not judged: {clean(total.doubt, limit=90)}"
    elif total.verdict != "not distinguishable":
        bought = _figure(total) + (" (one launch: no interval)" if total.verdict == "undecidable" else "")
    whole = "; ".join([bought, *words.memory(view, group, last.variant, foot)])
    steps = {rung.variant: rung.effect for rung in rungs}
    count = f"{len(steps)} steps" if len(steps) > 1 else "one step"
    text = f"The ladder {view.at(series, length)}, {foot} to {last.variant} in {count}: {whole}."
    if not any(e.verdict in ("lower", "higher", "undecidable") for e in steps.values()):
        return f"{text} No step is proven{_power(list(steps.values()))}."
    return f"{text} Steps: {_sorted(steps).replace('not distinguishable: ', 'not proven: ')}."


def _scaling(view: View, series: str, variant: str) -> TimedScaling | None:
    found = (s for s in view.analysis.timed_scaling if (s.series, s.variant, s.metric) == (series, variant, TIME))
    return next(found, None)


def _growth(view: View, series: str, variants: Sequence[str]) -> list[str]:
    """The exponents of all variants side by side."""
    fits = [(v, s.exponent) for v in variants if (s := _scaling(view, series, v)) is not None]
    found = [f"L^{units.interval(exponent)} ({variant})" for variant, exponent in fits if exponent is not None]
    if not found:
        return []
    bent = {
        v: ends for v in variants if (s := _scaling(view, series, v)) is not None and (ends := _bend(s)) is not None
    }
    mean = "on average " if bent else ""
    told = f"Time per sequence grows {mean}as {words.listed(found)}{view.of(series)}."
    if bent:
        spans = [f"{units.digits(a)} to {units.digits(b)} ({variant})" for variant, (a, b) in bent.items()]
        told += f" No power law: from the shortest lengths to the longest the exponent goes from {words.listed(spans)}."
    return [told]


def _bend(found: TimedScaling) -> tuple[float, float] | None:
    """The exponents at the short and the long end, where their intervals say that they are two."""
    if len(found.local) < 2:
        return None
    first, last = found.local[0][2], found.local[-1][2]
    bounds = (first.low, first.high, last.low, last.high)
    if any(bound is None for bound in bounds):
        return None
    apart = first.high < last.low or last.high < first.low  # type: ignore[operator]
    return (first.value, last.value) if apart else None


def _null(view: View) -> list[str]:
    """The reference against itself: how far two equal things seem apart in this very run."""
    ghosts = [e for e in view.analysis.effects if e.ghost and e.metric == TIME]
    if not ghosts:
        return []
    widest = max(ghosts, key=lambda effect: abs(effect.ratio.value - 1))
    text = f"The null: {view.reference} against itself differs by {units.change(widest.ratio)} at most"
    bounded = [e for e in ghosts if e.ratio.low is not None and e.ratio.high is not None]
    holding = [e for e in bounded if e.ratio.low <= 1 <= e.ratio.high]  # type: ignore[operator]
    if not bounded:
        return [f"{text}; one launch allows no interval, so nothing here is proven."]
    intervals = "its interval holds" if len(bounded) == 1 else f"{len(holding)} of {len(bounded)} intervals hold"
    if len(bounded) == 1 and not holding:
        intervals = "its interval does not hold"
    # One in twenty 95 % intervals misses 0 by chance; more than that is a finding about the machine.
    excess = len(bounded) - len(holding) > max(1, len(bounded) // 10)
    return [f"{text}; {intervals} 0{': far too few, so take effects of that size as noise' if excess else ''}."]
