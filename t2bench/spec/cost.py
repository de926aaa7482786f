"""What a variant costs, from its spec alone: parameters, floating-point operations, bytes of key/value cache.

Only matrix products are counted (2 m n k operations each), as in Kaplan et al. 2020 (arXiv 2001.08361) and Chowdhery
et al. 2022 (PaLM, arXiv 2204.02311, appendix B); biases, norms, softmax, activations and the optimizer are not. With
batch B, length L, N = B L positions, width d, H query and G key/value heads of K features, ff hidden features F and
V rows in the output table, the forward pass takes

    projections     2 N d (H + 2 G) K + 2 N H K d        per attention
    attention       4 B H L^2 K                          per attention (scores and weighted sum)
    feed-forward    4 N d F, gated 6 N d F               per layer
    logits          2 N d V                              once

An encoder-decoder runs both stacks over L positions each, and each decoder layer has a second, cross-attention.
Variants change the attention term:

    window W             L^2 becomes L min(L, W), or L min(L, 2W - 1) where queries look ahead; global tokens add to W:
                         the keys that a query in the middle of the text sees, in the operator alone as in a model
    memory M             L^2 becomes L (L + M), and keys and values are projected at L + M positions
    additive scores      no change: v . tanh(q + k) is a product of K terms, too
    shaw, R distances    plus 4 B H L R K
    txl, S keys          plus 2 B H L S K, and 2 S d G K once for all sequences
    prefix, document     no change: what they hide depends on the batch

Generating n tokens after a prompt of L takes a pass over L positions and n - 1 over one, each of which sees all keys
before it (or in its window); n positions have logits, and each distance of txl is projected once.

Two conventions, never mixed:

- *model FLOPs*: what the algorithm asks for. A window asks for the keys in it, whatever a back end computes around
  them; causal attention is not halved and the backward pass is 2 x the forward pass. All implementations of a variant
  have the same, so that ratios of their FLOP/s are ratios of speed.
- *executed FLOPs*: what the kernels do. The measured system counts them (`t2bench.meters.counters`), on fake tensors
  before a run and on real ones in it, and that count is what records hold. The formula is the hand-written counterpart
  that the tests hold the counters to, for sequences of equal length and kernels that run on a CPU; no record is made of
  it. (Of flex it counts the visible pairs, the counters its blocks.) Fused attention back ends skip the masked half of
  causal attention and recompute the scores in the backward pass, 2.5 x their forward pass (Dao 2023, FlashAttention-2,
  arXiv 2307.08691, section 4.1); the chunked loss computes the logits again in the backward pass, full checkpointing
  every layer (at most: a product that nothing in the layer's backward pass needs is left out), selective checkpointing
  attention that is not fused, and decoding without a cache the whole text, and the keys and values of a source, for
  each token. A static cache is seen whole, filled or not. A window is what block-skipping kernels visit, or the blocks
  that the others are given. torch's fused kernels halve causal attention only under the causal flag, which a bias in
  the scores or the mask of a prefix or of documents takes away.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from t2bench.spec import cost_flops, cost_recurrent
from t2bench.spec.case import DTYPE_BYTES, WorkloadSpec
from t2bench.spec.model import ModelSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class ParamCount:
    """Trainable parameters by component.

    Attributes:
        embedding: token tables that are looked up, a table shared by several uses counted once.
        positions: learned positions, absolute or relative, with their projections.
        attention_qkv: query, key and value projections of self-attention, with biases, and what makes additive scores.
        attention_output: output projections of self-attention, with biases.
        cross_attention: all projections of the decoder's attention over the encoder, with biases.
        recurrent: all recurrent cells, with biases, and what makes their first state.
        feed_forward: all feed-forward layers, with biases; of a recurrent model the layer before the output table.
        norms: layer, final, embedding and query/key norms.
        output_head: the output table where it is not shared with an embedding.
    """

    embedding: int
    positions: int = 0
    attention_qkv: int = 0
    attention_output: int = 0
    cross_attention: int = 0
    recurrent: int = 0
    feed_forward: int = 0
    norms: int = 0
    output_head: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(getattr(self, f.name) for f in fields(self))


def num_params(spec: ModelSpec) -> ParamCount:
    """Parameters of the model that `spec` describes, without building it."""
    if spec.recurrence != "none":
        return ParamCount(**cost_recurrent.num_params(spec))
    layers_enc, layers_dec = spec.num_enc_layers, spec.num_dec_layers
    stacks = (layers_enc > 0) + (layers_dec > 0)
    crosses = layers_dec if layers_enc else 0
    layers = layers_enc + layers_dec
    inner, inner_kv = spec.heads * spec.dim_per_head, spec.num_kv_heads * spec.dim_per_head
    bias = int(spec.bias)
    qkv = (spec.width + bias) * (inner + 2 * inner_kv) + (inner if spec.score == "additive" else 0)
    output = (inner + bias) * spec.width
    branches = 2 if spec.gated else 1
    feed_forward = branches * (spec.width + bias) * spec.ff + (spec.ff + bias) * spec.width
    table = spec.padded_vocab * spec.width
    norm = spec.width * (1 if spec.norm == "rms" else 2)
    twice = 2 if spec.norm_place == "sandwich" else 1
    layer_norms = (twice * (2 * layers + crosses) + stacks * spec.final_norm) * norm
    embed_norms = stacks * spec.embed_norm * 2 * spec.width
    normed = 2 * spec.dim_per_head if spec.qk_norm_span == "head" else inner + inner_kv
    qk_norms = (layers + crosses) * spec.qk_norm * normed
    return ParamCount(
        embedding=table * (1 + spec.has_source_table),
        positions=_position_params(spec),
        attention_qkv=layers * qkv,
        attention_output=layers * output,
        cross_attention=crosses * (qkv + output),
        feed_forward=layers * feed_forward,
        norms=layer_norms + embed_norms + qk_norms,
        output_head=table * spec.has_output_table,
    )


def _position_params(spec: ModelSpec) -> int:
    """Of both stacks."""
    position, inner_kv = spec.position, spec.num_kv_heads * spec.dim_per_head
    total = 0
    for layers, looks_ahead in (
        (spec.num_enc_layers, True),
        (spec.num_dec_layers, spec.pattern.kind == "prefix"),
    ):
        rows = position.max_distance * (2 if looks_ahead else 1) + 1
        of = {
            "learned": position.max_len * spec.width if layers else 0,
            "t5_bias": position.buckets * spec.heads if layers else 0,
            "shaw": layers * 2 * rows * spec.dim_per_head,
            "txl": layers * (spec.width * inner_kv + 2 * spec.heads * spec.dim_per_head),
        }
        total += of.get(position.kind, 0)
    return total


def model_flops(spec: ModelSpec, workload: WorkloadSpec, batch: int, length: int) -> int:
    """Floating-point operations of one step in the model convention (see the module's docstring).

    Args:
        spec: the variant.
        workload: `attention` counts the operator alone; `forward` and `train_step` count the model with its logits.
        batch: sequences B.
        length: positions per sequence L (encoder-decoder: of source and target, each).
    """
    if spec.recurrence != "none":
        return cost_recurrent.model_flops(spec, workload, batch, length)
    return cost_flops.model_flops(spec, workload, batch, length)


def executed_flops(spec: ModelSpec, workload: WorkloadSpec, batch: int, length: int) -> int:
    """Floating-point operations of one step in the kernel convention (see the module's docstring).

    Args are those of `model_flops`.
    """
    if spec.recurrence != "none":
        return cost_recurrent.executed_flops(spec, workload, batch, length)
    return cost_flops.executed_flops(spec, workload, batch, length)


def kv_bytes(spec: ModelSpec, length: int, dtype: str) -> int:
    """Bytes of the key/value cache of one sequence when `length` tokens have been decoded.

    An encoder-decoder also keeps the keys and values of its cross-attention, for a source of the same length. An
    encoder keeps none. A recurrent decoder keeps its states instead.
    """
    if spec.recurrence != "none":
        return cost_recurrent.state_bytes(spec, length, dtype)
    pattern = spec.pattern
    kept = 0
    for layer in range(spec.num_dec_layers):
        windowed = pattern.kind == "window" and not pattern.global_tokens and pattern.applies(layer)
        # The next token takes one place of the window itself.
        kept += min(length, pattern.window - 1) if windowed and spec.cache != "static" else length
        kept += length if spec.arch == "encdec" else 0
    return kept * 2 * spec.num_kv_heads * spec.dim_per_head * DTYPE_BYTES[dtype]
