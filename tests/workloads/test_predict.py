"""Predictions against the real step, byte for byte, and against the cost model."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from t2bench.meters.counters import Counts, count
from t2bench.models.stack import Stack
from t2bench.spec import cost
from t2bench.spec.case import Case
from t2bench.spec.presets import LADDER, preset, preset_names
from t2bench.workloads.attention import Attention
from t2bench.workloads.predict import estimate_time_s, predict
from t2bench.workloads.registry import Workload, build

CPU = torch.device("cpu")
Make = Callable[..., Case]
# What oneDNN keeps of an LSTM is estimated, and tested with the recurrent models.
# Quantized weights do not train. Rows of table 3 differ from each other in sizes, which are the same here.
ON_CPU = tuple(
    name
    for name in preset_names()
    if name not in ("vanilla+efficient", "vanilla+cudnn")
    and preset(name).model.recurrence != "lstm"
    and preset(name).model.quant == "none"
    and (not name.startswith("table3-") or name == "table3-base")
)


def real(case: Case, tokens: Path) -> Counts:
    """Counts of the first real step, which must equal those of the second.

    Both begin with all that the model holds, so that a table which the first step makes is not missed by the second.
    """
    workload = build(case, device=CPU, tokens=tokens)
    tables = position_tables(workload)
    first, second = (count(lambda: workload.step(lambda _: None), held=workload.held) for _ in range(2))
    assert first == second
    assert position_tables(workload) == tables
    if not case.model.memory:  # filling the memory took other tables, which no step reads
        assert tables <= {tensor.untyped_storage()._cdata for tensor in workload.held}
    assert first.uncounted == ()
    return first


def position_tables(workload: Workload) -> set[int]:
    """Storages of the tables that the model has made so far."""
    if isinstance(workload, Attention):
        return set()
    model = workload._model  # type: ignore[attr-defined]
    stacks = [stack for stack in (model.encoder, model.decoder) if isinstance(stack, Stack)]
    made = [table for stack in stacks for tables in stack.tables._tables.values() for table in tables]
    made += [table for stack in stacks if stack.bias is not None for table in stack.bias.kept]
    return {table.untyped_storage()._cdata for table in made}


def assert_predicted(case: Case, tokens: Path) -> None:
    found, values = real(case, tokens), {name: metric.value for name, metric in predict(case).items()}
    assert values["executed_flops"] == found.executed_flops
    assert values["saved_for_backward_bytes"] == found.saved_bytes
    assert values["tracked_peak_bytes"] == found.peak_bytes
    assert values["bytes_touched"] == found.bytes_touched
    assert values["executed_flops"] == cost.executed_flops(case.model, case.workload, case.batch, case.length)


@pytest.mark.parametrize("name", ON_CPU)
def test_training_is_predicted_to_the_byte(make_case: Make, tokens: Path, name: str) -> None:
    assert_predicted(make_case(name), tokens)


@pytest.mark.parametrize("name", ["vanilla", "modern", "bert"])
@pytest.mark.parametrize("kind", ["forward", "attention"])
def test_so_is_the_rest(make_case: Make, tokens: Path, name: str, kind: str) -> None:
    assert_predicted(make_case(name, kind=kind, dtype="bf16", causal=True, backward=True), tokens)


def test_the_math_back_end_executes_the_model_flops(make_case: Make, tokens: Path) -> None:
    case = make_case("vanilla")
    assert real(case, tokens).executed_flops == cost.model_flops(case.model, case.workload, case.batch, case.length)


def test_recomputed_logits_are_counted(make_case: Make, tokens: Path) -> None:
    """More positions than one chunk: every chunk's logits twice, and never all of them at once."""
    dense, chunked = (real(make_case("gpt2", length=100, batch=16, loss=loss), tokens) for loss in ("dense", "chunked"))
    width, vocab = 32, make_case("gpt2").model.padded_vocab
    assert chunked.executed_flops - dense.executed_flops == 2 * 1600 * width * vocab
    assert dense.saved_bytes - chunked.saved_bytes >= 4 * 1600 * (vocab - 2)  # it keeps one normaliser a position
    assert dense.peak_bytes - chunked.peak_bytes >= 4 * 1000 * vocab


def quadratic(values: dict[int, int]) -> tuple[Fraction, Fraction, Fraction] | None:
    """Exact c0, c1, c2 through the first three points if the others lie on it too."""
    (x0, y0), (x1, y1), (x2, y2), *rest = [(Fraction(x), Fraction(y)) for x, y in values.items()]
    d1, d2 = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    c2 = (d2 - d1) / (x2 - x0)
    c1 = d1 - c2 * (x0 + x1)
    c0 = y0 - c1 * x0 - c2 * x0 * x0
    return (c0, c1, c2) if all(c0 + c1 * x + c2 * x * x == y for x, y in rest) else None


@pytest.mark.parametrize(("name", "is_square"), [("vanilla", True), ("vanilla+flash", False), ("transformer2", False)])
def test_what_one_sequence_keeps_grows_with_an_exact_law(make_case: Make, name: str, is_square: bool) -> None:
    lengths = (64, 128, 256, 512, 1024)
    values = {n: int(predict(make_case(name, length=n, batch=1))["sequence_saved_bytes"].value or 0) for n in lengths}
    law = quadratic(values)
    assert law is not None
    assert (law[2] != 0) is is_square
    assert law[1] > 0
    if is_square:  # softmax weights in fp32: 2 encoder, 2 decoder, 2 cross; and the decoders' masks of one byte
        assert law[2] >= 6 * 4 * 4


def test_a_sequence_is_the_case_at_batch_one(make_case: Make) -> None:
    alone, many = predict(make_case("modern", batch=1)), predict(make_case("modern", batch=3))
    for name, counted in (
        ("sequence_flops", "executed_flops"),
        ("sequence_saved_bytes", "saved_for_backward_bytes"),
        ("sequence_peak_bytes", "tracked_peak_bytes"),
    ):
        assert many[name] == alone[name] == alone[counted]


@pytest.mark.parametrize("name", ["vanilla+efficient", "vanilla+cudnn"])
def test_cuda_only_back_ends_are_predicted_as_flash(make_case: Make, name: str) -> None:
    case = replace(make_case(name, dtype="bf16"), device="cuda")
    assert predict(case) == predict(make_case("vanilla+flash", dtype="bf16"))


def test_dropout_does_not_stop_a_prediction(make_case: Make) -> None:
    case = replace(make_case("vanilla+flash", dropout=0.1, attention_dropout=0.1), device="cuda")
    assert predict(case)["tracked_peak_bytes"].value


def test_long_contexts_are_predicted_without_memory(make_case: Make) -> None:
    resource = pytest.importorskip("resource")
    case = replace(
        make_case("vanilla", length=131072, batch=1, dtype="bf16", heads=8, enc_layers=1, dec_layers=1), device="cuda"
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = predict(case)["tracked_peak_bytes"].value
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert peak is not None
    assert peak > 3 * 8 * 131072**2 * 2  # the scores of three attentions in bf16: 0.8 TB
    assert grown < 1 << 30


def test_metrics_are_complete(make_case: Make) -> None:
    metrics = predict(make_case("modern"))
    assert {name: metric.unit for name, metric in metrics.items()} == {
        "model_flops": "flops",
        "executed_flops": "flops",
        "saved_for_backward_bytes": "bytes",
        "tracked_peak_bytes": "bytes",
        "bytes_touched": "bytes",
        "num_params": "1",
        "sequence_flops": "flops",
        "sequence_saved_bytes": "bytes",
        "sequence_peak_bytes": "bytes",
    }


def test_the_time_estimate_is_the_slower_of_the_two_limits() -> None:
    ceilings = {"flops_per_s": 100.0, "bytes_per_s": 10.0}
    assert estimate_time_s(1000, 10, ceilings) == 10.0
    assert estimate_time_s(1000, 500, ceilings) == 50.0


def test_the_ladder_is_covered() -> None:
    assert set(LADDER) <= set(ON_CPU)
