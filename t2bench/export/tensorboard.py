"""TensorBoard event files: a scalar per metric, the step is the sequence length. No torch, no network."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from t2bench.analysis.results import Analysis
from t2bench.export.registry import ExportError
from t2bench.export.series import Curve, curves, file_name
from t2bench.records import Run


def write(run: Run, analysis: Analysis, path: Path) -> None:
    """Write `path`/<run>/<series and variant>/events...: `tensorboard --logdir path` shows one curve per variant.

    Besides `step_time_s` there are `step_time_s/low` and `/high`, the ends of its 95 % interval.

    Raises:
        ExportError: the path already holds this run; a second export would be drawn over the first.
        OSError: the path cannot be written.
    """
    home = path / file_name(run.id)
    if home.exists():
        raise ExportError(f"{home} exists already; choose another -o or remove it")
    started = run.environment.get("started")
    wall_time_s = datetime.fromisoformat(started).timestamp() if started else 0.0
    for curve in curves(run, analysis):
        _write_curve(curve, home / curve.name, wall_time_s)


def _write_curve(curve: Curve, directory: Path, wall_time_s: float) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(directory))
    for length, items in curve.points.items():
        values: list[Any] = []
        for item in items:
            values.append(Summary.Value(tag=item.metric, simple_value=item.interval.value))
            for name, bound in (("low", item.interval.low), ("high", item.interval.high)):
                if bound is not None:
                    values.append(Summary.Value(tag=f"{item.metric}/{name}", simple_value=bound))
        writer.add_event(Event(wall_time=wall_time_s, step=length, summary=Summary(value=values)))
    writer.close()
