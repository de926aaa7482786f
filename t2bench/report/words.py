"""The verdict in sentences: who is faster, by how much, how sure, at what memory, from which length on."""

from __future__ import annotations

import re
from collections.abc import Iterator

from t2bench.analysis.results import Crossover, Effect, Interval, TimedScaling
from t2bench.report import units
from t2bench.report.view import COUNTED_PEAK, SAVED, TIME, View


def verdict(view: View) -> tuple[str, ...]:
    """Sentences, most important first: one paragraph per series and variant, then the run's own null."""
    if not any(estimate.metric == TIME for estimate in view.analysis.estimates):
        return (_nothing(view),)
    sentences: list[str] = []
    for series in view.series:
        for variant in sorted(view.others, key=lambda v: _order(view, series, v)):
            sentence = _variant(view, series, variant)
            if sentence:
                sentences.append(sentence)
    sentences.extend(_exponent_of_reference(view))
    sentences.extend(_null(view))
    return tuple(sentences) or (_alone(view),)


def _order(view: View, series: str, variant: str) -> float:
    """The fastest first; what could not be compared last."""
    length = view.largest_common(series, variant)
    effect = view.effect(view.series[series][length], variant) if length is not None else None
    return effect.ratio.value if effect is not None else float("inf")


def _nothing(view: View) -> str:
    count = len(view.analysis.outcomes)
    return (
        f"Nothing was measured: none of the {count} cases has a time." if count else "Nothing was measured: no cases."
    )


def _alone(view: View) -> str:
    return f"{view.reference or 'The reference'} could not be compared with any other variant in this run."


def _variant(view: View, series: str, variant: str) -> str:
    """What one variant is against the reference, at the largest length both have; empty if they share none."""
    length = view.largest_common(series, variant)
    if length is None:
        return _without_comparison(view, series, variant)
    group = view.series[series][length]
    effect = view.effect(group, variant)
    assert effect is not None
    parts = [f"{variant} {_is(effect, view.reference)} at L={length} ({series})"]
    parts.extend(_memory(view, group, variant))
    first = "; ".join(parts) + "."
    return " ".join(filter(None, [first, _growth(view, series, variant), _from_length(view, series, variant)]))


def _is(effect: Effect, reference: str) -> str:
    if effect.verdict == "not distinguishable":
        seen = f"; a difference of {units.percent(effect.mde)} would have been seen" if units.known(effect.mde) else ""
        return f"cannot be told from {reference} in speed ({units.times(units.speed_up(effect))}{seen})"
    sentence = units.in_words(effect).replace(" in a single launch", "", 1)
    sure = " (one launch: no interval)" if effect.verdict == "undecidable" else ""
    return f"is {sentence.split(', which')[0]} than {reference}{sure}"


def _without_comparison(view: View, series: str, variant: str) -> str:
    measured = [length for length, group in view.series[series].items() if view.estimate(group, variant)]
    if not measured:
        return ""
    return f"{variant} was measured up to L={max(measured)} ({series}), but never beside {view.reference}."


def _memory(view: View, group: str, variant: str) -> list[str]:
    """Peak memory against the reference, counted and measured, and what is kept for the backward pass."""
    counted = _ratio(view.counted(group, variant, COUNTED_PEAK), view.counted(group, view.reference, COUNTED_PEAK))
    measured = _ratio(view.measured_peak(group, variant), view.measured_peak(group, view.reference))
    saved = _ratio(view.counted(group, variant, SAVED), view.counted(group, view.reference, SAVED))
    found = [f"{value} {word}" for value, word in ((measured, "measured"), (counted, "counted")) if value]
    parts = [f"peak memory {', '.join(found)}"] if found else []
    if saved:
        parts.append(f"saved for backward {saved}")
    return parts


def _ratio(mine: float | None, theirs: float | None) -> str:
    if mine is None or not theirs:
        return ""
    return f"{units.digits(mine / theirs, 2)}x"


def _scaling(view: View, series: str, variant: str) -> TimedScaling | None:
    found = (s for s in view.analysis.timed_scaling if (s.series, s.variant, s.metric) == (series, variant, TIME))
    return next(found, None)


def _growth(view: View, series: str, variant: str) -> str:
    mine, theirs = _scaling(view, series, variant), _scaling(view, series, view.reference)
    if mine is None or mine.exponent is None:
        return ""
    against = f" ({view.reference}: {_exponent(theirs.exponent)})" if theirs and theirs.exponent else ""
    return f"Its time per sequence grows as {_exponent(mine.exponent)}{against}."


def _exponent(value: Interval) -> str:
    """`L^1.71 [1.66, 1.76]`."""
    return f"L^{units.interval(value)}"


def crossover(view: View, series: str, variant: str) -> Crossover | None:
    """The analysis' crossover in time of a variant with the reference."""
    found = (c for c in view.analysis.crossovers if (c.series, c.variant, c.metric) == (series, variant, TIME))
    return next(found, None)


def _from_length(view: View, series: str, variant: str) -> str:
    crossing = crossover(view, series, variant)
    if crossing is None:
        return ""
    if crossing.length is None:
        return f"{_upper(crossing.note)}." if crossing.note else ""
    sure = "It is" if crossing.length.low is not None else "By bare signs, without an interval, it is"
    _, _, doubt = crossing.note.partition("; ")
    return f"{sure} the faster one from {units.at_length(crossing.length)} on{f' ({doubt})' if doubt else ''}."


def _upper(text: str) -> str:
    return f"In time, {text.rstrip('.')}"


def _exponent_of_reference(view: View) -> list[str]:
    """The reference's growth, where no other variant's sentence already told it."""
    if view.others:
        return []
    found = []
    for series in view.series:
        own = _scaling(view, series, view.reference)
        if own is not None and own.exponent is not None:
            found.append(f"Time per sequence of {view.reference} grows as {_exponent(own.exponent)} ({series}).")
    return found


def _null(view: View) -> list[str]:
    """The reference against itself: how far two equal things seem apart in this very run."""
    ghosts = [e for e in view.analysis.effects if e.ghost and e.metric == TIME]
    if not ghosts:
        return []
    widest = max(ghosts, key=lambda effect: abs(effect.ratio.value - 1))
    text = f"The null: {view.reference} against itself differs by at most {units.times(widest.ratio)}"
    bounded = [e for e in ghosts if e.ratio.low is not None and e.ratio.high is not None]
    holding = [e for e in bounded if e.ratio.low <= 1 <= e.ratio.high]  # type: ignore[operator]
    if not bounded:
        return [f"{text}; one launch allows no interval, so nothing here is proven."]
    told = f"{text}; {len(holding)} of its {len(bounded)} intervals hold 1"
    # One in twenty 95 % intervals misses 1 by chance; more than that is a finding about the machine.
    excess = len(bounded) - len(holding) > max(1, len(bounded) // 10)
    return [f"{told}: far too few, so take effects of that size as noise." if excess else f"{told} (95 % should)."]


def warnings(view: View) -> tuple[str, ...]:
    """The run's warnings, then those of its cases: those that differ only in numbers are told once."""
    reasons = {outcome.reason for outcome in view.analysis.outcomes}
    told: dict[str, list[str]] = {}
    for where, text in _case_warnings(view):
        if text not in reasons:
            told.setdefault(re.sub(r"[\d.]+", "#", text), []).append(f"{where}: {text}")
    damage = [f"records.jsonl line {line}: {reason}" for line, reason in view.run.damage]
    cases = [lines[0] + (f" ({len(lines) - 1} more like this)" if len(lines) > 1 else "") for lines in told.values()]
    return (*view.analysis.warnings, *damage, *cases)


def _case_warnings(view: View) -> Iterator[tuple[str, str]]:
    for estimate in view.analysis.estimates:
        if estimate.metric == TIME:
            yield from ((estimate.case, text) for text in estimate.warnings)
    for effect in view.analysis.effects:
        if effect.metric == TIME:
            yield from ((f"{effect.group}/{effect.variant}", text) for text in effect.warnings)
