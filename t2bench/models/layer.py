"""Layer: self-attention, cross-attention if there is a source, feed-forward, each with residual and norm.

    post      x <- N(x + f(x))          Vaswani et al. 2017
    pre       x <- x + f(N(x))          Xiong et al. 2020
    sandwich  x <- x + N'(f(N(x)))      Ding et al. 2021 (CogView); Gemma 2
    inner     x <- x + N(f(x))          Liu et al. 2021 (Swin v2); OLMo 2

    parallel  x <- x + attention(N(x)) + feed_forward(N'(x))      GPT-NeoX; GPT-J, where N = N'
    none      the same without "x +"

Shape letters: B batch, T length, S source length, M remembered positions, D width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2bench.attention.mask import Mask
from t2bench.models.attention import CrossAttention, SelfAttention
from t2bench.models.cache import LayerCache
from t2bench.models.feedforward import FeedForward
from t2bench.models.norm import Norm
from t2bench.models.shared import Shared
from t2bench.spec.model import ModelSpec


class Layer(nn.Module):
    """One layer of a stack.

    Args:
        spec: the variant.
        cross: it attends to a source.
        causal: it belongs to a decoder.
        patterned: its self-attention has the spec's pattern.
    """

    def __init__(self, spec: ModelSpec, *, cross: bool, causal: bool, patterned: bool) -> None:
        super().__init__()
        self.norms_input = spec.norm_place in ("pre", "sandwich")
        self.norms_sum = spec.norm_place == "post"
        self.parallel = spec.residual == "parallel"
        self.adds = spec.residual != "none"
        self.dropout = spec.dropout
        sandwich = spec.norm_place == "sandwich"

        def norm(exists: bool = True) -> Norm | None:
            return Norm(spec.norm, spec.width, spec.norm_eps) if exists else None

        self.self_attention = SelfAttention(spec, patterned=patterned, causal=causal)
        self.self_norm, self.self_out_norm = norm(), norm(sandwich)
        self.cross_attention = CrossAttention(spec) if cross else None
        self.cross_norm, self.cross_out_norm = norm(cross), norm(cross and sandwich)
        self.feed_forward = FeedForward(spec)
        self.ff_norm, self.ff_out_norm = norm(), norm(sandwich)

    def forward(
        self,
        x_BTD: Tensor,
        shared: Shared,
        source_BSD: Tensor | None = None,
        source_mask: Mask | None = None,
        memory_BMD: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """x_BTD -> x_BTD; the arguments are those of the attentions."""

        def attend_self(h_BTD: Tensor) -> Tensor:
            remembered_BMD = memory_BMD
            if remembered_BMD is not None and self.norms_input and self.self_norm is not None:
                remembered_BMD = self.self_norm(remembered_BMD)
            out_BTD: Tensor = self.self_attention(h_BTD, shared, memory_BMD=remembered_BMD, cache=cache)
            return out_BTD

        if self.parallel:
            f_BTD = self._branch(x_BTD, self.self_norm, None, attend_self)
            return _sum(_sum(x_BTD, f_BTD), self._branch(x_BTD, self.ff_norm, None, self.feed_forward))
        x_BTD = self._add(x_BTD, self.self_norm, self.self_out_norm, attend_self)
        cross = self.cross_attention
        if cross is not None:
            x_BTD = self._add(
                x_BTD, self.cross_norm, self.cross_out_norm, lambda h: cross(h, source_BSD, source_mask, cache=cache)
            )
        return self._add(x_BTD, self.ff_norm, self.ff_out_norm, self.feed_forward)

    def _add(self, x_BTD: Tensor, norm: Norm | None, out_norm: Norm | None, f: Callable[[Tensor], Tensor]) -> Tensor:
        """One sub-layer f with its norms, dropout and residual."""
        f_BTD = self._branch(x_BTD, norm, out_norm, f)
        if self.adds:
            f_BTD = _sum(x_BTD, f_BTD)
        return norm(f_BTD) if self.norms_sum and norm is not None else f_BTD

    def _branch(self, x_BTD: Tensor, norm: Norm | None, out_norm: Norm | None, f: Callable[[Tensor], Tensor]) -> Tensor:
        """What one sub-layer adds: f between its norms, with dropout."""
        f_BTD = f(norm(x_BTD)) if self.norms_input and norm is not None else f(x_BTD)
        if not self.norms_input and not self.norms_sum:
            out_norm = norm
        if out_norm is not None:
            f_BTD = out_norm(f_BTD)
        return F.dropout(f_BTD, self.dropout, self.training) if self.dropout > 0.0 else f_BTD


def _sum(x_BTD: Tensor, f_BTD: Tensor) -> Tensor:
    """The sum, in place of f where nothing else can need it: a pass over fresh memory costs twice as much."""
    if torch.is_grad_enabled() or f_BTD.dtype != x_BTD.dtype:
        return x_BTD + f_BTD
    return f_BTD.add_(x_BTD)
