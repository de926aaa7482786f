"""`t2bench report`: show a run again and rewrite its report files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from t2bench.records import Run


@click.command(name="report")
@click.argument("run", default="results", type=click.Path(path_type=Path))
@click.option("--html", "kinds", flag_value="html", help="Rewrite report.html only.")
@click.option("--md", "kinds", flag_value="md", help="Rewrite report.md only.")
@click.option("--json", "as_json", is_flag=True, help="Print the analysis as JSON; write no file.")
@click.option("--no-color", is_flag=True, help="Plain text, also on a terminal.")
def command(run: Path, kinds: str | None, as_json: bool, no_color: bool) -> None:
    """Show RUN and rewrite report.md and report.html in it.

    RUN is a run directory, or a folder that holds runs: then its latest run is shown [default: results].
    """
    import json

    from rich.console import Console

    from t2bench.analysis.analyse import analyse
    from t2bench.cli import common
    from t2bench.records import RecordError, Run
    from t2bench.report import terminal
    from t2bench.report.comparison import plain
    from t2bench.report.write import write_reports

    try:
        path = find_run(run)
        loaded = Run.load(path)
    except (RecordError, OSError) as error:
        common.fail(str(error))
    analysis = analyse(loaded)
    if as_json:
        print(json.dumps({"run": loaded.id, "path": str(path), "analysis": plain(analysis)}, allow_nan=False))
    else:
        page: Path | None = None
        try:
            page = write_reports(loaded, analysis, kinds=(kinds,) if kinds else ("md", "html"))
        except OSError as error:
            click.echo(f"t2bench: the report files were not written: {error.strerror or error} ({path})", err=True)
        terminal.show(loaded, analysis, Console(no_color=no_color or None), report_path=page)
    measured = any(outcome.status == "ok" for outcome in analysis.outcomes)
    sys.exit(common.GOOD if measured else common.INCONCLUSIVE)


def load_run(path: Path) -> Run:
    """The run meant by a path: what `find_run` finds, or a file of pytest-benchmark read as a run of one launch.

    Raises:
        RecordError: there is none, or it cannot be read.
        OSError: likewise.
    """
    from t2bench.export.pytest_benchmark import read
    from t2bench.records import Run

    return read([path]) if path.is_file() else Run.load(find_run(path))


def find_run(path: Path) -> Path:
    """The run directory meant by a path: itself, or the run below it that started last, which is then said.

    Raises:
        RecordError: there is no run at or below the path.
    """
    from t2bench.records import RecordError

    if (path / "records.jsonl").is_file():
        return path
    if not path.exists():
        raise RecordError(f"{path}: no such directory")
    # A `latest` link leads to a run that is found under its own name.
    found = {p.parent.resolve(): p.parent for depth in ("*", "*/*") for p in path.glob(f"{depth}/records.jsonl")}
    if not found:
        raise RecordError(f"{path}: not a run directory (it has no records.jsonl), and there is none below it")
    latest = max(found.values(), key=_started)
    if len(found) > 1:
        click.echo(f"t2bench: {len(found)} runs in {path}; showing the latest, {latest}", err=True)
    return latest


def _started(path: Path) -> tuple[str, str]:
    """When a run started, as text that sorts; runs without a readable environment come first."""
    import json

    try:
        environment = json.loads((path / "environment.json").read_text(encoding="utf-8"))
        started = str(environment.get("started", ""))
    except (OSError, ValueError, AttributeError):
        started = ""
    return started, path.name
