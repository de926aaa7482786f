"""The registry of oracles, and which of them can vouch for a given spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from t2bench.parity import decoders, encdecs, encoders
from t2bench.parity.oracle import Oracle
from t2bench.parity.weights import VOCAB
from t2bench.spec.axes import PatternSpec, PositionSpec
from t2bench.spec.model import IMPLEMENTATION_AXES, ModelSpec
from t2bench.spec.presets import preset

SIZES: dict[str, Any] = {"width": 32, "heads": 4, "ff": 48, "enc_layers": 2, "dec_layers": 2, "vocab": VOCAB}
MAX_LEN = 32
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
                    library="",
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
    ]  # fmt: skip
    return {oracle.name: oracle for oracle in found}


ORACLES: Mapping[str, Oracle] = _registry()


def for_spec(variant: str | ModelSpec) -> Oracle | None:
    """The oracle that vouches for a variant: same function, at a size that computes in milliseconds.

    Args:
        variant: a preset's name, or a spec.

    Returns:
        The oracle with its spec replaced by the variant's own, at the oracle's size; None if there is none.

    Raises:
        KeyError: there is no such preset.
    """
    spec = preset(variant).model if isinstance(variant, str) else variant
    if spec.factory:
        return None
    small = at_oracle_size(spec)
    for oracle in ORACLES.values():
        if oracle.installed and _function(small, oracle.free) == _function(oracle.spec, oracle.free):
            return replace(oracle, spec=small)
    return None


def at_oracle_size(spec: ModelSpec) -> ModelSpec:
    """The same function with two layers and a width of 32, computed on the CPU; head_dim follows from the width."""
    kv_heads = None if spec.kv_heads is None else max(1, SIZES["heads"] * spec.kv_heads // spec.heads)
    table: dict[str, Any] = {"max_len": MAX_LEN} if spec.position.kind == "learned" else {}
    return replace(
        spec, **SIZES, kv_heads=kv_heads, head_dim=None, vocab_multiple=1, dropout=0.0, attention_dropout=0.0,
        position=replace(spec.position, **table), attention="math", padding="mask", projections="separate",
        loss="dense", compile="off", cache="on", checkpoint="off", quant="none",
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
