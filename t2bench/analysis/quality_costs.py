"""What a training costs, and what it costs to reach a quality that was fixed before: with runs that never got there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

from t2bench.analysis import seeds
from t2bench.analysis.index import Index
from t2bench.analysis.quality_records import Training
from t2bench.analysis.quality_results import Cost

TARGETS = ("time_to_quality_s", "cpu_time_to_quality_s", "tokens_to_quality", "energy_to_quality_j")
_REACHED = ("time_to_quality_s", "tokens_to_quality")


def costs(index: Index, group: str, members: Sequence[Training]) -> Iterator[Cost]:
    """One entry per variant of a group that was trained."""
    names = list(dict.fromkeys(training.variant for training in members))
    found = {name: _cost(group, name, [t for t in members if t.variant == name]) for name in names}
    reference = found.get(index.reference)
    for name, cost in found.items():
        yield cost if reference is None or name == index.reference else replace(cost, ratios=_ratios(cost, reference))


def _cost(group: str, name: str, members: Sequence[Training]) -> Cost:
    finished = [training for training in members if training.finished]
    values: dict[str, list[float]] = {}
    units: dict[str, str] = {}
    for training in finished:
        for metric, entry in training.record.metrics.items():
            units.setdefault(metric, entry.unit)
            if entry.value is not None and math.isfinite(entry.value):
                values.setdefault(metric, []).append(entry.value)
    return Cost(
        group=group,
        variant=name,
        spreads={m: seeds.spread(v) for m, v in values.items() if len(v) == len(finished) and m not in TARGETS},
        units=units,
        target=next((t.spec.recipe.target for t in members if t.spec.recipe.target is not None), None),
        to_target=dict(_to_target(members)),
    )


def _to_target(members: Sequence[Training]) -> Iterator[tuple[str, tuple[float | None, int, int]]]:
    """Metric -> (median over seeds, those that did not reach the target, seeds); a seed that diverged did not."""
    judged = [t for t in members if t.diverged or any(name in t.record.metrics for name in TARGETS)]
    for metric in TARGETS:
        values: list[float] = []
        for training in judged:
            entry = training.record.metrics.get(metric)
            if entry is not None and entry.value is not None and not training.diverged:
                values.append(entry.value)
            elif training.diverged or not _reached(training):
                values.append(math.inf)
            else:
                break  # reached, at a cost that nothing measured
        else:
            if any(metric in training.record.metrics for training in judged):
                middle = median(values)
                yield metric, (middle if math.isfinite(middle) else None, values.count(math.inf), len(values))


def _reached(training: Training) -> bool:
    entries = (training.record.metrics.get(name) for name in _REACHED)
    return any(entry is not None and entry.value is not None for entry in entries)


def _ratios(cost: Cost, reference: Cost) -> dict[str, float]:
    """Medians over the reference's, only where every seed of both reached the same target."""
    found = {}
    for metric, (value, missed, _) in cost.to_target.items():
        other, others_missed, _ = reference.to_target.get(metric, (None, 1, 0))
        if value is not None and other and not missed and not others_missed and cost.target == reference.target:
            found[metric] = value / other
    return found
