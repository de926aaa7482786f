"""Oracles that are the papers' equations: what no library has, or none in this combination."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from t2bench.parity import equations
from t2bench.parity.changes import SIZES, axes, pattern, position
from t2bench.parity.oracle import Oracle
from t2bench.spec.axes import PatternSpec, PositionSpec
from t2bench.spec.model import ModelSpec


def equation_oracles() -> list[Oracle]:
    """Each with the break that it must notice."""
    encdec = ModelSpec(**SIZES)
    encoder = ModelSpec(arch="encoder", **SIZES)
    decoder = ModelSpec(arch="decoder", **SIZES, norm_place="pre", final_norm=True, activation="gelu")
    shaw, txl = PositionSpec(kind="shaw", max_distance=3), PositionSpec(kind="txl")
    rope, alibi, none = PositionSpec(kind="rope"), PositionSpec(kind="alibi"), PositionSpec(kind="none")
    t5 = PositionSpec(kind="t5_bias", buckets=8, max_distance=12)
    window = PatternSpec(kind="window", window=3)
    cases: dict[str, tuple[ModelSpec, Callable[[ModelSpec], ModelSpec]]] = {
        "Shaw": (replace(encdec, position=shaw), position(max_distance=2)),
        "Shaw, decoder with grouped heads": (replace(decoder, position=shaw, kv_heads=2), position(max_distance=2)),
        "additive": (replace(encdec, score="additive"), axes(score="dot")),
        "additive, ALiBi": (replace(decoder, score="additive", position=alibi), position(kind="none")),
        "unscaled": (replace(encdec, score="dot"), axes(score="scaled_dot")),
        "squared ReLU": (replace(decoder, activation="relu2", gated=True), axes(activation="relu")),
        "no residual": (replace(encdec, residual="none"), axes(residual="serial")),
        "parallel encoder": (replace(encoder, norm_place="pre", residual="parallel"), axes(residual="serial")),
        "sandwich encdec": (replace(encdec, norm_place="sandwich"), axes(norm_place="pre")),
        "inner encdec": (
            replace(encdec, norm_place="inner", tie="decoder", embed_scale=False), axes(norm_place="post"),
        ),
        "ntk rope": (
            replace(decoder, position=replace(rope, scaling="ntk", scaling_factor=4.0)), position(scaling="linear"),
        ),
        "ALiBi encoder": (replace(encoder, position=alibi), position(kind="none")),
        "ALiBi with softcap": (replace(decoder, position=alibi, attention_softcap=2.0), axes(attention_softcap=None)),
        "T5 with softcap": (replace(encdec, position=t5, attention_softcap=2.0), axes(attention_softcap=None)),
        "Transformer-XL, grouped heads": (
            replace(decoder, position=txl, kv_heads=2, memory=5, qk_norm=True), axes(memory=4),
        ),
        "rope with memory": (replace(decoder, position=rope, memory=5), axes(memory=6)),
        "T5 bias with memory": (replace(decoder, position=t5, memory=5), axes(memory=6)),
        "Shaw with memory": (replace(decoder, position=shaw, memory=5), axes(memory=6)),
        "window encoder": (replace(encoder, pattern=window), pattern(window=4)),
        "window encdec": (replace(encdec, pattern=window), pattern(window=2)),
        "global and window": (replace(decoder, pattern=replace(window, global_tokens=2)), pattern(global_tokens=1)),
        "global and window encoder": (
            replace(encoder, pattern=replace(window, global_tokens=2)), pattern(global_tokens=1),
        ),
        "window in every other layer": (
            replace(decoder, pattern=replace(window, layers="SL")), pattern(layers="LS"),
        ),
        "prefix": (replace(decoder, pattern=PatternSpec(kind="prefix")), pattern(kind="window", window=99)),
        "prefix, T5 bias": (replace(decoder, position=t5, pattern=PatternSpec(kind="prefix")), position(buckets=10)),
        "prefix, Shaw": (replace(decoder, position=shaw, pattern=PatternSpec(kind="prefix")), position(max_distance=2)),
        "documents": (replace(decoder, pattern=PatternSpec(kind="document")), pattern(kind="window", window=99)),
        "documents encoder": (
            replace(encoder, position=rope, pattern=PatternSpec(kind="document")), pattern(kind="window", window=99),
        ),
        "no positions": (replace(encoder, position=none), position(kind="sinusoidal")),
        "RMS norm, grouped heads, query and key norm": (
            replace(encdec, position=rope, norm="rms", norm_place="pre", final_norm=True, kv_heads=1, qk_norm=True,
                    activation="silu", gated=True, bias=False, tie="none"), axes(qk_norm=False),
        ),
    }  # fmt: skip
    return [
        Oracle(name=f"equations: {name}", library="", spec=spec, make=equations.transformer, control=control)
        for name, (spec, control) in cases.items()
    ]
