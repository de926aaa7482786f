"""Floating-point operations of a transformer's step, by the conventions of `t2bench.spec.cost`.

A step is a list of passes through the stacks: one for `forward` and `train_step`; for `decode` one over the prompt and
one for each further token. Of each pass, operations are counted from its queries T, keys S and the layers' pattern.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from t2bench.spec.case import WorkloadSpec
from t2bench.spec.model import ModelSpec

FUSED_BACKENDS = frozenset(
    {"sdpa", "sdpa_flash", "sdpa_efficient", "sdpa_cudnn", "flex", "varlen", "fa2", "fa3", "fa4"}
)
# Kernels that know a window as such and visit the keys in it; the others see a mask, and are given blocks.
BLOCK_SKIPPING = frozenset({"flex", "varlen", "fa2", "fa3", "fa4"})
MIN_BLOCK = 64  # of `t2bench.attention.banded`


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass through one stack, for one sequence.

    Attributes:
        queries: tokens T that it reads.
        keys: keys S that they may see.
        made: keys that it computes: those of its tokens, and of what a memory holds.
        causal: it is a decoder's.
    """

    queries: int
    keys: int
    made: int
    causal: bool


def model_flops(spec: ModelSpec, workload: WorkloadSpec, batch: int, length: int) -> int:
    """See `t2bench.spec.cost.model_flops`."""
    factor = 3 if workload.trains else 1
    if workload.kind == "attention":
        return factor * 4 * batch * spec.heads * length * length * spec.dim_per_head
    passes = list(_passes(spec, workload, length, cached=True))
    attention = sum(_attention(spec, each, executed=False) for each in passes) + _cross(spec, passes, length)
    linear = _linear(spec, passes, batch, length) + _logits(spec, workload, batch, length)
    return factor * (batch * attention + linear)


def executed_flops(spec: ModelSpec, workload: WorkloadSpec, batch: int, length: int) -> int:
    """See `t2bench.spec.cost.executed_flops`."""
    fused = spec.attention in FUSED_BACKENDS
    if workload.kind == "attention":
        square = 4 * batch * spec.heads * length * length * spec.dim_per_head
        forward = square // 2 if fused and workload.causal else square
        return forward + _backward_of(forward, fused=fused) * workload.trains
    passes = list(_passes(spec, workload, length, cached=spec.cache != "off"))
    attention = batch * (sum(_attention(spec, each, executed=True) for each in passes) + _cross(spec, passes, length))
    layers, logits = _linear(spec, passes, batch, length), _logits(spec, workload, batch, length)
    total = attention + layers + logits
    if not workload.trains:
        return total
    # The distances of Transformer-XL are constants: their projection has a gradient for its weights only.
    total += _backward_of(attention, fused=fused) + 2 * (layers + logits) - _distances(spec, passes)
    if spec.loss == "chunked":
        total += logits
    if spec.checkpoint == "full":
        total += attention + layers
    if spec.checkpoint == "selective" and not fused:
        total += attention
    return total


def _backward_of(forward: int, *, fused: bool) -> int:
    """Operations of attention's backward pass: a fused kernel computes the scores again."""
    return forward * 5 // 2 if fused else forward * 2


def _passes(spec: ModelSpec, workload: WorkloadSpec, length: int, *, cached: bool) -> Iterator[Pass]:
    if spec.num_enc_layers:
        yield Pass(length, length, length, causal=False)
    if not spec.num_dec_layers:
        return
    if not workload.generates:
        yield Pass(length, length + spec.memory, length + spec.memory, causal=True)
        return
    prompt = 1 if spec.arch == "encdec" else length
    yield Pass(prompt, prompt, prompt, causal=True)
    for keys in range(prompt + 1, prompt + _new_tokens(workload)):
        queries = 1 if cached else keys
        yield Pass(queries, keys, queries, causal=True)


def _new_tokens(workload: WorkloadSpec) -> int:
    return workload.new_tokens if workload.kind == "decode" else 1


def _attention(spec: ModelSpec, each: Pass, *, executed: bool) -> int:
    """Self-attentions of all layers in one pass."""
    num_layers = spec.num_dec_layers if each.causal else spec.num_enc_layers
    size = spec.heads * spec.dim_per_head
    total = 0
    for layer in range(num_layers):
        windowed = spec.pattern.kind == "window" and spec.pattern.applies(layer)
        pairs = _executed_pairs(spec, each, windowed) if executed else _pairs(spec, each, windowed)
        total += 4 * size * pairs
    if spec.position.kind == "txl":
        total += num_layers * 2 * size * each.queries * each.keys
    if spec.position.kind == "shaw":
        total += num_layers * 4 * size * each.queries * _shaw_rows(spec, causal=each.causal)
    return total


def _shaw_rows(spec: ModelSpec, *, causal: bool) -> int:
    reach = spec.position.max_distance
    return reach + 1 if causal and spec.pattern.kind != "prefix" else 2 * reach + 1


def _pairs(spec: ModelSpec, each: Pass, windowed: bool) -> int:
    """Queries times the keys that a query in the middle of the text sees."""
    if not windowed:
        return each.queries * each.keys
    reach = spec.pattern.window if each.causal else 2 * spec.pattern.window - 1
    everywhere = min(spec.pattern.global_tokens, each.queries)
    seen = min(each.keys, reach + spec.pattern.global_tokens)
    return everywhere * each.keys + (each.queries - everywhere) * seen


def _executed_pairs(spec: ModelSpec, each: Pass, windowed: bool) -> int:
    """Pairs that the kernel computes."""
    fused = spec.attention in FUSED_BACKENDS
    triangular = fused and each.causal and each.queries == each.keys
    if not windowed or spec.pattern.window >= each.keys:
        return each.queries * each.keys // (2 if triangular else 1)
    if spec.attention in BLOCK_SKIPPING:
        # The corner at the beginning, where a window is not yet full.
        missing = spec.pattern.window * (spec.pattern.window - 1) // 2 if triangular else 0
        return _pairs(spec, each, windowed) - missing
    if spec.pattern.global_tokens or each.queries != each.keys:
        return each.queries * each.keys
    size = max(MIN_BLOCK, spec.pattern.window // 2)
    behind = -(-(spec.pattern.window - 1) // size)
    return each.queries * min(each.keys, size * (behind + 1 + (0 if each.causal else behind)))


def _cross(spec: ModelSpec, passes: list[Pass], length: int) -> int:
    """Attentions over a source of `length` tokens."""
    if spec.arch != "encdec":
        return 0
    queries = sum(each.queries for each in passes if each.causal)
    return spec.num_dec_layers * 4 * spec.heads * spec.dim_per_head * queries * length


def _linear(spec: ModelSpec, passes: list[Pass], batch: int, length: int) -> int:
    """All projections and feed-forward layers."""
    both, ends = spec.num_kv_heads * spec.dim_per_head * 2, spec.heads * spec.dim_per_head * 2
    feed_forward = (3 if spec.gated else 2) * spec.ff
    total = 0
    for each in passes:
        layers = spec.num_dec_layers if each.causal else spec.num_enc_layers
        cross = ends if each.causal and spec.arch == "encdec" else 0
        total += batch * layers * (each.queries * (ends + cross + feed_forward) + each.made * both)
    if spec.arch == "encdec":
        total += batch * spec.num_dec_layers * length * both
    return 2 * spec.width * total + _distances(spec, passes)


def _distances(spec: ModelSpec, passes: list[Pass]) -> int:
    """W_r R of Transformer-XL, the same for every sequence; kept while a text is generated."""
    if spec.position.kind != "txl":
        return 0
    keys = sum(each.keys for each in passes if each.made == each.keys)
    return 2 * spec.width * spec.num_dec_layers * keys * spec.num_kv_heads * spec.dim_per_head


def _logits(spec: ModelSpec, workload: WorkloadSpec, batch: int, length: int) -> int:
    scored = _new_tokens(workload) if workload.generates else length
    return 2 * batch * scored * spec.width * spec.padded_vocab
