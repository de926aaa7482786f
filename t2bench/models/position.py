"""Positions that are added to embeddings or rotate queries and keys; those in the scores are in `models.relative`.

    sinusoidal  x_t + p_t,  p_t = (sin(t f_i), cos(t f_i)),  f_i = theta^(-2i/D)        Vaswani et al. 2017, section 3.5
    learned     x_t + P[t]                                                              Gehring et al. 2017
    rope        the pair i of q_t and k_t is rotated by the angle t f_i,  f_i = theta^(-2i/R)    Su et al. 2021, eq. 34
    none        nothing

A pair is two features of the width D (sinusoidal) or of the rotated part R of a head (rope): `interleaved` takes
features (2i, 2i+1), `halves` takes (i, i + n/2). How rope is stretched to longer texts is in `models.stretch`.

Tables are computed in float64, rounded once to the model's dtype, and kept: one per model, not one per layer and call.

Shape letters: B batch, T length, D width, H heads, K head dim, R rotated features of a head, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from t2bench.models.stretch import stretched
from t2bench.spec.axes import PairLayout
from t2bench.spec.model import ModelSpec

Rotation = tuple[Tensor, ...]  # see `rotation_tables`
MIN_CAPACITY = 256  # rows of a table that is read from the middle, where the end is not known


@dataclass(frozen=True, slots=True)
class Span:
    """Positions of the tokens of one pass.

    Attributes:
        length: tokens T.
        start: position of the first one; the others follow.
        positions_T: each token's position instead, int64, where they do not follow one another or the start must not
            be a number that the host knows.
        limit: with `positions_T`: all of them are below this.
    """

    length: int
    start: int = 0
    positions_T: Tensor | None = None
    limit: int = 0

    @property
    def capacity(self) -> int:
        """Rows that a table needs, so that a text that grows token by token seldom needs a larger one."""
        if self.positions_T is not None:
            return self.limit
        if self.start == 0:
            return self.length
        return max(MIN_CAPACITY, 1 << (self.start + self.length - 1).bit_length())

    def rows(self, table_T: Tensor) -> Tensor:
        """This span's rows of a table with `capacity` rows, whatever its other axes."""
        if self.positions_T is not None:
            return table_T.index_select(0, self.positions_T)
        return table_T if self.start == 0 else table_T[self.start : self.start + self.length]


class PositionTables:
    """Sines and cosines of one model, computed on first use for each (length, dtype, device) and shared by all layers.

    Args:
        spec: the variant; decides between a sinusoidal table, a rotation, or neither.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.position = spec.position
        self.kind = spec.position.kind
        self.num_features = spec.rotary_dim if self.kind == "rope" else spec.width
        self._tables: dict[tuple[int, torch.dtype, torch.device], Rotation] = {}

    def sinusoid(self, length: int, like: Tensor) -> Tensor | None:
        """Table (T, D) to add to the embeddings, in the dtype and on the device of `like`; None for other kinds."""
        return self._get(length, like)[0] if self.kind == "sinusoidal" else None

    def rotation(self, length: int, like: Tensor) -> Rotation | None:
        """Tables for `rotate`, each (T, 1, ...); None for other kinds."""
        return self._get(length, like) if self.kind == "rope" else None

    def distances(self, length: int, like: Tensor) -> Tensor | None:
        """Transformer-XL's sinusoids (T, D) of the distances T - 1 down to 0; None for other kinds."""
        return self._get(length, like)[0] if self.kind == "txl" else None

    def _get(self, length: int, like: Tensor) -> Rotation:
        key = (length, like.dtype, like.device)
        if key not in self._tables:
            # A table made under inference mode could not be saved for a later backward pass.
            with torch.inference_mode(False):
                self._tables[key] = tuple(table.to(like.device) for table in self._compute(length, like.dtype))
        return self._tables[key]

    def _compute(self, length: int, dtype: torch.dtype) -> Rotation:
        pair_P = torch.arange(0, self.num_features, 2, dtype=torch.float64, device="cpu")
        frequency_P = self.position.theta ** (-pair_P / self.num_features)
        factor = 1.0
        if self.kind == "rope":
            frequency_P, factor = stretched(frequency_P, self.position)
        angle_TP = torch.arange(length, dtype=torch.float64, device="cpu")[:, None] * frequency_P
        sin_TP, cos_TP = factor * angle_TP.sin(), factor * angle_TP.cos()
        if self.kind == "rope":
            return rotation_tables(cos_TP[:, None], sin_TP[:, None], self.position.layout, dtype)
        if self.position.layout == "interleaved":
            table_TD = torch.stack((sin_TP, cos_TP), dim=-1).flatten(-2)
        else:
            table_TD = torch.cat((sin_TP, cos_TP), dim=-1)
        return ((table_TD.flip(0) if self.kind == "txl" else table_TD).to(dtype),)


def rotation_tables(cos_T1P: Tensor, sin_T1P: Tensor, layout: PairLayout, dtype: torch.dtype) -> Rotation:
    """What `rotate` needs, in the form that is fastest for the layout.

    interleaved: one complex table e^(i angle), (T, 1, P), in float32 precision at least: a pair is a complex number.
    halves: (cos, cos) and (-sin, sin), each (T, 1, R): y = x (cos, cos) + swap(x) (-sin, sin).
    """
    if layout == "interleaved":
        wide = torch.promote_types(dtype, torch.float32)
        return (torch.complex(cos_T1P.to(wide), sin_T1P.to(wide)),)
    return torch.cat((cos_T1P, cos_T1P), -1).to(dtype), torch.cat((-sin_T1P, sin_T1P), -1).to(dtype)


def rotate(x_BTHK: Tensor, rotation: Rotation) -> Tensor:
    """Rotate the first R features of every head by its position's angle; the other K - R pass unchanged.

    Sixteen-bit inputs in the interleaved layout are rotated in float32. The forms were chosen by measurement on a CPU:
    there plain arithmetic on pairs (slice, four products, join) takes about 15 times as long as the complex product,
    and twice as long if both are compiled, although the compiler makes no code for complex numbers. On CUDA, where it
    is memory that takes the time, compiled code is given the arithmetic, which becomes part of a loop.
    """
    interleaved = len(rotation) == 1
    rotary_dim = rotation[0].shape[-1] * (2 if interleaved else 1)
    if rotary_dim < x_BTHK.shape[-1]:
        x_BTHR, rest_BTHK = x_BTHK[..., :rotary_dim].contiguous(), x_BTHK[..., rotary_dim:]
        return torch.cat((rotate(x_BTHR, rotation), rest_BTHK), dim=-1)
    if not interleaved:
        cos_T1R, sin_T1R = rotation
        # Under autocast the tables are float32, as the stream is, and queries and keys are not.
        return (x_BTHK * cos_T1R + x_BTHK.roll(rotary_dim // 2, dims=-1) * sin_T1R).to(x_BTHK.dtype)
    wide_BTHR = x_BTHK.to(torch.promote_types(x_BTHK.dtype, torch.float32))
    pairs_BTHP2 = wide_BTHR.view(*x_BTHK.shape[:-1], -1, 2)
    if x_BTHK.is_cuda and torch.compiler.is_compiling():
        return turned(pairs_BTHP2, rotation[0]).to(x_BTHK.dtype)
    z_BTHP = torch.view_as_complex(pairs_BTHP2) * rotation[0]
    return torch.view_as_real(z_BTHP).flatten(-2).to(x_BTHK.dtype)


def turned(pairs_BTHP2: Tensor, rotation_T1P: Tensor) -> Tensor:
    """(a, b) -> (a cos - b sin, a sin + b cos) of every pair, in plain arithmetic: (B, T, H, 2 P)."""
    (a_BTHP, b_BTHP), (cos_T1P, sin_T1P) = (x.unbind(-1) for x in (pairs_BTHP2, torch.view_as_real(rotation_T1P)))
    both = (a_BTHP * cos_T1P - b_BTHP * sin_T1P, a_BTHP * sin_T1P + b_BTHP * cos_T1P)
    return torch.stack(both, dim=-1).flatten(-2)
