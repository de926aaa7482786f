"""`t2bench list`: what there is to choose from."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from t2bench.cli import common

Row = dict[str, Any]

BACKENDS: dict[str, str] = {
    "math": "our own softmax(QK^T / sqrt(K)) V in plain operations; every device, dtype, mask and score",
    "sdpa": "PyTorch's scaled_dot_product_attention left to choose its kernel; records say which one ran",
    "sdpa_math": "PyTorch's scaled_dot_product_attention held to its math back end; every device and dtype",
    "sdpa_flash": "PyTorch's flash kernel; CPU without dropout, CUDA in bf16 and fp16 with heads up to 256",
    "sdpa_efficient": "PyTorch's memory-efficient kernel; CUDA only",
    "sdpa_cudnn": "cuDNN's fused kernel through PyTorch; CUDA in bf16 and fp16 only",
    "flex": "PyTorch's FlexAttention, compiled for the mask and the scores; CPU for inference only",
    "varlen": "torch.nn.attention.varlen: flash attention on packed sequences; CUDA in bf16 and fp16 only",
    "fa2": "the flash-attn package, version 2, where installed; CUDA in bf16 and fp16 only",
    "fa3": "the flash-attn-3 package, where installed; Hopper in bf16 and fp16 only",
    "fa4": "the flash-attn-4 package, where installed; Hopper and Blackwell in bf16 and fp16 only",
}
WORKLOADS: dict[str, str] = {
    "attention": "the attention operator alone on random q, k, v; causal and backward are its options",
    "forward": "inference on a batch of real text, without autograd; ragged is its option",
    "train_step": "forward, loss, backward and the optimizer's step; ragged is its option",
    "prefill": "reading a prompt, up to the first new token",
    "decode": "reading a prompt and generating new_tokens after it, the likeliest each, whatever they are",
    "translate": "training on sentence pairs by the suite's quality:, judged on the first test set",
    "extrapolate": "the same on short sentences, judged on the longest ones",
    "recall": "the same on strings to copy, to reverse or to find something in, judged on the farthest",
}
METRICS: dict[str, tuple[str, str]] = {
    "step_time_s": ("s", "one step of the workload, from first to last operation"),
    "forward_time_s": ("s", "the forward part of a step"),
    "loss_time_s": ("s", "the loss of a training step"),
    "backward_time_s": ("s", "the backward pass of a step"),
    "optimizer_time_s": ("s", "the optimizer's part of a step"),
    "ttft_s": ("s", "time to the first new token (prefill, decode)"),
    "tpot_s": ("s", "time of each new token after the first, averaged (decode)"),
    "tokens_per_s": ("tokens/s", "tokens of a step (source and target) over its time"),
    "model_flops": ("flops", "what the algorithm asks for: causal attention not halved, backward 2 x forward"),
    "executed_flops": ("flops", "what the kernels do, recomputation included"),
    "num_params": ("1", "trainable parameters"),
    "saved_for_backward_bytes": ("bytes", "tensors that autograd keeps between forward and backward"),
    "tracked_peak_bytes": ("bytes", "largest sum of live tensors during a step"),
    "bytes_touched": ("bytes", "inputs and outputs of every operation, an upper bound of traffic"),
    "kv_cache_bytes": ("bytes", "what decoding keeps of the tokens before, when it ends"),
    "process_peak_bytes": ("bytes", "resident memory above the level before the model was built (CPU)"),
    "peak_allocated_bytes": ("bytes", "largest amount that tensors occupied (CUDA)"),
    "peak_reserved_bytes": ("bytes", "largest amount that the allocator held (CUDA)"),
    "bleu": ("BLEU", "sacreBLEU, cased, of the verdict's test set and decoding (learning)"),
    "chrf": ("chrF", "the same in character n-grams"),
    "chrfpp": ("chrF++", "the same in character and word n-grams"),
    "ter": ("TER", "edits for each reference word, in percent; less is better"),
    "exact_match": ("1", "share of outputs that equal their reference"),
    "brevity_penalty": ("1", "of BLEU, for outputs that are too short; 1 for none"),
    "length_ratio": ("1", "tokens of the outputs over those of the references"),
    "empty_outputs": ("1", "outputs without a word"),
    "cut_outputs": ("1", "outputs that ran into the length limit"),
    "val_bleu": ("BLEU", "of the last validation, by greedy decoding"),
    "val_loss": ("nats", "of the last validation, for each target token, without label smoothing"),
    "train_time_s": ("s", "all updates of a training, evaluation not included"),
    "train_cpu_s": ("s", "the same in seconds of processors"),
    "train_tokens": ("tokens", "source and target tokens trained on, padding not included"),
    "train_tokens_per_s": ("tokens/s", "train_tokens over train_time_s"),
    "train_tokens_per_cpu_s": ("tokens/s", "train_tokens over train_cpu_s"),
    "decode_sentences_per_s": ("sentences/s", "sentences of that test set over the time of translating them"),
    "time_to_quality_s": ("s", "training up to the first validation at recipe.target; no value: never reached"),
    "cpu_time_to_quality_s": ("s", "the same in seconds of processors"),
    "tokens_to_quality": ("tokens", "the same in tokens"),
    "energy_to_quality_j": ("J", "the same in energy, where the driver counts it (CUDA)"),
    "peak_learning_rate": ("1", "highest learning rate that the recipe reaches"),
}


def _variants() -> list[Row]:
    from t2bench.spec.presets import preset_groups, recipe

    found = []
    for group, names in preset_groups().items():
        for name in names:
            entry = recipe(name)
            changes = {**entry.set, **{key: f"x {share}" for key, share in entry.scale.items()}}
            row = {"name": name, "base": entry.base, "set": changes, "summary": entry.summary, "source": entry.source}
            found.append({**row, "group": group})
    return found


def _suites() -> list[Row]:
    from t2bench.spec.layers import find_suite
    from t2bench.spec.loader import load_suite, suite_names

    found = []
    for name in suite_names():
        suite = load_suite(name, device="cpu")
        found.append({"name": name, "summary": suite.summary, "path": str(find_suite(name))})
    return found


def _axes() -> list[Row]:
    from dataclasses import fields

    from t2bench.spec.axes import NESTED
    from t2bench.spec.model import AXIS_KINDS, ModelSpec
    from t2bench.spec.schema import attribute_docs, values_of

    rows = []
    holders: tuple[tuple[type, str, Any], ...] = (
        (ModelSpec, "", ModelSpec()),
        *((cls, f"{name}.", cls()) for name, cls in NESTED.items()),
    )
    for cls, prefix, default in holders:
        docs = attribute_docs(cls)
        for axis in fields(cls):
            name = f"{prefix}{axis.name}"
            row = {"name": name, "kind": AXIS_KINDS[name.partition(".")[0]], "default": getattr(default, axis.name)}
            if name not in NESTED:
                rows.append({**row, "values": values_of(cls, axis.name), "summary": docs[axis.name]})
    return rows


def _described(table: dict[str, str]) -> Callable[[], list[Row]]:
    return lambda: [{"name": name, "summary": text} for name, text in table.items()]


def _metrics() -> list[Row]:
    return [{"name": name, "unit": unit, "summary": text} for name, (unit, text) in METRICS.items()]


LISTS: dict[str, tuple[Callable[[], list[Row]], tuple[str, ...]]] = {
    "variants": (_variants, ("name", "base", "summary")),
    "suites": (_suites, ("name", "summary")),
    "axes": (_axes, ("name", "kind", "default", "values")),
    "backends": (_described(BACKENDS), ("name", "summary")),
    "workloads": (_described(WORKLOADS), ("name", "summary")),
    "metrics": (_metrics, ("name", "unit", "summary")),
}


@click.command("list")
@click.argument("what", type=click.Choice(list(LISTS)), default="variants")
@click.option("--long", "as_long", is_flag=True, help="Variants with base and summary, one after another.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable result on stdout, with every detail.")
def command(what: str, as_long: bool, as_json: bool) -> None:
    """List variants, suites, axes, back ends, workloads or metrics."""
    rows_of, columns = LISTS[what]
    rows = rows_of()
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    from rich.console import Console
    from rich.text import Text

    from t2bench.spec.presets import GROUPS

    if what == "variants" and not as_long:
        _names(rows)
        return
    console = Console()
    for place, group in enumerate(dict.fromkeys(row.get("group", "") for row in rows)):
        if group:
            console.print(Text(f"# {group}: {GROUPS.get(group, '')}", style="bold"))
        table = _table([row for row in rows if row.get("group", "") == group], rows, columns)
        table.show_header = place == 0
        console.print(table)


def _names(rows: list[Row]) -> None:
    """The names of all variants by group: the overview, in a screen."""
    from t2bench.spec.presets import GROUPS

    for group in dict.fromkeys(row["group"] for row in rows):
        click.echo(f"{group}: {GROUPS[group]}")
        names = ", ".join(row["name"] for row in rows if row["group"] == group)
        click.echo(click.wrap_text(names, 78, initial_indent="  ", subsequent_indent="  "))
    click.echo("\nOne in full: t2bench show NAME. All with base and summary: t2bench list --long.")


def _table(shown: list[Row], rows: list[Row], columns: tuple[str, ...]) -> Any:
    """A table of some rows, as wide as one of all rows would be."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        fixed = column in ("name", "base")
        width = max(len(column), *(len(common.cell(row[column])) for row in rows)) if fixed else None
        table.add_column(column, no_wrap=fixed, overflow="fold", width=width)
    for row in shown:
        table.add_row(*(Text(common.cell(row[column])) for column in columns))
    return table
