"""The tables of a report: speed, memory, scaling, ladder, and how the cases that have no number ended."""

from __future__ import annotations

from t2bench.analysis.results import Crossover, ExactScaling, Outcome, Rung, TimedScaling
from t2bench.report import units, words
from t2bench.report.table import Cell, Table, Tone
from t2bench.report.view import COUNTED_PEAK, SAVED, TIME, View

PEAK_WORDS = {
    "peak_allocated_bytes": "measured = the allocator's peak on the device",
    "process_peak_bytes": "measured = peak resident memory of the process above its level before the model",
}
STATUS_WORDS = {
    "unsupported": "refused",
    "skipped": "left out",
    "wrong_numerics": "wrong numerics",
    "wrong_backend": "wrong back end",
    "not_steady": "not steady",
    "incomplete": "not finished",
}


def status(outcome: Outcome | None) -> str:
    """How a case ended, in one or two words: `oom (predicted)`, `refused`, `crashed`."""
    if outcome is None:
        return "not planned"
    if outcome.status == "oom" and outcome.reason.startswith("predicted"):
        return "oom (predicted)"
    return STATUS_WORDS.get(outcome.status, outcome.status)


def ended(outcome: Outcome | None) -> Cell:
    """The cell of a case without a number."""
    tone: Tone = "muted" if outcome is None or outcome.expected else "failed"
    return Cell(text=units.NA if outcome is not None and outcome.status == "ok" else status(outcome), tone=tone)


def speed(view: View, series: str) -> Table:
    """Rows are lengths; the reference's step time, then every other variant's speed-up over it."""
    ghosts = [g for g in view.ghosts if any(view.effect(group, g) for group in view.series[series].values())]
    columns = ["L", f"{view.reference} (step)", *view.others, *(f"{view.reference} again" for _ in ghosts)]
    rows, marked = [], False
    for length, group in view.series[series].items():
        row = [Cell(text=str(length), order=length), _time(view, group, view.reference)]
        row += [_speed_up(view, group, variant) for variant in (*view.others, *ghosts)]
        marked = marked or any(cell.text.endswith("*") for cell in row)
        rows.append(tuple(row))
    notes = ["Speed-up over the reference at the same length, with its 95 % interval; above 1 is faster."]
    if any("~" in cell.text for row in rows for cell in row):
        notes.append(
            "~ not proven to differ: the interval holds 1, or it misses 1 no more clearly than chance among so many."
        )
    if marked:
        notes.append("* measured, but the case did not end well: see below.")
    return Table(
        title=f"Speed: {series}", columns=tuple(columns), rows=tuple(rows), notes=tuple(notes), spare=len(ghosts)
    )


def _time(view: View, group: str, variant: str) -> Cell:
    estimate, outcome = view.estimate(group, variant), view.outcome(group, variant)
    if estimate is None:
        return ended(outcome)
    mark = " *" if outcome is not None and outcome.status != "ok" else ""
    return Cell(text=units.interval(estimate.interval, estimate.unit) + mark, order=estimate.interval.value)


def _speed_up(view: View, group: str, variant: str) -> Cell:
    effect, outcome = view.effect(group, variant), view.outcome(group, variant)
    if effect is None:
        return _time(view, group, variant)
    tone: Tone = {"lower": "better", "higher": "worse"}.get(effect.verdict, "even")  # type: ignore[assignment]
    mark = " *" if outcome is not None and outcome.status != "ok" else ""
    unsure = "" if effect.verdict in ("lower", "higher") or effect.ghost else " ~"
    gain = units.speed_up(effect)
    return Cell(text=units.times(gain) + unsure + mark, order=gain.value, tone="muted" if effect.ghost else tone)


def memory(view: View, series: str) -> Table | None:
    """Rows are lengths; per variant the counted peak, the measured peak and the bytes saved for backward."""
    rows = []
    for length, group in view.series[series].items():
        cells = [Cell(text=str(length), order=length)]
        for variant in view.variants:
            peak = view.counted(group, variant, COUNTED_PEAK)
            values = [peak, view.measured_peak(group, variant), view.counted(group, variant, SAVED)]
            cells.append(Cell(text=units.together(values, "bytes"), order=peak))
        rows.append(tuple(cells))
    if all(cell.text == units.NA for row in rows for cell in row[1:]):
        return None
    meaning = PEAK_WORDS.get(view.measured_peak_name, "measured: n/a")
    notes = (f"peak counted / measured / saved for backward; counted is exact or predicted; {meaning}.",)
    return Table(title=f"Memory: {series}", columns=("L", *view.variants), rows=tuple(rows), notes=notes)


def scaling(view: View, series: str) -> Table | None:
    """Rows are variants: the exact L^2 term, the timed exponent, where it turns quadratic, where it overtakes."""
    rows: list[tuple[Cell, ...]] = []
    notes: list[str] = []
    for variant in view.variants:
        exact, timed = _exact(view, series, variant), _timed(view, series, variant)
        if exact is None and timed is None:
            continue
        crossing = words.crossover(view, series, variant)
        crossed = units.at_length(crossing.length) if crossing and crossing.length else _mark(crossing, notes)
        cells = (
            Cell(text=variant),
            _square_term(exact, notes),
            Cell(text=units.interval(timed.exponent) if timed else units.NA),
            Cell(text=units.at_length(timed.parity_length) if timed else units.NA),
            Cell(text="reference" if variant == view.reference else crossed),
        )
        if timed and timed.refused:
            _note(notes, f"{variant}: no time coefficients: {timed.refused}")
        rows.append(cells)
    if not rows:
        return None
    columns = ("variant", "saved bytes", "time exponent", "bL = cL^2 at", "faster from")
    told = (*_identities(view, series), *notes)
    return Table(title=f"Scaling: {series}", columns=columns, rows=tuple(rows), notes=told, spare=1)


def _identities(view: View, series: str) -> tuple[str, ...]:
    """The exact polynomials of the saved bytes, in one line."""
    found = [
        f"{s.variant} {units.polynomial(s.coefficients, s.unit)}"
        for variant in view.variants
        if (s := _exact(view, series, variant)) is not None and s.coefficients is not None
    ]
    return (f"Saved for backward by one sequence of L tokens: {'; '.join(found)}.",) if found else ()


def _exact(view: View, series: str, variant: str) -> ExactScaling | None:
    found = [s for s in view.analysis.exact_scaling if s.series == series and s.variant == variant]
    return next((s for s in found if "saved" in s.metric), None)


def _timed(view: View, series: str, variant: str) -> TimedScaling | None:
    found = [s for s in view.analysis.timed_scaling if s.series == series and s.variant == variant]
    return next((s for s in found if s.metric == TIME), None)


def _square_term(exact: ExactScaling | None, notes: list[str]) -> Cell:
    if exact is None:
        return Cell(text=units.NA)
    if exact.coefficients is None:
        _note(notes, f"{exact.variant}: no exact polynomial: {exact.refused}")
        return Cell(text="refused", tone="muted")
    return Cell(text=units.term(exact.coefficients[2]), order=float(exact.coefficients[2]))


def _mark(crossing: Crossover | None, notes: list[str]) -> str:
    if crossing is None:
        return units.NA
    _note(notes, f"{crossing.variant}: {crossing.note}")
    return "see below"


def _note(notes: list[str], text: str) -> None:
    line = text.rstrip(".") + "."
    if line not in notes:
        notes.append(line)


def ladder(view: View) -> tuple[Table, ...]:
    """One table per group that has rungs, the largest length first."""
    groups: dict[str, list[Rung]] = {}
    for rung in view.analysis.ladder:
        if rung.effect.metric == TIME:
            groups.setdefault(rung.group, []).append(rung)
    order = {group: length for lengths in view.series.values() for length, group in lengths.items()}
    found = []
    for group in sorted(groups, key=lambda g: (-len(groups[g]), -order.get(g, 0))):
        rows = tuple(_rung(rung) for rung in groups[group])
        notes = ("Each step against the one before it; in total against the first. Effects interact: order matters.",)
        columns = ("step", "changes", "buys", "in total")
        found.append(Table(title=f"Ladder: {group}", columns=columns, rows=rows, notes=notes, key=2))
    return tuple(found)


def _rung(rung: Rung) -> tuple[Cell, ...]:
    changes = ", ".join(f"{axis} {_value(before)} -> {_value(after)}" for axis, (before, after) in rung.axes.items())
    return (
        Cell(text=rung.variant),
        Cell(text=changes or "nothing"),
        Cell(text=units.times(units.speed_up(rung.effect)), order=1 / rung.effect.ratio.value),
        Cell(text=units.times(units.speed_up(rung.cumulative)), order=1 / rung.cumulative.ratio.value),
    )


def _value(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("kind", value))
    return str(value)


def endings(view: View, *, expected: bool) -> tuple[tuple[str, str, str], ...]:
    """(which, status, reason) of the cases that are not ok; equal endings at several lengths share one line."""
    groups: dict[tuple[str, str, str], list[tuple[int, Outcome]]] = {}
    for series, lengths in view.series.items():
        for length, group in lengths.items():
            for variant in (*view.variants, *view.ghosts):
                outcome = view.outcome(group, variant)
                twin = view.outcome(group, view.reference)
                if variant in view.ghosts and outcome and twin and twin.status == outcome.status:
                    continue
                if outcome is not None and outcome.status != "ok" and outcome.expected == expected:
                    groups.setdefault((series, variant, status(outcome)), []).append((length, outcome))
    merged: dict[tuple[str, str, str], list[str]] = {}
    for (series, variant, word), members in groups.items():
        lengths_text = ", ".join(str(length) for length, _ in members)
        reasons = list(dict.fromkeys(outcome.reason for _, outcome in members))
        reason = reasons[0].removeprefix("predicted").lstrip(": ") or "no reason given"
        reason += " (the first of these)" if len(reasons) > 1 else ""
        merged.setdefault((f"L={lengths_text} ({series})", word, reason), []).append(variant)
    return tuple((f"{', '.join(names)} at {where}", word, why) for (where, word, why), names in merged.items())
