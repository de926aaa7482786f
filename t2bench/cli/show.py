"""`t2bench show`: one variant in full: what it changes, what it costs, what it can run on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from t2bench.cli import common
from t2bench.cli.facts import COMPONENTS, facts, short
from t2bench.spec.case import DTYPES, MAX_LENGTH

if TYPE_CHECKING:
    from t2bench.spec.model import ModelSpec
    from t2bench.spec.suite import Variant

WIDTH = 80
BACKEND_COLUMNS = (16, 13)
SIZE = click.IntRange(1, MAX_LENGTH)
KINDS = ("function", "implementation", "approximation")
# Fields whose None stands for a size that follows from others.
RESOLVED = {"kv_heads": "num_kv_heads", "head_dim": "dim_per_head"}
# Asked of every back end, from the least that it can do to the most.
USES = ("forward", "train_step", "decode")


@click.command("show")
@click.argument("name", metavar="VARIANT")
@click.option("--suite", metavar="FILE", help="A variant of this suite rather than a built-in one.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a model field, e.g. --set width=1024."
)
@click.option("--length", type=SIZE, default=1024, show_default=True, help="Tokens per text.")
@click.option("--batch", type=SIZE, default=1, show_default=True, help="Texts.")
@click.option("--dtype", type=click.Choice(DTYPES), default="bf16", show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@common.allow_code_option
@click.option("--json", "as_json", is_flag=True, help="Machine-readable result on stdout.")
def command(
    name: str,
    suite: str | None,
    overrides: tuple[str, ...],
    length: int,
    batch: int,
    dtype: str,
    device: str,
    allow_code: bool,
    as_json: bool,
) -> None:
    """Show what VARIANT changes against vanilla and its base, what it costs, and which back ends can run it.

    Nothing is built, but for a factory's module, whose parameters and FLOPs are counted from fake tensors.
    """
    from t2bench.runner.devices import choose_device
    from t2bench.runner.observer import Silent

    with common.user_errors():
        (variant,), plugins = common.variants_and_code((name,), suite, overrides=overrides, allow_code=allow_code)
        kind = choose_device(device, Silent())
        where = {"length": length, "batch": batch, "dtype": dtype, "device": kind}
        row = {
            **_identity(variant),
            "deltas": {other: _delta(variant.model, model) for other, model in _others(variant, suite)},
            "costs": _own_costs(variant, plugins, where)
            if variant.model.factory
            else facts(variant, length=length, batch=batch, dtype=dtype),
            "device": kind,
            "backends": [] if variant.model.factory else list(_backends(variant.model, where)),
            "model": variant.model.to_dict(),
        }
    if as_json:
        click.echo(json.dumps(row, indent=1))
    else:
        _print(row)


def _identity(variant: Variant) -> dict[str, Any]:
    from t2bench.spec.presets import preset_names, recipe

    known = recipe(variant.name) if variant.name in preset_names() else None
    source = known.source if known else ""
    return {"name": variant.name, "base": variant.base, "summary": variant.summary, "source": source}


def _others(variant: Variant, suite: str | None) -> Iterator[tuple[str, ModelSpec]]:
    """What the variant is compared with: its base, then vanilla."""
    from t2bench.spec.loader import load_suite
    from t2bench.spec.presets import preset, preset_names

    own = {v.name: v.model for v in load_suite(suite, device="cpu").variants} if suite else {}
    for other in dict.fromkeys((variant.base, "vanilla")):
        if other and other != variant.name and (other in own or other in preset_names()):
            yield other, own.get(other) or preset(other).model


def _delta(model: ModelSpec, other: ModelSpec) -> list[dict[str, Any]]:
    """Axes that differ, nested ones key by key, function axes first."""
    from t2bench.spec.model import AXIS_KINDS

    rows = []
    for axis, (old, new) in model.delta(other).items():
        if axis in RESOLVED:
            old, new = getattr(other, RESOLVED[axis]), getattr(model, RESOLVED[axis])  # noqa: PLW2901 (what None means)
        parts = [(f"{axis}.{key}", old[key], new[key]) for key in new] if isinstance(new, dict) else [(axis, old, new)]
        rows += [
            {"axis": name, "kind": AXIS_KINDS[axis], "from": before, "to": after}
            for name, before, after in parts
            if before != after
        ]
    return sorted(rows, key=lambda row: KINDS.index(row["kind"]))


def _backends(model: ModelSpec, where: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every back end, what it can be used for with this model, and why not for the rest."""
    from t2bench.spec.axes import BACKENDS
    from t2bench.spec.case import Case, WorkloadSpec
    from t2bench.spec.refusals import refusal

    for backend in BACKENDS:
        reasons: dict[str, str] = {}
        for use in USES:
            if use == "decode" and model.arch == "encoder":
                continue
            try:
                spec = replace(model, attention=backend)  # type: ignore[arg-type]
            except ValueError as error:
                reasons[use] = str(error)
                continue
            workload = WorkloadSpec(kind=use)  # type: ignore[arg-type]
            # What is generated counts towards the length, so that a table of positions which holds it holds all.
            room = workload.new_tokens if workload.generates else 0
            at = {**where, "length": max(1, where["length"] - room)}
            reasons[use] = refusal(Case(variant="shown", model=spec, workload=workload, **at)) or ""
        yield {"backend": backend, "runs": [use for use, reason in reasons.items() if not reason], "reasons": reasons}


def _own_costs(variant: Variant, plugins: Any, where: dict[str, Any]) -> dict[str, Any]:
    """Parameters and FLOPs of a factory's module, counted in a worker on fake tensors.

    Raises:
        WorkerFailed: the user's code fails; the reason says where.
    """
    from t2bench.meters import environment as env
    from t2bench.runner.launcher import launcher
    from t2bench.runner.options import default_isolation
    from t2bench.spec.case import Case, WorkloadSpec

    start = launcher(default_isolation(), env.worker_environment(1))
    found: dict[str, Any] = {"variant": variant.name, **{key: where[key] for key in ("length", "batch", "dtype")}}
    try:
        worker = start.start()
        code = [plugin.to_dict() for plugin in plugins]
        setup = {"device": "cpu", "threads": 1, "memory_limit_bytes": None, "plugins": code}
        worker.ask({"op": "configure", **setup}, common.WORKER_TIMEOUT_S)
        rates = {where["dtype"]: {"flops_per_s": 1.0, "bytes_per_s": 1.0}}
        for key, kind in (("model_flops_per_token", "train_step"), ("forward_flops_per_token", "forward")):
            case = Case(variant=variant.name, model=variant.model, workload=WorkloadSpec(kind=kind), **where)  # type: ignore[arg-type]
            message = {"op": "predict", "case": case.to_dict(), "ceilings": rates}
            metrics = worker.ask(message, common.WORKER_TIMEOUT_S)["metrics"]
            found[key] = metrics["model_flops"] / case.tokens
        worker.close()
    finally:
        start.close()
    return {**found, "params": {"total": int(metrics["num_params"])}}


def _print(row: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(width=min(WIDTH, Console().width))
    base = f" (from {row['base']})" if row["base"] else ""
    console.print(Text(f"{row['name']}{base}", style="bold"))
    for text in (row["summary"], row["source"]):
        if text:
            console.print(Text(text))
    for other, rows in row["deltas"].items():
        console.print(Text(f"\nAgainst {other}", style="bold"))
        console.print(_table(("axis", "kind", "there", "here"), [_change(change) for change in rows]))
        if not rows:
            console.print(Text("no difference"))
    console.print(Text(f"\nCost at length {row['costs']['length']}, batch {row['costs']['batch']}", style="bold"))
    console.print(_table(("", "", ""), list(_costs(row["costs"])), header=False))
    if row["backends"]:
        console.print(Text(f"\nBack ends on {row['device']} in {row['costs']['dtype']}", style="bold"))
        found = _table(("back end", "runs", "why not the rest"), list(_backend_rows(row["backends"])))
        found.columns[0].width, found.columns[1].width = BACKEND_COLUMNS
        console.print(found)
    else:
        console.print(Text("\nThe module is made by a factory: which attention it has, if any, shows when it runs."))


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]], *, header: bool = True) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=header)
    for column in columns:
        table.add_column(column, overflow="fold")
    for cells in rows:
        table.add_row(*map(Text, cells))
    return table


def _change(change: dict[str, Any]) -> tuple[str, ...]:
    return change["axis"], change["kind"], common.cell(change["from"]), common.cell(change["to"])


def _costs(costs: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    total = costs["params"]["total"]
    yield "parameters", f"{total:,}", "counted from the module" if len(costs["params"]) == 1 else ""
    if len(costs["params"]) > 1:
        for name, parts in COMPONENTS.items():
            size = sum(costs["params"][part] for part in parts)
            if size:
                yield f"  {name}", f"{size:,}", f"{100 * size / total:.1f} %"
    unit = "per token; model convention"
    yield "FLOPs, training step", short(costs["model_flops_per_token"]), unit
    yield "FLOPs, forward", short(costs["forward_flops_per_token"]), unit
    if "kv_bytes" in costs and costs["kv_bytes"] and not costs["kv_bytes_per_token"]:
        yield "state", f"{costs['kv_bytes']:,} B", f"for each text, however long, in {costs['dtype']}"
    elif "kv_bytes" in costs:
        yield "cache", f"{costs['kv_bytes_per_token']:,} B", f"for the first token of a text, in {costs['dtype']}"
        yield "", f"{costs['kv_bytes']:,} B", f"for {costs['length']} tokens"


def _backend_rows(rows: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """A row for each answer: back ends that can do the same, or fail for the same reason, share one."""
    names: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        name, runs, why = _backend(row)
        names.setdefault((runs, why.replace(f"attention {name}: ", "")), []).append(name)
    for (runs, why), together in names.items():
        yield ", ".join(together), runs, why


def _backend(row: dict[str, Any]) -> tuple[str, str, str]:
    why: dict[str, list[str]] = {}
    for use, reason in row["reasons"].items():
        if reason:
            why.setdefault(reason, []).append(use)
    words = [
        reason if len(uses) == len(row["reasons"]) else f"{', '.join(uses)}: {reason}" for reason, uses in why.items()
    ]
    return row["backend"], ", ".join(row["runs"]) or "no", "; ".join(words)
