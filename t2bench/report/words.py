"""Phrases that verdict, tables and headline share: from which length on, at what memory, against which wall."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from t2bench.analysis.results import Crossover
from t2bench.report import units
from t2bench.report.safe import clean
from t2bench.report.view import COUNTED_PEAK, SAVED, TIME, View

# A mark or a line elsewhere on the same page says as much, so a screen leaves these warnings to the report file.
_TOLD_ELSEWHERE = ("the interval excludes 1, but among", "no effects in ")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wall:
    """Variants that run out of memory where others still run.

    Attributes:
        series: group id without the length.
        length: the first length at which they do.
        variants: who, the reference first.
        running: who was measured there all the same.
        reason: why the first of them ended.
    """

    series: str
    length: int
    variants: tuple[str, ...]
    running: tuple[str, ...]
    reason: str


def listed(names: Sequence[str], most: int = 9) -> str:
    """`a, b and c`; beyond `most` names, how many more there are."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def memory(view: View, group: str, variant: str, reference: str) -> list[str]:
    """Peak memory against the reference, measured and counted, and what is kept for the backward pass."""
    counted = ratio(view.counted(group, variant, COUNTED_PEAK), view.counted(group, reference, COUNTED_PEAK))
    measured = ratio(view.measured_peak(group, variant), view.measured_peak(group, reference))
    saved = ratio(view.counted(group, variant, SAVED), view.counted(group, reference, SAVED))
    found = [f"{value} {word}" for value, word in ((measured, "measured"), (counted, "counted")) if value]
    parts = [f"peak memory {', '.join(found)}"] if found else []
    if saved:
        parts.append(f"saved for backward {saved}")
    return parts


def ratio(mine: float | None, theirs: float | None) -> str:
    """`0.51x`, or nothing where one of the two is unknown or zero."""
    return f"{units.digits(mine / theirs, 2)}x" if mine is not None and theirs else ""


def crossover(view: View, series: str, variant: str) -> Crossover | None:
    """The analysis' crossover in time of a variant with the reference."""
    found = (c for c in view.analysis.crossovers if (c.series, c.variant, c.metric) == (series, variant, TIME))
    return next(found, None)


def _told(view: View, series: str, variant: str) -> tuple[str, list[int], list[int]]:
    """(`faster`, `slower` or nothing, lengths where that is proven, lengths where nothing is); nothing if mixed."""
    at: dict[str, list[int]] = {}
    for length, group in view.series[series].items():
        effect = view.effect(group, variant)
        if effect is not None:
            at.setdefault(effect.verdict, []).append(length)
    unsure = at.pop("not distinguishable", [])
    if len(at) > 1 or "undecidable" in at:
        return "mixed", [], unsure
    word = "faster" if "lower" in at else "slower" if "higher" in at else ""
    return word, next(iter(at.values()), []), unsure


def from_length(view: View, series: str, variant: str) -> str:
    """At which lengths the variant is the faster or the slower one, as a sentence; empty with one length."""
    if len(view.series[series]) < 2:
        return ""
    crossing = crossover(view, series, variant)
    word, proven, unsure = _told(view, series, variant)
    doubt = f"; not distinguishable at {', '.join(map(str, unsure))}" if unsure else ""
    if crossing is not None and crossing.length is not None:
        signs = "" if crossing.length.low is not None else ", by bare signs"
        return f"Faster from {units.at_length(crossing.length)} on{signs}{doubt}."
    if word == "mixed":
        return f"In time, {crossing.note.rstrip('.')}." if crossing is not None and crossing.note else ""
    if not proven:
        return f"Not distinguishable at any length from {unsure[0]} to {unsure[-1]}." if len(unsure) > 1 else ""
    if not unsure:
        return f"{word.title()} at every length from {proven[0]} to {proven[-1]}." if len(proven) > 1 else ""
    where = f"from L={proven[0]} on" if unsure[-1] < proven[0] else f"at {', '.join(map(str, proven))}"
    return f"{word.title()} {where}{doubt}."


def faster_from(view: View, series: str, variant: str) -> str:
    """The same in the few letters of a table cell; empty where only the crossover's own note can tell it."""
    crossing = crossover(view, series, variant)
    if crossing is None:
        return units.NA
    if crossing.length is not None:
        return units.at_length(crossing.length)
    word, proven, unsure = _told(view, series, variant)
    if word == "mixed" or (proven and unsure and unsure[-1] > proven[0]):
        return ""
    if word != "faster":
        return "nowhere" if word else "not proven"
    return f"L={proven[0]}" if unsure else "every L"


def walls(view: View) -> list[Wall]:
    """Who runs out of memory where others run; what the reference cannot do comes first."""
    found = []
    for series, groups in view.series.items():
        first: dict[int, list[str]] = {}
        for variant in view.variants:
            ended = (n for n, group in groups.items() if (o := view.outcome(group, variant)) and o.status == "oom")
            length = next(ended, None)
            if length is not None:
                first.setdefault(length, []).append(variant)
        for length, names in first.items():
            group = groups[length]
            running = [v for v in view.variants if (o := view.outcome(group, v)) and o.status == "ok"]
            outcome = view.outcome(group, names[0])
            if running and outcome is not None:
                reason = clean(outcome.reason, limit=90)
                wall = Wall(series=series, length=length, variants=tuple(names), running=tuple(running), reason=reason)
                found.append(wall)
    return sorted(found, key=lambda wall: view.reference not in wall.variants)


def warnings(view: View) -> tuple[str, ...]:
    """What a reader must know: the run's warnings, then those of its cases, those that differ in numbers told once."""
    damage = [f"records.jsonl line {line}: {reason}" for line, reason in view.run.damage]
    of_run = [text for text in view.analysis.warnings if not text.startswith(_TOLD_ELSEWHERE)]
    return (
        *of_run,
        *damage,
        *_once(_of_quality(view)),
        *_once((at, text) for at, text in _of_cases(view) if not text.startswith(_TOLD_ELSEWHERE)),
    )


def further_warnings(view: View) -> tuple[str, ...]:
    """Warnings that say in words what a mark in the tables or a line about a case already says."""
    of_run = [text for text in view.analysis.warnings if text.startswith(_TOLD_ELSEWHERE)]
    return (*of_run, *_once((at, text) for at, text in _of_cases(view) if text.startswith(_TOLD_ELSEWHERE)))


def _once(found: Iterator[tuple[str, str]]) -> list[str]:
    told: dict[str, list[str]] = {}
    for where, text in found:
        told.setdefault(re.sub(r"[\d.]+", "#", text), []).append(f"{where}: {text}")
    return [lines[0] + (f" ({len(lines) - 1} more like this)" if len(lines) > 1 else "") for lines in told.values()]


def _of_quality(view: View) -> Iterator[tuple[str, str]]:
    for warning in view.analysis.quality.warnings if view.analysis.quality else ():
        where, _, text = warning.partition(": ")
        yield where, text


def _of_cases(view: View) -> Iterator[tuple[str, str]]:
    """(where, text) of warnings about step times; what an effect says of few launches, its values need not repeat."""
    reasons = {outcome.reason for outcome in view.analysis.outcomes}
    of_effects = [(e.group, e.variant, text) for e in view.analysis.effects if e.metric == TIME for text in e.warnings]
    few = re.compile(r"\d+ launch(es)?: ")
    repeated = any(few.match(text) for _, _, text in of_effects)
    for estimate in view.analysis.estimates:
        for text in estimate.warnings if estimate.metric == TIME else ():
            if text not in reasons and not (repeated and few.match(text)):
                yield estimate.case, text
    yield from ((f"{group}/{variant}", text) for group, variant, text in of_effects if text not in reasons)
