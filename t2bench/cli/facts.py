"""What a variant costs, by arithmetic alone: shared by `params` (many variants) and `show` (one, in full)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t2bench.spec.suite import Variant

# Column -> the components it sums.
COMPONENTS: dict[str, tuple[str, ...]] = {
    "tables": ("embedding", "positions", "output_head"),
    "attention": ("attention_qkv", "attention_output"),
    "cross": ("cross_attention",),
    "cells": ("recurrent",),
    "ffn": ("feed_forward",),
    "norms": ("norms",),
}


def facts(variant: Variant, *, length: int, batch: int, dtype: str) -> dict[str, Any]:
    """Parameters by component, FLOPs and cache bytes per token, as plain data.

    Args:
        variant: one of ours: a user's own module has no formulas.
        length: tokens per text.
        batch: texts.
        dtype: of the cache.
    """
    from t2bench.spec.case import WorkloadSpec
    from t2bench.spec.cost import kv_bytes, model_flops, num_params

    spec = variant.model
    count = num_params(spec)
    tokens = batch * length * (2 if spec.arch == "encdec" else 1)

    def flops_per_token(kind: Any) -> float:
        return model_flops(spec, WorkloadSpec(kind=kind), batch, length) / tokens

    return {
        "variant": variant.name,
        "params": {**asdict(count), "total": count.total},
        "length": length,
        "batch": batch,
        "model_flops_per_token": flops_per_token("train_step"),
        "forward_flops_per_token": flops_per_token("forward"),
        "kv_bytes_per_token": kv_bytes(spec, 2, dtype) - kv_bytes(spec, 1, dtype),
        "kv_bytes": kv_bytes(spec, length, dtype),
        "dtype": dtype,
        "model": spec.to_dict(),
    }


def short(value: float) -> str:
    """Four significant digits and a letter: 63.08M."""
    for scale, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.4g}{letter}"
    return f"{value:.4g}"
