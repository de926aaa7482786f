"""The formats that a run can be exported to: name -> what it is for and who writes it.

A writer's module is imported when it is used, so that a format costs nothing, and needs nothing installed, until then.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from t2bench.analysis.results import Analysis
from t2bench.records import Run, write_atomically


class ExportError(Exception):
    """A run cannot be exported; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exporter:
    """One format.

    Attributes:
        summary: what it is and who reads it, in one line.
        writer: `module:function` in this package. A `text` writer takes (run, analysis) and returns the text; the
            others take (run, analysis, path) and write there.
        kind: `text`, `file` (binary) or `directory`.
        library: import name of what it needs beyond t2bench's own dependencies; empty for nothing.
        extra: the extra of t2bench that installs it.
    """

    summary: str
    writer: str
    kind: Literal["text", "file", "directory"] = "text"
    library: str = ""
    extra: str = ""


EXPORTERS: dict[str, Exporter] = {
    "csv": Exporter(summary="one row a case and metric, for spreadsheets and pandas", writer="table:csv_text"),
    "parquet": Exporter(
        summary="one row a raw sample, for pandas, DuckDB, Spark",
        writer="parquet:write",
        kind="file",
        library="pyarrow",
        extra="parquet",
    ),
    "latex": Exporter(summary="the report's tables, for papers (booktabs)", writer="latex:render"),
    "gha-smaller": Exporter(summary="costs, for github-action-benchmark (customSmallerIsBetter)", writer="gha:smaller"),
    "gha-bigger": Exporter(summary="rates, for github-action-benchmark (customBiggerIsBetter)", writer="gha:bigger"),
    "pytest-benchmark": Exporter(
        summary="step times, for pytest-benchmark compare and what reads its JSON", writer="pytest_benchmark:render"
    ),
    "bencher": Exporter(summary="Bencher Metric Format, for bencher run --adapter json", writer="bencher:render"),
    "google-benchmark": Exporter(
        summary="Google Benchmark JSON, for its compare.py and viewers", writer="google_benchmark:render"
    ),
    "benchstat": Exporter(summary="Go benchmark text with unit metadata, for benchstat", writer="benchstat:render"),
    "pytorch": Exporter(summary="records of PyTorch's benchmark database", writer="pytorch:render"),
    "tensorboard": Exporter(
        summary="event files, metrics over sequence length",
        writer="tensorboard:write",
        kind="directory",
        library="tensorboard",
        extra="trackers",
    ),
    "mlflow": Exporter(
        summary="an MLflow store on disk, metrics over sequence length",
        writer="mlflow:write",
        kind="directory",
        library="mlflow",
        extra="trackers",
    ),
    "wandb": Exporter(
        summary="offline Weights & Biases runs, metrics over sequence length",
        writer="wandb:write",
        kind="directory",
        library="wandb",
        extra="trackers",
    ),
}


def render(name: str, run: Run, analysis: Analysis) -> str:
    """A run in a text format.

    Raises:
        ExportError: the format is not text.
    """
    exporter = EXPORTERS[name]
    if exporter.kind != "text":
        raise ExportError(f"{name} is a {exporter.kind}; it needs -o PATH")
    text: str = _writer(name)(run, analysis)
    return text


def export(name: str, run: Run, analysis: Analysis, path: Path) -> None:
    """Write a run in one of the formats; a text file is written whole or not at all.

    Raises:
        ExportError: the library that the format needs is not installed, or refuses.
        OSError: the path cannot be written.
    """
    if EXPORTERS[name].kind == "text":
        write_atomically(path, render(name, run, analysis))
        return
    writer = _writer(name)
    try:
        writer(run, analysis, path)
    except (OSError, ExportError):
        raise
    except Exception as error:  # what a library of somebody else raises has no common type
        reason = str(error).partition("\n")[0]
        raise ExportError(f"{name}: {EXPORTERS[name].library} refused: {type(error).__name__}: {reason}") from error


def _writer(name: str) -> Any:
    """The function that writes a format; its signature depends on the kind."""
    exporter = EXPORTERS[name]
    if exporter.library:
        _require(name, exporter)
    module, function = exporter.writer.split(":")
    return getattr(importlib.import_module(f"t2bench.export.{module}"), function)


def _require(name: str, exporter: Exporter) -> None:
    if importlib.util.find_spec(exporter.library) is None:
        raise ExportError(
            f"{name} needs {exporter.library}, which is not installed: pip install 't2bench[{exporter.extra}]'"
        )
