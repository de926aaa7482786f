"""`t2bench params`: what variants cost by arithmetic alone, before anything is built."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from t2bench.cli import common
from t2bench.spec.case import MAX_LENGTH

DEFAULT_LENGTH = 1024


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
@click.option("--json", "as_json", is_flag=True, help="Machine-readable result on stdout, with every component.")
def command(variants: tuple[str, ...], overrides: tuple[str, ...], length: int, dtype: str, as_json: bool) -> None:
    """Count parameters, FLOPs per token and key/value bytes per token of VARIANTs. Nothing is built."""
    from t2bench.spec.loader import SuiteErrors, load_variants

    try:
        found = load_variants(variants, overrides=overrides)
    except SuiteErrors as error:
        common.fail(str(error))
    rows = [_row(variant, length, dtype) for variant in found]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        _show(rows, length, dtype)


def _row(variant: Any, length: int, dtype: str) -> dict[str, Any]:
    from t2bench.spec.case import WorkloadSpec
    from t2bench.spec.cost import kv_bytes, model_flops, num_params

    count = num_params(variant.model)
    tokens = length * (2 if variant.model.arch == "encdec" else 1)
    return {
        "variant": variant.name,
        "params": {**asdict(count), "total": count.total},
        "length": length,
        "model_flops_per_token": model_flops(variant.model, WorkloadSpec(kind="train_step"), 1, length) / tokens,
        "kv_bytes_per_token": kv_bytes(variant.model, 1, dtype),
        "dtype": dtype,
        "model": variant.model.to_dict(),
    }


def _show(rows: list[dict[str, Any]], length: int, dtype: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns: dict[str, tuple[str, ...]] = {
        "total": ("total",),
        "tables": ("embedding", "positions", "output_head"),
        "attention": ("attention_qkv", "attention_output"),
        "cross": ("cross_attention",),
        "ffn": ("feed_forward",),
        "norms": ("norms",),
    }
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("variant", overflow="fold")
    for name in (*columns, "FLOP/tok", "KV B/tok"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        sums = [_short(sum(row["params"][part] for part in parts)) for parts in columns.values()]
        table.add_row(
            Text(row["variant"]), *sums, _short(row["model_flops_per_token"]), _short(row["kv_bytes_per_token"])
        )
    console = Console()
    console.print(table)
    notes = (
        f"Parameters; tables: embeddings, positions and output. FLOP/tok: a training step at length {length}, model "
        f"convention, per token (encoder-decoder: of source and target). KV B/tok: cache in {dtype} per decoded token."
    )
    console.print(Text(notes))


def _short(value: float) -> str:
    """Four significant digits and a letter: 63.08M."""
    for scale, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.4g}{letter}"
    return f"{value:.4g}"
