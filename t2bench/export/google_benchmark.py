"""JSON of Google Benchmark: a repetition is a launch, in which a case's step time is one "iteration" entry.

Readers require `cpu_time`. t2bench measures wall time, so `cpu_time` repeats it and the context says so. Other metrics
are user counters of the entry of their launch; counts are in every entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from t2bench.analysis.results import Analysis
from t2bench.export.jsontext import dumps
from t2bench.export.measurements import Measurement, facts, measurements
from t2bench.records import Run

_NS_PER_S = 1e9


def render(run: Run, analysis: Analysis) -> str:
    """A run as Google Benchmark JSON; cases without a step time have no place in it."""
    by_case: dict[str, list[Measurement]] = {}
    for item in measurements(run, analysis):
        by_case.setdefault(item.label, []).append(item)
    timed = {label: items for label, items in by_case.items() if _step_time(items) is not None}
    return dumps(
        {"context": _context(run), "benchmarks": [e for i, c in enumerate(timed.values()) for e in _case(i, c)]}
    )


def _context(run: Run) -> dict[str, Any]:
    known = facts(run)
    host = run.environment.get("host") or {}
    return {
        "date": known.get("started", ""),
        "host_name": "",
        "executable": "t2bench",
        "num_cpus": int(host.get("allowed_cores") or host.get("cores") or 0),
        "mhz_per_cpu": 0,
        "cpu_scaling_enabled": False,
        "caches": [],
        "load_avg": [],
        "library_build_type": "release",
        "json_schema_version": 1,
        "cpu_time": "not measured: repeats real_time",
        **{f"t2bench_{name}": value for name, value in known.items()},
    }


def _step_time(items: Sequence[Measurement]) -> Measurement | None:
    return next((item for item in items if item.metric == "step_time_s"), None)


def _case(family: int, items: Sequence[Measurement]) -> list[dict[str, Any]]:
    step = _step_time(items)
    assert step is not None
    name = step.label
    common = {"run_name": name, "family_index": family, "per_family_instance_index": 0, "threads": 1, "time_unit": "ns"}
    entries: list[dict[str, Any]] = []
    for launch, seconds in enumerate(step.values):
        time = {"real_time": seconds * _NS_PER_S, "cpu_time": seconds * _NS_PER_S}
        counters = {
            item.metric: item.values[0] if item.exact else item.values[launch]
            for item in items
            if item is not step and (item.exact or launch < len(item.values))
        }
        repetition = {"repetitions": len(step.values), "repetition_index": launch}
        samples = max(1, step.num_samples // len(step.values))
        entry = {"name": name, "run_type": "iteration", **common, **repetition, "iterations": samples}
        entries.append({**entry, **time, **counters})
    median = step.interval.value * _NS_PER_S
    aggregate = {"run_type": "aggregate", "aggregate_name": "median", "aggregate_unit": "time"}
    size = {"repetitions": len(step.values), "iterations": len(step.values)}
    entries.append({"name": f"{name}_median", **common, **aggregate, **size, "real_time": median, "cpu_time": median})
    return entries
