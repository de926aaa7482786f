"""`t2bench baseline`: accept, show, compare and pin what gates hold runs against."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from t2bench.cli import common
from t2bench.report import safe


@click.group("baseline")
def command() -> None:
    """Stored baselines: one file per suite and machine, with a history of who accepted what and why."""


def _folder(function: common.Command) -> common.Command:
    option = click.option("--baselines", metavar="DIR", default="results/baselines", show_default=True)
    return option(function)


@command.command("accept")
@common.suite_options
@_folder
@click.option("--reason", required=True, help="Why this is right; goes into the history.")
@click.option("-o", "--out", metavar="DIR", help="Run directory [default: results/baseline/SUITE/TIME].")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def accept(
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
    baselines: str,
    reason: str,
    out: str | None,
    quiet: bool,
) -> None:
    """Count SUITE as it is now and hold later runs against that."""
    from rich.console import Console

    from t2bench.cli import gate_base, gate_flow
    from t2bench.cli.progress import Progress
    from t2bench.runner.observer import Silent

    if quick or only:
        common.fail("a baseline is of the whole suite, counted in full: neither --quick nor --only")
    if not reason.strip():
        common.fail("--reason is empty; the history is for people who will ask why")
    watch = Silent() if quiet else Progress(Console(stderr=True))
    request = gate_base.Request(
        suite=suite,
        device=device,
        allow_code=allow_code,
        overrides=common.all_overrides(overrides, seed, quick=False),
        baselines=Path(baselines),
        options=gate_base.options_of("baseline", suite, out, data, threads, None),
    )
    try:
        with common.gate_errors(), common.termination_as_interrupt():
            path = gate_flow.accept(request, watch, why=reason)
    except KeyboardInterrupt:
        common.fail("interrupted; the old baseline stands", common.INTERRUPTED)
    finally:
        watch.close()
    print(json.dumps({"baseline": str(path)}) if as_json else path)


@command.command("show")
@click.argument("suite")
@_folder
@click.option("--json", "as_json", is_flag=True, help="Machine-readable result on stdout.")
def show(suite: str, baselines: str, as_json: bool) -> None:
    """Show the stored baselines of SUITE (its name) and their history."""
    from t2bench.gate import baseline as stored
    from t2bench.gate.baseline import BaselineError

    folder = Path(baselines) / Path(suite).stem
    try:
        found = {path: stored.read(path) for path in sorted(folder.glob("*.json"))}
    except BaselineError as error:
        common.fail(str(error), common.BASELINE)
    if not found:
        common.fail(f"{folder}: no baseline of suite {suite}", common.BASELINE)
    if as_json:
        print(json.dumps({str(path): {**one.to_dict(), "samples": ""} for path, one in found.items()}))
        return
    for path, one in found.items():
        entry = one.accepted
        click.echo(f"{path}: {len(one.cases)} cases, {one.machine}")
        commit = entry.get("commit", "?")[:13]
        click.echo(f"  accepted {entry.get('when')} by {entry.get('who')} at {commit}: {entry.get('why')}")
        for case, counted in one.cases.items():
            values = ", ".join(f"{name} {value:.0f}" for name, value in counted.values.items())
            click.echo(f"  {case}: {counted.status}{f', {values}' if values else ''}")
        if one.anchor:
            click.echo(f"  anchor: accepted {one.anchor['accepted'].get('when')}: {one.anchor['accepted'].get('why')}")
        if one.calibration:
            click.echo(f"  {one.calibration.get('words')}")
    history = folder / stored.HISTORY
    if history.is_file():
        click.echo(f"{history}:")
        for number, line in enumerate(history.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            click.echo(f"  {_past(line) or f'line {number} is damaged'}")


def _past(line: str) -> str:
    """One line of the history for people; empty if it is damaged."""
    try:
        past = json.loads(line)
        words = f"{past['when']} {past['action']} by {past['who']} at {past['commit'][:13]}: {past['why']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return safe.clean(words, limit=2000)


@command.command("diff")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
def diff(old: Path, new: Path) -> None:
    """What changed between two baseline files: cases, counters, machine. Exit 1 if anything is worse."""
    from t2bench.gate import baseline as stored
    from t2bench.gate.baseline import BaselineError
    from t2bench.gate.completeness import completeness
    from t2bench.gate.exact import exact
    from t2bench.spec.gate import EXACT_METRICS

    try:
        before, after = stored.read(old), stored.read(new)
    except BaselineError as error:
        common.fail(str(error), common.BASELINE)
    rows = completeness(before.cases, after.cases, {}) + exact(before.cases, after.cases, EXACT_METRICS)
    changed = [row for row in rows if row.verdict != "pass"]
    for row in changed:
        click.echo(f"{row.verdict}: {row.case} {row.metric}: {row.why}")
    if not changed:
        click.echo("no difference in cases or counters")
    sys.exit(1 if any(row.red for row in changed) else common.GOOD)


@command.command("pin")
@click.argument("suite")
@_folder
@click.option("--reason", required=True, help="Why this state is the one to measure drift from.")
def pin(suite: str, baselines: str, reason: str) -> None:
    """Make the present baselines of SUITE the anchor: what many small accepted steps add up to is shown against it."""
    if not reason.strip():
        common.fail("--reason is empty; the history is for people who will ask why")
    from t2bench.gate import baseline as stored
    from t2bench.gate.baseline import BaselineError

    root, name = Path(baselines), Path(suite).stem
    paths = sorted((root / name).glob("*.json"))
    if not paths:
        common.fail(f"{root / name}: no baseline of suite {name}", common.BASELINE)
    try:
        for path in paths:
            found = stored.pinned(stored.read(path))
            commit = found.accepted.get("commit")
            click.echo(str(stored.write(root, found, action="pin", why=reason, commit=commit)))
    except BaselineError as error:
        common.fail(str(error), common.BASELINE)
