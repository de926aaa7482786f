"""`t2bench export`: a run in the formats of other tools."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from t2bench.export.registry import EXPORTERS, ExportError, export, render

if TYPE_CHECKING:
    from t2bench.records import Run


class _Formats(click.Command):
    """Lists the formats below the options."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Formats"):
            formatter.write_dl([(name, _line(name)) for name in EXPORTERS])


def _line(name: str) -> str:
    exporter = EXPORTERS[name]
    return exporter.summary + (f" (needs t2bench[{exporter.extra}])" if exporter.extra else "")


@click.command(name="export", cls=_Formats)
@click.argument("format_", type=click.Choice(list(EXPORTERS)), metavar="FORMAT")
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path), metavar="[RUN]")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File or folder to write [default: stdout].")
def command(format_: str, runs: tuple[Path, ...], output: Path | None) -> None:
    """Write RUN in another tool's FORMAT.

    RUN is a run directory, a folder that holds runs (its latest is taken) [default: results], or files of
    pytest-benchmark: one file is one launch, several of the same machine are several launches.
    """
    from t2bench.analysis.analyse import analyse
    from t2bench.cli import common
    from t2bench.export.measurements import measurements, without_value
    from t2bench.records import RecordError
    from t2bench.report import safe

    try:
        run = _load(runs or (Path("results"),))
        analysis = analyse(run)
        if output is None:
            sys.stdout.write(render(format_, run, analysis))
        else:
            export(format_, run, analysis, output)
    except (RecordError, ExportError) as error:
        common.fail(str(error))
    except OSError as error:
        common.fail(f"{error.filename or output}: {error.strerror or error}", common.FAILED)
    absent = without_value(analysis)
    if absent:
        named = ", ".join(f"{safe.clean(outcome.case)} ({outcome.status})" for outcome in absent[:5])
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        click.echo(f"t2bench: not ok, so without a full set of values: {named}{more}", err=True)
    if not measurements(run, analysis):
        click.echo("t2bench: nothing was measured in this run", err=True)
        sys.exit(common.INCONCLUSIVE)
    sys.exit(common.GOOD)


def _load(paths: tuple[Path, ...]) -> Run:
    from t2bench.cli.report import load_run
    from t2bench.export.pytest_benchmark import read
    from t2bench.records import RecordError

    if len(paths) == 1:
        return load_run(paths[0])
    if not all(path.is_file() for path in paths):
        raise RecordError("one run at a time; only pytest-benchmark files may be several")
    return read(paths)
