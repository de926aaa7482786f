"""Writing `report.md` and `report.html` into a run directory: whole or not at all."""

from __future__ import annotations

from pathlib import Path

from t2bench.analysis.results import Analysis
from t2bench.records import Run, write_atomically
from t2bench.report import html, markdown


def write_reports(run: Run, analysis: Analysis, *, kinds: tuple[str, ...] = ("md", "html")) -> Path:
    """Write the report files of a run, each by a temporary file and a rename.

    Args:
        run: the run; the files go into its directory.
        analysis: its analysis.
        kinds: `md`, `html` or both.

    Returns:
        The path of the last file written.

    Raises:
        OSError: the directory cannot be written.
    """
    renderers = {"md": markdown.render, "html": html.render}
    path = run.path
    for kind in kinds:
        path = run.path / f"report.{kind}"
        write_atomically(path, renderers[kind](run, analysis))
    return path
