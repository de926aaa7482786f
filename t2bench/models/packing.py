"""Packing: sequences of several lengths one after the other in a single row, without padding.

    padded                packed
    a0 a1 a2              a0 a1 a2 b0 c0 c1
    b0  .  .
    c0 c1  .

Every operation but attention works on tokens alone and needs no more; attention keeps sequences apart by the number of
each token's sequence.

Shape letters: B sequences, T longest length, N tokens in all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Packing:
    """How a packed batch is made up.

    Attributes:
        offset_P: where each sequence begins, and the end of the last one, int32 (B + 1,).
        sequence_1N: number of each token's sequence, int64 (1, N).
        position_N: position of each token in its sequence, int64 (N,).
        longest: the longest length, a number that the host knows.
    """

    offset_P: Tensor
    sequence_1N: Tensor
    position_N: Tensor
    longest: int

    @classmethod
    def of(cls, lengths_B: Tensor, num_tokens: int, device: torch.device) -> Packing:
        """From the lengths of the sequences, int64 (B,), whose sum is `num_tokens`.

        Lengths on the host cost no wait for the device; lengths on the device do, once.
        """
        longest = num_tokens if lengths_B.device.type == "meta" else int(lengths_B.max())
        length_B = lengths_B.to(device)
        end_B = length_B.cumsum(0)
        index_B = torch.arange(len(length_B), device=device)
        sequence_N = index_B.repeat_interleave(length_B, output_size=num_tokens)
        position_N = torch.arange(num_tokens, device=device) - (end_B - length_B)[sequence_N]
        offset_P = torch.cat((end_B.new_zeros(1), end_B)).int()
        return cls(offset_P, sequence_N[None], position_N, longest)


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
