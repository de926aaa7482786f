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
from t2bench.spec.case import LEARNING


def render(run: Run, analysis: Analysis) -> str:
    """A run as benchmark-database records."""
    known = facts(run)
    backends = {str(v.get("name")): (v.get("model") or {}).get("attention") for v in run.suite.get("variants") or ()}
    return dumps([_record(item, known, backends.get(item.variant)) for item in measurements(run, analysis)])


# Of a case that learns, what its trained model was timed at; all else is about the training.
_OF_TRANSLATING = ("decode_sentences_per_s",)


def _mode(item: Measurement) -> str:
    kind, *aspects = item.workload.split("+")
    trains = kind in ("train_step", *LEARNING) or "backward" in aspects
    return "training" if trains and item.metric not in _OF_TRANSLATING else "inference"


def _record(item: Measurement, known: dict[str, str], backend: object) -> dict[str, Any]:
    axes = {key: safe.clean(value) for key, value in item.axes.items() if key not in ("dtype", "ghost")}
    interval = item.interval
    return {
        "benchmark": {
            "name": "t2bench",
            "mode": _mode(item),
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
