"""Floating-point operations of a transformer's step, by the conventions of `t2bench.spec.cost`.

A step is a list of passes through the stacks: one for `forward` and `train_step`; for `decode` one over the prompt and
one for each further token. Of each pass, operations are counted from its queries T, keys S and the layers' pattern.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from t2bench.spec.axes import IN_SCORES
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
        source: tokens of a source whose keys and values it computes, where there is a source.
        patterned: the pattern of the spec means something in it.
        trimmed: its keys come from a cache that drops what a window hides.
    """

    queries: int
    keys: int
    made: int
    causal: bool
    source: int = 0
    patterned: bool = True
    trimmed: bool = False


def model_flops(spec: ModelSpec, workload: WorkloadSpec, batch: int, length: int) -> int:
    """See `t2bench.spec.cost.model_flops`."""
    factor = 3 if workload.trains else 1
    if workload.kind == "attention":
        return factor * batch * _operator(spec, workload, length, executed=False)
    passes = list(_passes(spec, workload, length, cache="on"))
    attention = sum(_attention(spec, each, executed=False) for each in passes) + _cross(spec, passes, length)
    linear = _linear(spec, passes, batch) + _distances(spec, _last_keys(passes))
    return factor * (batch * attention + linear + _logits(spec, workload, batch, length))


def executed_flops(spec: ModelSpec, workload: WorkloadSpec, batch: int, length: int) -> int:
    """See `t2bench.spec.cost.executed_flops`."""
    fused = spec.attention in FUSED_BACKENDS
    if workload.kind == "attention":
        forward = batch * _operator(spec, workload, length, executed=True)
        return forward + _backward_of(forward, fused=fused) * workload.trains
    passes = list(_passes(spec, workload, length, cache=spec.cache))
    attention = batch * (sum(_attention(spec, each, executed=True) for each in passes) + _cross(spec, passes, length))
    distances = _distances(spec, _projected_distances(spec, workload, passes))
    layers = _linear(spec, passes, batch) + distances
    logits = _logits(spec, workload, batch, length)
    total = attention + layers + logits
    if not workload.trains:
        return total
    # The distances of Transformer-XL are constants: their projection has a gradient for its weights only.
    total += _backward_of(attention, fused=fused) + 2 * (layers + logits) - distances
    if spec.loss == "chunked":
        total += logits
    if spec.checkpoint == "full":
        total += attention + layers
    if spec.checkpoint == "selective" and not fused:
        total += attention
    return total


def _operator(spec: ModelSpec, workload: WorkloadSpec, length: int, *, executed: bool) -> int:
    """The attention operator by itself, forward, for one sequence; its tables of distances end with the sequence."""
    each = Pass(length, length, length, causal=workload.causal, patterned=True)
    windowed = spec.pattern.kind == "window"
    halves = _executed_halves(spec, each, True) if executed else 2 * _pairs(spec, each, windowed)
    size = spec.heads * spec.dim_per_head
    # Queries that may not look ahead have one distance ahead all the same, so that the shift of txl is a view.
    longest = max(1, length - 1)
    reach = min(spec.position.max_distance, longest) if spec.position.kind == "shaw" else longest
    rows = reach + 1 + (1 if workload.causal and spec.pattern.kind != "prefix" else reach)
    products = {"shaw": 4, "txl": 2}.get(spec.position.kind, 0)
    return 2 * size * halves + products * size * length * rows


def _backward_of(forward: int, *, fused: bool) -> int:
    """Operations of attention's backward pass: a fused kernel computes the scores again."""
    return forward * 5 // 2 if fused else forward * 2


def _passes(spec: ModelSpec, workload: WorkloadSpec, length: int, *, cache: str) -> Iterator[Pass]:
    generates = workload.generates
    patterned = not (generates and spec.pattern.kind == "document")  # a prompt is one document
    if spec.num_enc_layers:
        yield Pass(length, length, length, causal=False, patterned=patterned)
    if not spec.num_dec_layers:
        return
    if not generates:
        keys = length + spec.memory
        yield Pass(length, keys, keys, causal=True, source=length, patterned=patterned)
        return
    prompt = 1 if spec.arch == "encdec" else length
    yield Pass(prompt, prompt, prompt, causal=True, source=length, patterned=patterned)
    new = _new_tokens(workload)
    limit = max(length, new) if spec.arch == "encdec" else length + new - 1
    for keys in range(prompt + 1, prompt + new):
        if cache == "off":
            yield Pass(keys, keys, keys, causal=True, source=length, patterned=patterned)
        else:
            seen = limit if cache == "static" else keys
            yield Pass(1, seen, 1, causal=True, patterned=patterned, trimmed=cache == "on")


def _new_tokens(workload: WorkloadSpec) -> int:
    return workload.new_tokens if workload.kind == "decode" else 1


def _attention(spec: ModelSpec, each: Pass, *, executed: bool) -> int:
    """Self-attentions of all layers in one pass."""
    num_layers = spec.num_dec_layers if each.causal else spec.num_enc_layers
    size = spec.heads * spec.dim_per_head
    total = 0
    for layer in range(num_layers):
        windowed = spec.pattern.kind == "window" and spec.pattern.applies(layer)
        applies = spec.pattern.applies(layer)
        halves = _executed_halves(spec, each, applies) if executed else 2 * _pairs(spec, each, windowed)
        total += 2 * size * halves
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


def _executed_halves(spec: ModelSpec, each: Pass, applies: bool) -> int:
    """Twice the pairs that the kernel computes in a layer to which the pattern applies, or does not."""
    window = spec.pattern.window
    windowed = applies and spec.pattern.kind == "window" and window < each.keys
    triangular = each.causal and each.queries == each.keys and spec.attention in FUSED_BACKENDS
    if spec.attention in BLOCK_SKIPPING:
        # The corner at the beginning, where a window is not yet full.
        missing = window * (window - 1) if windowed and triangular else 0
        pairs = _pairs(spec, each, windowed)
        return pairs if triangular and not windowed else 2 * pairs - missing
    if windowed:
        return _windowed_halves(spec, each)
    # torch's kernels skip the hidden half under the causal flag only, which a bias or a mask of its own takes away.
    own_mask = applies and each.patterned and spec.pattern.kind in ("prefix", "document")
    flag = triangular and not own_mask and spec.position.kind not in IN_SCORES
    return each.queries * each.keys * (1 if flag else 2)


def _windowed_halves(spec: ModelSpec, each: Pass) -> int:
    """The same for kernels that know no window, by `t2bench.attention.banded`: first block, middle blocks, the rest."""
    window, length = spec.pattern.window, each.queries
    if each.trimmed and not spec.pattern.global_tokens:
        return 2 * length * min(each.keys, window)
    size = max(MIN_BLOCK, window // 2)
    behind = -(-(window - 1) // size)
    ahead = 0 if each.causal else behind
    middle = length // size - behind - max(ahead, 1)
    by_query = spec.position.kind in ("shaw", "txl")
    if middle < 1 or by_query or spec.pattern.global_tokens or length != each.keys:
        return 2 * length * each.keys
    head, tail = behind * size, (behind + middle) * size
    first = head * (head + ahead * size)
    # A first block no longer than the window is a causal sequence by itself.
    flag = each.causal and head <= window and spec.attention in FUSED_BACKENDS and spec.position.kind not in IN_SCORES
    others = middle * size * (behind + 1 + ahead) * size + (length - tail) * (length - tail + head)
    return first * (1 if flag else 2) + 2 * others


def _cross(spec: ModelSpec, passes: list[Pass], length: int) -> int:
    """Attentions over a source of `length` tokens."""
    if spec.arch != "encdec":
        return 0
    queries = sum(each.queries for each in passes if each.causal)
    return spec.num_dec_layers * 4 * spec.heads * spec.dim_per_head * queries * length


def _linear(spec: ModelSpec, passes: list[Pass], batch: int) -> int:
    """All projections and feed-forward layers."""
    both, ends = spec.num_kv_heads * spec.dim_per_head * 2, spec.heads * spec.dim_per_head * 2
    feed_forward = (3 if spec.gated else 2) * spec.ff
    total = 0
    for each in passes:
        layers = spec.num_dec_layers if each.causal else spec.num_enc_layers
        cross = ends if each.causal and spec.arch == "encdec" else 0
        total += batch * layers * (each.queries * (ends + cross + feed_forward) + each.made * both)
        if spec.arch == "encdec":
            total += batch * layers * each.source * both
    return 2 * spec.width * total


def _distances(spec: ModelSpec, number: int) -> int:
    """W_r R of so many distances of Transformer-XL, the same for every sequence."""
    if spec.position.kind != "txl":
        return 0
    return 2 * spec.width * spec.num_dec_layers * number * spec.num_kv_heads * spec.dim_per_head


def _last_keys(passes: list[Pass]) -> int:
    """Distances that the text has, when its last token has been read."""
    return max(each.keys for each in passes)


def _projected_distances(spec: ModelSpec, workload: WorkloadSpec, passes: list[Pass]) -> int:
    """Distances that are projected: of a text that is generated a power of two at a time, which the cache keeps."""
    read = [each.keys for each in passes if each.causal]
    if not workload.generates or spec.cache == "off":
        return sum(read)
    kept = total = 0
    for keys in [max(read)] if spec.cache == "static" else read:
        if keys > kept:
            kept = 1 << (keys - 1).bit_length()
            total += kept
    return total


def _logits(spec: ModelSpec, workload: WorkloadSpec, batch: int, length: int) -> int:
    scored = _new_tokens(workload) if workload.generates else length
    return 2 * batch * scored * spec.width * spec.padded_vocab
