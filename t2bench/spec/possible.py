"""What cannot be one model, whatever it is run on: combinations of axes that contradict each other.

What a device, a dtype, a workload or a back end cannot do with a model that is possible is in `t2bench.spec.refusals`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from t2bench.spec.model import ModelSpec


def impossibilities(spec: ModelSpec) -> list[str]:
    """Every reason why this spec cannot be built, in the words a user reads."""
    found: list[str] = []
    for name in ("width", "heads", "ff", "enc_layers", "dec_layers", "vocab", "vocab_multiple"):
        if getattr(spec, name) < 1:
            found.append(f"{name} must be at least 1, got {getattr(spec, name)}")
    for name in ("dropout", "attention_dropout"):
        if not 0.0 <= getattr(spec, name) < 1.0:
            found.append(f"{name} must be at least 0 and below 1, got {getattr(spec, name)}")
    if spec.norm_eps <= 0.0:
        found.append(f"norm_eps must be positive, got {spec.norm_eps}")
    if found:
        return found
    if spec.head_dim is None and spec.width % spec.heads:
        found.append(f"width {spec.width} is not divisible by heads {spec.heads} (or give head_dim)")
    if spec.head_dim is not None and spec.head_dim < 1:
        found.append(f"head_dim must be at least 1, got {spec.head_dim}")
    if spec.num_kv_heads < 1 or spec.heads % spec.num_kv_heads:
        found.append(f"heads {spec.heads} is not divisible by kv_heads {spec.num_kv_heads}")
    return found + _of_positions(spec) + _of_attention(spec) + _of_layers(spec) + _of_recurrence(spec)


def _of_positions(spec: ModelSpec) -> list[str]:
    found = []
    position = spec.position
    if position.theta <= 0.0:
        found.append(f"position.theta must be positive, got {position.theta}")
    if not 0.0 < position.fraction <= 1.0:
        found.append(f"position.fraction must be above 0 and at most 1, got {position.fraction}")
    elif position.kind == "rope" and (spec.rotary_dim < 2 or spec.rotary_dim % 2):
        found.append(f"rope rotates pairs: head_dim {spec.dim_per_head} x fraction {position.fraction} must be even")
    if position.kind == "sinusoidal" and spec.width % 2:
        found.append(f"sinusoidal positions come in pairs: width {spec.width} must be even")
    if position.kind == "learned" and position.max_len < 1:
        found.append(f"position.max_len must be at least 1, got {position.max_len}")
    if position.scaling_factor < 1.0:
        found.append(f"position.scaling_factor must be at least 1, got {position.scaling_factor}")
    if position.kind == "t5_bias" and not 4 <= position.buckets <= position.max_distance:
        found.append(
            "t5_bias needs 4 to max_distance buckets, "
            f"got buckets {position.buckets} and max_distance {position.max_distance}"
        )
    if position.kind == "shaw" and position.max_distance < 1:
        found.append(f"position.max_distance must be at least 1, got {position.max_distance}")
    if position.kind == "txl" and (spec.arch != "decoder" or spec.width % 2):
        found.append("txl positions are those of Transformer-XL: a decoder of even width")
    if position.kind == "txl" and spec.pattern.kind == "prefix":
        found.append("txl has no distances ahead of a token, as a prefix pattern needs; use t5_bias, alibi or shaw")
    if spec.memory < 0 or (spec.memory and position.kind not in ("txl", "rope", "alibi", "t5_bias", "shaw", "none")):
        found.append(
            f"memory {spec.memory} needs positions that are relative (txl, rope, alibi, t5_bias, shaw) or none: "
            f"{position.kind} ones would name the positions of two segments alike"
        )
    elif spec.memory and spec.arch != "decoder":
        found.append(f"memory is segment recurrence of a decoder, arch is {spec.arch}")
    elif spec.memory and (spec.pattern.kind in ("prefix", "document") or spec.pattern.global_tokens):
        found.append("a text has one beginning: memory goes with pattern full, or window without global_tokens")
    if position.kind == "rope" and position.scaling == "ntk" and spec.rotary_dim == 2:
        found.append("position.scaling ntk needs at least 4 rotated features, got 2")
    return found


def _of_attention(spec: ModelSpec) -> list[str]:
    found = []
    pattern = spec.pattern
    if set(pattern.layers) - {"S", "L"}:
        found.append(f"pattern.layers is made of the letters S and L, got {pattern.layers!r}")
    if pattern.layers and pattern.kind == "full":
        found.append("pattern.layers says where a pattern applies, but pattern.kind is full; use kind: window")
    if pattern.window < 1:
        found.append(f"pattern.window counts the token itself: at least 1, got {pattern.window}")
    if pattern.global_tokens and pattern.kind != "window":
        found.append(f"pattern.global_tokens belongs to kind: window, got {pattern.kind}")
    if pattern.kind == "prefix" and spec.arch != "decoder":
        found.append(f"a prefix pattern needs arch: decoder, got {spec.arch}")
    if pattern.kind == "document" and spec.arch == "encdec":
        found.append("a document pattern needs arch: decoder or encoder: documents of an encdec come in pairs")
    for name in ("attention_softcap", "logit_softcap"):
        cap = getattr(spec, name)
        if cap is not None and cap <= 0.0:
            found.append(f"{name} must be positive or null, got {cap}")
    if spec.score == "additive" and spec.position.kind in ("rope", "txl", "shaw"):
        found.append(f"{spec.position.kind} positions live in the dot product of queries and keys; score is additive")
    return found


def _of_layers(spec: ModelSpec) -> list[str]:
    found = []
    if spec.residual == "parallel" and spec.norm_place != "pre":
        found.append(f"parallel residuals need norm_place: pre, got {spec.norm_place}")
    if spec.residual == "parallel" and spec.arch == "encdec":
        found.append("parallel residuals have two branches: arch decoder or encoder, got encdec")
    return found


def _of_recurrence(spec: ModelSpec) -> list[str]:
    if spec.recurrence == "none":
        return []
    found = []
    if spec.bridge == "attention" and spec.score == "scaled_dot" and spec.arch == "encdec":
        found.append("attention over the states of a recurrent encoder has score: additive or dot")
    both_ways = spec.arch == "encoder" or (spec.arch == "encdec" and spec.bridge == "attention")
    if both_ways and spec.ff % 2:
        found.append(f"a recurrent encoder has half of its hidden size ff {spec.ff} in each direction: it must be even")
    return found
