"""JSON of github-action-benchmark: one list for what should be small, one for what should be large.

The action compares each value with the last one by a fixed factor; it knows no interval. `range` shows half of ours
beside the value, `extra` the whole. A case that vanishes vanishes there without a word: use `t2bench gate` to notice.
"""

from __future__ import annotations

from typing import Any

from t2bench.analysis.results import Analysis, Interval
from t2bench.export.jsontext import dumps
from t2bench.export.measurements import Measurement, measurements
from t2bench.records import Run


def smaller(run: Run, analysis: Analysis) -> str:
    """Costs, for `tool: customSmallerIsBetter`."""
    return _render(run, analysis, higher_is_better=False)


def bigger(run: Run, analysis: Analysis) -> str:
    """Rates and scores, for `tool: customBiggerIsBetter`."""
    return _render(run, analysis, higher_is_better=True)


def _render(run: Run, analysis: Analysis, *, higher_is_better: bool) -> str:
    found = measurements(run, analysis)
    return dumps([_entry(item) for item in found if item.higher_is_better is higher_is_better])


def _entry(item: Measurement) -> dict[str, Any]:
    # The action writes names into Markdown tables as `name`; these two characters would end the code or the cell.
    name = item.label.replace("`", "'").replace("|", "/")
    entry: dict[str, Any] = {"name": f"{name} {item.metric}", "unit": item.unit, "value": item.interval.value}
    half = _half_width(item.interval)
    if half is not None:
        entry["range"] = f"+- {half:.6g}"
        bounds = f"95 % interval {item.interval.low:.6g} to {item.interval.high:.6g}"
        entry["extra"] = f"{bounds}, {len(item.values)} launches, {item.num_samples} samples"
    elif item.exact:
        entry["extra"] = "counted, exact"
    return entry


def _half_width(interval: Interval) -> float | None:
    if interval.low is None or interval.high is None:
        return None
    return (interval.high - interval.low) / 2
