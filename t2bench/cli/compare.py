"""`t2bench compare`: the variants of a run, or runs with each other."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click


@click.command(name="compare")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--by", type=click.Choice(["run", "variant"]), help="What to compare [default: runs if there are two].")
@click.option("--reference", metavar="VARIANT", help="With --by variant: compare with this one.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Only this metric, or 'all'. Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable result on stdout.")
@click.option("--no-color", is_flag=True, help="Plain text, also on a terminal.")
def command(
    runs: tuple[Path, ...],
    by: Literal["run", "variant"] | None,
    reference: str | None,
    metrics: tuple[str, ...],
    as_json: bool,
    no_color: bool,
) -> None:
    """Compare each RUN with the first, or the variants of each RUN with its reference.

    A RUN is a run directory, a folder that holds runs, or a JSON file of pytest-benchmark.

    Variants of one run took turns and are compared in pairs. Two runs did not: whatever changed on the machine between
    them is part of the difference, and the result says so.
    """
    import json

    from rich.console import Console

    from t2bench.analysis.compare import compare
    from t2bench.cli import common
    from t2bench.cli.report import load_run
    from t2bench.records import RecordError
    from t2bench.report import comparison, terminal

    chosen = by or ("run" if len(runs) > 1 else "variant")
    if reference and chosen == "run":
        common.fail("--reference names a variant; it needs --by variant")
    try:
        loaded = [load_run(path) for path in runs]
        found = compare(loaded, by=chosen, reference=reference)
    except (RecordError, OSError, ValueError) as error:
        common.fail(str(error))
    known = comparison.metric_names(found)
    unknown = [name for name in metrics if name != "all" and name not in known]
    if unknown:
        common.fail(f"no metric {unknown[0]} in these runs; they have {', '.join(known) or 'none'}")
    wanted = known if "all" in metrics else metrics or comparison.PRIMARY
    shown = [comparison.selected(one, wanted) for one in found]
    if as_json:
        print(json.dumps({"by": chosen, "comparisons": comparison.plain(shown)}, allow_nan=False))
    else:
        terminal.show_tables(
            [table for one in shown for table in comparison.tables(one)], Console(no_color=no_color or None)
        )
    decided = any(row.effect is not None for one in shown for row in one.rows)
    if not decided:
        click.echo("t2bench: nothing to compare: no metric was measured on both sides", err=True)
    sys.exit(common.GOOD if decided else common.INCONCLUSIVE)
