"""Features: what a variant's attention operator is, apart from its sizes and its back end, and inputs to try it with.

The operator alone, whether it is checked or timed, needs masks and scores without the model around it: prefixes and
documents of some length, and tables of biases drawn at random.

Shape letters: B batch, T query length, S key length, H query heads, K head dim, R distances.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from t2bench.attention.dispatch import MaskForm, mask_form
from t2bench.attention.mask import Mask
from t2bench.attention.packed import Packed
from t2bench.attention.scores import RelativeBias, Scores
from t2bench.spec.axes import IN_SCORES, Padding, PatternSpec, PositionSpec, Score
from t2bench.spec.model import ModelSpec

DOCUMENTS = 3


def _no_position() -> PositionSpec:
    return PositionSpec(kind="none")


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """The axes that the operator depends on; see `t2bench.spec.model` for each. The default is plain attention."""

    pattern: PatternSpec = field(default_factory=PatternSpec)
    position: PositionSpec = field(default_factory=_no_position)
    score: Score = "scaled_dot"
    softcap: float | None = None
    padding: Padding = "mask"

    @classmethod
    def of(cls, spec: ModelSpec) -> Features:
        """Those of the self-attention of a variant."""
        return cls(
            pattern=spec.pattern,
            position=spec.position,
            score=spec.score,
            softcap=spec.attention_softcap,
            padding=spec.padding,
        )

    def of_cross_attention(self) -> Features:
        """What cross-attention has of them: it sees the whole source, and knows no distance between two texts."""
        return replace(self, pattern=PatternSpec(), position=_no_position())

    def within(self, length: int) -> Features:
        """The same with a window that hides something of so short a sequence."""
        window = max(1, min(self.pattern.window, length // 4))
        return replace(self, pattern=replace(self.pattern, window=window))

    def mask(
        self, *, batch: int, length: int, causal: bool, device: torch.device | str, key_lengths_B: Tensor | None = None
    ) -> Mask:
        """The mask of sequences of one length: a prefix is a third of it, and there are `DOCUMENTS` documents."""
        pattern = self.pattern
        windowed = pattern.kind == "window"
        prefix_B = documents_BS = None
        if pattern.kind == "prefix" and causal:
            prefix_B = torch.full((batch,), length // 3, device=device)
        if pattern.kind == "document":
            documents_BS = (torch.arange(length) * DOCUMENTS // length).expand(batch, length)
        return Mask(
            causal=causal,
            key_lengths_B=key_lengths_B,
            window=pattern.window if windowed else None,
            both_sides=windowed and not causal,
            global_tokens=pattern.global_tokens if windowed else 0,
            prefix_lengths_B=prefix_B,
            documents_BS=documents_BS,
        )

    def packed_mask(self, *, length: int, causal: bool) -> Mask:
        """The mask of one row of two sequences, the first twice as long."""
        second = max(1, length // 3)
        lengths = (length - second, second) if length > 1 else (1,)
        packed = Packed(query_lengths=lengths, key_lengths=lengths, nested=self.padding == "nested")
        window = self.pattern.window if self.pattern.kind == "window" else None
        return Mask(causal=causal, window=window, both_sides=window is not None and not causal, packed=packed)

    def mask_form(self, backend: str, *, length: int, causal: bool) -> MaskForm:
        """How the mask of a sequence reaches a back end; see `t2bench.attention.dispatch.mask_form`."""
        relative = None
        if self.position.kind in IN_SCORES:
            by_query = 2 if self.position.kind in ("shaw", "txl") else 1
            relative = RelativeBias(values_BHTR=torch.zeros(1, 1, by_query, 1), left=0, right=0)
        mask = self.mask(batch=1, length=length, causal=causal, device="cpu")
        return mask_form(backend, mask, Scores(relative=relative), length, length)

    def tables(
        self, *, heads: int, head_dim: int, length: int, causal: bool, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """What the scores are made of besides queries and keys, and a model would learn: float32, drawn at random."""

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, device=generator.device)

        found: list[Tensor] = []
        distances = sum(self._reach(length, causal)) + 1
        if self.position.kind == "t5_bias":
            found.append(draw(1, heads, 1, distances))
        elif self.position.kind == "shaw":
            found += [draw(distances, head_dim), draw(distances, head_dim)]
        elif self.position.kind == "txl":
            found.append(draw(heads, distances, head_dim))
        if self.score == "additive":
            found.append(draw(heads, head_dim))
        return tuple(found)

    def sharpness(self, head_dim: int) -> float:
        """The size of queries for which scores, of keys of size 1, have a size of 2 or so.

        What nothing scales down would saturate the softmax, where gradients are differences of equal numbers.
        """
        return 2.0 * (head_dim**-0.5 if self.score == "dot" else 1.0)

    def scores(self, q_BHTK: Tensor, tables: tuple[Tensor, ...], *, length: int, causal: bool) -> Scores:
        """The scores for some queries of a sequence of `length` keys; differentiable in queries and tables."""
        scale = {"scaled_dot": q_BHTK.shape[-1] ** -0.5, "dot": 1.0, "additive": None}[self.score]
        left, right = self._reach(length, causal)
        relative = value_table_RK = None
        kind = self.position.kind
        if kind == "alibi":
            relative = _alibi(q_BHTK, left, right)
        elif kind == "t5_bias":
            relative = RelativeBias(values_BHTR=tables[0], left=left, right=right)
        elif kind in ("shaw", "txl"):
            assert scale is not None
            values_BHTR = (scale * q_BHTK) @ tables[0].transpose(-2, -1)
            relative = RelativeBias(values_BHTR=values_BHTR, left=left, right=right)
            value_table_RK = tables[1] if kind == "shaw" else None
        return Scores(
            scale=scale,
            softcap=self.softcap,
            relative=relative,
            additive_HK=tables[-1] if self.score == "additive" else None,
            value_table_RK=value_table_RK,
        )

    def _reach(self, length: int, causal: bool) -> tuple[int, int]:
        """Distances to the left and to the right that are told apart."""
        if self.position.kind in ("t5_bias", "shaw"):
            reach = min(self.position.max_distance, max(1, length - 1))
        else:
            reach = max(1, length - 1)
        ahead = causal and self.pattern.kind != "prefix"
        return reach, 1 if ahead else reach


def _alibi(q_BHTK: Tensor, left: int, right: int) -> RelativeBias:
    """Slopes of powers of two, in the geometric series of Press et al. 2021, section 3."""
    heads = q_BHTK.shape[1]
    wide = torch.promote_types(q_BHTK.dtype, torch.float32)
    slopes_H = 2.0 ** (-8.0 * torch.arange(1, heads + 1, device=q_BHTK.device, dtype=wide) / heads)
    distance_R = torch.arange(-left, right + 1, device=q_BHTK.device, dtype=wide).abs()
    values_BHTR = (-slopes_H[:, None] * distance_R)[None, :, None]
    return RelativeBias(values_BHTR=values_BHTR.to(q_BHTK.dtype), left=left, right=right, slopes_H=slopes_H)
