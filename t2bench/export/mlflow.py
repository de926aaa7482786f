"""An MLflow store on disk: one MLflow run per suite run with the HTML report, one nested run per variant and series.

A metric's step is the sequence length. Nothing leaves the machine. MLflow 3 reads stores of files only if asked to:
`MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri PATH` shows this one, `mlflow migrate-filestore` moves
it into a database.
"""

from __future__ import annotations

import os
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from t2bench.analysis.results import Analysis
from t2bench.export.measurements import facts
from t2bench.export.series import Curve, curves
from t2bench.records import Run
from t2bench.report import html, safe


def write(run: Run, analysis: Analysis, path: Path) -> None:
    """Add a run to the store at `path`, which is made if it is not there; the experiment is named after the suite.

    Raises:
        OSError: the path cannot be written.
    """
    # Without a database, files are the one store there is; and nothing phones home.
    os.environ |= {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    from mlflow import MlflowClient

    path.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri=path.resolve().as_uri())
    known = facts(run)
    name = f"t2bench {known.get('suite', 'run')}"
    experiment = client.get_experiment_by_name(name)
    home = experiment.experiment_id if experiment else client.create_experiment(name)
    started_ms = _milliseconds(run)
    tags = {f"t2bench.{key}": value for key, value in known.items()}
    parent = client.create_run(home, start_time=started_ms, run_name=safe.clean(run.id), tags=tags).info.run_id
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(html.render(run, analysis), encoding="utf-8", errors="replace")
        client.log_artifact(parent, str(page))
    for curve in curves(run, analysis):
        _write_curve(client, home, parent, curve, started_ms)
    client.set_terminated(parent)


def _milliseconds(run: Run) -> int:
    started = run.environment.get("started")
    seconds = datetime.fromisoformat(started).timestamp() if started else time.time()
    return int(seconds * 1000)


def _write_curve(client: Any, experiment: str, parent: str, curve: Curve, started_ms: int) -> None:
    from mlflow.entities import Metric, Param

    tags = {"mlflow.parentRunId": parent}
    child = client.create_run(experiment, start_time=started_ms, run_name=curve.name, tags=tags).info.run_id
    metrics = []
    for length, items in curve.points.items():
        for item in items:
            bounds = {"": item.interval.value, ".low": item.interval.low, ".high": item.interval.high}
            for suffix, value in bounds.items():
                if value is not None:
                    metrics.append(Metric(f"{item.metric}{suffix}", value, started_ms, length))
    params = [Param("variant", curve.variant), Param("series", curve.series)]
    client.log_batch(child, metrics=metrics, params=params)
    client.set_terminated(child)
