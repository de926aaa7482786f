"""Embedding: from token ids to the residual stream.

    x_t = dropout(norm(table[token_t] * sqrt(D) + position_t))

(scale, position and norm each if the spec says so)

Shape letters: B batch, T length, D width, V vocabulary (padded), M longest learned position.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2bench.models.norm import Norm
from t2bench.models.position import PositionTables, Span
from t2bench.spec.model import ModelSpec


class Embedding(nn.Module):
    """Everything between the token table, which may be shared and so is handed in, and the first layer."""

    def __init__(self, spec: ModelSpec, tables: PositionTables) -> None:
        super().__init__()
        self.scale = math.sqrt(spec.width) if spec.embed_scale else 1.0
        self.dropout = spec.dropout
        self.tables = tables
        learned = spec.position.kind == "learned"
        self.positions_MD = nn.Parameter(torch.empty(spec.position.max_len, spec.width)) if learned else None
        self.norm = Norm("layer", spec.width, spec.norm_eps) if spec.embed_norm else None

    def forward(self, tokens_BT: Tensor, table_VD: Tensor, span: Span) -> Tensor:
        """Embed.

        Args:
            tokens_BT: token ids, int64.
            table_VD: the token table.
            span: the tokens' positions.

        Returns:
            x_BTD in the table's dtype.

        Raises:
            ValueError: the input is longer than the learned position table.
        """
        x_BTD = F.embedding(tokens_BT, table_VD)
        if self.scale != 1.0:
            x_BTD = x_BTD * self.scale
        position_TD = self._positions(span, x_BTD)
        if position_TD is not None:
            x_BTD = x_BTD + position_TD
        if self.norm is not None:
            x_BTD = self.norm(x_BTD)
        if self.dropout > 0.0:
            x_BTD = F.dropout(x_BTD, self.dropout, self.training)
        return x_BTD

    def _positions(self, span: Span, like: Tensor) -> Tensor | None:
        if self.positions_MD is None:
            table_TD = self.tables.sinusoid(span.capacity, like)
            return None if table_TD is None else span.rows(table_TD)
        if span.positions_T is not None:
            return span.rows(self.positions_MD)
        max_len, end = self.positions_MD.shape[0], span.start + span.length
        if end > max_len:
            raise ValueError(f"{end} tokens, but the learned position table ends at position.max_len {max_len}")
        return self.positions_MD[span.start : end]
