"""ModelSpec: one transformer variant as data.

A variant is a frozen, hashable value: everything that decides what the model computes (*function* axes) and how it
computes it (*implementation* axes), and nothing about where or on what it runs (device, dtype, length and batch belong
to the case). Costs that follow from the spec alone (parameters, FLOPs, bytes) are in `t2bench.spec.cost`.

This module imports the standard library only: it is shared by the parent process (which never imports torch) and by
the measured worker (which imports nothing but torch and numpy).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from t2bench.spec.axes import (
    NESTED,
    STRICT,
    Activation,
    Arch,
    AxisKind,
    Backend,
    Bridge,
    CacheKind,
    Checkpoint,
    Compile,
    Loss,
    NormKind,
    NormPlace,
    NormSpan,
    Padding,
    PatternSpec,
    PositionSpec,
    Projections,
    Quant,
    Recurrence,
    Residual,
    Score,
    Tie,
)
from t2bench.spec.possible import impossibilities


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """A full model variant. The defaults are the base model of Vaswani et al. 2017 ("vanilla").

    Attributes:
        arch: `encdec`, `encoder` (bidirectional) or `decoder` (causal).
        recurrence: `none`: a transformer; `rnn` (Elman 1990), `gru` (Cho et al. 2014) or `lstm` (Hochreiter &
            Schmidhuber 1997): a recurrent baseline of the same interface, for which only the sizes, `tie`,
            `embed_scale`, `dropout`, `bridge`, `score` and `loss` mean something, and `ff` is the hidden size.
        bridge: how a recurrent decoder hears the source: `attention` over all encoder states by `score` (Bahdanau et
            al. 2015 when additive, Luong et al. 2015 when dot) or only the last `state` (Sutskever et al. 2014).
        width: model width d, shared by embeddings and residual stream.
        heads: query heads H.
        kv_heads: key/value heads G (grouped-query attention, Ainslie et al. 2023); None means G = H.
        head_dim: features per head K; None means width / heads.
        ff: hidden features of the feed-forward layer, per branch when `gated`.
        enc_layers: encoder layers; ignored when `arch` is `decoder`.
        dec_layers: decoder layers; ignored when `arch` is `encoder`.
        vocab: number of token ids that may occur.
        vocab_multiple: the embedding and output tables are padded up to a multiple of this.
        tie: `all` (source, target and output share one table; Press & Wolf 2017), `decoder` (target and output share
            one), `source` (source and target share one, the output has its own; T5 v1.1) or `none`. With one embedding
            only (`encoder`, `decoder`) `all` and `decoder` mean the same, and so do `source` and `none`.
        position: see PositionSpec. Schemes that act inside attention act on self-attention only: cross-attention
            relates two different texts.
        pattern: which tokens self-attention may look at, see PatternSpec.
        memory: positions of the segment before that each layer still sees, without gradient (Transformer-XL, Dai et
            al. 2019, section 3.2); decoder only, 0 for none.
        score: `scaled_dot` q.k / sqrt(K); `dot` q.k (T5 folds the scale into its initialisation); `additive`
            v.tanh(q + k) (Bahdanau et al. 2015, appendix A.1.2; Vaswani et al. 2017, section 3.2.1).
        attention_softcap: scores become c tanh(score / c) (Gemma 2); None for none.
        activation: feed-forward non-linearity; `gelu` is the exact erf form, `gelu_tanh` its approximation
            (Hendrycks & Gimpel 2016); `relu2` is relu squared (So et al. 2021).
        gated: feed-forward is (act(x W) * x V) W2 (GLU variants, Shazeer 2020) instead of act(x W) W2.
        norm: `layer` (Ba et al. 2016) or `rms` (Zhang & Sennrich 2019).
        norm_place: `post` N(x + f(x)), `pre` x + f(N(x)) (Xiong et al. 2020), `sandwich` x + N(f(N(x))) (Ding et al.
            2021; Gemma 2) or `inner` x + N(f(x)) (Liu et al. 2021, Swin v2; OLMo 2).
        final_norm: one more norm after the last layer of each stack.
        norm_eps: epsilon inside the norm's square root.
        qk_norm: RMS norm on queries and keys before positions are applied (Henry et al. 2020; Qwen3).
        qk_norm_span: what that norm is over: each `head` by itself, or the whole `width` of all heads (OLMo 2).
        embed_norm: layer norm on the summed embeddings (BERT, BLOOM).
        bias: biases in all linear layers of attention and feed-forward (never in the output projection).
        embed_scale: embeddings are multiplied by sqrt(width) (Vaswani et al. 2017, section 3.4).
        head_scale: hidden states are divided by sqrt(width) before the output table (T5 with tied tables).
        logit_softcap: logits become c tanh(logit / c) (Gemma 2); None for none.
        residual: `serial` sub-layers; `parallel`: attention and feed-forward read the same input and are added
            together (GPT-J, GPT-NeoX; pre-norm decoders and encoders); `none`: no residual connections at all.
        dropout: on embeddings, sub-layer outputs and feed-forward activations.
        attention_dropout: on attention probabilities. Some back ends cannot do it and are refused.
        factory: a user's own module instead of ours: name of a registered factory, which is called with this spec;
            empty for ours.
        attention: back end that computes softmax(QK^T / sqrt(K)) V. Implementation axis: must not change the result.
        padding: how sequences of several lengths share a batch: `mask` (padded, keys masked), `packed` (one after the
            other, no padding) or `nested` (torch's jagged tensors). Implementation axis; without ragged batches all
            three are the same.
        projections: `separate` W_q, W_k, W_v, or fused into fewer, larger matrix products. Implementation axis.
        loss: `dense` materialises all logits; `chunked` scores a slice of positions at a time, again in the backward
            pass; `fused` makes the gradients with the scores, so that nothing is computed twice. Implementation axis.
        compile: torch.compile mode. Implementation axis.
        cache: what decoding keeps: all keys and values (`on`), the same in buffers of fixed size (`static`), or nothing
            (`off`: everything is computed again for each token). Implementation axis.
        checkpoint: activations are computed again in the backward pass instead of kept: of whole layers (`full`) or
            of everything in them but linear layers and fused attention (`selective`). Implementation axis.
        quant: weights in 8 or 4 bits (`int8wo`, `int4wo`), activations too (`int8dyn`, `fp8`), by torchao.
            Approximation axis: costs quality.

    Raises:
        ValueError: an impossible combination (the message names the fields).
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    arch: Arch = "encdec"
    recurrence: Recurrence = "none"
    bridge: Bridge = "attention"
    width: int = 512
    heads: int = 8
    kv_heads: int | None = None
    head_dim: int | None = None
    ff: int = 2048
    enc_layers: int = 6
    dec_layers: int = 6
    vocab: int = 37000
    vocab_multiple: int = 1
    tie: Tie = "all"
    position: PositionSpec = field(default_factory=PositionSpec)
    pattern: PatternSpec = field(default_factory=PatternSpec)
    memory: int = 0
    score: Score = "scaled_dot"
    attention_softcap: float | None = None
    activation: Activation = "relu"
    gated: bool = False
    norm: NormKind = "layer"
    norm_place: NormPlace = "post"
    final_norm: bool = False
    norm_eps: float = 1e-5
    qk_norm: bool = False
    qk_norm_span: NormSpan = "head"
    embed_norm: bool = False
    bias: bool = True
    embed_scale: bool = True
    head_scale: bool = False
    logit_softcap: float | None = None
    residual: Residual = "serial"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    factory: str = ""
    attention: Backend = "math"
    padding: Padding = "mask"
    projections: Projections = "separate"
    loss: Loss = "dense"
    compile: Compile = "off"
    cache: CacheKind = "on"
    checkpoint: Checkpoint = "off"
    quant: Quant = "none"

    def __post_init__(self) -> None:
        for problem in impossibilities(self):
            raise ValueError(problem)

    @property
    def num_kv_heads(self) -> int:
        """Key/value heads G, resolved."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def dim_per_head(self) -> int:
        """Features per head K, resolved."""
        return self.width // self.heads if self.head_dim is None else self.head_dim

    @property
    def padded_vocab(self) -> int:
        """Rows of the embedding and output tables."""
        return -(-self.vocab // self.vocab_multiple) * self.vocab_multiple

    @property
    def has_source_table(self) -> bool:
        """Whether the source has a table of token embeddings apart from the target's."""
        return self.arch == "encdec" and self.tie in ("decoder", "none")

    @property
    def has_output_table(self) -> bool:
        """Whether the output has a table apart from the embeddings."""
        return self.tie in ("source", "none")

    @property
    def rotary_dim(self) -> int:
        """Features of each head that RoPE rotates; 0 without RoPE."""
        return int(self.dim_per_head * self.position.fraction) if self.position.kind == "rope" else 0

    @property
    def num_enc_layers(self) -> int:
        """Encoder layers that exist in this architecture."""
        return 0 if self.arch == "decoder" else self.enc_layers

    @property
    def num_dec_layers(self) -> int:
        """Decoder layers that exist in this architecture."""
        return 0 if self.arch == "encoder" else self.dec_layers

    @property
    def attends(self) -> bool:
        """Whether there is attention in it: always, but for recurrent models that do not look back at a source."""
        return self.recurrence == "none" or (self.arch == "encdec" and self.bridge == "attention")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary, the inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelSpec:
        """Rebuild a spec from `to_dict`. For our own files; user input goes through the YAML layer, which explains."""
        values = dict(data)
        for name, cls_of in NESTED.items():
            values[name] = cls_of(**values.get(name, {}))
        return cls(**values)

    @property
    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical JSON: equal specs, equal digests."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def delta(self, other: ModelSpec) -> dict[str, tuple[Any, Any]]:
        """Axes in which this spec differs from `other`: name -> (other's value, this value)."""
        mine, theirs = self.to_dict(), other.to_dict()
        return {name: (theirs[name], mine[name]) for name in mine if mine[name] != theirs[name]}


# The kind of every axis. Reports never mix them: a function axis needs a quality number, an implementation axis must be
# numerically equivalent, so that only its speed and memory are in question, and an approximation axis needs both.
IMPLEMENTATION_AXES = frozenset({"attention", "padding", "projections", "loss", "compile", "cache", "checkpoint"})
APPROXIMATION_AXES = frozenset({"quant"})


def _kind(axis: str) -> AxisKind:
    if axis in APPROXIMATION_AXES:
        return "approximation"
    return "implementation" if axis in IMPLEMENTATION_AXES else "function"


AXIS_KINDS: dict[str, AxisKind] = {f.name: _kind(f.name) for f in fields(ModelSpec)}
