"""Positions: how the model knows where a token stands.

    sinusoidal  x_t + p_t,  p_t = (sin(t f_i), cos(t f_i)),  f_i = theta^(-2i/D)        Vaswani et al. 2017, section 3.5
    learned     x_t + P[t]                                                              Gehring et al. 2017
    rope        the pair i of q_t and k_t is rotated by the angle t f_i,  f_i = theta^(-2i/R)    Su et al. 2021, eq. 34
    none        nothing

A pair is two features of the width D (sinusoidal) or of the rotated part R of a head (rope): `interleaved` takes
features (2i, 2i+1), `halves` takes (i, i + n/2).

Tables are computed in float64, rounded once to the model's dtype, and kept: one per model, not one per layer and call.

Shape letters: B batch, T length, D width, H heads, K head dim, R rotated features of a head, P pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from t2bench.spec.model import ModelSpec, PairLayout

Rotation = tuple[Tensor, Tensor]


class PositionTables:
    """Sines and cosines of one model, computed on first use for each (length, dtype, device) and shared by all layers.

    Args:
        spec: the variant; decides between a sinusoidal table, a rotation, or neither.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.kind = spec.position.kind
        self.layout: PairLayout = spec.position.layout
        self.theta = spec.position.theta
        self.num_features = spec.rotary_dim if self.kind == "rope" else spec.width
        self._tables: dict[tuple[int, torch.dtype, torch.device], Rotation] = {}

    def sinusoid(self, length: int, like: Tensor) -> Tensor | None:
        """Table (T, D) to add to the embeddings, in the dtype and on the device of `like`; None for other kinds."""
        return self._get(length, like)[0] if self.kind == "sinusoidal" else None

    def rotation(self, length: int, like: Tensor) -> Rotation | None:
        """Cosines and sines, each (T, 1, P), for `rotate`; None for other kinds."""
        return self._get(length, like) if self.kind == "rope" else None

    def _get(self, length: int, like: Tensor) -> Rotation:
        key = (length, like.dtype, like.device)
        if key not in self._tables:
            # A table made under inference mode could not be saved for a later backward pass.
            with torch.inference_mode(False):
                self._tables[key] = self._compute(length, like)
        return self._tables[key]

    def _compute(self, length: int, like: Tensor) -> Rotation:
        pair_P = torch.arange(0, self.num_features, 2, dtype=torch.float64, device="cpu")
        frequency_P = self.theta ** (-pair_P / self.num_features)
        angle_TP = torch.arange(length, dtype=torch.float64, device="cpu")[:, None] * frequency_P
        sin_TP, cos_TP = angle_TP.sin(), angle_TP.cos()
        if self.kind == "rope":
            return cos_TP[:, None].to(like.device, like.dtype), sin_TP[:, None].to(like.device, like.dtype)
        table_TD = merge_pairs(sin_TP, cos_TP, self.layout).to(like.device, like.dtype)
        return table_TD, table_TD


def rotate(x_BTHK: Tensor, rotation: Rotation, layout: PairLayout) -> Tensor:
    """Rotate the first R features of every head by its position's angle; the other K - R pass unchanged."""
    cos_TP, sin_TP = rotation
    rotary_dim = 2 * cos_TP.shape[-1]
    x_BTHR, rest_BTHK = x_BTHK[..., :rotary_dim], x_BTHK[..., rotary_dim:]
    if layout == "interleaved":
        a_BTHP, b_BTHP = x_BTHR[..., 0::2], x_BTHR[..., 1::2]
    else:
        a_BTHP, b_BTHP = x_BTHR.chunk(2, dim=-1)
    turned_BTHR = merge_pairs(a_BTHP * cos_TP - b_BTHP * sin_TP, a_BTHP * sin_TP + b_BTHP * cos_TP, layout)
    return turned_BTHR if rest_BTHK.shape[-1] == 0 else torch.cat((turned_BTHR, rest_BTHK), dim=-1)


def merge_pairs(first_P: Tensor, second_P: Tensor, layout: PairLayout) -> Tensor:
    """Join the two members of all pairs on the last axis: (..., P) twice -> (..., 2P)."""
    if layout == "interleaved":
        return torch.stack((first_P, second_P), dim=-1).flatten(-2)
    return torch.cat((first_P, second_P), dim=-1)
