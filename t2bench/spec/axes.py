"""The values that the axes of a model may take, and the two axes that are records of their own: position and pattern.

Standard library only, as `t2bench.spec.model`, which puts them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

Arch = Literal["encdec", "encoder", "decoder"]
PositionKind = Literal["sinusoidal", "learned", "none", "rope", "alibi", "t5_bias", "shaw", "txl"]
PairLayout = Literal["interleaved", "halves"]
RopeScaling = Literal["none", "linear", "ntk", "yarn", "llama3"]
PatternKind = Literal["full", "window", "prefix", "document"]
Score = Literal["scaled_dot", "dot", "additive"]
Activation = Literal["relu", "gelu", "gelu_tanh", "silu", "relu2"]
NormKind = Literal["layer", "rms"]
NormPlace = Literal["post", "pre", "sandwich", "inner"]
NormSpan = Literal["head", "width"]
Residual = Literal["serial", "parallel", "none"]
Tie = Literal["all", "decoder", "source", "none"]
Recurrence = Literal["none", "rnn", "gru", "lstm"]
Bridge = Literal["attention", "state"]
Backend = Literal[
    "math",
    "sdpa",
    "sdpa_math",
    "sdpa_flash",
    "sdpa_efficient",
    "sdpa_cudnn",
    "flex",
    "varlen",
    "fa2",
    "fa3",
    "fa4",
]
Padding = Literal["mask", "packed", "nested"]
Projections = Literal["separate", "fused_kv", "fused_qkv"]
Loss = Literal["dense", "chunked", "fused"]
Compile = Literal["off", "default", "reduce-overhead", "max-autotune"]
CacheKind = Literal["on", "off", "static"]
Checkpoint = Literal["off", "selective", "full"]
Quant = Literal["none", "int8wo", "int8dyn", "int4wo", "fp8"]
AxisKind = Literal["function", "implementation", "approximation"]

BACKENDS: tuple[str, ...] = get_args(Backend)

# What pydantic is told when the YAML layer validates these dataclasses: unknown keys and silent conversions are errors.
STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionSpec:
    """How the model knows where a token stands.

    Attributes:
        kind: added to the embeddings: `sinusoidal` (Vaswani et al. 2017, section 3.5) or `learned` (Gehring et al.
            2017); rotating queries and keys: `rope` (Su et al. 2021, eq. 34); added to the scores: `alibi` (Press et
            al. 2021), `t5_bias` (Raffel et al. 2020, section 2.1), `shaw` (Shaw et al. 2018, eq. 3 and 4) or `txl`
            (Dai et al. 2019, section 3.3); or `none`.
        layout: which two features form a sine/cosine (sinusoidal) or rotation (rope) pair: `interleaved` (2i, 2i+1)
            as in both papers, or `halves` (i, i + n/2) as in Marian and Llama.
        theta: base of the geometric series of wavelengths.
        fraction: share of each head's features that rope rotates (1.0 all; GPT-NeoX 0.25).
        scaling: how rope is stretched beyond the length it was trained on: `linear` (Chen et al. 2023), `ntk` (a larger
            theta), `yarn` (Peng et al. 2023) or `llama3` (Llama 3.1).
        scaling_factor: by how much; 1.0 changes nothing.
        original_len: the length before stretching, which yarn and llama3 refer to.
        max_len: rows of the learned table; a longer input is refused. Other kinds ignore it.
        buckets: t5_bias: number of distances that are told apart.
        max_distance: t5_bias: from here on all distances share a bucket; shaw: distances are clipped to it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: PositionKind = "sinusoidal"
    layout: PairLayout = "interleaved"
    theta: float = 10000.0
    fraction: float = 1.0
    scaling: RopeScaling = "none"
    scaling_factor: float = 1.0
    original_len: int = 2048
    max_len: int = 1024
    buckets: int = 32
    max_distance: int = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class PatternSpec:
    """Which tokens self-attention may look at, within what the architecture allows (a decoder never looks ahead).

    Attributes:
        kind: `full`; `window` (Child et al. 2019; Mistral): only near ones; `prefix` (Raffel et al. 2020, figure 4): a
            decoder whose first part, as long as the batch says, is seen from everywhere; `document`: only those of the
            same document, where several are packed into one sequence.
        window: tokens that `window` sees, itself included: i - window < j <= i; an encoder sees as many on the other
            side.
        global_tokens: the first so many tokens see, and are seen by, everything in spite of the window (Beltagy et al.
            2020, Longformer; Zaheer et al. 2020); in a decoder they still do not look ahead.
        layers: one letter a layer, repeated from the first layer on: `S` has this pattern, `L` sees everything (for
            example SSSL); empty: all layers have it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: PatternKind = "full"
    window: int = 256
    global_tokens: int = 0
    layers: str = ""

    def applies(self, layer: int) -> bool:
        """Whether the layer (counted from 0) has the pattern, or sees everything."""
        return self.kind != "full" and (not self.layers or self.layers[layer % len(self.layers)] == "S")


# Positions that live in the scores of attention, and so in its operator.
IN_SCORES: tuple[PositionKind, ...] = ("alibi", "t5_bias", "shaw", "txl")

# Axes that are records: field of ModelSpec -> its class.
NESTED: dict[str, type[PositionSpec] | type[PatternSpec]] = {"position": PositionSpec, "pattern": PatternSpec}
