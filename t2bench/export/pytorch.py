"""Records of PyTorch's benchmark database (schema v3): a list of {benchmark, model, metric}.

`benchmark_values` holds one value a launch, so that the dashboard's spread is the one between launches.
"""

from __future__ import annotations

from typing import Any

from t2bench.analysis.results import Analysis
from t2bench.export.jsontext import dumps
from t2bench.export.measurements import Measurement, facts, measurements
from t2bench.records import Run
from t2bench.report import safe


def render(run: Run, analysis: Analysis) -> str:
    """A run as benchmark-database records."""
    known = facts(run)
    backends = {str(v.get("name")): (v.get("model") or {}).get("attention") for v in run.suite.get("variants") or ()}
    return dumps([_record(item, known, backends.get(item.variant)) for item in measurements(run, analysis)])


def _record(item: Measurement, known: dict[str, str], backend: object) -> dict[str, Any]:
    axes = {key: safe.clean(value) for key, value in item.axes.items() if key not in ("dtype", "ghost")}
    interval = item.interval
    return {
        "benchmark": {
            "name": "t2bench",
            "mode": "training" if item.workload == "train_step" else "inference",
            "dtype": safe.clean(item.axes.get("dtype", "")),
            "extra_info": {**axes, "workload": item.workload, "case": item.label, **known},
        },
        "model": {"name": safe.clean(item.variant), "type": "transformer", "backend": safe.clean(backend or "")},
        "metric": {
            "name": item.metric,
            "benchmark_values": list(item.values),
            "extra_info": {
                "unit": item.unit,
                "value": interval.value,
                "low": interval.low,
                "high": interval.high,
                "exact": item.exact,
                "better": "higher" if item.higher_is_better else "lower",
            },
        },
    }
