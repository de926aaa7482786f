"""L1: counters without noise. Any rise fails, any fall asks to be accepted, and what is not exact here says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from t2bench.analysis.results import Interval
from t2bench.gate.completeness import redefined
from t2bench.gate.counted import Counted
from t2bench.gate.results import GateRow, RowVerdict


def exact(base: Mapping[str, Counted], new: Mapping[str, Counted], metrics: Iterable[str]) -> list[GateRow]:
    """One row per counter that either side of a case has; cases that are not ok on both sides are L0's business."""
    names = tuple(metrics)
    rows = []
    for case, old in base.items():
        now = new.get(case)
        if now is None or old.status != "ok" or now.status != "ok":
            continue
        changes = redefined(old.definition, now.definition)
        for metric in names:
            row = _row(case, metric, old, now, changes)
            if row is not None:
                rows.append(row)
    return rows


def _row(case: str, metric: str, old: Counted, now: Counted, changes: list[str]) -> GateRow | None:
    if metric in old.unstable or metric in now.unstable:
        side, pair = ("candidate", now.unstable[metric]) if metric in now.unstable else ("base", old.unstable[metric])
        why = f"not exact: {pair[0]:.0f} under one hash seed, {pair[1]:.0f} under another ({side}); it is not judged"
        return GateRow(case=case, metric=metric, layer="L1", verdict="demoted", why=why, unit=_unit(metric))
    before, after = old.values.get(metric), now.values.get(metric)
    if before is None and after is None:
        return None
    if after is None or before is None:
        verdict: RowVerdict = "missing" if after is None else "new"
        why = "the base has this counter, the candidate has not" if after is None else "the base has no such counter"
        return GateRow(
            case=case,
            metric=metric,
            layer="L1",
            verdict=verdict,
            why=why,
            unit=_unit(metric),
            base=_exactly(before),
            new=_exactly(after),
        )
    if metric == "ops" and old.real != now.real:
        return None  # fake tensors ask more operators: only like is compared with like
    return GateRow(
        case=case,
        metric=metric,
        layer="L1",
        verdict="pass" if after == before else "fail" if after > before else "improved",
        why=_why(metric, before, after, changes),
        unit=_unit(metric),
        base=_exactly(before),
        new=_exactly(after),
        effect=_exactly(after / before) if before else None,
    )


def _why(metric: str, before: float, after: float, changes: list[str]) -> str:
    if after == before:
        return "equal, exactly"
    share = f" ({100 * (after / before - 1):+.3g} %)" if before else ""
    words = f"{after - before:+,.0f} {_unit(metric)}{share}".replace(" 1 ", " ").removesuffix(" 1")
    if after < before:
        words += ": less than before; accept a baseline, or a later rise to the old value goes unseen"
    return words + (f"; the case is defined otherwise now: {', '.join(changes)}" if changes else "")


def _exactly(value: float | None) -> Interval | None:
    return None if value is None else Interval(value=value)


def _unit(metric: str) -> str:
    return "bytes" if metric.endswith("_bytes") or metric == "bytes_touched" else "flops" if "flops" in metric else "1"


def stale(base: Mapping[str, Counted], new: Mapping[str, Counted]) -> list[str]:
    """Cases that are not what the baseline describes, in words: it must be accepted anew even if nothing rose."""
    return [
        f"{case}: {', '.join(changes)}"
        for case, old in base.items()
        if case in new and (changes := redefined(old.definition, new[case].definition))
    ]
