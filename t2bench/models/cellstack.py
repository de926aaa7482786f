"""CellStack: layers of recurrent cells over whole sequences, by torch.nn.RNN, GRU and LSTM (cuDNN on CUDA).

On a CPU torch has a kernel for LSTMs only (oneDNN). RNN and GRU run there by `t2bench.models.steps`, several times
faster than torch.nn's loop when they train, unless there are lengths.

Shape letters: B batch, T length, I input features, H hidden size, L layers (x 2 directions).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from t2bench.models.cell import TORCH_CELLS
from t2bench.models.steps import run_cells
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
        self.kind = spec.recurrence
        self.dropout = spec.dropout
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
        if lengths_B is None and x_BTI.device.type != "cuda" and self.kind != "lstm":
            return self._own_loops(x_BTI, start)
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

    def _own_loops(
        self, x_BTI: Tensor, start: list[tuple[Tensor, ...]] | None
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """What `self.cells` computes, by `run_cells`: torch.nn has no kernel for RNN and GRU on a CPU."""
        assert self.cells is not None
        x_TBI = x_BTI.transpose(0, 1)
        last: list[tuple[Tensor, ...]] = []
        for layer in range(self.cells.num_layers):
            ways = []
            for way in ("", "_reverse") if self.both_directions else ("",):
                names = (f"{part}_l{layer}{way}" for part in ("weight_ih", "bias_ih", "weight_hh", "bias_hh"))
                weight_x, bias_x, weight_s, bias_s = (getattr(self.cells, name) for name in names)
                gates_TBG = F.linear(x_TBI.flip(0) if way else x_TBI, weight_x, bias_x)
                zero_BH = gates_TBG.new_zeros(gates_TBG.shape[1], self.cells.hidden_size)
                start_BH = zero_BH if start is None else start[len(last)][0]
                states_TBH = run_cells(self.kind, gates_TBG, weight_s, bias_s, start_BH)[1:]
                last.append((states_TBH[-1],))
                ways.append(states_TBH.flip(0) if way else states_TBH)
            x_TBI = torch.cat(ways, dim=-1) if len(ways) > 1 else ways[0]
            if self.dropout > 0.0 and layer + 1 < self.cells.num_layers:
                x_TBI = F.dropout(x_TBI, self.dropout, self.training)
        return x_TBI.transpose(0, 1), last
