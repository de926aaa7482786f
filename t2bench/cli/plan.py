"""`t2bench plan`: every case with its predicted cost, every refusal with its reason, before a second is spent."""

from __future__ import annotations

import json
import sys

import click

from t2bench.cli import common


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
    from rich.text import Text

    from t2bench.cli.progress import Progress, duration
    from t2bench.runner.devices import choose_device
    from t2bench.runner.options import default_isolation
    from t2bench.runner.preview import preview
    from t2bench.spec.loader import load_suite
    from t2bench.spec.plan import expand
    from t2bench.spec.plugins import permitted

    watch = Progress(Console(stderr=True))
    try:
        with common.user_errors():
            changes = common.all_overrides(overrides, seed, quick=quick)
            permitted(load_suite(suite, device="cpu", overrides=changes), allow_code=allow_code)
            loaded = load_suite(suite, device=choose_device(device, watch), overrides=changes)
            plan = expand(loaded, only=only)
            found = preview(
                loaded,
                plan,
                threads=threads,
                isolation=default_isolation(),
                observer=watch,
                plugins=permitted(loaded, allow_code=allow_code),
            )
    except KeyboardInterrupt:
        common.fail("interrupted", common.INTERRUPTED)
    finally:
        watch.close()
    if as_json:
        print(
            json.dumps(
                {
                    "total_s": found.total_s,
                    "memory_limit_bytes": found.memory_limit_bytes,
                    "cases": [record.to_dict() for record in found.records],
                }
            )
        )
        return
    _show(Console(), found.records)
    ghosts = sum(record.axes["ghost"] for record in found.records)
    again = f" ({ghosts} of them the reference a second time)" if ghosts else ""
    console = Console()
    console.print(
        Text(
            f"\n{len(found.records)} cases{again} in {len(plan.groups)} groups, {loaded.measure.launches} launches of "
            f"{loaded.measure.rounds} rounds each: about {duration(found.total_s)}. Bytes are counted on tensors; "
            "step is a rough roofline, good to a factor of two or so."
        )
    )
    if quick:
        console.print(Text(common.QUICK_NOTE))
    if sys.stdout.isatty():
        click.echo(f"Start it with: t2bench run {suite}")


def _show(console, records) -> None:  # type: ignore[no-untyped-def]
    from rich.table import Table
    from rich.text import Text

    from t2bench.report import units

    table = Table(box=None, pad_edge=False)
    table.add_column("case", overflow="fold")
    for name in ("FLOPs", "saved", "peak", "step"):
        table.add_column(name, justify="right", no_wrap=True)
    reasons: dict[str, list[str]] = {}
    group = ""
    for record in records:
        if record.axes["ghost"]:
            continue
        if record.group != group:
            group = record.group
            table.add_row(Text(group))
        values = {name: metric.value for name, metric in record.metrics.items()}
        cells = [
            units.quantity(values.get("executed_flops"), "flops"),
            units.quantity(values.get("saved_for_backward_bytes"), "bytes"),
            units.quantity(values.get("tracked_peak_bytes"), "bytes"),
            units.quantity(values.get("predicted_step_time_s"), "s"),
        ]
        if record.status != "ok":
            cells[-1] = record.status
            reasons.setdefault(f"{record.status}: {record.reason}", []).append(record.case)
        table.add_row(Text(f"  {record.variant}"), *cells)
    console.print(table)
    for reason, cases in reasons.items():
        more = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
        console.print(Text(f"{cases[0]}{more}: {reason}"))
