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

Two conventions, never mixed:

- *model FLOPs*: what the algorithm asks for. Causal attention is not halved and the backward pass is 2 x the forward
  pass, for every implementation alike, so that ratios of FLOP/s are ratios of speed.
- *executed FLOPs*: what the kernels do. Fused attention back ends skip the masked half of causal attention and
  recompute the scores in the backward pass, 2.5 x their forward pass (Dao 2023, FlashAttention-2, arXiv 2307.08691,
  section 4.1); the chunked loss computes the logits again in the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from t2bench.spec import cost_recurrent
from t2bench.spec.case import DTYPE_BYTES, WorkloadSpec
from t2bench.spec.model import ModelSpec

FUSED_BACKENDS = frozenset({"sdpa_flash", "sdpa_efficient", "sdpa_cudnn"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ParamCount:
    """Trainable parameters by component.

    Attributes:
        embedding: token tables that are looked up, a table shared by several uses counted once.
        positions: learned position tables.
        attention_qkv: query, key and value projections of self-attention, with biases.
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
    qkv = (spec.width + bias) * (inner + 2 * inner_kv)
    output = (inner + bias) * spec.width
    branches = 2 if spec.gated else 1
    feed_forward = branches * (spec.width + bias) * spec.ff + (spec.ff + bias) * spec.width
    table = spec.padded_vocab * spec.width
    norm = spec.width * (1 if spec.norm == "rms" else 2)
    layer_norms = (2 * layers + crosses + stacks * spec.final_norm) * norm
    embed_norms = stacks * spec.embed_norm * 2 * spec.width
    qk_norms = (layers + crosses) * spec.qk_norm * 2 * spec.dim_per_head
    return ParamCount(
        embedding=table * (1 if spec.tie == "all" else stacks),
        positions=stacks * spec.position.max_len * spec.width if spec.position.kind == "learned" else 0,
        attention_qkv=layers * qkv,
        attention_output=layers * output,
        cross_attention=crosses * (qkv + output),
        feed_forward=layers * feed_forward,
        norms=layer_norms + embed_norms + qk_norms,
        output_head=table if spec.tie == "none" else 0,
    )


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
    attention = _attention_flops(spec, batch, length)
    backward_factor = 3 if workload.trains else 1
    if workload.kind == "attention":
        return backward_factor * attention
    num_attentions = _num_causal(spec) + _num_full(spec)
    return backward_factor * (_linear_flops(spec, batch * length) + num_attentions * attention)


def executed_flops(spec: ModelSpec, workload: WorkloadSpec, batch: int, length: int) -> int:
    """Floating-point operations of one step in the kernel convention (see the module's docstring).

    Args are those of `model_flops`.
    """
    if spec.recurrence != "none":
        return cost_recurrent.executed_flops(spec, workload, batch, length)
    attention = _attention_flops(spec, batch, length)
    fused = spec.attention in FUSED_BACKENDS
    causal = attention // 2 if fused else attention
    if workload.kind == "attention":
        forward = causal if workload.causal else attention
    else:
        forward = _num_causal(spec) * causal + _num_full(spec) * attention
    total = forward
    if workload.trains:
        total += forward * 5 // 2 if fused else forward * 2
    if workload.kind == "attention":
        return total
    total += _linear_flops(spec, batch * length) * (3 if workload.trains else 1)
    if workload.trains and spec.loss == "chunked":
        total += _logits_flops(spec, batch * length)
    return total


def kv_bytes(spec: ModelSpec, length: int, dtype: str) -> int:
    """Bytes of the key/value cache of one sequence when `length` tokens have been decoded.

    An encoder-decoder also keeps the keys and values of its cross-attention, for a source of the same length. An
    encoder keeps none. A recurrent decoder keeps its states instead.
    """
    if spec.recurrence != "none":
        return cost_recurrent.state_bytes(spec, length, dtype)
    attentions = spec.num_dec_layers * (2 if spec.arch == "encdec" else 1)
    return attentions * 2 * spec.num_kv_heads * spec.dim_per_head * length * DTYPE_BYTES[dtype]


def _num_causal(spec: ModelSpec) -> int:
    """Causal self-attentions in the model."""
    return spec.num_dec_layers


def _num_full(spec: ModelSpec) -> int:
    """Attentions in the model that see everything: the encoder's, and the decoder's over the encoder."""
    return spec.num_enc_layers + (spec.num_dec_layers if spec.num_enc_layers else 0)


def _attention_flops(spec: ModelSpec, batch: int, length: int) -> int:
    return 4 * batch * spec.heads * length * length * spec.dim_per_head


def _linear_flops(spec: ModelSpec, positions: int) -> int:
    """Forward operations of all projections, feed-forward layers and the logits."""
    attentions = _num_causal(spec) + _num_full(spec)
    per_attention = spec.width * (2 * spec.heads + 2 * spec.num_kv_heads) * spec.dim_per_head
    layers = spec.num_enc_layers + spec.num_dec_layers
    per_layer = (3 if spec.gated else 2) * spec.width * spec.ff
    return 2 * positions * (attentions * per_attention + layers * per_layer) + _logits_flops(spec, positions)


def _logits_flops(spec: ModelSpec, positions: int) -> int:
    return 2 * positions * spec.width * spec.padded_vocab
