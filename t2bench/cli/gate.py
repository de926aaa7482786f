"""`t2bench gate`: has anything got worse? Red only when proven, green only when something was judged."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from t2bench.cli import common

if TYPE_CHECKING:
    from rich.console import Console

    from t2bench.cli.gate_base import Request
    from t2bench.gate.results import GateReport
    from t2bench.runner.observer import Observer


@click.command("gate")
@common.suite_options
@click.option("--base", metavar="REF", help="Take turns with: a commit, a variant of the suite, or 'anchor'.")
@click.option("--base-python", metavar="PATH", help="Interpreter of the base's environment: another torch, say.")
@click.option("--exact", "exact_only", is_flag=True, help="Counters only, also where there is a base.")
@click.option("--inconclusive", type=click.Choice(["fail", "warn"]), default="fail", show_default=True)
@click.option("--no-baseline", type=click.Choice(["fail", "create"]), default="fail", show_default=True)
@click.option("--baselines", metavar="DIR", default="results/baselines", show_default=True)
@click.option("--remember", is_flag=True, help="Append this run's times to the history of this machine.")
@click.option("--self-test", is_flag=True, help="Prove here that this gate finds what it should and nothing else.")
@click.option("-o", "--out", metavar="DIR", help="Run directory [default: results/gate/SUITE/TIME].")
@click.option("--isolation", type=click.Choice(["fork", "spawn"]), help="How measured processes start.")
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
    base: str | None,
    base_python: str | None,
    exact_only: bool,
    inconclusive: str,
    no_baseline: str,
    baselines: str,
    remember: bool,
    self_test: bool,
    out: str | None,
    isolation: str | None,
    no_color: bool,
    quiet: bool,
) -> None:
    """Judge SUITE as it is now against a base.

    Without --base: counters and completeness against the stored baseline, in seconds, on any machine with the same
    torch. With --base: also times and memory, both sides in turns in this job.

    \b
    exit 0 good          1 regression proven, or a case that was ok no longer is
         2 usage         3 undecided, or nothing was judged
         4 baseline missing, stale or of another torch or machine
         5 a measurement failed
    """  # noqa: D301 (click reads the backspace character as "keep these lines")
    from rich.console import Console

    from t2bench.cli import gate_base
    from t2bench.cli.progress import Progress
    from t2bench.runner.observer import Silent

    if quick:
        common.fail("--quick is a look, not a result; a gate does not take it")
    if only and no_baseline == "create":
        common.fail("a baseline is of the whole suite: --no-baseline=create does not go with --only")
    people = Console(stderr=True, no_color=no_color or None)
    watch = Silent() if quiet else Progress(people)
    request = gate_base.Request(
        suite=suite,
        device=device,
        allow_code=allow_code,
        only=only,
        overrides=common.all_overrides(overrides, seed, quick=False),
        base=base,
        base_python=base_python,
        exact_only=exact_only,
        remember=remember,
        options=gate_base.options_of("gate", suite, out, data, threads, isolation),
        baselines=Path(baselines),
    )
    if self_test:
        sys.exit(_self_test(request, watch, people, as_json=as_json))
    report = _judged(request, watch, create=no_baseline == "create")
    result = json.dumps(report.to_dict(), allow_nan=False) if as_json else str(request.options.path)
    _tell(report, people if as_json else Console(no_color=no_color or None), result)
    sys.exit(_exit_code(report, warn=inconclusive == "warn"))


@contextlib.contextmanager
def _watched(watch: Observer) -> Iterator[None]:
    """Faults and interruptions end the command with one line; the display is closed in any case."""
    try:
        with common.gate_errors(), common.termination_as_interrupt():
            yield
    except KeyboardInterrupt:
        common.fail("interrupted; nothing was decided", common.INTERRUPTED)
    finally:
        watch.close()


def _self_test(request: Request, watch: Observer, people: Console, *, as_json: bool) -> int:
    from t2bench.cli.gate_selftest import run_self_test

    with _watched(watch):
        return run_self_test(request, watch, people, as_json=as_json)


def _judged(request: Request, watch: Observer, *, create: bool) -> GateReport:
    """The report, with its artefacts written."""
    from t2bench.gate.artefacts.write import write_artefacts

    with _watched(watch):
        report = _report(request, watch, create=create)
        write_artefacts(report, request.options.path)
    return report


def _exit_code(report: GateReport, *, warn: bool) -> int:
    """The report's, but that nothing proven may be good where something was judged."""
    judged = any(row.layer in ("L1", "L2") and row.verdict in ("pass", "improved") for row in report.rows)
    waived = report.exit_code == common.INCONCLUSIVE and warn and judged
    return common.GOOD if waived else report.exit_code


def _report(request: Request, watch: Observer, *, create: bool) -> GateReport:
    from t2bench.cli import gate_flow
    from t2bench.gate.baseline import BaselineError, NoBaselineError

    try:
        return gate_flow.gate(request, watch)
    except NoBaselineError:
        if not create or request.base:
            raise
        path = gate_flow.accept(request, watch, why="first run")
        raise BaselineError(f"{path}: made from this run, which it therefore cannot judge; the next one is") from None


def _tell(report: GateReport, console: Console, result: str) -> None:
    """Print the verdict. Whether anybody reads it to the end changes nothing about the exit code."""
    from t2bench.cli import gate_show

    with console.capture() as shown:  # rich itself would exit with 1 where the reader has gone
        gate_show.show(report, console)
    try:
        console.file.write(shown.get())
        print(result, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
