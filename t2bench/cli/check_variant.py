"""`t2bench check-variant`: is a variant the model that it says it is? Checked against itself and against others."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import click

from t2bench.cli import common
from t2bench.spec.case import DTYPES


@click.command("check-variant")
@click.argument("names", nargs=-1, metavar="VARIANT...")
@click.option("--all", "everything", is_flag=True, help="Every variant: built-in, or of the suite.")
@click.option("--suite", metavar="FILE", help="Variants of this suite rather than the built-in ones.")
@click.option("--dtype", type=click.Choice(DTYPES), default="fp32", show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights and tokens.")
@common.allow_code_option
@click.option("-v", "--verbose", is_flag=True, help="Every check, not only those that failed.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable result on stdout, with every check.")
def command(
    names: tuple[str, ...],
    everything: bool,
    suite: str | None,
    dtype: str,
    device: str,
    seed: int,
    allow_code: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Prove VARIANTs right before anything is timed.

    Truth: the variant as it would be timed, against itself in float64. Properties: causality, padding, batches,
    parameters, gradients. Oracle: the same function in a library that others trust, with the same random weights, and
    broken on purpose, which must be noticed. The exit code is 5 if a check fails.
    """
    from rich.console import Console

    from t2bench.cli.progress import Progress
    from t2bench.meters import environment as env
    from t2bench.runner.checking import Checker
    from t2bench.runner.devices import choose_device
    from t2bench.runner.launcher import launcher
    from t2bench.runner.options import default_isolation

    if bool(names) == everything:
        common.fail("give the names of variants, or --all")
    watch = Progress(Console(stderr=True))
    rows: list[dict[str, Any]] = []
    try:
        with common.user_errors(), common.termination_as_interrupt():
            variants, plugins = common.variants_and_code(names, suite, allow_code=allow_code)
            kind = choose_device(device, watch)
            threads = env.default_threads()
            start = launcher(default_isolation(), env.worker_environment(threads))
            try:
                checker = Checker(start, kind, threads, plugins)
                for done, (variant, answer) in enumerate(checker.check(variants, dtype=dtype, seed=seed)):
                    rows.append({"variant": variant.name, "verdict": _verdict(answer), **answer})
                    watch.working(f"checked {variant.name}", done, len(variants), None)
            finally:
                start.close()
    except KeyboardInterrupt:
        common.fail("interrupted", common.INTERRUPTED)
    finally:
        watch.close()
    if as_json:
        click.echo(json.dumps({"dtype": dtype, "device": kind, "variants": rows}, indent=1))
    else:
        _show(rows, dtype, kind, verbose=verbose)
    sys.exit(common.FAILED if any(row["verdict"] not in ("right", "not here") for row in rows) else common.GOOD)


def _verdict(answer: dict[str, Any]) -> str:
    if "status" in answer:
        return str(answer["status"])
    if not all(verdict["passed"] for verdict in answer["verdicts"]):
        return "wrong"
    return "right" if answer["verdicts"] else "not here"


def _show(rows: list[dict[str, Any]], dtype: str, device: str, *, verbose: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("variant", overflow="fold", min_width=min(22, max(len(row["variant"]) for row in rows)))
    table.add_column("verdict", no_wrap=True)
    for name in ("truth", "props"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("oracle", overflow="fold", max_width=18)
    for name in ("error", "limit", "broken"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, _cells(row)))
    console.print(table)
    for row in rows:
        for line in _remarks(row, verbose=verbose):
            console.print(Text(line), soft_wrap=True)
    console.print(
        Text(
            f"On {device} in {dtype}. Truth: against itself in float64; props: properties. Error: the largest "
            "difference from the oracle, relative where outputs are large, and its limit. Broken: the difference after "
            "a deliberate mistake, which must be beyond the limit."
        )
    )


def _cells(row: dict[str, Any]) -> list[str]:
    if "status" in row:
        return [row["variant"], row["verdict"], *[""] * 6]
    by_part = {
        part: [v for v in row["verdicts"] if v["part"] == part] for part in ("truth", "property", "oracle", "control")
    }
    counts = [f"{sum(v['passed'] for v in by_part[part])}/{len(by_part[part])}" for part in ("truth", "property")]
    oracle = max(by_part["oracle"], key=_excess, default=None)
    control = by_part["control"][0] if by_part["control"] else None
    return [
        row["variant"],
        row["verdict"],
        *counts,
        f"{row['oracle']} {row['version']}".rstrip() if oracle else "-",
        _number(oracle["error"]) if oracle else "",
        _number(oracle["tolerance"]) if oracle else "",
        _number(control["error"]) if control else "",
    ]


def _excess(verdict: dict[str, Any]) -> float:
    """Error in units of what is allowed; an error that is no number is the largest."""
    return math.inf if verdict["error"] is None else float(verdict["error"] / verdict["tolerance"])


def _number(value: float | None) -> str:
    return "inf" if value is None else f"{value:.0e}"


def _remarks(row: dict[str, Any], *, verbose: bool) -> list[str]:
    """What the table has no room for, a line each."""
    name = row["variant"]
    if "status" in row:
        return [f"{name}: {row['reason']}"]
    lines = [f"{name}: {note}" for note in row["notes"]]
    for verdict in row["verdicts"]:
        if verbose or not verdict["passed"]:
            word = "passed" if verdict["passed"] else "FAILED"
            lines.append(f"{name}: {word}: {verdict['name']}: {verdict['detail']}")
    return lines
