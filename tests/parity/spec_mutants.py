"""Mistakes in a spec: another value of one axis, which no oracle may take for the right one."""

from collections.abc import Callable
from dataclasses import replace

from t2bench.spec.model import ModelSpec

Change = Callable[[ModelSpec], ModelSpec]
Applies = Callable[[ModelSpec], bool]


def always(spec: ModelSpec) -> bool:
    return True


def position(**changes: object) -> Change:
    return lambda spec: replace(spec, position=replace(spec.position, **changes))


def pattern(**changes: object) -> Change:
    return lambda spec: replace(spec, pattern=replace(spec.pattern, **changes))


def axes(**changes: object) -> Change:
    return lambda spec: replace(spec, **changes)


def other(field: str, first: object, second: object) -> Change:
    return lambda spec: replace(spec, **{field: second if getattr(spec, field) == first else first})


def has(field: str, *values: object) -> Applies:
    return lambda spec: getattr(spec, field) in values


def placed(*kinds: str) -> Applies:
    return lambda spec: spec.position.kind in kinds


def windowed(spec: ModelSpec) -> bool:
    return spec.pattern.kind == "window"


def _scale_is_felt(spec: ModelSpec) -> bool:
    """Not where a norm, with nothing added before it, takes the embeddings' scale away again."""
    added = spec.position.kind in ("sinusoidal", "learned")
    return added or not (spec.embed_norm or spec.residual == "none")


# name -> (applies to this spec, what it breaks)
SPEC_MUTANTS: dict[str, tuple[Applies, Change]] = {
    "gelu flavour": (lambda s: s.activation.startswith("gelu"), other("activation", "gelu", "gelu_tanh")),
    "activation silu or gelu": (always, other("activation", "silu", "gelu")),
    "activation relu or silu": (always, other("activation", "relu", "silu")),
    "activation squared": (has("activation", "relu", "relu2"), other("activation", "relu", "relu2")),
    "gate": (always, other("gated", False, True)),
    "norm kind": (always, other("norm", "layer", "rms")),
    "norm place pre or post": (always, other("norm_place", "pre", "post")),
    "sandwich's outer norms": (has("norm_place", "sandwich"), axes(norm_place="pre")),
    "sandwich's inner norms": (has("norm_place", "sandwich"), axes(norm_place="inner")),
    "inner norm after the sum": (has("norm_place", "inner"), axes(norm_place="post")),
    "final norm": (always, other("final_norm", True, False)),
    "norm eps": (always, axes(norm_eps=1e-3)),
    "embedding scale": (_scale_is_felt, other("embed_scale", True, False)),
    "embedding norm": (always, other("embed_norm", True, False)),
    "head scale": (lambda s: s.head_scale, axes(head_scale=False)),
    "query and key norm": (always, other("qk_norm", True, False)),
    "span of the query and key norm": (lambda s: s.qk_norm, other("qk_norm_span", "head", "width")),
    "biases": (lambda s: s.bias, axes(bias=False)),
    "parallel or serial": (has("residual", "parallel"), axes(residual="serial")),
    "residual missing": (has("residual", "serial"), axes(residual="none")),
    "residual added": (has("residual", "none"), axes(residual="serial")),
    "score scale": (has("score", "dot", "scaled_dot"), other("score", "dot", "scaled_dot")),
    "dot product for additive scores": (has("score", "additive"), axes(score="scaled_dot")),
    "softcap of scores": (lambda s: s.attention_softcap is not None, axes(attention_softcap=None)),
    "softcap of logits": (lambda s: s.logit_softcap is not None, axes(logit_softcap=None)),
    "positions missing": (lambda s: s.position.kind != "none", position(kind="none")),
    "positions added": (lambda s: s.position.kind != "sinusoidal", position(kind="sinusoidal")),
    "rope added": (lambda s: s.position.kind != "rope", position(kind="rope")),
    "ALiBi added": (lambda s: s.position.kind != "alibi", position(kind="alibi")),
    "pair layout": (
        placed("rope", "sinusoidal", "txl"),
        lambda s: position(layout="halves" if s.position.layout == "interleaved" else "interleaved")(s),
    ),
    "theta": (placed("rope", "sinusoidal"), lambda s: position(theta=50 * s.position.theta)(s)),
    "theta of distances": (placed("txl"), lambda s: position(theta=50 * s.position.theta)(s)),
    "rotated fraction": (placed("rope"), lambda s: position(fraction=1.0 if s.position.fraction < 1.0 else 0.5)(s)),
    "rope scaling missing": (lambda s: s.position.scaling != "none", position(scaling="none")),
    "rope scaling of another kind": (
        lambda s: s.position.scaling != "none",
        lambda s: position(scaling="ntk" if s.position.scaling == "linear" else "linear")(s),
    ),
    "one bucket less": (placed("t5_bias"), lambda s: position(buckets=s.position.buckets - 1)(s)),
    "one bucket more": (placed("t5_bias"), lambda s: position(buckets=s.position.buckets + 1)(s)),
    "buckets' distance": (placed("t5_bias"), lambda s: position(max_distance=2 * s.position.max_distance)(s)),
    "clipped one earlier": (placed("shaw"), lambda s: position(max_distance=s.position.max_distance - 1)(s)),
    "clipped one later": (placed("shaw"), lambda s: position(max_distance=s.position.max_distance + 1)(s)),
    "window one smaller": (windowed, lambda s: pattern(window=s.pattern.window - 1)(s)),
    "window one larger": (windowed, lambda s: pattern(window=s.pattern.window + 1)(s)),
    "window missing": (windowed, pattern(window=999)),
    "one global token less": (
        lambda s: s.pattern.global_tokens > 0, lambda s: pattern(global_tokens=s.pattern.global_tokens - 1)(s),
    ),
    "one global token more": (windowed, lambda s: pattern(global_tokens=s.pattern.global_tokens + 1)(s)),
    "pattern in the other layers": (lambda s: s.pattern.layers == "SL", pattern(layers="LS")),
    "pattern missing": (lambda s: s.pattern.kind in ("prefix", "document"), pattern(kind="window", window=999)),
    "memory one shorter": (lambda s: s.memory > 1, lambda s: axes(memory=s.memory - 1)(s)),
    "memory one longer": (lambda s: s.memory > 1, lambda s: axes(memory=s.memory + 1)(s)),
}  # fmt: skip
