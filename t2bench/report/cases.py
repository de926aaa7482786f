"""The long tables: every case with everything known about it, and its raw samples in figures."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from t2bench.analysis.results import Outcome
from t2bench.analysis.utilisation import Mfu
from t2bench.records import Record
from t2bench.report import units
from t2bench.report.table import Cell, Table, Tone
from t2bench.report.tables import PEAK_WORDS, status
from t2bench.report.utilisation import CONVENTION, utilisation
from t2bench.report.view import COUNTED_PEAK, RATE, SAVED, TIME, View

FLOP_CONVENTION = "FLOPs: model = explicit attention, causal not halved; executed = what the kernels do."


def overview(view: View) -> Table:
    """Every case of the run, with its status, time, throughput, work and memory."""
    work, memory = ("model FLOPs", "executed"), ("peak counted", "measured", "saved")
    columns = ("case", "status", "step time", "tokens/s", "MFU", *work, *memory)
    rows = tuple(_case(view, outcome) for outcome in view.analysis.outcomes)
    notes = (FLOP_CONVENTION, CONVENTION, f"Memory: counted is exact or predicted; {peak_words(view)}.")
    return Table(title="Every case", columns=columns, rows=rows, notes=notes, key=2)


def peak_words(view: View) -> str:
    """What "measured" memory means in this run."""
    return PEAK_WORDS.get(view.measured_peak_name, "measured: n/a")


def _case(view: View, outcome: Outcome) -> tuple[Cell, ...]:
    group, variant = outcome.group, outcome.variant
    estimate = view.estimate(group, variant)
    tone: Tone = "" if outcome.status == "ok" else "muted" if outcome.expected else "failed"
    counted = [
        (view.counted(group, variant, "model_flops"), "flops"),
        (view.counted(group, variant, "executed_flops"), "flops"),
        (view.counted(group, variant, COUNTED_PEAK), "bytes"),
        (view.measured_peak(group, variant), "bytes"),
        (view.counted(group, variant, SAVED), "bytes"),
    ]
    throughput = view.estimate(group, variant, RATE)
    rate = throughput.interval.value if throughput else None
    used = utilisation(view, group, variant)
    return (
        Cell(text=outcome.case),
        Cell(text=status(outcome), tone=tone),
        Cell(
            text=units.interval(estimate.interval, estimate.unit) if estimate else units.NA,
            order=estimate.interval.value if estimate else None,
        ),
        Cell(text=units.quantity(rate, "count"), order=rate),
        _used(used),
        *(Cell(text=units.quantity(value, unit), order=value) for value, unit in counted),
    )


def _used(found: Mfu | None) -> Cell:
    if found is None:
        return Cell(text=units.NA)
    return Cell(text="impossible" if found.error else units.percent(found.value), order=found.value)


def samples(view: View) -> Table | None:
    """What was timed, case by case: launches, windows, spread within and between launches."""
    rows = []
    for case, records in view.timed.items():
        kept = [(r, [v for v in r.metrics[TIME].samples or () if v is not None]) for r in records if TIME in r.metrics]
        kept = [(record, values) for record, values in kept if values]
        if kept:
            rows.append(_samples(case, kept))
    if not rows:
        return None
    columns = ("case", "launches", "windows", "contended", "fastest", "median", "slowest", "launch medians")
    notes = ("All windows are kept in records.jsonl, in time order; none is removed.",)
    return Table(title="Raw samples", columns=columns, rows=tuple(rows), notes=notes)


def _samples(case: str, kept: Sequence[tuple[Record, list[float]]]) -> tuple[Cell, ...]:
    values = [value for _, series in kept for value in series]
    flags = [flag for record, _ in kept for flag in record.turns.get("contended", ()) if flag is not None]
    contended = sum(map(bool, flags)) if flags else None
    summary = (min(values), median(values), max(values))
    return (
        Cell(text=case),
        Cell(text=str(len(kept)), order=len(kept)),
        Cell(text=str(len(values)), order=len(values)),
        Cell(text=units.NA if contended is None else str(contended), order=contended),
        *(Cell(text=units.quantity(value, "s"), order=value) for value in summary),
        Cell(text=units.together([median(series) for _, series in kept], "s", ", ")),
    )
