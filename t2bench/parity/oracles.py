"""The registry of oracles, and which of them can vouch for a given spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from t2bench.parity import decoders, encdecs, encoders, equations
from t2bench.parity import xlnet as xlnets
from t2bench.parity.oracle import Oracle
from t2bench.parity.recurrent import recurrent
from t2bench.parity.subject import MAX_LEN, share_of_heads, within_reach
from t2bench.parity.weights import VOCAB
from t2bench.spec.axes import PatternSpec, PositionSpec
from t2bench.spec.model import IMPLEMENTATION_AXES, ModelSpec
from t2bench.spec.presets import preset

SIZES: dict[str, Any] = {"width": 32, "heads": 4, "ff": 48, "enc_layers": 2, "dec_layers": 2, "vocab": VOCAB}
EQUATIONS = "the papers' equations"
# Fields that change no function at the size of an oracle.
NEUTRAL = IMPLEMENTATION_AXES | {"dropout", "attention_dropout", "quant", "vocab_multiple", "head_dim"}


def position(**changes: Any) -> Callable[[ModelSpec], ModelSpec]:
    """A change of the spec's positions."""
    return lambda spec: replace(spec, position=replace(spec.position, **changes))


def pattern(**changes: Any) -> Callable[[ModelSpec], ModelSpec]:
    """A change of the spec's pattern."""
    return lambda spec: replace(spec, pattern=replace(spec.pattern, **changes))


def axes(**changes: Any) -> Callable[[ModelSpec], ModelSpec]:
    """A change of the spec's own fields."""
    return lambda spec: replace(spec, **changes)


_ENCDEC = ModelSpec(**SIZES, position=PositionSpec(kind="none"), embed_scale=False, final_norm=True)
_LLAMA = ModelSpec(
    arch="decoder", **SIZES, kv_heads=2, norm="rms", norm_place="pre", final_norm=True, bias=False, tie="none",
    embed_scale=False, gated=True, activation="silu", norm_eps=1e-6,
    position=PositionSpec(kind="rope", layout="halves"),
)  # fmt: skip
_LLAMA_FREE = ("norm_eps", "kv_heads", "tie", "position.theta")
_ENCODER = ModelSpec(arch="encoder", **SIZES, activation="gelu", embed_norm=True, embed_scale=False, norm_eps=1e-12)
_LEARNED = PositionSpec(kind="learned", max_len=MAX_LEN)


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


def _registry() -> Mapping[str, Oracle]:
    found = [
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
        *_equations(),
    ]  # fmt: skip
    return {oracle.name: oracle for oracle in found}


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
            spec=replace(t5, activation="gelu_tanh", gated=True, tie="none", head_scale=False),
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


def _equations() -> list[Oracle]:
    """What no library has, or none in this combination: each with the break that it must notice."""
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


ORACLES: Mapping[str, Oracle] = _registry()


def for_spec(variant: str | ModelSpec, *, only_installed: bool = True) -> Oracle | None:
    """The oracle that vouches for a variant: same function, at a size that computes in milliseconds.

    A library that computes the function, if there is one, else the papers' equations.

    Args:
        variant: a preset's name, or a spec.
        only_installed: libraries that are not installed are passed over.

    Returns:
        The oracle with its spec replaced by the variant's own, at the oracle's size; None for a user's own module.

    Raises:
        KeyError: there is no such preset.
    """
    spec = preset(variant).model if isinstance(variant, str) else variant
    if spec.factory:
        return None
    small = at_oracle_size(spec)
    for oracle in ORACLES.values():
        vouches = oracle.library and _function(small, oracle.free) == _function(oracle.spec, oracle.free)
        if vouches and (oracle.installed or not only_installed):
            return replace(oracle, spec=replace(small, ff=oracle.spec.ff))  # some libraries fix it
    make = equations.transformer if spec.recurrence == "none" else recurrent
    return Oracle(name=EQUATIONS, library="", spec=small, make=make, control=_control(small))


def _control(spec: ModelSpec) -> Callable[[ModelSpec], ModelSpec]:
    """A small mistake in what a variant without a library is about."""
    if spec.recurrence != "none":
        return axes(recurrence="gru" if spec.recurrence == "lstm" else "lstm")
    if spec.position.kind != "none":
        return position(kind="none")
    return axes(activation="silu" if spec.activation != "silu" else "gelu")


def at_oracle_size(spec: ModelSpec) -> ModelSpec:
    """The same function with two layers and a width of 32, computed on the CPU; head_dim follows from the width."""
    return replace(
        within_reach(spec), **SIZES, kv_heads=share_of_heads(spec, SIZES["heads"]), head_dim=None, vocab_multiple=1,
        dropout=0.0, attention_dropout=0.0, attention="math", padding="mask", projections="separate", loss="dense",
        compile="off", cache="on", checkpoint="off", quant="none",
    )  # fmt: skip


def _function(spec: ModelSpec, free: tuple[str, ...]) -> dict[str, Any]:
    """What must be equal in two specs of the same function: every field that means something, and is not free."""
    found = {f.name: getattr(spec, f.name) for f in fields(spec) if f.name not in NEUTRAL}
    found["kv_heads"] = spec.num_kv_heads
    if spec.arch != "encdec":
        found["tie"] = "all" if spec.tie != "none" else "none"
    if spec.pattern.kind == "full":
        found["pattern"] = PatternSpec()
    plain = PositionSpec(kind=spec.position.kind)
    read = {name: getattr(spec.position, name) for name in _READ_BY.get(spec.position.kind, ())}
    found["position"] = replace(plain, **read)
    for name in free:
        if name.startswith("position."):
            default = getattr(PositionSpec(), name.removeprefix("position."))
            found["position"] = replace(found["position"], **{name.removeprefix("position."): default})
        else:
            found.pop(name, None)
    return found


# Which fields a kind of position reads.
_READ_BY: dict[str, tuple[str, ...]] = {
    "sinusoidal": ("layout", "theta"),
    "rope": ("layout", "theta", "fraction", "scaling", "scaling_factor", "original_len"),
    "t5_bias": ("buckets", "max_distance"),
    "shaw": ("max_distance",),
    "txl": ("theta",),
}
