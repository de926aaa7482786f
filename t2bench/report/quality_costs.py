"""What trainings cost, what it took to reach the target, and translations side by side: the other tables of quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from t2bench.analysis.quality_results import Board, Cost, Example, Quality
from t2bench.report import units
from t2bench.report.quality import named
from t2bench.report.table import Cell, Table, Tone

TARGET_WORDS = {
    "time_to_quality_s": "time to target",
    "cpu_time_to_quality_s": "CPU time to target",
    "tokens_to_quality": "tokens to target",
    "energy_to_quality_j": "energy to target",
}
_TARGET_UNITS = {"tokens_to_quality": "tokens", "energy_to_quality_j": "J"}


def costs(quality: Quality | None) -> tuple[Table, ...]:
    """One table for each group: throughput, time, parameters, and what reaching the target took."""
    if quality is None:
        return ()
    groups = [[cost for cost in quality.costs if cost.group == group] for group in quality.groups]
    return tuple(_table(found, quality) for found in groups if any(cost.spreads for cost in found))


def _table(found: Sequence[Cost], quality: Quality) -> Table:
    targets = [name for name in TARGET_WORDS if any(name in cost.to_target for cost in found)]
    columns = (
        "variant",
        *(TARGET_WORDS[name] for name in targets),
        "train tokens/s",
        "train time",
        "params",
        "val loss",
    )
    rows = []
    for cost in found:
        cells = [_to_target(cost, name) for name in targets]
        rows.append((Cell(text=cost.variant), *cells, *(_spread(cost, *each) for each in _SHOWN)))
    notes = ["Means over seeds; evaluation is not part of the times. A loss says nothing about translations by itself."]
    goals = {cost.target for cost in found if cost.target is not None}
    if targets and len(goals) == 1:
        notes.insert(
            0,
            f"Target: {goals.pop():g} validation BLEU, fixed before. Median over seeds; a ratio to the reference only "
            "where every seed of both reached it.",
        )
    scope = next((board.scope for board in quality.boards if board.scope.group == found[0].group), None)
    where = named(scope).partition("; ")[2] if scope else found[0].group
    title = f"Cost of training: {where}" + (f" ({found[0].group})" if len(quality.groups) > 1 else "")
    return Table(title=title, columns=columns, rows=tuple(rows), notes=tuple(notes))


_SHOWN = (("train_tokens_per_s", "count"), ("train_time_s", "s"), ("num_params", "count"), ("val_loss", "1"))


def _spread(cost: Cost, metric: str, unit: str) -> Cell:
    spread = cost.spreads.get(metric)
    value = None if spread is None else spread.interval.value
    return Cell(text=units.quantity(value, unit), order=value)


def _to_target(cost: Cost, metric: str) -> Cell:
    if metric not in cost.to_target:
        return Cell(text=units.NA, tone="muted")
    value, missed, seeds = cost.to_target[metric]
    unit = _TARGET_UNITS.get(metric, "s")
    parts = [] if value is None else [units.quantity(value, unit)]
    parts += [f"({units.digits(cost.ratios[metric], 3)}x)"] if metric in cost.ratios else []
    parts += [f"not reached in {missed} of {seeds}"] if missed else []
    return Cell(text=", ".join(parts).replace(", (", " ("), order=value, tone="failed" if missed else "")


def samples(quality: Quality | None) -> tuple[Table, ...]:
    """Translations side by side, then what each variant wins and loses most: one table each."""
    if quality is None:
        return ()
    primary = [board for board in quality.boards if board.primary]
    made = []
    for board in primary:
        for kind, found in (("Samples", quality.samples), ("Wins", quality.wins), ("Losses", quality.losses)):
            mine = [e for e in found if e.group == board.scope.group and e.test == board.scope.test]
            if mine:
                made.append(_examples(board, kind, mine))
    return tuple(made)


def _examples(board: Board, kind: str, found: Sequence[Example]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for example in found:
        line = str(example.row + 1)
        if example.gain is not None:
            line = f"{line} ({example.variant} {example.gain:+.0f})"
        texts = [("source", example.source), ("reference", example.reference)]
        shown = [*filter(lambda pair: pair[1], texts), *_equal_together(example.outputs)]
        for place, (who, text) in enumerate(shown):
            tone: Tone = "muted" if (who, text) in texts else ""
            name = Cell(text=line if place == 0 else "", order=example.row)
            rows.append((name, Cell(text=who, tone="muted"), Cell(text=text or "(empty)", tone=tone)))
    seed = f"Seed {found[0].seed}; line of {found[0].test}."
    if found[0].gain is not None:
        seed += f" In brackets: chrF of the sentence above or below {board.reference}'s. The extremes, not the rule."
    title = f"{kind}: {named(board.scope)}"
    return Table(title=title, columns=("line", "who", "text"), rows=tuple(rows), notes=(seed,), key=3)


def _equal_together(outputs: Mapping[str, str]) -> list[tuple[str, str]]:
    """(variants, their common translation): equal ones share a line."""
    by_text: dict[str, list[str]] = {}
    for variant, text in outputs.items():
        by_text.setdefault(text, []).append(variant)
    return [(", ".join(names), text) for text, names in by_text.items()]
