"""Refusals: each rule where it begins and ends, and the CPU rules against what torch does."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from t2bench.spec.axes import PositionSpec
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.refusals import RULES, refusal

TRAIN, FORWARD = WorkloadSpec(kind="train_step"), WorkloadSpec(kind="forward")
OPERATOR = WorkloadSpec(kind="attention", backward=True)
LEARNED = ModelSpec(position=PositionSpec(kind="learned", max_len=64))
FLASH = ModelSpec(attention="sdpa_flash")
DROPS = replace(FLASH, attention_dropout=0.1)
VAST = ModelSpec(width=1 << 24, heads=1 << 10, dec_layers=1)
WIDE = ModelSpec(width=512, heads=1, attention="sdpa_flash")
TORCH_NAMES = {
    "sdpa_flash": SDPBackend.FLASH_ATTENTION,
    "sdpa_efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa_cudnn": SDPBackend.CUDNN_ATTENTION,
    "sdpa_math": SDPBackend.MATH,
}


def case(model: ModelSpec, **changes: Any) -> Case:
    point = {"workload": TRAIN, "length": 64, "batch": 1, "dtype": "fp32", "device": "cpu"}
    return Case(variant="x", model=model, **{**point, **changes})


@pytest.mark.parametrize(
    ("refused", "allowed", "words"),
    [
        (case(VAST, length=1 << 24), case(VAST, length=1 << 20), "its attention scores would have 3e+17 numbers"),
        (case(VAST, length=1, batch=1 << 40), case(VAST, length=1, batch=1 << 20), "its queries would have 2e+19"),
        (case(LEARNED, length=65), case(LEARNED, length=64), "learned positions end at max_len 64"),
        (case(LEARNED, length=65), case(LEARNED, length=65, workload=OPERATOR), "raise position.max_len"),
        (case(DROPS), case(FLASH), "it would silently run math"),
        (case(DROPS), case(DROPS, workload=FORWARD), "set attention_dropout: 0.0"),
        (case(DROPS), case(DROPS, device="cuda", dtype="bf16"), "attention: math"),
        (
            case(ModelSpec(attention="sdpa_efficient")),
            case(ModelSpec(attention="sdpa_efficient"), device="cuda"),
            "CPUs",
        ),
        (
            case(ModelSpec(attention="sdpa_cudnn")),
            case(ModelSpec(attention="sdpa_cudnn"), device="cuda", dtype="bf16"),
            "no cuDNN attention kernel for CPUs",
        ),
        (case(FLASH, device="cuda"), case(FLASH, device="cuda", dtype="bf16"), "bf16 and fp16 only"),
        (
            case(ModelSpec(attention="sdpa_cudnn"), device="cuda"),
            case(ModelSpec(attention="sdpa_cudnn"), device="cuda", dtype="fp16"),
            "bf16 and fp16 only",
        ),
        (case(WIDE, device="cuda", dtype="bf16"), case(WIDE), "at most 256 features on CUDA, these have 512"),
        (
            case(WIDE, device="cuda", dtype="bf16"),
            case(replace(WIDE, heads=2), device="cuda", dtype="bf16"),
            "more heads",
        ),
    ],
)
def test_each_rule_begins_and_ends_where_it_should(refused: Case, allowed: Case, words: str) -> None:
    assert words in (refusal(refused) or "")
    assert refusal(allowed) is None


def test_every_rule_is_needed() -> None:
    refused = [case(VAST, length=1 << 24), case(LEARNED, length=65)]
    firing = [[rule for rule in RULES if rule(each)] for each in refused]
    assert [rules[0] for rules in firing] == list(RULES)
    assert all(len(rules) == 1 for rules in firing)


def torch_runs(each: Case) -> bool:
    """Whether torch, held to the case's back end, computes attention and its gradient on this CPU."""
    spec = each.model
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[each.dtype]
    q_BHTK = torch.randn(1, spec.heads, 8, spec.dim_per_head, dtype=dtype, requires_grad=True)
    kv_BGSK = torch.randn(1, spec.num_kv_heads, 8, spec.dim_per_head, dtype=dtype)
    try:
        with sdpa_kernel([TORCH_NAMES[spec.attention]]):
            o_BHTK = torch.nn.functional.scaled_dot_product_attention(
                q_BHTK, kv_BGSK, kv_BGSK, dropout_p=spec.attention_dropout, is_causal=True, enable_gqa=True
            )
        o_BHTK.sum().backward()
    except RuntimeError:
        return False
    return True


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("shape", [{}, {"kv_heads": 2}, {"heads": 1}], ids=str)
@pytest.mark.parametrize("backend", list(TORCH_NAMES))
def test_cpu_refusals_are_exactly_what_torch_cannot_do(
    backend: str, shape: dict[str, int], dropout: float, dtype: str
) -> None:
    spec = replace(ModelSpec(attention=backend, attention_dropout=dropout), **shape)
    each = case(spec, dtype=dtype)
    assert (refusal(each) is None) == torch_runs(each)


def test_torch_left_to_itself_leaves_flash_for_dropout_without_a_word() -> None:
    x_BHTK = torch.randn(1, 2, 8, 16, requires_grad=True)
    kernels = {}
    for dropout in (0.0, 0.1):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            o_BHTK = torch.nn.functional.scaled_dot_product_attention(x_BHTK, x_BHTK, x_BHTK, dropout_p=dropout)
        assert o_BHTK.grad_fn is not None
        kernels[dropout] = o_BHTK.grad_fn.name()
    assert "FlashAttention" in kernels[0.0]
    assert "FlashAttention" not in kernels[0.1]
