"""The transformer from the papers' equations, one sequence, one head and one query at a time, in float64.

It vouches for every combination of axes that no library has, and shares no code with `t2bench.models` and
`t2bench.attention`: no batches, no masks, no padding, no fused anything. Sequences are cut to their lengths first. The
libraries in this package vouch for it in turn.

Shape letters: T length, S key length, D width, K head dim, F hidden features, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from t2bench.spec.axes import PositionSpec
from t2bench.spec.model import ModelSpec

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How one stack reads one sequence.

    Attributes:
        stack: `encoder` or `decoder`.
        prefix: leading tokens that a prefix decoder sees from everywhere.
        documents: each token's document, or empty.
        source_SD: what cross-attention reads.
        remembered: each layer's inputs of the segments before, empty or one (M, D) a layer.
        left_behind: filled with each layer's inputs of this segment.
    """

    stack: str
    prefix: int = 0
    documents: Sequence[int] = ()
    source_SD: Tensor | None = None
    remembered: Sequence[Tensor] = ()
    left_behind: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Definition:
    """A spec with weights under our logical names, in float64 (or less, to see what that costs)."""

    spec: ModelSpec
    weights: Weights

    def logits(self, tokens: Sequence[int], source: Sequence[int] = (), **reading: object) -> Tensor:
        """(T, V) of one sequence; `reading` as in Reading."""
        spec, w = self.spec, self.weights
        source_SD = None
        if spec.arch == "encdec":
            table = "source_table_VD" if spec.has_source_table else "table_VD"
            source_SD = self._stack(w[table], source, Reading(stack="encoder"))
        stack = "encoder" if spec.arch == "encoder" else "decoder"
        x_TD = self._stack(w["table_VD"], tokens, Reading(stack=stack, source_SD=source_SD, **reading))  # type: ignore[arg-type]
        if spec.head_scale:
            x_TD = x_TD / math.sqrt(spec.width)
        return _capped(x_TD @ w["output_table_VD" if spec.has_output_table else "table_VD"].T, spec.logit_softcap)

    def memories(self, tokens: Sequence[int]) -> list[Tensor]:
        """What each layer of a decoder remembers of a segment, (M, D) each."""
        reading = Reading(stack="decoder")
        self._stack(self.weights["table_VD"], tokens, reading)
        return [x_TD[-self.spec.memory :] for x_TD in reading.left_behind]

    def _stack(self, table_VD: Tensor, tokens: Sequence[int], reading: Reading) -> Tensor:
        spec, start = self.spec, len(reading.remembered[0]) if reading.remembered else 0
        rows = [self._embedding(table_VD, token, start + t, reading.stack) for t, token in enumerate(tokens)]
        x_TD = torch.stack(rows)
        for index in range(spec.enc_layers if reading.stack == "encoder" else spec.dec_layers):
            reading.left_behind.append(x_TD)
            x_TD = self._layer(x_TD, index, reading)
        return self._norm(x_TD, f"{reading.stack}.final_norm", spec.norm) if spec.final_norm else x_TD

    def _embedding(self, table_VD: Tensor, token: int, t: int, stack: str) -> Tensor:
        spec, position = self.spec, self.spec.position
        x_D = table_VD[token] * (math.sqrt(spec.width) if spec.embed_scale else 1.0)
        if position.kind == "learned":
            x_D = x_D + self.weights[f"{stack}.embedding.positions_MD"][t]
        if position.kind == "sinusoidal":
            x_D = x_D + sinusoid(t, spec.width, position).to(x_D.dtype)
        return self._norm(x_D, f"{stack}.embedding.norm", "layer") if spec.embed_norm else x_D

    def _layer(self, x_TD: Tensor, index: int, reading: Reading) -> Tensor:
        spec, name = self.spec, f"{reading.stack}.layers.{index}"
        memory_MD = reading.remembered[index] if reading.remembered else x_TD[:0]

        def attend_self(h_TD: Tensor) -> Tensor:
            before_MD = memory_MD
            if spec.norm_place in ("pre", "sandwich"):
                before_MD = self._norm(memory_MD, f"{name}.self_norm", spec.norm)
            return self._attention(h_TD, torch.cat((before_MD, h_TD)), f"{name}.self_attention", index, reading)

        def attend_source(h_TD: Tensor) -> Tensor:
            assert reading.source_SD is not None
            return self._attention(h_TD, reading.source_SD, f"{name}.cross_attention", index, None)

        def feed_forward(h_TD: Tensor) -> Tensor:
            return self._feed_forward(h_TD, f"{name}.feed_forward")

        if spec.residual == "parallel":
            self_TD = attend_self(self._norm(x_TD, f"{name}.self_norm", spec.norm))
            return x_TD + self_TD + feed_forward(self._norm(x_TD, f"{name}.ff_norm", spec.norm))
        x_TD = self._sublayer(x_TD, f"{name}.self", attend_self)
        if reading.source_SD is not None:
            x_TD = self._sublayer(x_TD, f"{name}.cross", attend_source)
        return self._sublayer(x_TD, f"{name}.ff", feed_forward)

    def _sublayer(self, x_TD: Tensor, name: str, f: Callable[[Tensor], Tensor]) -> Tensor:
        """Residual and norms around f, as the docstring of ModelSpec defines them."""
        spec = self.spec

        def norm(y_TD: Tensor, which: str = "norm") -> Tensor:
            return self._norm(y_TD, f"{name}_{which}", spec.norm)

        kept_TD = torch.zeros_like(x_TD) if spec.residual == "none" else x_TD
        if spec.norm_place == "post":
            return norm(kept_TD + f(x_TD))
        if spec.norm_place == "pre":
            return kept_TD + f(norm(x_TD))
        if spec.norm_place == "sandwich":
            return kept_TD + norm(f(norm(x_TD)), "out_norm")
        return kept_TD + norm(f(x_TD))

    def _attention(self, x_TD: Tensor, context_SD: Tensor, name: str, index: int, reading: Reading | None) -> Tensor:
        """Self-attention where there is a reading, else cross-attention, which knows no positions."""
        spec, size = self.spec, self.spec.dim_per_head
        q_TO, k_SO, v_SO = (
            self._linear(y, f"{name}.{p}") for p, y in zip("qkv", (x_TD, context_SD, context_SD), strict=True)
        )
        if spec.qk_norm and spec.qk_norm_span == "width":
            q_TO, k_SO = self._norm(q_TO, f"{name}.q_norm", "rms"), self._norm(k_SO, f"{name}.k_norm", "rms")
        num_before = len(context_SD) - len(x_TD)
        heads = []
        for head in range(spec.heads):
            kv_head = head // (spec.heads // spec.num_kv_heads)
            q_TK = q_TO[:, head * size : (head + 1) * size]
            k_SK, v_SK = (y[:, kv_head * size : (kv_head + 1) * size] for y in (k_SO, v_SO))
            if spec.qk_norm and spec.qk_norm_span == "head":
                q_TK, k_SK = self._norm(q_TK, f"{name}.q_norm", "rms"), self._norm(k_SK, f"{name}.k_norm", "rms")
            if reading is not None and spec.position.kind == "rope":
                q_TK = torch.stack([rotated(q, num_before + t, spec) for t, q in enumerate(q_TK)])
                k_SK = torch.stack([rotated(k, s, spec) for s, k in enumerate(k_SK)])
            rows = []
            for t, q_K in enumerate(q_TK):
                p = num_before + t
                keys = [s for s in range(len(k_SK)) if reading is None or self._sees(p, s, len(k_SK), index, reading)]
                scores = [self._score(q_K, k_SK[s], s - p, name, head, kv_head, reading) for s in keys]
                weights_S = torch.stack(scores).softmax(0)
                values = [v_SK[s] + self._relative_value(s - p, name, reading) for s in keys]
                rows.append(sum((a * v for a, v in zip(weights_S, values, strict=True)), torch.zeros_like(v_SK[0])))
            heads.append(torch.stack(rows))
        return self._linear(torch.cat(heads, dim=1), f"{name}.out")

    def _sees(self, p: int, s: int, num_keys: int, index: int, reading: Reading) -> bool:
        """Whether the token at p may look at the one at s, both counted from the first one remembered."""
        pattern, causal = self.spec.pattern, reading.stack == "decoder"
        kind = pattern.kind
        if kind != "full" and pattern.layers and pattern.layers[index % len(pattern.layers)] == "L":
            kind = "full"
        if causal and s > p and not (kind == "prefix" and s < reading.prefix):
            return False
        if kind == "window":
            near = abs(p - s) < pattern.window
            return near or min(p, s) < pattern.global_tokens
        if kind == "document" and reading.documents:
            return reading.documents[p] == reading.documents[s]
        return True

    def _score(
        self, q_K: Tensor, k_K: Tensor, distance: int, name: str, head: int, kv_head: int, reading: Reading | None
    ) -> Tensor:
        """The score z before the softmax; `distance` is s - p. Cross-attention has no relative positions."""
        spec, w, position = self.spec, self.weights, self.spec.position
        kind = position.kind if reading is not None else "none"
        scale = 1.0 if spec.score == "dot" else 1.0 / math.sqrt(spec.dim_per_head)
        if spec.score == "additive":
            z = (w[f"{name}.score_HK"][head] * torch.tanh(q_K + k_K)).sum()
        elif kind == "txl":
            at_D = sinusoid(-distance, spec.width, position).to(q_K.dtype)
            rows = slice(kv_head * spec.dim_per_head, (kv_head + 1) * spec.dim_per_head)
            r_K = w[f"{name}.txl.r.weight"][rows] @ at_D
            z = scale * ((q_K + w[f"{name}.txl.u_HK"][head]) @ k_K + (q_K + w[f"{name}.txl.v_HK"][head]) @ r_K)
        else:
            z = scale * (q_K @ k_K)
        if kind == "shaw":
            z = z + scale * (q_K @ w[f"{name}.shaw.key_RK"][self._clipped(distance)])
        if kind == "alibi":
            z = z - slope(head, spec.heads) * abs(distance)
        if kind == "t5_bias":
            assert reading is not None
            bucket = t5_bucket(distance, position, both_sides=self._looks_ahead(reading.stack))
            z = z + w[f"{reading.stack}.bias.table_NH"][bucket, head]
        return _capped(z, spec.attention_softcap)

    def _relative_value(self, distance: int, name: str, reading: Reading | None) -> Tensor:
        if reading is None or self.spec.position.kind != "shaw":
            return torch.zeros((), dtype=self.weights["table_VD"].dtype)
        return self.weights[f"{name}.shaw.value_RK"][self._clipped(distance)]

    def _clipped(self, distance: int) -> int:
        """Row of Shaw's tables, which begin at the largest distance behind the query."""
        reach = self.spec.position.max_distance
        return min(max(distance, -reach), reach) + reach

    def _looks_ahead(self, stack: str) -> bool:
        return stack == "encoder" or self.spec.pattern.kind == "prefix"

    def _feed_forward(self, x_TD: Tensor, name: str) -> Tensor:
        hidden_TF = self._linear(x_TD, f"{name}.up")
        if self.spec.gated:
            hidden_TF = activated(self._linear(x_TD, f"{name}.gate"), self.spec.activation) * hidden_TF
        else:
            hidden_TF = activated(hidden_TF, self.spec.activation)
        return self._linear(hidden_TF, f"{name}.down")

    def _linear(self, x_TD: Tensor, name: str) -> Tensor:
        y_TF = x_TD @ self.weights[f"{name}.weight"].T
        return y_TF + self.weights[f"{name}.bias"] if self.spec.bias else y_TF

    def _norm(self, x_TD: Tensor, name: str, kind: str) -> Tensor:
        weight_D, eps = self.weights[f"{name}.weight"], self.spec.norm_eps
        if kind == "rms":
            return x_TD / torch.sqrt((x_TD * x_TD).mean(-1, keepdim=True) + eps) * weight_D
        centred_TD = x_TD - x_TD.mean(-1, keepdim=True)
        variance_T1 = (centred_TD * centred_TD).mean(-1, keepdim=True)
        return centred_TD / torch.sqrt(variance_T1 + eps) * weight_D + self.weights[f"{name}.bias"]


def _capped(x: Tensor, cap: float | None) -> Tensor:
    return x if cap is None else cap * torch.tanh(x / cap)


def activated(x: Tensor, kind: str) -> Tensor:
    """The activation function, from elementary ones."""
    if kind == "gelu":
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    if kind == "gelu_tanh":
        return x * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    if kind == "silu":
        return x / (1 + torch.exp(-x))
    positive = torch.where(x > 0, x, torch.zeros_like(x))
    return positive * positive if kind == "relu2" else positive


def sinusoid(t: int, size: int, position: PositionSpec) -> Tensor:
    """Vaswani et al. 2017, section 3.5, in either layout."""
    found = torch.zeros(size, dtype=torch.float64)
    for i in range(size // 2):
        angle = t / position.theta ** (2 * i / size)
        at_sin, at_cos = (2 * i, 2 * i + 1) if position.layout == "interleaved" else (i, size // 2 + i)
        found[at_sin], found[at_cos] = math.sin(angle), math.cos(angle)
    return found


def rotated(x_K: Tensor, t: int, spec: ModelSpec) -> Tensor:
    """Su et al. 2021, eq. 34: each pair of features turned by its own angle."""
    position, size = spec.position, int(len(x_K) * spec.position.fraction)
    found = x_K.clone()
    for i in range(size // 2):
        frequency, length = rope_frequency(i, size, position)
        a, b = (2 * i, 2 * i + 1) if position.layout == "interleaved" else (i, size // 2 + i)
        sin, cos = length * math.sin(t * frequency), length * math.cos(t * frequency)
        found[a], found[b] = x_K[a] * cos - x_K[b] * sin, x_K[a] * sin + x_K[b] * cos
    return found


def rope_frequency(i: int, size: int, position: PositionSpec) -> tuple[float, float]:
    """Angle per token of the pair i, and what the pair's length is multiplied by."""
    theta, factor, original = position.theta, position.scaling_factor, position.original_len
    plain = theta ** (-2 * i / size)
    turns = original * plain / (2 * math.pi)
    if position.scaling == "linear":  # Chen et al. 2023: positions are divided
        return plain / factor, 1.0
    if position.scaling == "ntk":
        return (theta * factor ** (size / (size - 2))) ** (-2 * i / size), 1.0
    if position.scaling == "yarn":  # Peng et al. 2023, eq. 22 and 23; limits are rounded to whole pairs, as in its code
        low, high = (size * math.log(original / (n * 2 * math.pi)) / (2 * math.log(theta)) for n in (32, 1))
        first, last = max(math.floor(low), 0), min(math.ceil(high), size - 1)
        ramp = min(max((i - first) / max(last - first, 0.001), 0.0), 1.0)
        return plain * (1 - ramp) + plain / factor * ramp, 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0
    if position.scaling == "llama3":  # wavelengths from original / 4 up to original are blended
        smooth = min(max((turns - 1) / (4 - 1), 0.0), 1.0)
        return (1 - smooth) * plain / factor + smooth * plain, 1.0
    return plain, 1.0


def slope(head: int, heads: int) -> float:
    """Press et al. 2021: geometric series; heads beyond a power of two take every other slope of the next one."""
    power = 2 ** math.floor(math.log2(heads))
    if head < power:
        return float(2.0 ** (-8.0 * (head + 1) / power))
    return float(2.0 ** (-8.0 * (2 * (head - power) + 1) / (2 * power)))


def t5_bucket(distance: int, position: PositionSpec, *, both_sides: bool) -> int:
    """Raffel et al. 2020, section 2.1: small distances have their own bucket, larger ones share logarithmic ones."""
    count, offset = position.buckets, 0
    if both_sides:
        count //= 2
        offset = count if distance > 0 else 0
        size = abs(distance)
    else:
        size = max(-distance, 0)
    exact = count // 2
    if size < exact:
        return offset + size
    share = math.log(size / exact) / math.log(position.max_distance / exact)
    return offset + min(exact + int(share * (count - exact) + 1e-6), count - 1)
