"""How every planned case ended. None is silently absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from t2bench.analysis.index import Index
from t2bench.analysis.results import Outcome
from t2bench.records import Record

_ORDER = ("plan", "truth", "counters", "memory", "time", "quality")
PREDICTED = "predicted:"  # how the reason of an out-of-memory row begins when nothing was run


def outcomes(index: Index) -> tuple[Outcome, ...]:
    """One outcome per planned case, in planned order: the first pass that was not ok decides."""
    return tuple(_outcome(index, group, case) for group, cases in index.groups.items() for case in cases)


def _outcome(index: Index, group: str, case: str) -> Outcome:
    bad = _first_bad(index, case)
    status: str
    if bad is not None:
        status, reason, expected = bad.status, bad.reason, _is_expected(bad, index.run.suite)
    else:
        status, reason, expected = _completeness(index, group, case)
    return Outcome(
        case=case,
        group=group,
        variant=index.variant(group, case),
        status=status,
        reason=reason,
        expected=expected,
    )


def _first_bad(index: Index, case: str) -> Record | None:
    records = sorted(index.records.get(case, ()), key=lambda record: (_ORDER.index(record.pass_), record.launch))
    return next((record for record in records if record.status != "ok"), None)


def _is_expected(record: Record, suite: Mapping[str, Any]) -> bool:
    if record.status in ("unsupported", "skipped"):
        return True
    if record.status != "oom":
        return False
    return record.reason.startswith(PREDICTED) or bool(_option(suite, "limits", "expect_oom"))


def _completeness(index: Index, group: str, case: str) -> tuple[str, str, bool]:
    """Status, reason and whether it is expected, of a case in which nothing went wrong."""
    quality = index.is_quality(group)
    launches = {r.launch for r in index.records.get(case, ()) if r.pass_ == ("quality" if quality else "time")}
    wanted = index.planned_seeds if quality else index.planned_launches
    if len(launches) >= wanted:
        return "ok", "", False
    original = index.variants(group).get(index.reference, "")
    doubled = _first_bad(index, original) if index.is_ghost(group, case) else None
    if doubled is not None:
        return "skipped", f"{index.reference}, which it doubles, ended {doubled.status}", True
    # Which case an unreadable line belonged to is not known, so every case that lacks records may be a damaged one.
    limited = not index.run.damage and index.run.environment.get("stopped") == "time limit"
    why = "the time limit was reached" if limited else "the run was not finished"
    if index.run.damage:
        why = "records.jsonl is damaged"
    return "incomplete", f"{len(launches)} of {wanted} {'seeds' if quality else 'launches'}: {why}", limited


def _option(suite: Mapping[str, Any], section: str, name: str) -> Any:
    values = suite.get(section)
    return values.get(name) if isinstance(values, Mapping) else None
