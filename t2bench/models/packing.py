"""Packing: sequences of several lengths one after the other in a single row, without padding.

    padded                packed
    a0 a1 a2              a0 a1 a2 b0 c0 c1
    b0  .  .
    c0 c1  .

Every operation but attention works on tokens alone and needs no more than their positions; `t2bench.attention.packed`
keeps sequences apart in attention.

Shape letters: B sequences, T longest length, N tokens in all.
"""

from __future__ import annotations

import torch
from torch import Tensor


def positions(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """Position of each token in its own sequence, int64 (N,)."""
    return torch.cat([torch.arange(length) for length in lengths]).to(device)


def pack(x_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """(B, T, ...) padded on the right -> (1, N, ...)."""
    exists_BT = torch.arange(x_BT.shape[1], device=x_BT.device) < lengths_B.to(x_BT.device)[:, None]
    return x_BT[exists_BT][None]


def unpack(x_1N: Tensor, lengths_B: Tensor, length: int) -> Tensor:
    """(1, N, ...) -> (B, T, ...) with zeros for padding."""
    exists_BT = torch.arange(length, device=x_1N.device) < lengths_B.to(x_1N.device)[:, None]
    x_BT = x_1N.new_zeros(*exists_BT.shape, *x_1N.shape[2:])
    x_BT[exists_BT] = x_1N[0]
    return x_BT
