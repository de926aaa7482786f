"""CellStack: layers of recurrent cells over whole sequences, by torch.nn.RNN, GRU and LSTM (cuDNN on CUDA).

Shape letters: B batch, T length, I input features, H hidden size, L layers (x 2 directions).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from t2bench.models.cell import TORCH_CELLS
from t2bench.spec.model import ModelSpec


class CellStack(nn.Module):
    """Several layers; none at all (`num_layers` 0) hands its input on.

    Args:
        spec: the variant: kind of cell, hidden size, dropout between layers.
        num_in: I.
        num_layers: how many.
        both_directions: each layer reads forwards and backwards, with half the hidden size each way.
    """

    def __init__(self, spec: ModelSpec, *, num_in: int, num_layers: int, both_directions: bool = False) -> None:
        super().__init__()
        self.both_directions = both_directions
        self.cells: nn.RNNBase | None = None
        if num_layers:
            self.cells = TORCH_CELLS[spec.recurrence](
                num_in,
                spec.ff // 2 if both_directions else spec.ff,
                num_layers,
                batch_first=True,
                dropout=spec.dropout if num_layers > 1 else 0.0,
                bidirectional=both_directions,
            )

    def forward(
        self, x_BTI: Tensor, start: list[tuple[Tensor, ...]] | None = None, *, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """Run all layers over all positions.

        Args:
            x_BTI: input.
            start: states of each layer before the first position, (B, H) each, hidden and, for LSTMs, memory; None
                means zeros.
            lengths_B: real positions of each row, where states after the last one, or a second direction, matter.

        Returns:
            States of the top layer (B, T, H), both directions side by side; and the states of each layer after the last
            position (of the backward direction: after the first), each direction its own entry, forward first.
        """
        if self.cells is None:
            return x_BTI, []
        first = None
        if start is not None:
            joined = tuple(torch.stack(states).to(x_BTI.dtype) for states in zip(*start, strict=True))
            first = joined if len(joined) > 1 else joined[0]
        if lengths_B is None:
            states_BTH, last = self.cells(x_BTI, first)
        else:
            # torch wants the lengths on the host, and sorts rows itself.
            packed = pack_padded_sequence(x_BTI, lengths_B.cpu(), batch_first=True, enforce_sorted=False)
            packed, last = self.cells(packed, first)
            states_BTH, _ = pad_packed_sequence(packed, batch_first=True, total_length=x_BTI.shape[1])
        kinds = last if isinstance(last, tuple) else (last,)
        return states_BTH, list(zip(*(states_LBH.unbind(0) for states_LBH in kinds), strict=True))
