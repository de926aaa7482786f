"""`t2bench plan`: every case with its predicted cost, every refusal with its reason, before a second is spent."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from t2bench.cli import common

if TYPE_CHECKING:
    from rich.console import Console

    from t2bench.records import Record
    from t2bench.runner.preview import Preview
    from t2bench.spec.case import Plan
    from t2bench.spec.suite import Suite


@click.command("plan")
@common.suite_options
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
) -> None:
    """Show what SUITE would measure: predicted FLOPs, bytes and seconds per case, and what is refused and why.

    Nothing is trained or allocated: the counts come from fake tensors.
    """
    from rich.console import Console

    from t2bench.cli.progress import Progress
    from t2bench.runner.devices import suite_for_device
    from t2bench.runner.options import default_isolation
    from t2bench.runner.preview import preview
    from t2bench.spec.plan import expand

    watch = Progress(Console(stderr=True))
    try:
        with common.user_errors():
            changes = common.all_overrides(overrides, seed, quick=quick)
            loaded, plugins = suite_for_device(suite, device, watch, overrides=changes, allow_code=allow_code)
            plan = expand(loaded, only=only)
            found = preview(
                loaded, plan, threads=threads, isolation=default_isolation(), observer=watch, plugins=plugins
            )
    except KeyboardInterrupt:
        common.fail("interrupted", common.INTERRUPTED)
    finally:
        watch.close()
    if as_json:
        print(json.dumps(_as_json(found)))
        return
    console = Console()
    _show_cases(console, found.records)
    _show_reasons(console, found.records)
    _show_total(console, found, plan, loaded)
    if quick:
        console.print(common.QUICK_NOTE, markup=False, highlight=False)
    with common.user_errors():
        _check_texts(plan, data)
    if sys.stdout.isatty():
        click.echo(f"Start it with: t2bench run {suite}")


def _check_texts(plan: Plan, data: str | None) -> None:
    """Read the sentence pairs as a run would, which refuses to begin without them.

    Raises:
        OptionError: a corpus is missing or cannot be used.
    """
    import tempfile
    from pathlib import Path

    from t2bench.runner.texts import read_texts

    with tempfile.TemporaryDirectory(prefix="t2bench-") as scratch:
        read_texts(plan, None if data is None else Path(data), Path(scratch))


def _as_json(found: Preview) -> dict[str, Any]:
    return {
        "total_s": found.total_s,
        "learning_s": found.learning_s,
        "memory_limit_bytes": found.memory_limit_bytes,
        "cases": [record.to_dict() for record in found.records],
    }


def _show_cases(console: Console, records: Sequence[Record]) -> None:
    """A line for each case under its group; the reference is shown once, though it is measured twice."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("case", overflow="fold")
    for name in ("FLOPs", "saved", "peak", "step"):
        table.add_column(name, justify="right", no_wrap=True)
    group = ""
    for record in records:
        if record.axes["ghost"]:
            continue
        if record.group != group:
            group = record.group
            table.add_row(Text(group))
        table.add_row(Text(f"  {record.variant}"), *_cells(record))
    console.print(table)


def _cells(record: Record) -> list[str]:
    from t2bench.report import units

    values = {name: metric.value for name, metric in record.metrics.items()}
    cells = [
        units.quantity(values.get("executed_flops"), "flops"),
        units.quantity(values.get("saved_for_backward_bytes"), "bytes"),
        units.quantity(values.get("tracked_peak_bytes"), "bytes"),
        units.quantity(values.get("predicted_step_time_s"), "s"),
    ]
    return cells if record.status == "ok" else [*cells[:-1], record.status]


def _show_reasons(console: Console, records: Sequence[Record]) -> None:
    """Why cases are refused or cannot be predicted, each reason once."""
    from rich.text import Text

    reasons: dict[str, list[str]] = {}
    for record in records:
        if record.status != "ok" and not record.axes["ghost"]:
            reasons.setdefault(f"{record.status}: {record.reason}", []).append(record.case)
    for reason, cases in reasons.items():
        more = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
        console.print(Text(f"{cases[0]}{more}: {reason}"))


def _show_total(console: Console, found: Preview, plan: Plan, suite: Suite) -> None:
    from rich.text import Text

    from t2bench.cli.progress import duration
    from t2bench.spec.errors import counted

    cases, groups = len(found.records), len(plan.groups)
    ghosts = sum(record.axes["ghost"] for record in found.records)
    again = f" ({ghosts} of them the reference a second time)" if ghosts else ""
    works = [
        words
        for words, seconds in (
            (_timing(plan, suite), found.total_s - found.learning_s),
            (_learning(plan, suite), found.learning_s),
        )
        for words in ([f"{words}: about {duration(seconds)}"] if words else [])
    ]
    total = f"; in all about {duration(found.total_s)}" if len(works) > 1 else ""
    console.print(
        Text(
            f"\n{counted(cases, 'case')}{again} in {counted(groups, 'group')}, {'; '.join(works)}"
            f"{total}. Bytes are counted on tensors; step is a rough roofline, good to a factor of two or so."
        )
    )


def _timing(plan: Plan, suite: Suite) -> str:
    measure = suite.measure
    times = any(not case.workload.learns for case in plan.cases)
    return f"{measure.launches} launches of {measure.rounds} rounds each" if times else ""


def _learning(plan: Plan, suite: Suite) -> str:
    """`3 seeds of 900 updates for each case that learns`; ranges where cases differ."""
    trained = [
        (case.launches or suite.measure.launches, case.quality.recipe.steps) for case in plan.cases if case.quality
    ]
    if not trained:
        return ""
    seeds, steps = ([min(column), max(column)] for column in zip(*trained, strict=True))
    return f"{_span(seeds)} seed{'s' * (seeds[1] > 1)} of {_span(steps)} updates for each case that learns"


def _span(ends: Sequence[int]) -> str:
    return " to ".join(f"{end:,}" for end in dict.fromkeys(ends))
