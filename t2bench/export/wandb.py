"""Weights & Biases, offline: one W&B run per variant and series; `wandb sync DIR/wandb/offline-run-*` uploads them.

`length` is the step metric of every other one. t2bench itself never talks to the network.
"""

from __future__ import annotations

import os
from pathlib import Path

from t2bench.analysis.results import Analysis
from t2bench.export.measurements import facts
from t2bench.export.series import Curve, curves
from t2bench.records import Run
from t2bench.report import html, safe


def write(run: Run, analysis: Analysis, path: Path) -> None:
    """Write offline runs below `path`; the first of them holds the HTML report.

    Raises:
        OSError: the path cannot be written.
    """
    path.mkdir(parents=True, exist_ok=True)
    page: str | None = html.render(run, analysis)
    known = facts(run)
    for curve in curves(run, analysis):
        _write_curve(curve, path, known, page)
        page = None


def _write_curve(curve: Curve, path: Path, known: dict[str, str], page: str | None) -> None:
    os.environ["WANDB_ERROR_REPORTING"] = "false"  # nothing phones home
    import wandb

    settings = wandb.Settings(silent=True, disable_git=True, disable_code=True, x_disable_stats=True, console="off")
    config = {"variant": curve.variant, "series": curve.series, **known}
    with wandb.init(
        project="t2bench",
        group=safe.clean(known.get("run", ""), limit=120),
        name=curve.name,
        dir=str(path),
        mode="offline",
        config=config,
        settings=settings,
    ) as session:
        session.define_metric("length")
        session.define_metric("*", step_metric="length")
        for length, items in curve.points.items():
            values = {"length": length, **{item.metric: item.interval.value for item in items}}
            for item in items:
                for name, bound in (("low", item.interval.low), ("high", item.interval.high)):
                    if bound is not None:
                        values[f"{item.metric}.{name}"] = bound
            session.log(values)
        if page is not None:
            session.log({"report": wandb.Html(page)})
