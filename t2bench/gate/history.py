"""L3: this machine's own past. It warns and never decides: a stored time is not measured side by side with today's.

Past runs of one machine, software and protocol differ by what launches cannot see (the day, the neighbours), so the
yardstick is their own spread: a prediction interval for one more run, and the best single step within the series.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t2bench.analysis import student
from t2bench.analysis.results import Interval
from t2bench.analysis.stats import Floats, expm1
from t2bench.gate.counted import Counted
from t2bench.gate.results import GateRow

ENOUGH_RUNS = 10
LEVEL = 0.99  # one-sided
SIDE = 4  # runs on either side of a step, at least


@dataclass(frozen=True, kw_only=True, slots=True)
class PastRun:
    """What one run left in the history.

    Attributes:
        when: ISO 8601.
        commit: of its code.
        fingerprint: hashes `hw`, `sw`, `proto`.
        values: case id -> metric -> median of launch medians.
    """

    when: str
    commit: str
    fingerprint: Mapping[str, str]
    values: Mapping[str, Mapping[str, float]]


def runs_file(root: Path, suite: str, hardware: str) -> Path:
    """Where the runs of one suite on one machine are remembered."""
    return root / suite / f"{hardware}.runs.jsonl"


def remember(path: Path, run: PastRun) -> None:
    """Append a run; nothing is ever taken out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {"when": run.when, "commit": run.commit, "fingerprint": dict(run.fingerprint), "values": dict(run.values)}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, default=dict) + "\n")


def recall(path: Path, fingerprint: Mapping[str, str]) -> list[PastRun]:
    """Runs under the same fingerprint, oldest first; lines that are no runs are passed over."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            run = _past_run(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        if run.fingerprint == dict(fingerprint):
            found.append(run)
    return found


def _past_run(data: Mapping[str, Any]) -> PastRun:
    values = {
        str(case): {str(metric): float(value) for metric, value in metrics.items() if 0.0 < value < math.inf}
        for case, metrics in data["values"].items()
    }
    fingerprint = {str(name): str(value) for name, value in data["fingerprint"].items()}
    return PastRun(when=str(data["when"]), commit=str(data["commit"]), fingerprint=fingerprint, values=values)


def judge(past: Sequence[PastRun], now: PastRun) -> list[GateRow]:
    """Rows for every case and metric with enough past: `warn` above the prediction interval or after a step."""
    rows = []
    for case, metrics in now.values.items():
        for metric, value in metrics.items():
            series = [(run, run.values[case][metric]) for run in past if metric in run.values.get(case, {})]
            if len(series) >= ENOUGH_RUNS and value > 0:
                rows.append(_row(case, metric, series, value))
    return rows


def _row(case: str, metric: str, series: Sequence[tuple[PastRun, float]], value: float) -> GateRow:
    logs = np.log([past for _, past in series])
    mean, half = float(logs.mean()), _prediction_half(logs)
    usual = Interval(value=math.exp(mean), low=math.exp(mean - half), high=math.exp(mean + half))
    above = math.log(value) > mean + half
    step = _step(np.append(logs, math.log(value)))
    why = f"within what {len(series)} runs on this machine predict"
    if above:
        again = math.log(series[-1][1]) > mean + half
        why = f"above what {len(series)} runs on this machine predict" + (
            "; so was the run before" if again else "; confirm it by a second run"
        )
    elif step is not None:
        index, size = step
        since = series[index][0] if index < len(series) else None
        why = f"a step of {100 * expm1(size):+.1f} % " + (f"since {since.when} ({since.commit})" if since else "now")
    return GateRow(
        case=case,
        metric=metric,
        layer="L3",
        verdict="warn" if above or (step is not None and step[1] > 0) else "pass",
        why=why,
        unit="s" if metric.endswith("_s") else "bytes" if metric.endswith("_bytes") else "1",
        base=usual,
        new=Interval(value=value),
        effect=Interval(value=value / usual.value),
    )


def _prediction_half(logs: Floats) -> float:
    """Half width of the interval in which one more run is expected."""
    spread = float(logs.std(ddof=1)) * math.sqrt(1.0 + 1.0 / logs.size)
    return student.quantile(LEVEL, logs.size - 1.0) * spread


def _step(logs: Floats) -> tuple[int, float] | None:
    """(first run after it, size) of the best single step, if no chance split of equal runs would look like it.

    Two-sample t over all splits with `SIDE` runs on either side, Bonferroni's correction for having looked at them all.
    """
    splits = range(SIDE, logs.size - SIDE + 1)
    best: tuple[float, int, float] | None = None
    for split in splits:
        before, after = logs[:split], logs[split:]
        size = float(after.mean() - before.mean())
        pooled = (before.var() * before.size + after.var() * after.size) / (logs.size - 2)
        error = math.sqrt(pooled * (1.0 / before.size + 1.0 / after.size))
        t = abs(size) / error if error > 0 else math.inf if size else 0.0
        if best is None or t > best[0]:
            best = (t, split, size)
    if best is None:
        return None
    p_value = student.two_sided_p(best[0], logs.size - 2.0) * len(splits)
    return (best[1], best[2]) if p_value <= 1.0 - LEVEL else None


def against_anchor(anchor: Mapping[str, Any], new: Mapping[str, Counted]) -> list[GateRow]:
    """Counters that lie above the anchor: a warning, however small each accepted step was."""
    rows = []
    when = str((anchor.get("accepted") or {}).get("when", "?"))[:10]
    for case, values in (anchor.get("cases") or {}).items():
        for metric, value in values.items():
            now = new[case].values.get(metric) if case in new else None
            if now is not None and value and now > value:
                rows.append(
                    GateRow(
                        case=case,
                        metric=metric,
                        layer="L3",
                        verdict="warn",
                        why=f"{100 * (now / value - 1):+.3g} % since the anchor of {when}",
                        unit="bytes" if metric.endswith("_bytes") else "1",
                        base=Interval(value=value),
                        new=Interval(value=now),
                        effect=Interval(value=now / value),
                    )
                )
    return rows
