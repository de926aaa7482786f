"""L0: every case of the base is still there, in the same state, on the back end it names, with right numbers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from t2bench.gate.counted import Counted
from t2bench.gate.results import GateRow
from t2bench.spec.case import WorkloadSpec
from t2bench.spec.model import ModelSpec


def completeness(base: Mapping[str, Counted], new: Mapping[str, Counted], refused: Mapping[str, str]) -> list[GateRow]:
    """One row per case of either side.

    Args:
        base: case id -> what the base is.
        new: likewise, the candidate.
        refused: case id -> reason, of the candidate's cases that are not run.
    """
    rows = [_kept(case, old, new, refused, base) for case, old in base.items()]
    rows += [
        GateRow(
            case=case,
            metric="status",
            layer="L0",
            verdict="new" if now.status == "ok" else "fail",
            why="not in the base; accept a baseline to gate it" if now.status == "ok" else _ended(now),
        )
        for case, now in new.items()
        if case not in base
    ]
    return rows


def _kept(
    case: str, old: Counted, new: Mapping[str, Counted], refused: Mapping[str, str], base: Mapping[str, Counted]
) -> GateRow:
    now = new.get(case)
    if now is None:
        if case in refused:
            return GateRow(case=case, metric="status", layer="L0", verdict="missing", why=f"refused: {refused[case]}")
        added = [name for name in new if name not in base]
        near = difflib.get_close_matches(case, added, n=1, cutoff=0.8)
        why = f"in the base, not in the candidate{f'; renamed to {near[0]}?' if near else ''}"
        return GateRow(case=case, metric="status", layer="L0", verdict="missing", why=why)
    if now.status != "ok":
        same = old.status == now.status
        return GateRow(
            case=case,
            metric="status",
            layer="L0",
            verdict="warn" if same else "fail",
            why=f"{_ended(now)}{', as in the base' if same else f' (was {old.status})'}",
        )
    if old.status != "ok":
        why = f"ok now, was {old.status}; accept a baseline to keep it so"
        return GateRow(case=case, metric="status", layer="L0", verdict="improved", why=why)
    if old.real and now.real and old.backends != now.backends:
        changed = f"{' and '.join(now.backends) or 'nothing'} runs, {' and '.join(old.backends) or 'nothing'} did"
        return GateRow(case=case, metric="status", layer="L0", verdict="fail", why=f"other back end: {changed}")
    return GateRow(case=case, metric="status", layer="L0", verdict="pass", why=_what_ran(now))


def _ended(now: Counted) -> str:
    return f"{now.status}: {now.reason}" if now.reason else now.status


def _what_ran(now: Counted) -> str:
    if not now.real:
        return "too large to run here; counted on fake tensors"
    return f"numbers right, {' and '.join(now.backends)} ran"


def redefined(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """How a case that kept its id is another one than before; empty if it is the same.

    Fields that only one version of t2bench knows take their defaults, so that a new axis redefines nothing.
    """
    found = []
    for key in ("length", "batch", "dtype", "device", "seed"):
        if old.get(key) != new.get(key):
            found.append(f"{key}: {old.get(key)} -> {new.get(key)}")
    try:
        before, after = WorkloadSpec(**old["workload"]), WorkloadSpec(**new["workload"])
        if before != after:
            found.append(f"workload: {before} -> {after}")
        delta = ModelSpec.from_dict(new["model"]).delta(ModelSpec.from_dict(old["model"]))
        found += [f"{axis}: {one} -> {other}" for axis, (one, other) in delta.items()]
    except (KeyError, TypeError, ValueError) as error:
        found.append(f"its definition cannot be compared ({error})")
    return found
