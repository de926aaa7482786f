"""Writing `report.md` and `report.html` into a run directory: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from t2bench.analysis.results import Analysis
from t2bench.records import Run
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
        _replace(path, renderers[kind](run, analysis))
    return path


def _replace(path: Path, text: str) -> None:
    """Put the text at the path in one step; a reader sees the old file or the new one."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files for their owner only; a report is as readable as the run directory's other files.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
