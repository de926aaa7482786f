"""Layer and Stack: sub-layers with residuals and norms, repeated.

    post  x <- N(x + f(x))      Vaswani et al. 2017
    pre   x <- x + f(N(x))      Xiong et al. 2020

Shape letters: B batch, T length, S source length, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from t2bench.attention.mask import Mask
from t2bench.models.attention import Attention
from t2bench.models.embedding import Embedding
from t2bench.models.feedforward import FeedForward
from t2bench.models.norm import Norm
from t2bench.models.position import PositionTables, Rotation
from t2bench.spec.model import ModelSpec


class Layer(nn.Module):
    """Self-attention, cross-attention if there is a source, feed-forward: each with its residual and norm."""

    def __init__(self, spec: ModelSpec, *, cross: bool) -> None:
        super().__init__()
        self.pre = spec.norm_place == "pre"
        self.dropout = spec.dropout
        self.self_attention = Attention(spec, cross=False)
        self.self_norm = Norm(spec.norm, spec.width, spec.norm_eps)
        self.cross_attention = Attention(spec, cross=True) if cross else None
        self.cross_norm = Norm(spec.norm, spec.width, spec.norm_eps) if cross else None
        self.feed_forward = FeedForward(spec)
        self.ff_norm = Norm(spec.norm, spec.width, spec.norm_eps)

    def forward(
        self,
        x_BTD: Tensor,
        mask: Mask,
        rotation: Rotation | None,
        source_BSD: Tensor | None = None,
        source_mask: Mask | None = None,
    ) -> Tensor:
        """x_BTD -> x_BTD."""
        x_BTD = self._add(x_BTD, self.self_norm, lambda h: self.self_attention(h, h, mask, rotation))
        if self.cross_attention is not None and self.cross_norm is not None:
            cross = self.cross_attention
            x_BTD = self._add(x_BTD, self.cross_norm, lambda h: cross(h, source_BSD, source_mask, None))
        return self._add(x_BTD, self.ff_norm, self.feed_forward)

    def _add(self, x_BTD: Tensor, norm: nn.Module, f: Callable[[Tensor], Tensor]) -> Tensor:
        """One sub-layer f with its norm, dropout and residual."""
        f_BTD = f(norm(x_BTD)) if self.pre else f(x_BTD)
        if self.dropout > 0.0:
            f_BTD = F.dropout(f_BTD, self.dropout, self.training)
        sum_BTD = x_BTD + f_BTD
        out_BTD: Tensor = sum_BTD if self.pre else norm(sum_BTD)
        return out_BTD


class Stack(nn.Module):
    """Embedding, layers, final norm: an encoder or a decoder without its output table."""

    def __init__(self, spec: ModelSpec, tables: PositionTables, *, num_layers: int, cross: bool) -> None:
        super().__init__()
        self.tables = tables
        self.embedding = Embedding(spec, tables)
        self.layers = nn.ModuleList(Layer(spec, cross=cross) for _ in range(num_layers))
        self.final_norm = Norm(spec.norm, spec.width, spec.norm_eps) if spec.final_norm else None

    def forward(
        self,
        tokens_BT: Tensor,
        table_VD: Tensor,
        mask: Mask,
        source_BSD: Tensor | None = None,
        source_mask: Mask | None = None,
    ) -> Tensor:
        """Token ids (B, T) -> hidden states (B, T, D)."""
        x_BTD: Tensor = self.embedding(tokens_BT, table_VD)
        rotation = self.tables.rotation(tokens_BT.shape[1], x_BTD)
        for layer in self.layers:
            x_BTD = layer(x_BTD, mask, rotation, source_BSD, source_mask)
        return x_BTD if self.final_norm is None else self.final_norm(x_BTD)
