"""pytest-benchmark's JSON, both ways.

Out: a benchmark per case, whose `data` are the launch medians of the step time. So `median` is the report's value,
`rounds` the number of launches, and `stddev` the spread between launches, the one that says how far a value can be
trusted. Everything else (other metrics, interval, raw samples) is in `extra_info.t2bench`, from which `read` restores
the records.

In: a file is one process, which is one launch; several files of the same machine are several launches. A benchmark's
parameters are its variant, so that `test_step[flash]` and `test_step[math]` are compared with each other. They were
measured one after another, not in turns, and the analysis says so wherever it matters. One file allows no interval.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from t2bench.analysis.index import Index
from t2bench.analysis.results import Analysis
from t2bench.export.jsontext import dumps
from t2bench.export.measurements import Measurement, facts, measurements
from t2bench.records import Metric, Record, RecordError, Run

STEP_TIME = "step_time_s"
_OPTIONS = {
    "disable_gc": True,
    "timer": "t2bench",
    "min_rounds": 1,
    "max_time": 0.0,
    "min_time": 0.0,
    "precision": None,
    "confidence": None,
    "warmup": False,
}


def render(run: Run, analysis: Analysis) -> str:
    """A run as pytest-benchmark JSON; cases without a step time have no place in it."""
    index = Index(run)
    by_case: dict[str, list[Measurement]] = {}
    for item in measurements(run, analysis):
        by_case.setdefault(item.case, []).append(item)
    benchmarks = [_benchmark(index, items) for items in by_case.values() if any(i.metric == STEP_TIME for i in items)]
    known = facts(run)
    return dumps(
        {
            "machine_info": _machine(run, known),
            "commit_info": {"id": "unknown", "time": None, "dirty": False, "branch": "(unknown)", "project": "t2bench"},
            "benchmarks": benchmarks,
            "datetime": known.get("started", ""),
            "version": "5.0.0",
        }
    )


def _machine(run: Run, known: Mapping[str, str]) -> dict[str, Any]:
    host = run.environment.get("host") or {}
    return {
        "node": "",
        "processor": known.get("cpu", ""),
        "machine": str(host.get("machine", "")),
        "python_compiler": "",
        "python_implementation": "CPython",
        "python_implementation_version": known.get("python", ""),
        "python_version": known.get("python", ""),
        "python_build": ["", ""],
        "release": "",
        "system": str(host.get("system", "")),
        "cpu": {"brand_raw": known.get("cpu", ""), "count": host.get("allowed_cores") or host.get("cores")},
        "t2bench": dict(known),
    }


def _benchmark(index: Index, items: Sequence[Measurement]) -> dict[str, Any]:
    step = next(item for item in items if item.metric == STEP_TIME)
    return {
        "group": step.group,
        "name": step.label,
        "fullname": step.label,
        "params": None,
        "param": None,
        "extra_info": {"t2bench": details(index, items)},
        "options": dict(_OPTIONS),
        "stats": {**summary(step.values), "data": list(step.values), "iterations": 1},
    }


def details(index: Index, items: Sequence[Measurement]) -> dict[str, Any]:
    """What `extra_info.t2bench` holds: identity, every metric, and the raw samples of each launch."""
    first = items[0]
    samples = [
        {
            "launch": record.launch,
            "samples": list(record.metrics[STEP_TIME].samples or ()),
            "contended": [bool(flag) for flag in record.turns.get("contended", ())],
        }
        for record in index.time_records(first.case)
        if STEP_TIME in record.metrics
    ]
    metrics = {
        item.metric: {
            "value": item.interval.value,
            "low": item.interval.low,
            "high": item.interval.high,
            "unit": item.unit,
            "launches": list(item.values),
            "exact": item.exact,
        }
        for item in items
    }
    identity = {"case": first.case, "group": first.group, "variant": first.variant, "workload": first.workload}
    return {**identity, "axes": dict(first.axes), "metrics": metrics, "step_time_samples": samples}


def summary(data: Sequence[float]) -> dict[str, Any]:
    """pytest-benchmark's statistics of its rounds, by the definitions of its own source (Tukey's fences)."""
    ordered, count = sorted(data), len(data)
    mean = statistics.mean(ordered)
    deviation = statistics.stdev(ordered) if count > 1 else 0.0
    q1, q3 = _quartiles(ordered)
    fence = 1.5 * (q3 - q1)
    inside = [value for value in ordered if q1 - fence <= value <= q3 + fence]
    far = sum(not mean - deviation <= value <= mean + deviation for value in ordered)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": count,
        "median": statistics.median(ordered),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": count - len(inside),
        "stddev_outliers": far,
        "outliers": f"{far};{count - len(inside)}",
        "ld15iqr": inside[0],
        "hd15iqr": inside[-1],
        "ops": count / sum(ordered),
        "total": sum(ordered),
    }


def _quartiles(ordered: Sequence[float]) -> tuple[float, float]:
    """Medians of the halves; with an odd count, between the definitions with and without the middle value."""
    count = len(ordered)
    if count == 1:
        return ordered[0], ordered[0]
    if count % 2 == 0:
        return statistics.median(ordered[: count // 2]), statistics.median(ordered[count // 2 :])
    n, remainder = divmod(count, 4)
    if remainder == 1:
        return 0.25 * ordered[n - 1] + 0.75 * ordered[n], 0.75 * ordered[3 * n] + 0.25 * ordered[3 * n + 1]
    return (
        0.75 * ordered[n] + 0.25 * ordered[n + 1],
        0.25 * ordered[3 * n + 1] + 0.75 * ordered[3 * n + 2],
    )


def read(paths: Sequence[Path]) -> Run:
    """One or more pytest-benchmark files as a run that can be analysed, compared and exported; see the module's text.

    Raises:
        RecordError: a file cannot be read or is not pytest-benchmark JSON.
    """
    records: list[Record] = []
    environment: dict[str, Any] = {}
    for launch, path in enumerate(paths):
        data = _load(path)
        environment = environment or _environment(data, path)
        for place, entry in enumerate(data["benchmarks"]):
            try:
                records += _records(entry, path.stem, launch)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                where = f"{path}: benchmarks[{place}]"
                raise RecordError(f"{where}: not as pytest-benchmark writes it ({error!r})") from error
    return Run(path=paths[0].parent, suite={}, environment=environment, records=tuple(records))


def _load(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(data, dict) or not isinstance(data.get("benchmarks"), list):
        raise RecordError(f"{path}: not pytest-benchmark JSON (it has no list 'benchmarks')")
    return data


def _environment(data: Mapping[str, Any], path: Path) -> dict[str, Any]:
    machine = data.get("machine_info")
    machine = machine if isinstance(machine, dict) else {}
    own = machine.get("t2bench")
    own = own if isinstance(own, dict) else {}
    cpu = machine.get("cpu")
    brand = cpu.get("brand_raw") if isinstance(cpu, dict) else None
    return {
        "run": str(own.get("run", path.stem)),
        "started": str(data.get("datetime") or "") or None,
        "host": {
            "cpu": brand or machine.get("processor"),
            "python": machine.get("python_version"),
            "machine": machine.get("machine"),
            "system": machine.get("system"),
        },
        "torch": {"torch": own["torch"]} if "torch" in own else {},
        "fingerprint": {
            name.removeprefix("fingerprint_"): value for name, value in own.items() if name.startswith("fingerprint_")
        },
    }


def _records(entry: Mapping[str, Any], run: str, launch: int) -> list[Record]:
    extra = entry.get("extra_info") or {}
    own = extra.get("t2bench")
    if isinstance(own, Mapping) and "case" in own:
        return _own_records(own, run)
    name, variant = _split(str(entry["fullname"]))
    stats = entry["stats"]
    data = stats.get("data") or [stats["median"]]  # without --benchmark-save-data only the summary is kept
    seconds = tuple(float(value) for value in data)
    return [
        Record(
            run=run,
            case=f"{name}/{variant}",
            group=name,
            variant=variant,
            workload="pytest",
            axes={"batch": 1},
            pass_="time",
            launch=launch,
            status="ok",
            metrics={STEP_TIME: Metric(value=statistics.median(seconds), unit="s", samples=seconds)},
            observed={"interleave": "launches"},
        )
    ]


def _split(fullname: str) -> tuple[str, str]:
    """`tests/test_a.py::test_b[flash]` is variant `flash` of `tests/test_a.py::test_b`."""
    head, bracket, tail = fullname.partition("[")
    if bracket and tail.endswith("]") and len(tail) > 1:
        return head, tail[:-1]
    return fullname, "default"


def _own_records(own: Mapping[str, Any], run: str) -> list[Record]:
    """The records that a benchmark of ours was made from: its samples, its weights, its counts."""
    base: dict[str, Any] = {name: own[name] for name in ("case", "group", "variant", "workload", "axes")}
    base |= {"run": run, "status": "ok"}
    metrics: Mapping[str, Any] = own["metrics"]
    timed = [name for name, m in metrics.items() if m["unit"] == "s" or name == "tokens_per_s"]
    found = []
    for place, entry in enumerate(own["step_time_samples"]):
        values = {
            name: Metric(value=metrics[name]["launches"][place], unit=metrics[name]["unit"])
            for name in timed
            if name != STEP_TIME and place < len(metrics[name]["launches"])
        }
        samples = tuple(entry["samples"])
        measured = [value for value in samples if value is not None]
        values[STEP_TIME] = Metric(value=statistics.median(measured), unit="s", samples=samples)
        # A file holds no turns: two of its benchmarks are compared as launches that were not neighbours in time.
        about: dict[str, Any] = {"turns": {"contended": entry["contended"]}, "observed": {"interleave": "launches"}}
        found.append(Record(**base, pass_="time", launch=entry["launch"], metrics=values, **about))
    counted = {n: Metric(value=m["value"], unit=m["unit"]) for n, m in metrics.items() if m["exact"]}
    if counted:
        found.append(Record(**base, pass_="counters", launch=0, metrics=counted))
    weighed = [name for name, m in metrics.items() if not m["exact"] and name not in timed]
    for launch in range(max((len(metrics[name]["launches"]) for name in weighed), default=0)):
        values = {
            name: Metric(value=metrics[name]["launches"][launch], unit=metrics[name]["unit"])
            for name in weighed
            if launch < len(metrics[name]["launches"])
        }
        found.append(Record(**base, pass_="memory", launch=launch, metrics=values))
    return found
