"""Bencher Metric Format: benchmark -> measure -> value with bounds (bencher.dev/docs/reference/bencher-metric-format).

A measure of this format has one unit for ever, so that the measure is the metric's name, unit included.
"""

from __future__ import annotations

from t2bench.analysis.results import Analysis
from t2bench.export.jsontext import dumps
from t2bench.export.measurements import measurements
from t2bench.records import Run


def render(run: Run, analysis: Analysis) -> str:
    """A run as BMF JSON; lower and upper value are the 95 % interval."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for item in measurements(run, analysis):
        entry = {"value": item.interval.value}
        if item.interval.low is not None and item.interval.high is not None:
            entry |= {"lower_value": item.interval.low, "upper_value": item.interval.high}
        found.setdefault(item.label, {})[item.metric] = entry
    return dumps(found)
