"""A gate report on a terminal: the sentence first, then what is red or open, then the rest in one line a layer."""

from __future__ import annotations

from rich.console import Console

from t2bench.gate.results import GateReport, GateRow
from t2bench.report import terminal, units
from t2bench.report.safe import clean
from t2bench.report.table import Cell, Table, Tone

_TONES: dict[str, Tone] = {"fail": "failed", "missing": "failed", "inconclusive": "muted", "warn": "worse"}
_QUIET = frozenset({"pass"})
MOST_ROWS = 60


def show(report: GateReport, console: Console) -> None:
    """Print a report."""
    rows = [row for row in report.rows if row.verdict not in _QUIET or row.layer == "L2"]
    if rows:
        terminal.show_tables([_table(rows[:MOST_ROWS], len(rows))], console)
    # Under the table and never cut: a log of CI has 80 columns, and the reason is what its reader came for.
    for row in rows[:MOST_ROWS]:
        words = f"{row.verdict}: {row.case} {row.metric}: {row.why}"
        console.print(clean(words, limit=2000), markup=False, highlight=False, soft_wrap=True)
    for layer in report.layers:
        console.print(f"{layer.layer} {layer.verdict:<13}{clean(layer.words)}", markup=False, highlight=False)
    lines = [f"base: {report.base}", f"candidate: {report.candidate}", *report.self_check]
    lines += [f"warning: {warning}" for warning in report.warnings]
    lines += [f"differs: {difference}" for difference in report.differences]
    lines += [report.power] if report.power else []
    for line in lines:
        console.print(clean(line, limit=2000), markup=False, highlight=False, soft_wrap=True)
    words = f"{report.verdict.upper()} (exit {report.exit_code}): {report.headline}"
    console.print(clean(words, limit=2000), markup=False, highlight=False, soft_wrap=True)


def _table(rows: list[GateRow], total: int) -> Table:
    notes = (f"{total - len(rows)} more rows are in gate.json",) if total > len(rows) else ()
    return Table(
        title="gate",
        columns=("case", "metric", "base", "new", "effect", "verdict"),
        rows=tuple(_cells(row) for row in rows),
        notes=notes,
        key=2,
    )


def _cells(row: GateRow) -> tuple[Cell, ...]:
    return (
        Cell(text=row.case),
        Cell(text=row.metric),
        Cell(text=units.quantity(row.base.value, row.unit) if row.base else ""),
        Cell(text=units.quantity(row.new.value, row.unit) if row.new else ""),
        Cell(text=units.change(row.effect) if row.effect else ""),
        Cell(text=row.verdict, tone=_TONES.get(row.verdict, "")),
    )
