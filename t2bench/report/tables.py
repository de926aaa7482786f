"""The tables of a report: speed, memory, scaling, ladder, and how the cases that have no number ended."""

from __future__ import annotations

from t2bench.analysis.results import Effect, ExactScaling, Outcome, Rung, TimedScaling
from t2bench.report import units, words
from t2bench.report.table import Cell, Table, Tone
from t2bench.report.view import COUNTED_PEAK, SAVED, TIME, View

PEAK_WORDS = {
    "peak_allocated_bytes": "measured = the allocator's peak on the device",
    "process_peak_bytes": "measured = peak resident memory of the process above its level before the model",
}
UNPROVEN = (
    "~ not proven to differ: the interval holds 1, or it misses 1 no more clearly than chance among so many, or a side "
    "is not judged."
)
STATUS_WORDS = {
    "unsupported": "refused",
    "skipped": "left out",
    "wrong_numerics": "wrong numerics",
    "wrong_backend": "wrong back end",
    "not_steady": "not steady",
    "incomplete": "not finished",
}

Rows = tuple[tuple[Cell, ...], ...]
Notes = dict[str, list[str]]  # what is told -> the variants that it is told of


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
    """The reference's step time and every other variant's speed-up over it: rows are lengths, or variants."""
    groups = view.series[series].values()
    ghosts = tuple(g for g in view.ghosts if any(view.effect(group, g) for group in groups))
    broad = view.broad(series)
    columns, rows = (_speed_by_variant if broad else _speed_by_length)(view, series, ghosts)
    notes = ["Speed-up over the reference at the same length, with its 95 % interval; above 1 is faster."]
    if any("~" in cell.text for row in rows for cell in row[1:]):
        notes.append(UNPROVEN)
    if any(cell.text.endswith("*") for row in rows for cell in row[1:]):
        notes.append("* measured, but the case did not end well: see below.")
    spare = 0 if broad else len(ghosts)
    return Table(title=f"Speed: {_where(view, series)}", columns=columns, rows=rows, notes=tuple(notes), spare=spare)


def _where(view: View, series: str) -> str:
    """The series; its length too, if there is only one."""
    lengths = list(view.series[series])
    return f"{series}, L={lengths[0]}" if len(lengths) == 1 else series


def _speed_by_length(view: View, series: str, ghosts: tuple[str, ...]) -> tuple[tuple[str, ...], Rows]:
    columns = ("L", f"{view.reference} (step)", *view.others, *(f"{view.reference} again" for _ in ghosts))
    rows = []
    for length, group in view.series[series].items():
        gains = [_speed_up(view, group, variant) for variant in (*view.others, *ghosts)]
        rows.append((Cell(text=str(length), order=length), _time(view, group, view.reference), *gains))
    return columns, tuple(rows)


def _speed_by_variant(view: View, series: str, ghosts: tuple[str, ...]) -> tuple[tuple[str, ...], Rows]:
    rows = []
    for length, group in view.series[series].items():
        for variant in (*view.variants, *ghosts):
            name = f"{view.reference} again" if variant in ghosts else variant
            gain = Cell(text=units.NA, tone="muted")
            if variant == view.reference:
                gain = Cell(text="reference", tone="muted")
            elif view.effect(group, variant) is not None:
                gain = _speed_up(view, group, variant)
            rows.append((*_name(view, series, name, length), _time(view, group, variant), gain))
    return (*_names(view, series), "step time", "speed-up"), tuple(rows)


def _names(view: View, series: str) -> tuple[str, ...]:
    return ("variant", "L") if len(view.series[series]) > 1 else ("variant",)


def _name(view: View, series: str, name: str, length: int) -> tuple[Cell, ...]:
    """The cells that name a row of one variant at one length; a single length is in the title instead."""
    cells = (Cell(text=name), Cell(text=str(length), order=length))
    return cells[: len(_names(view, series))]


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
    return _gain(effect, " *" if outcome is not None and outcome.status != "ok" else "")


def _gain(effect: Effect, mark: str = "") -> Cell:
    """A speed-up with the mark of what is not proven."""
    tone: Tone = {"lower": "better", "higher": "worse"}.get(effect.verdict, "even")  # type: ignore[assignment]
    unsure = "" if effect.verdict in ("lower", "higher") or effect.ghost else " ~"
    gain = units.speed_up(effect)
    return Cell(text=units.times(gain) + unsure + mark, order=gain.value, tone="muted" if effect.ghost else tone)


def memory(view: View, series: str) -> Table | None:
    """Per variant and length the counted peak, the measured peak and the bytes saved for backward."""
    rows = []
    every = {
        group: [_bytes(view, group, variant) for variant in view.variants] for group in view.series[series].values()
    }
    saves = any(saved for values in every.values() for *_, saved in values)  # inference saves nothing
    for length, group in view.series[series].items():
        values = [three if saves else three[:2] for three in every[group]]
        if view.broad(series):
            for variant, of_variant in zip(view.variants, values, strict=True):
                cells = (Cell(text=units.quantity(value, "bytes"), order=value) for value in of_variant)
                rows.append((*_name(view, series, variant, length), *cells))
        else:
            cells = (Cell(text=units.together(three, "bytes"), order=three[0]) for three in values)
            rows.append((Cell(text=str(length), order=length), *cells))
    named = len(_names(view, series)) if view.broad(series) else 1
    if all(cell.text == units.NA for row in rows for cell in row[named:]):
        return None
    meaning = PEAK_WORDS.get(view.measured_peak_name, "measured: n/a")
    note = f"counted is exact or predicted; {meaning}."
    wide = named + (3 if saves else 2)
    columns: tuple[str, ...] = (*_names(view, series), "peak counted", "peak measured", "saved for backward")[:wide]
    if not view.broad(series):
        note, columns = f"peak counted / measured{' / saved for backward' * saves}; {note}", ("L", *view.variants)
    title = f"Memory: {_where(view, series)}"
    return Table(title=title, columns=columns, rows=tuple(rows), notes=(note[0].upper() + note[1:],))


def _bytes(view: View, group: str, variant: str) -> tuple[float | None, float | None, float | None]:
    """(peak counted, peak measured, saved for backward) in bytes."""
    counted, saved = view.counted(group, variant, COUNTED_PEAK), view.counted(group, variant, SAVED)
    return counted, view.measured_peak(group, variant), saved


def scaling(view: View, series: str) -> Table | None:
    """Rows are variants: the exact L^2 term, the timed exponent, where it turns quadratic, where it overtakes.

    One length tells nothing about growth, so such a series has no table.
    """
    if len(view.series[series]) < 2:
        return None
    rows: list[tuple[Cell, ...]] = []
    notes: Notes = {}
    for variant in view.variants:
        exact, timed = _exact(view, series, variant), _timed(view, series, variant)
        if exact is None and timed is None:
            continue
        cells = (
            Cell(text=variant),
            _square_term(exact, notes),
            Cell(text=units.interval(timed.exponent) if timed else units.NA),
            Cell(text=units.at_length(timed.parity_length) if timed else units.NA),
            Cell(text="reference" if variant == view.reference else _overtakes(view, series, variant, notes)),
        )
        if timed and timed.refused:
            notes.setdefault(f"no time coefficients: {timed.refused}", []).append(variant)
        rows.append(cells)
    if not rows:
        return None
    columns = ("variant", "saved bytes", "mean exponent", "bL = cL^2 at", "faster from")
    told = [f"{words.listed(names)}: {text.rstrip('.')}." for text, names in notes.items()]
    notes_shown = (*_identities(view, series), *_local(view, series), *told)
    return Table(title=f"Scaling: {series}", columns=columns, rows=tuple(rows), notes=notes_shown, spare=1)


def _identities(view: View, series: str) -> tuple[str, ...]:
    """The exact polynomials of the saved bytes, in one line."""
    found = [
        f"{s.variant} {units.polynomial(s.coefficients, s.unit)}"
        for variant in view.variants
        if (s := _exact(view, series, variant)) is not None and s.coefficients is not None
    ]
    return (f"Saved for backward by one sequence of L tokens: {'; '.join(found)}.",) if found else ()


def _local(view: View, series: str) -> tuple[str, ...]:
    """The exponents between neighbouring lengths, in one line: what the average exponent hides."""
    lines = {v: s.local for v in view.variants if (s := _timed(view, series, v)) is not None and len(s.local) > 1}
    found = [f"{v} {', '.join(units.digits(slope.value, 3) for *_, slope in local)}" for v, local in lines.items()]
    return (f"Time exponent between neighbouring lengths: {'; '.join(found)}.",) if found else ()


def _exact(view: View, series: str, variant: str) -> ExactScaling | None:
    found = [s for s in view.analysis.exact_scaling if s.series == series and s.variant == variant]
    return next((s for s in found if "saved" in s.metric), None)


def _timed(view: View, series: str, variant: str) -> TimedScaling | None:
    found = [s for s in view.analysis.timed_scaling if s.series == series and s.variant == variant]
    return next((s for s in found if s.metric == TIME), None)


def _square_term(exact: ExactScaling | None, notes: Notes) -> Cell:
    if exact is None:
        return Cell(text=units.NA)
    if exact.coefficients is None:
        notes.setdefault(f"no exact polynomial: {exact.refused}", []).append(exact.variant)
        return Cell(text="refused", tone="muted")
    return Cell(text=units.term(exact.coefficients[2]), order=float(exact.coefficients[2]))


def _overtakes(view: View, series: str, variant: str, notes: Notes) -> str:
    short = words.faster_from(view, series, variant)
    crossing = words.crossover(view, series, variant)
    if short or crossing is None:
        return short or units.NA
    notes.setdefault(crossing.note, []).append(variant)
    return "see below"


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
        notes = ["Each step against the one before it; in total against the first. Effects interact: order matters."]
        notes += [UNPROVEN] if any("~" in cell.text for row in rows for cell in row[2:]) else []
        columns = ("step", "changes", "buys", "in total")
        found.append(Table(title=f"Ladder: {group}", columns=columns, rows=rows, notes=tuple(notes), key=2))
    return tuple(found)


def _rung(rung: Rung) -> tuple[Cell, ...]:
    changes = ", ".join(f"{axis} {_value(before)} -> {_value(after)}" for axis, (before, after) in rung.axes.items())
    return (
        Cell(text=rung.variant),
        Cell(text=changes or "nothing"),
        _gain(rung.effect),
        _gain(rung.cumulative),
    )


def _value(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("kind", value))
    return str(value)


def endings(view: View, *, expected: bool) -> tuple[tuple[str, str, str], ...]:
    """(which, status, reason) of the cases that are not ok; equal endings at several lengths share one line."""
    groups: dict[tuple[str, str, str], list[tuple[int, Outcome]]] = {}
    for series, lengths in view.every_series.items():
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
