"""`t2bench compare`: the variants of a run, or runs with each other."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from t2bench.analysis.results import Comparison


@click.command(name="compare")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--by", type=click.Choice(["run", "variant"]), help="What to compare [default: runs if there are two].")
@click.option("--reference", metavar="VARIANT", help="With --by variant: compare with this one.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Only this metric, or 'all'. Repeatable.")
@click.option("--allow-cross", is_flag=True, help="Compare runs of different machines all the same.")
@click.option("--format", "format_", type=click.Choice(["text", "md", "json", "csv"]), default="text", help="Output.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--no-color", is_flag=True, help="Plain text, also on a terminal.")
def command(
    runs: tuple[Path, ...],
    by: Literal["run", "variant"] | None,
    reference: str | None,
    metrics: tuple[str, ...],
    allow_cross: bool,
    format_: str,
    as_json: bool,
    no_color: bool,
) -> None:
    """Compare each RUN with the first, or the variants of each RUN with its reference.

    A RUN is a run directory, a folder that holds runs, or a JSON file of pytest-benchmark.

    Variants of one run took turns and are compared in pairs. Two runs did not: whatever changed on the machine between
    them is part of the difference, and the result says so. Runs of different machines are refused (exit 4).
    """
    from t2bench.analysis.compare import compare, other_machine
    from t2bench.cli import common
    from t2bench.cli.report import load_run
    from t2bench.records import RecordError
    from t2bench.report import comparison

    chosen = by or ("run" if len(runs) > 1 else "variant")
    if reference and chosen == "run":
        common.fail("--reference names a variant; it needs --by variant")
    try:
        loaded = [load_run(path) for path in runs]
        crossed = chosen == "run" and [other_machine(loaded[0].environment, run.environment) for run in loaded[1:]]
        for run, lines in zip(loaded[1:], crossed or (), strict=False):
            if lines and not allow_cross:
                what = "\n".join(f"  {line}" for line in lines)
                words = f"{run.id} and {loaded[0].id} were measured on different machines; --allow-cross compares them"
                common.fail(f"{words}\n{what}", common.BASELINE)
        found = compare(loaded, by=chosen, reference=reference)
    except (RecordError, OSError, ValueError) as error:
        common.fail(str(error))
    known = comparison.metric_names(found)
    unknown = [name for name in metrics if name != "all" and name not in known]
    if unknown:
        common.fail(f"no metric {unknown[0]} in these runs; they have {', '.join(known) or 'none'}")
    wanted = known if "all" in metrics else metrics or comparison.PRIMARY
    shown = [comparison.selected(one, wanted) for one in found]
    if crossed and any(crossed):
        shown = [replace(one, candidate=f"{one.candidate} (ANOTHER MACHINE)") for one in shown]
    _print(shown, "json" if as_json else format_, by=chosen, no_color=no_color)
    decided = any(map(comparison.compared, shown))
    if not decided:
        click.echo(f"t2bench: {_why_nothing(shown)}", err=True)
    sys.exit(common.GOOD if decided else common.INCONCLUSIVE)


def _why_nothing(shown: list[Comparison]) -> str:
    from t2bench.report import comparison

    if not shown:
        return "nothing to compare: only one variant was measured"
    if any(map(comparison.refused, shown)):
        return "nothing was compared; the tables say why"
    return "nothing to compare: no metric was measured on both sides"


def _print(shown: list[Comparison], format_: str, *, by: str, no_color: bool) -> None:
    from rich.console import Console

    from t2bench.export.table import cell
    from t2bench.report import comparison, markdown, terminal

    tables = [table for one in shown for table in comparison.tables(one)]
    if format_ == "json":
        print(json.dumps({"by": by, "comparisons": comparison.plain(shown)}, allow_nan=False))
    elif format_ == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(comparison.COLUMNS)
        writer.writerows([cell(value) for value in row] for one in shown for row in comparison.flat(one))
    elif format_ == "md":
        print(markdown.of_tables(tables))
    else:
        terminal.show_tables(tables, Console(no_color=no_color or None))
