"""Every value of a run as one flat table, and that table as CSV that no spreadsheet runs as a program."""

from __future__ import annotations

import csv
import io
from typing import Any

from t2bench.analysis.index import Index
from t2bench.analysis.results import Analysis
from t2bench.export.measurements import measurements
from t2bench.records import Run
from t2bench.report import safe

_AXES = ("length", "batch", "dtype", "device", "seed", "ghost")
# What a spreadsheet takes for the beginning of a formula or command, also in the full-width forms that some fold.
_FORMULA = ("=", "+", "-", "@", "|", "%", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def rows(run: Run, analysis: Analysis) -> tuple[list[str], list[dict[str, Any]]]:
    """(columns, rows): one row a case and metric; a case without any value has one row that says why."""
    index = Index(run)
    endings = {outcome.case: outcome for outcome in analysis.outcomes}
    extras: dict[str, None] = {}
    found: list[dict[str, Any]] = []
    valued: dict[str, list[dict[str, Any]]] = {}
    for item in measurements(run, analysis, ghosts=True):
        low, high = item.interval.low, item.interval.high
        numbers = {"metric": item.metric, "unit": item.unit, "value": item.interval.value, "low": low, "high": high}
        counts = {"launches": len(item.values), "samples": item.num_samples, "exact": item.exact}
        better = {"better": "higher" if item.higher_is_better else "lower"}
        valued.setdefault(item.case, []).append({**numbers, **counts, **better})
    for case, ending in endings.items():
        records = index.records.get(case, ())
        axes = dict(records[0].axes) if records else {}
        extras |= dict.fromkeys(key for key in axes if key not in _AXES)
        base = {
            "run": run.id,
            "case": case,
            "group": ending.group,
            "variant": ending.variant,
            "workload": records[0].workload if records else "",
            **axes,
            "status": ending.status,
            "reason": ending.reason,
        }
        found += [{**base, **values} for values in valued.get(case, [{}])]
    names = ["run", "case", "group", "variant", "workload", *_AXES, *extras, "status", "reason"]
    return [*names, "metric", "unit", "value", "low", "high", "launches", "samples", "exact", "better"], found


def csv_text(run: Run, analysis: Analysis) -> str:
    """The table as CSV (RFC 4180, UTF-8).

    A text cell that a spreadsheet would run as a formula begins with an apostrophe, as OWASP advises; no other cell is
    changed.
    """
    columns, found = rows(run, analysis)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([cell(name) for name in columns])
    writer.writerows([cell(row.get(name)) for name in columns] for row in found)
    return file.getvalue()


def cell(value: Any) -> Any:
    """A value as a CSV cell: numbers as they are, texts inert, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return value
    text = safe.clean(value, limit=2000)
    return f"'{text}" if text.startswith(_FORMULA) else text
