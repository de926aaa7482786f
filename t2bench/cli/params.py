"""`t2bench params`: what variants cost by arithmetic alone, before anything is built."""

from __future__ import annotations

import json
from typing import Any

import click

from t2bench.cli import common
from t2bench.cli.facts import COMPONENTS, facts, short
from t2bench.spec.case import MAX_LENGTH

DEFAULT_LENGTH = 1024
# Two variants that differ in one of these are two models, whatever else they differ in.
SIZES = ("arch", "vocab", "width", "enc_layers", "dec_layers")


@click.command("params")
@click.argument("variants", nargs=-1, required=True, metavar="VARIANT...")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a model field, e.g. --set width=1024."
)
@click.option(
    "--length", type=click.IntRange(1, MAX_LENGTH), default=DEFAULT_LENGTH, show_default=True, help="Tokens per text."
)
@click.option(
    "--dtype", type=click.Choice(["fp32", "bf16", "fp16"]), default="bf16", show_default=True, help="Of the cache."
)
@click.option("--suite", metavar="FILE", help="Variants of this suite rather than the built-in ones.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable result on stdout, with every component.")
def command(
    variants: tuple[str, ...], overrides: tuple[str, ...], length: int, dtype: str, suite: str | None, as_json: bool
) -> None:
    """Count parameters, FLOPs per token and key/value bytes per token of VARIANTs. Nothing is built."""
    from t2bench.spec.loader import SuiteErrors, load_variants

    try:
        found = load_variants(variants, overrides=overrides, suite=suite)
    except SuiteErrors as error:
        common.fail(str(error))
    for variant in found:
        if variant.model.factory:
            common.fail(f"{variant.name}: a module of your own has no formulas; t2bench show counts it")
    rows = [facts(variant, length=length, batch=1, dtype=dtype) for variant in found]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        _show(rows, length, dtype)


def _show(rows: list[dict[str, Any]], length: int, dtype: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = {"total": ("total",), **COMPONENTS}
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("variant", overflow="fold")
    for name in (*columns, "FLOP/tok", "KV B/tok"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        sums = [short(sum(row["params"][part] for part in parts)) for parts in columns.values()]
        table.add_row(
            Text(row["variant"]), *sums, short(row["model_flops_per_token"]), short(row["kv_bytes_per_token"])
        )
    console = Console()
    console.print(table)
    notes = (
        f"Parameters; tables: embeddings, positions and output. FLOP/tok: a training step at length {length}, model "
        f"convention, per token (encoder-decoder: of source and target). KV B/tok: cache in {dtype} per decoded token."
    )
    console.print(Text(notes))
    unlike = _unlike([row["model"] for row in rows])
    if unlike:
        console.print(
            Text(f"Not alike in {unlike}: totals and FLOPs do not compare the variants' ideas."), style="bold"
        )


def _unlike(models: list[dict[str, Any]]) -> str:
    """The sizes in which the variants differ, with their values: what makes a comparison of totals meaningless."""
    values = {name: list(dict.fromkeys(str(model[name]) for model in models)) for name in SIZES}
    return "; ".join(f"{name} ({', '.join(found)})" for name, found in values.items() if len(found) > 1)
