"""What a run says about its own trustworthiness, in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from t2bench.analysis.index import Index
from t2bench.analysis.results import NullSummary

# Predicted without running and counted while running: the same number, or one of the two is wrong.
BOTH_WAYS = ("num_params", "model_flops", "executed_flops", "saved_for_backward_bytes", "tracked_peak_bytes")
CONTENDED_SHARE = 0.10
# Launches start from equal weights and batches, so their first loss is equal but for kernels that add in varying order.
CHECKSUM_TOLERANCE = 1e-3
_SHOWN = 3


def run_warnings(
    index: Index,
    counted: Mapping[str, Mapping[str, float]],
    predicted: Mapping[str, Mapping[str, float]],
    null: NullSummary | None,
) -> tuple[str, ...]:
    """Everything about the run as a whole that a reader should know before the numbers."""
    found = [*_environment(index), *_damage(index), *_samples(index), *_null(null), *_checksums(index)]
    found += _uncounted(index)
    found += _predictions(index, counted, predicted)
    found += _ghost_counts(index, counted)
    found += _missing_references(index)
    return tuple(found)


def _environment(index: Index) -> list[str]:
    if index.run.suite:
        return []
    return [
        "environment.json is missing or holds no suite: machine, settings and planned cases are unknown, and "
        f"{index.reference or 'nothing'} is taken as the reference"
    ]


def _damage(index: Index) -> list[str]:
    damage = index.run.damage
    if not damage:
        return []
    line, reason = damage[0]
    lines = "1 line" if len(damage) == 1 else f"{len(damage)} lines"
    return [f"{lines} of records.jsonl could not be read (the first is line {line}: {reason})"]


def _samples(index: Index) -> list[str]:
    flags: list[bool] = []
    restless: list[str] = []
    for case in index.records:
        records = index.time_records(case)
        for record in records:
            flags += [bool(flag) for flag in record.turns.get("contended", ()) if flag is not None]
        if any(record.status != "ok" or record.observed.get("steady") is False for record in records):
            restless.append(case)
    found = []
    if flags and sum(flags) > CONTENDED_SHARE * len(flags):
        found.append(
            f"{sum(flags) / len(flags):.0%} of the samples waited for a processor: something else is running here"
        )
    if restless:
        found.append(f"no steady state in {_shown(restless)}")
    return found


def _null(null: NullSummary | None) -> list[str]:
    if null is None or null.num_covering == null.num_effects:
        return []
    missing = null.num_effects - null.num_covering
    return [
        f"the reference differs from itself in {missing} of {null.num_effects} groups (chance alone: 1 in 20); "
        f"the widest difference is {null.widest:.1%}"
    ]


def _checksums(index: Index) -> list[str]:
    differing = []
    for case in index.records:
        sums = [r.observed["checksum"] for r in index.time_records(case) if r.observed.get("checksum") is not None]
        if any(not _same(sums[0], other) for other in sums[1:]):
            differing.append(case)
    return [f"launches of the same case computed different results: {_shown(differing)}"] if differing else []


def _same(one: object, other: object) -> bool:
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=CHECKSUM_TOLERANCE, abs_tol=1e-12)
    return one == other


def _uncounted(index: Index) -> list[str]:
    names = sorted({name for operators in index.uncounted.values() for name in operators})
    if not names:
        return []
    return [f"executed FLOPs are n/a in {_shown(list(index.uncounted))}: no formula for {', '.join(names)}"]


def _predictions(
    index: Index, counted: Mapping[str, Mapping[str, float]], predicted: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """Bytes of recurrent cells are estimates: what oneDNN and cuDNN keep for the backward pass is theirs to choose."""
    estimated = {
        case
        for group, cases in index.groups.items()
        for case in cases
        if (model := index.models.get(index.variant(group, case))) and model.recurrence != "none"
    }
    found = []
    for metric in BOTH_WAYS:
        exempt = estimated if metric.endswith("_bytes") else set()
        wrong = [
            f"{case} ({predicted[case][metric]:.6g}, counted {values[metric]:.6g})"
            for case, values in counted.items()
            if metric in values
            and metric in predicted.get(case, {})
            and predicted[case][metric] != values[metric]
            and case not in exempt
        ]
        if wrong:
            found.append(f"{metric} was predicted wrongly for {_shown(wrong)}")
    return found


def _ghost_counts(index: Index, counted: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The reference counted twice must give the same counts."""
    found = []
    for group, cases in index.groups.items():
        original = counted.get(index.variants(group).get(index.reference, ""), {})
        for case in cases:
            if index.is_ghost(group, case):
                names = [name for name, value in counted.get(case, {}).items() if original.get(name, value) != value]
                found += [
                    f"{name} is not exact: {case} and {index.reference} were counted differently" for name in names
                ]
    return found


def _missing_references(index: Index) -> list[str]:
    missing = [
        group
        for group, cases in index.groups.items()
        if any(index.time_records(case) for case in cases)
        and not index.time_records(index.variants(group).get(index.reference, ""))
    ]
    return (
        [f"no effects in {_shown(missing)}: the reference {index.reference} was not measured there"] if missing else []
    )


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
