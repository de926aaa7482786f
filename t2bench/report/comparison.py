"""A comparison of runs or variants as tables or flat rows, and analysis values as plain JSON data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from t2bench.analysis.quality_results import QualityRow
from t2bench.analysis.results import Comparison, ComparisonRow, Interval
from t2bench.report import quality, units, words
from t2bench.report.table import Cell, Table, Tone

# What a comparison shows unless it is asked for more.
PRIMARY = (
    "step_time_s",
    "peak_allocated_bytes",
    "process_peak_bytes",
    "tracked_peak_bytes",
    "saved_for_backward_bytes",
)


def metric_names(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """All metrics that occur, in order."""
    return tuple(dict.fromkeys(row.metric for c in comparisons for row in c.rows if row.metric))


def selected(comparison: Comparison, metrics: Sequence[str]) -> Comparison:
    """The comparison with only these metrics; rows of cases without any metric stay, since they say why.

    A ghost is not weighed or counted again: of it, only what was compared is kept.
    """
    ghost = any(row.effect is not None and row.effect.ghost for row in comparison.rows)
    rows = tuple(
        row
        for row in comparison.rows
        if (row.metric in metrics or not row.metric) and not (ghost and row.effect is None)
    )
    return dataclasses.replace(comparison, rows=rows)


def tables(comparison: Comparison) -> tuple[Table, ...]:
    """What makes the sides two things, then cases without a number, then a table per metric, then what differs around.

    Rows of a metric are cases, with both values, the effect in words, what would have been seen, and a cause.
    """
    title = f"{comparison.candidate} against {comparison.baseline}"
    made = []
    if comparison.redefined:
        heading = f"{title}: NOT THE SAME MODELS OR CASES"
        made.append(_lines(heading, "what: baseline -> candidate", comparison.redefined))
    unmatched = [row for row in comparison.rows if not row.metric]
    if unmatched:
        cells = tuple((_case(row, comparison.candidate), _verdict(row)) for row in unmatched)
        made.append(Table(title=f"{title}: cases without a number", columns=("case", "why"), rows=cells, key=2))
    for metric in dict.fromkeys(row.metric for row in comparison.rows if row.metric):
        members = [row for row in comparison.rows if row.metric == metric]
        # Missing ones first: nobody should find at the end that half of the cases are not there.
        members.sort(key=lambda row: row.effect is not None)
        made.append(_metric_table(f"{title}: {metric}", members, comparison.candidate))
    made += _quality(comparison, title)
    if comparison.differences:
        heading = f"{title}: what differs around them"
        made.append(_lines(heading, "fact: baseline -> candidate", comparison.differences))
    return tuple(made)


def _quality(comparison: Comparison, title: str) -> list[Table]:
    """A table per test set and decoding, so that no two scores of different text stand in one."""
    made = []
    for scope in dict.fromkeys(row.scope for row in comparison.quality):
        rows = [row for row in comparison.quality if row.scope == scope]
        made.append(
            Table(
                title=f"{title}: BLEU, {quality.named(scope)}",
                columns=("case", "baseline", "candidate", "difference", "candidate is"),
                rows=tuple(_translated(row, comparison.candidate) for row in rows),
                notes=tuple(_quality_notes(rows)),
            )
        )
    return made


def _translated(row: QualityRow, candidate: str) -> tuple[Cell, ...]:
    """Both scores and the verdict in a word or two, whose reason is in the notes: no narrow page may cut it off."""
    sides = (side.interval if side is not None else None for side in (row.baseline, row.candidate))
    claim = dataclasses.replace(row.claim, why="") if row.claim is not None else None
    difference = claim.difference if claim is not None else None
    return (
        Cell(text=row.case.removesuffix(f"/{candidate}")),
        *(Cell(text=quality.points(side), order=side.value if side else None) for side in sides),
        Cell(text=quality.points(difference, "+") if difference else ""),
        quality.told(claim, row.note.partition(": ")[0]),
    )


def _quality_notes(rows: Sequence[QualityRow]) -> Iterator[str]:
    """What the scores are, how the differences were tested, and each reason once for all rows that have it."""
    yield f"BLEU {rows[0].scope.signature or 'signature n/a'}; means over seeds with 95 % intervals."
    reasons: dict[str, list[str]] = {}
    for row in rows:
        for reason in filter(None, _reasons(row)):
            reasons.setdefault(reason, []).append(row.case.removeprefix(f"{row.scope.group}/"))
    for reason, names in reasons.items():
        yield f"{words.listed(names, quality.MAX_NAMED)}: {reason}."


def _reasons(row: QualityRow) -> Iterator[str]:
    claim = row.claim
    if claim is None:
        yield row.note if ": " in row.note else ""
        return
    if claim.why:
        yield f"{quality.told(dataclasses.replace(claim, why='', resolves=None)).text}: {claim.why}"
    if claim.difference is not None and not claim.paired:
        yield "not paired by seed, since the two share fewer than two seeds; compared as independent trainings (Welch)"


def _lines(title: str, column: str, lines: Sequence[str]) -> Table:
    return Table(title=title, columns=(column,), rows=tuple((Cell(text=line),) for line in lines))


def _metric_table(title: str, members: Sequence[ComparisonRow], candidate: str) -> Table:
    columns: tuple[str, ...] = ("case", "baseline", "candidate", "candidate is", "could see")
    rows: list[tuple[Cell, ...]] = [_row(row, candidate) for row in members]
    if any(row.cause for row in members):
        columns = (*columns, "with")
        rows = [(*cells, Cell(text=row.cause)) for cells, row in zip(rows, members, strict=True)]
    average = _geomean(members)
    if average is not None:
        rows.append((*average, *(Cell(text="") for _ in range(len(columns) - len(average)))))
    return Table(title=title, columns=columns, rows=tuple(rows), notes=_notes(members))


def _geomean(members: Sequence[ComparisonRow]) -> tuple[Cell, ...] | None:
    """The geometric mean of the ratios, which says how many cases it lacks; None with fewer than two ratios."""
    cases = [row for row in members if row.effect is None or not row.effect.ghost]
    ratios = [row.effect.ratio.value for row in cases if row.effect is not None and row.effect.ratio.value > 0]
    if len(ratios) < 2:
        return None
    mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
    lacking = len(cases) - len(ratios)
    name = f"geomean of {len(ratios)} cases" + (f", {lacking} of {len(cases)} MISSING" if lacking else "")
    timed = members[0].metric.endswith("_time_s")
    words = f"{units.times(Interval(value=1 / mean))} the speed" if timed else units.times(Interval(value=mean))
    return (Cell(text=name), Cell(text=""), Cell(text=""), Cell(text=words))


def _notes(rows: Sequence[ComparisonRow]) -> tuple[str, ...]:
    effects = [row.effect for row in rows if row.effect is not None]
    notes = list(dict.fromkeys(warning for effect in effects for warning in effect.warnings))
    open_effects = [e.mde for e in effects if e.verdict == "not distinguishable" and not e.exact and e.mde is not None]
    if open_effects:
        span = dict.fromkeys((units.percent(min(open_effects)), units.percent(max(open_effects))))
        notes.insert(0, f"~ not proven to differ; a difference of {' to '.join(span)} would have been seen.")
    return tuple(notes)


def _row(row: ComparisonRow, candidate: str) -> tuple[Cell, ...]:
    effect = row.effect
    seen = "" if effect is None or effect.exact or not units.known(effect.mde) else units.percent(effect.mde)
    return (
        _case(row, candidate),
        _value(row.baseline, row.unit),
        _value(row.candidate, row.unit),
        _verdict(row),
        Cell(text=seen, order=effect.mde if effect else None),
    )


def _case(row: ComparisonRow, candidate: str) -> Cell:
    ghost = " (ghost: the reference itself)" if row.effect is not None and row.effect.ghost else ""
    return Cell(text=row.case.removesuffix(f"/{candidate}") + ghost)


def _value(value: Interval | None, unit: str) -> Cell:
    return Cell(text=units.interval(value, unit), order=value.value if value else None)


def _verdict(row: ComparisonRow) -> Cell:
    effect = row.effect
    if effect is None:
        return Cell(text=row.note or units.NA, tone="muted")
    if effect.exact and effect.ratio.value == 1:
        return Cell(text="equal, exactly", tone="even")
    timed = row.metric.endswith("_time_s")
    if effect.verdict in ("lower", "higher"):
        words = units.in_words(effect) if timed else units.in_words(effect, lower="less", higher="more")
        tone: Tone = "even"
        if timed or row.metric.endswith(("_bytes", "_flops")):
            tone = "better" if effect.verdict == "lower" else "worse"
        return Cell(text=f"{words}, exactly" if effect.exact else words, order=effect.ratio.value, tone=tone)
    shown = units.times(units.speed_up(effect) if timed else effect.ratio)
    return Cell(text=f"{shown}{' the speed' if timed else ''} ~", order=effect.ratio.value, tone="even")


def compared(comparison: Comparison) -> bool:
    """Whether anything of the two sides stands against each other, be it without a verdict."""
    return any(row.effect is not None for row in comparison.rows) or any(
        row.claim is not None and (row.claim.difference is not None or row.claim.verdict == "identical")
        for row in comparison.quality
    )


def refused(comparison: Comparison) -> bool:
    """Whether translations of the two sides are there, and a reason why they are not compared."""
    return not compared(comparison) and bool(comparison.quality)


COLUMNS = (
    "baseline_run", "candidate_run", "case", "metric", "unit", "baseline", "baseline_low", "baseline_high",
    "candidate", "candidate_low", "candidate_high", "ratio", "ratio_low", "ratio_high", "mde", "verdict", "paired",
    "exact", "ghost", "note", "cause",
)  # fmt: skip


def flat(comparison: Comparison) -> list[tuple[Any, ...]]:
    """One row per case and metric in the order of `COLUMNS`; None for what is not known."""
    rows = []
    for row in comparison.rows:
        effect = row.effect
        sides = [row.baseline, row.candidate, effect.ratio if effect else None]
        numbers = [getattr(side, end) if side else None for side in sides for end in ("value", "low", "high")]
        verdict = (effect.verdict, effect.paired, effect.exact, effect.ghost) if effect else (None, None, None, None)
        names = (comparison.baseline, comparison.candidate, row.case, row.metric, row.unit)
        mde = effect.mde if effect and units.known(effect.mde) else None
        rows.append((*names, *numbers, mde, *verdict, row.note, row.cause))
    for each in comparison.quality:
        sides = [side.interval if side is not None else None for side in (each.baseline, each.candidate)]
        numbers = [getattr(side, end) if side else None for side in (*sides, None) for end in ("value", "low", "high")]
        claim = each.claim
        judged = (claim.verdict, claim.paired, False, False) if claim is not None else (None, None, None, None)
        names = (comparison.baseline, comparison.candidate, each.case, f"bleu ({quality.named(each.scope)})", "1")
        rows.append((*names, *numbers, None, *judged, each.note or (claim.why if claim else ""), ""))
    return rows


def plain(value: Any) -> Any:
    """Analysis values as JSON-ready data: dataclasses become objects, fractions strings, NaN and infinity null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)
