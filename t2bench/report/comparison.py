"""A comparison of runs or variants as tables, and analysis values as plain JSON data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from t2bench.analysis.results import Comparison, ComparisonRow, Interval
from t2bench.report import units
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
    """One table per metric: rows are cases, with both values and the verdict; the last one tells what differs."""
    title = f"{comparison.candidate} against {comparison.baseline}"
    made = []
    for metric in dict.fromkeys(row.metric for row in comparison.rows):
        members = [row for row in comparison.rows if row.metric == metric]
        rows: tuple[tuple[Cell, ...], ...] = tuple(_row(row, comparison.candidate) for row in members)
        columns: tuple[str, ...] = ("case", "baseline", "candidate", "candidate is")
        if not metric:
            rows, columns = tuple((row[0], row[-1]) for row in rows), ("case", "why")
        heading = f"{title}: {metric or 'cases without a number'}"
        made.append(Table(title=heading, columns=columns, rows=rows, notes=_notes(members)))
    if comparison.differences:
        rows = tuple((Cell(text=line),) for line in comparison.differences)
        made.append(
            Table(title=f"{title}: what differs around them", columns=("fact: baseline -> candidate",), rows=rows)
        )
    return tuple(made)


def _notes(rows: Sequence[ComparisonRow]) -> tuple[str, ...]:
    effects = [row.effect for row in rows if row.effect is not None]
    notes = list(dict.fromkeys(warning for effect in effects for warning in effect.warnings))
    open_effects = [e.mde for e in effects if e.verdict == "not distinguishable" and not e.exact and e.mde is not None]
    if open_effects:
        span = dict.fromkeys((units.percent(min(open_effects)), units.percent(max(open_effects))))
        notes.insert(0, f"~ not proven to differ; a difference of {' to '.join(span)} would have been seen.")
    return tuple(notes)


def _row(row: ComparisonRow, candidate: str) -> tuple[Cell, ...]:
    return (
        Cell(text=row.case.removesuffix(f"/{candidate}")),
        _value(row.baseline, row.unit),
        _value(row.candidate, row.unit),
        _verdict(row),
    )


def _value(value: Interval | None, unit: str) -> Cell:
    return Cell(text=units.quantity(value.value, unit) if value else units.NA, order=value.value if value else None)


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
