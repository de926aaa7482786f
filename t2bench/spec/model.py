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
from typing import Any, ClassVar, Literal, get_args

Arch = Literal["encdec", "encoder", "decoder"]
PositionKind = Literal["sinusoidal", "learned", "none", "rope"]
PairLayout = Literal["interleaved", "halves"]
Activation = Literal["relu", "gelu", "gelu_tanh", "silu"]
NormKind = Literal["layer", "rms"]
NormPlace = Literal["post", "pre"]
Tie = Literal["all", "decoder", "none"]
Backend = Literal["math", "sdpa_math", "sdpa_flash", "sdpa_efficient", "sdpa_cudnn"]
Projections = Literal["separate", "fused_kv", "fused_qkv"]
Loss = Literal["dense", "chunked"]
AxisKind = Literal["function", "implementation", "approximation"]

BACKENDS: tuple[str, ...] = get_args(Backend)

# What pydantic is told when the YAML layer validates these dataclasses: unknown keys and silent conversions are errors.
STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionSpec:
    """How the model knows where a token stands.

    Attributes:
        kind: `sinusoidal` (Vaswani et al. 2017, section 3.5), `learned` (Gehring et al. 2017), `none`, or `rope`
            (Su et al. 2021, eq. 34).
        layout: which two features form a sine/cosine (sinusoidal) or rotation (rope) pair: `interleaved` (2i, 2i+1)
            as in both papers, or `halves` (i, i + n/2) as in Marian and Llama.
        theta: base of the geometric series of wavelengths.
        fraction: share of each head's features that rope rotates (1.0 all; GPT-NeoX 0.25).
        max_len: rows of the learned table; a longer input is refused. Other kinds ignore it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: PositionKind = "sinusoidal"
    layout: PairLayout = "interleaved"
    theta: float = 10000.0
    fraction: float = 1.0
    max_len: int = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """A full model variant. The defaults are the base model of Vaswani et al. 2017 ("vanilla").

    Attributes:
        arch: `encdec`, `encoder` (bidirectional) or `decoder` (causal).
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
            one), `none`. With one embedding only (`encoder`, `decoder`) `all` and `decoder` mean the same.
        position: see PositionSpec. RoPE acts on self-attention only: cross-attention relates two different texts.
        activation: feed-forward non-linearity; `gelu` is the exact erf form, `gelu_tanh` its approximation
            (Hendrycks & Gimpel 2016).
        gated: feed-forward is (act(x W) * x V) W2 (GLU variants, Shazeer 2020) instead of act(x W) W2.
        norm: `layer` (Ba et al. 2016) or `rms` (Zhang & Sennrich 2019).
        norm_place: `post` N(x + f(x)) or `pre` x + f(N(x)) (Xiong et al. 2020).
        final_norm: one more norm after the last layer of each stack.
        norm_eps: epsilon inside the norm's square root.
        qk_norm: RMS norm per head on queries and keys before positions are applied (Henry et al. 2020; Qwen3).
        embed_norm: layer norm on the summed embeddings (BERT).
        bias: biases in all linear layers of attention and feed-forward (never in the output projection).
        embed_scale: embeddings are multiplied by sqrt(width) (Vaswani et al. 2017, section 3.4).
        dropout: on embeddings, sub-layer outputs and feed-forward activations.
        attention_dropout: on attention probabilities. Some back ends cannot do it and are refused.
        attention: back end that computes softmax(QK^T / sqrt(K)) V. Implementation axis: must not change the result.
        projections: `separate` W_q, W_k, W_v, or fused into fewer, larger matrix products. Implementation axis.
        loss: `dense` materialises all logits; `chunked` scores a slice of positions at a time. Implementation axis.

    Raises:
        ValueError: an impossible combination (the message names the fields).
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    arch: Arch = "encdec"
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
    activation: Activation = "relu"
    gated: bool = False
    norm: NormKind = "layer"
    norm_place: NormPlace = "post"
    final_norm: bool = False
    norm_eps: float = 1e-5
    qk_norm: bool = False
    embed_norm: bool = False
    bias: bool = True
    embed_scale: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    attention: Backend = "math"
    projections: Projections = "separate"
    loss: Loss = "dense"

    def __post_init__(self) -> None:
        for problem in _impossibilities(self):
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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary, the inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelSpec:
        """Rebuild a spec from `to_dict`. For our own files; user input goes through the YAML layer, which explains."""
        values = dict(data)
        values["position"] = PositionSpec(**values.get("position", {}))
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
# numerically equivalent, so that only its speed and memory are in question.
IMPLEMENTATION_AXES = frozenset({"attention", "projections", "loss"})
AXIS_KINDS: dict[str, AxisKind] = {
    f.name: "implementation" if f.name in IMPLEMENTATION_AXES else "function" for f in fields(ModelSpec)
}


def _impossibilities(spec: ModelSpec) -> list[str]:
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
    return found
