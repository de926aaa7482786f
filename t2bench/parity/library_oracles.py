"""Oracles that are models of other libraries."""

from __future__ import annotations

from dataclasses import replace

from t2bench.parity import decoders, encdecs, encoders, xtransformers
from t2bench.parity import xlnet as xlnets
from t2bench.parity.changes import SIZES, axes, pattern, position
from t2bench.parity.oracle import Oracle
from t2bench.parity.subject import MAX_LEN
from t2bench.spec.axes import PatternSpec, PositionSpec
from t2bench.spec.model import ModelSpec

_ENCDEC = ModelSpec(**SIZES, position=PositionSpec(kind="none"), embed_scale=False, final_norm=True)
_LLAMA = ModelSpec(
    arch="decoder", **SIZES, kv_heads=2, norm="rms", norm_place="pre", final_norm=True, bias=False, tie="none",
    embed_scale=False, gated=True, activation="silu", norm_eps=1e-6,
    position=PositionSpec(kind="rope", layout="halves"),
)  # fmt: skip
_LLAMA_FREE = ("norm_eps", "kv_heads", "tie", "position.theta")
_ENCODER = ModelSpec(arch="encoder", **SIZES, activation="gelu", embed_norm=True, embed_scale=False, norm_eps=1e-12)
_LEARNED = PositionSpec(kind="learned", max_len=MAX_LEN)


def library_oracles() -> list[Oracle]:
    """All of them, the plainest first."""
    return [
        *_torch_transformers(),
        Oracle(
            name="MarianMT",
            library="transformers",
            spec=ModelSpec(**SIZES, position=PositionSpec(layout="halves")),
            make=encdecs.marian,
            control=position(layout="interleaved"),
            free=("activation",),
        ),
        Oracle(
            name="MarianMT, interleaved",
            library="transformers",
            spec=ModelSpec(**SIZES),
            make=encdecs.marian,
            control=position(layout="halves"),
            free=("activation",),
        ),
        Oracle(
            name="Llama",
            library="transformers",
            spec=_LLAMA,
            make=decoders.llama,
            control=position(layout="interleaved"),
            free=_LLAMA_FREE,
        ),
        Oracle(
            name="Qwen3",
            library="transformers",
            spec=replace(position(theta=1e6)(_LLAMA), qk_norm=True, head_dim=12),
            make=decoders.qwen3,
            control=axes(qk_norm=False),
            free=_LLAMA_FREE,
        ),
        Oracle(
            name="GPT-2",
            library="transformers",
            spec=ModelSpec(
                arch="decoder", **SIZES, position=_LEARNED, activation="gelu_tanh", norm_place="pre",
                final_norm=True, embed_scale=False,
            ),
            make=decoders.gpt2,
            control=axes(activation="gelu"),
            free=("norm_eps",),
        ),
        Oracle(
            name="BERT",
            library="transformers",
            spec=replace(_ENCODER, position=_LEARNED),
            make=encoders.bert,
            control=axes(activation="gelu_tanh"),
            free=("norm_eps",),
        ),
        Oracle(
            name="RoFormer",
            library="transformers",
            spec=replace(_ENCODER, position=PositionSpec(kind="rope")),
            make=encoders.roformer,
            control=position(layout="halves"),
            free=("norm_eps",),
        ),
        *_decoders(),
        *_relative(),
        *_x_transformers(),
    ]  # fmt: skip


def _torch_transformers() -> list[Oracle]:
    found = []
    for place in ("post", "pre"):
        for activation, other in (("relu", "gelu"), ("gelu", "gelu_tanh")):
            found.append(
                Oracle(
                    name=f"nn.Transformer {place} {activation}",
                    library="torch",
                    spec=axes(norm_place=place, activation=activation)(_ENCDEC),
                    make=encdecs.nn_transformer,
                    control=axes(activation=other),
                    free=("norm_eps",),
                )
            )
    return found


def _decoders() -> list[Oracle]:
    """Descendants of GPT and Llama."""
    scaled = {
        "linear": {"scaling_factor": 4.0},
        "yarn": {"scaling_factor": 4.0, "original_len": 32, "theta": 100.0},
        "llama3": {"scaling_factor": 8.0, "original_len": 16},
    }
    return [
        *(
            Oracle(
                name=f"Llama, {kind} rope",
                library="transformers",
                spec=position(scaling=kind, **fields)(_LLAMA),
                make=decoders.llama,
                control=position(scaling="none"),
                free=(*_LLAMA_FREE, "position.scaling_factor", "position.original_len"),
            )
            for kind, fields in scaled.items()
        ),
        Oracle(
            name="Mistral",
            library="transformers",
            spec=replace(_LLAMA, pattern=PatternSpec(kind="window", window=4)),
            make=decoders.mistral,
            control=pattern(window=5),
            free=_LLAMA_FREE,
        ),
        Oracle(
            name="OLMo 2",
            library="transformers",
            spec=replace(_LLAMA, norm_place="inner", qk_norm=True, qk_norm_span="width"),
            make=decoders.olmo2,
            control=axes(norm_place="sandwich"),
            free=_LLAMA_FREE,
        ),
        Oracle(
            name="Gemma 2",
            library="transformers",
            spec=replace(
                _LLAMA, norm_place="sandwich", activation="gelu_tanh", embed_scale=True, tie="all",
                attention_softcap=3.0, logit_softcap=5.0, pattern=PatternSpec(kind="window", window=4, layers="SL"),
            ),
            make=decoders.gemma2,
            control=axes(attention_softcap=None),
            free=(*_LLAMA_FREE, "attention_softcap", "logit_softcap"),
        ),
        *(
            Oracle(
                name=f"GPT-NeoX, {fraction:.0%} rotary",
                library="transformers",
                spec=ModelSpec(
                    arch="decoder", **{**SIZES, "heads": heads},
                    position=PositionSpec(kind="rope", layout="halves", fraction=fraction),
                    activation="gelu", norm_place="pre", final_norm=True, embed_scale=False, residual="parallel",
                    tie="none",
                ),
                make=decoders.gpt_neox,
                control=axes(residual="serial"),
                free=("norm_eps", "position.theta"),
            )
            for fraction, heads in ((0.25, 2), (0.5, 4))
        ),
    ]  # fmt: skip


def _relative() -> list[Oracle]:
    """Positions inside the scores."""
    t5 = ModelSpec(
        **SIZES, position=PositionSpec(kind="t5_bias", buckets=8, max_distance=12), norm="rms", norm_place="pre",
        final_norm=True, bias=False, embed_scale=False, head_scale=True, score="dot", norm_eps=1e-6,
    )  # fmt: skip
    bloom = ModelSpec(
        arch="decoder", **{**SIZES, "ff": 4 * SIZES["width"]}, position=PositionSpec(kind="alibi"), embed_norm=True,
        activation="gelu_tanh", norm_place="pre", final_norm=True, embed_scale=False,
    )  # fmt: skip
    xlnet = ModelSpec(
        arch="decoder", **SIZES, position=PositionSpec(kind="txl", layout="halves"), activation="gelu",
        embed_scale=False, norm_eps=1e-12,
    )  # fmt: skip
    free_t5 = ("norm_eps", "position.buckets", "position.max_distance")
    return [
        Oracle(
            name="T5 v1.0",
            library="transformers",
            spec=t5,
            make=encdecs.t5,
            control=axes(score="scaled_dot"),
            free=free_t5,
        ),
        Oracle(
            name="T5 v1.1",
            library="transformers",
            spec=replace(t5, activation="gelu_tanh", gated=True, tie="source", head_scale=False),
            make=encdecs.t5,
            control=position(buckets=9),
            free=free_t5,
        ),
        *(
            Oracle(
                name=f"BLOOM, {heads} heads",
                library="transformers",
                spec=replace(bloom, heads=heads, width=width, ff=4 * width),
                make=decoders.bloom,
                control=position(kind="none"),
                free=("norm_eps", "ff"),
            )
            for heads, width in ((4, 32), (6, 24))
        ),
        *(
            Oracle(
                name=name,
                library="transformers",
                spec=replace(xlnet, memory=memory),
                make=xlnets.xlnet,
                control=axes(position=PositionSpec(kind="none")),
                free=("norm_eps", "activation"),
            )
            for name, memory in (("XLNet", 0), ("XLNet, memory of 7", 7))
        ),
    ]


def _x_transformers() -> list[Oracle]:
    """The two positions of x-transformers that are ours too, with its plain and its fused attention."""
    spec = ModelSpec(
        arch="decoder", **SIZES, activation="gelu", norm_place="pre", final_norm=True, embed_scale=False, tie="none"
    )
    positions = {"rotary": PositionSpec(kind="rope"), "ALiBi": PositionSpec(kind="alibi")}
    return [
        Oracle(
            name=f"x-transformers, {name}{', flash' if make is xtransformers.flash else ''}",
            library="x_transformers",
            spec=replace(spec, position=which),
            make=make,
            control=position(kind="none"),
        )
        for name, which in positions.items()
        for make in (xtransformers.plain, xtransformers.flash)
    ]
