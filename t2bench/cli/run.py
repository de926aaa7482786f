"""`t2bench run`: measure a suite, report, and end with the path of the run on stdout."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from t2bench.cli import common


@click.command("run")
@common.suite_options
@click.option("-o", "--out", metavar="DIR", help="Run directory, taken exactly [default: results/SUITE/TIME].")
@click.option(
    "--resume/--fresh", default=True, help="Continue an unfinished run of the same suite, or never [default: resume]."
)
@click.option("--max-time", type=float, metavar="SECONDS", help="Stop starting launches after this long.")
@click.option(
    "--isolation", type=click.Choice(["fork", "spawn"]), help="How measured processes start [default: fork on Linux]."
)
@click.option("--no-color", is_flag=True, help="Plain output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def command(
    suite: str,
    device: str,
    only: str | None,
    overrides: tuple[str, ...],
    seed: int | None,
    quick: bool,
    data: str | None,
    threads: int | None,
    allow_code: bool,
    as_json: bool,
    out: str | None,
    resume: bool,
    max_time: float | None,
    isolation: str | None,
    no_color: bool,
    quiet: bool,
) -> None:
    """Measure SUITE (a file, or a built-in suite by name) and report.

    An interrupted run continues where it stopped when the same command is given again.
    """
    from rich.console import Console

    from t2bench import api
    from t2bench.cli.progress import Progress
    from t2bench.runner.observer import Silent

    people = Console(stderr=True, no_color=no_color or None)
    watch = Silent() if quiet else Progress(people)
    run = None
    try:
        with common.user_errors(), common.termination_as_interrupt():
            run = api.run(
                suite,
                device=device,
                only=only,
                overrides=overrides,
                seed=seed,
                quick=quick,
                data=data,
                directory=out,
                fresh=not resume,
                threads=threads,
                isolation=isolation,
                max_time_s=max_time,
                argv=["t2bench", *sys.argv[1:]],
                allow_code=allow_code,
                observer=watch,
            )
            code = _report(run, people if as_json else Console(no_color=no_color or None), as_json=as_json)
            if quick:
                people.print(common.QUICK_NOTE, markup=False, highlight=False)
    except KeyboardInterrupt:
        watch.close()
        if run is not None:
            common.fail(f"interrupted; all is measured: t2bench report {run.path} writes it", common.INTERRUPTED)
        common.fail("interrupted; the same command continues this run where it stopped", common.INTERRUPTED)
    finally:
        watch.close()
    sys.exit(code)


def _report(run: Any, console: Any, *, as_json: bool) -> int:
    """Analyse, show, write the report files, print the path last; the exit code."""
    from t2bench.analysis.analyse import analyse
    from t2bench.report import terminal
    from t2bench.report.comparison import plain
    from t2bench.report.write import write_reports

    analysis = analyse(run)
    page = write_reports(run, analysis)
    terminal.show(run, analysis, console, report_path=page)
    failed = [o for o in analysis.outcomes if o.status != "ok" and not o.expected]
    if as_json:
        counts = {"ok": sum(o.status == "ok" for o in analysis.outcomes), "failed": len(failed)}
        answer = {"run": run.id, "path": str(run.path), "report": str(page), "cases": counts}
        print(json.dumps({**answer, "analysis": plain(analysis)}, allow_nan=False))
    else:
        print(run.path)
    if failed:
        return common.FAILED
    return common.GOOD if any(o.status == "ok" for o in analysis.outcomes) else common.INCONCLUSIVE
