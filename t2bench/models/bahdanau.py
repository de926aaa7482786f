"""AdditiveLayer: a recurrent layer that looks at the source before each step (Bahdanau et al. 2015, appendix A.1.2).

    e_ts = v . tanh(W_a s_{t-1} + U_a h_s)      a_t = softmax over s of e_ts      c_t = sum_s a_ts h_s
    s_t  = cell(W y_t + C c_t + b, U s_{t-1} + b')

with y_t what enters (the embedding of the token before the one to predict), h_s the encoder's states and `cell` any of
`t2bench.models.cell`. The context depends on the state before, so the steps cannot be merged. What does not depend on
the step is computed for all of them together: U_a h_s, W y_t, and in the backward pass every weight's gradient. What
remains in a step is two matrix products of the state and context, the scores, and the cell. The scores' activations
(B S N numbers a step) are computed again in the backward pass: kept, they would be T times as much memory as U_a h_s.

Shape letters: B batch, T steps, S source length, D width of the input, E width of the encoder's states, H hidden size,
G gates x H, N alignment features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from t2bench.models.cell import CELLS, Carry, Cell, States
from t2bench.models.linear import FusedLinear, Linear

Steps = tuple[Tensor, Tensor, tuple[Tensor, ...]]  # states_BTH, contexts_BTE, last states


class AdditiveLayer(nn.Module):
    """The layer.

    Args:
        kind: of cell: a value of `t2bench.spec.axes.Recurrence`.
        num_in: D.
        hidden: H.
        source: E.
        alignment: N.
    """

    def __init__(self, kind: str, *, num_in: int, hidden: int, source: int, alignment: int) -> None:
        super().__init__()
        self.cell: Cell = CELLS[kind]
        self.alignment = alignment

        def gates(prefix: str) -> dict[str, int]:
            return {f"{prefix}_{gate}": hidden for gate in self.cell.gates}

        self.project = nn.ModuleDict(
            {
                "input": FusedLinear(num_in, gates("input"), bias=True),
                "state": FusedLinear(hidden, {"query": alignment, **gates("recurrent")}, bias=True),
                "context": FusedLinear(source, gates("context"), bias=False),
            }
        )
        self.key = Linear(source, alignment, bias=False)
        self.energy = Linear(alignment, 1, bias=False)

    def forward(
        self, y_BTD: Tensor, keys_BSN: Tensor, source_BSE: Tensor, padding_BS: Tensor | None, start: tuple[Tensor, ...]
    ) -> Steps:
        """Run all steps.

        Args:
            y_BTD: what enters at each step.
            keys_BSN: `self.key` of the source.
            source_BSE: h_s.
            padding_BS: true where the source is padding; None if it is nowhere. Each row has something that is not.
            start: states before the first step, (B, H) each: hidden and, for an LSTM, memory.

        Returns:
            states_BTH after each step, contexts_BTE of each step, and the states after the last, (B, H) each.
        """
        inputs, state, context = self.project["input"], self.project["state"], self.project["context"]
        gates_TBG = inputs(y_BTD.transpose(0, 1))
        given = (gates_TBG, keys_BSN, source_BSE, state.weight, state.bias, context.weight, self.energy.weight)
        dtype = gates_TBG.dtype  # autocast has chosen it; inside a step nothing is left to choose
        tensors = [x.to(dtype) for x in (*given, *start)]
        hidden_TBH, contexts_TBE, *memory = _AdditiveSteps.apply(self.cell, padding_BS, *tensors)  # type: ignore[no-untyped-call]
        last = (hidden_TBH[-1], *memory)
        return hidden_TBH[1:].transpose(0, 1), contexts_TBE.transpose(0, 1), last


class _AdditiveSteps(torch.autograd.Function):
    """All steps, and their gradients. The memory of an LSTM after the last step comes out without gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        cell: Cell,
        padding_BS: Tensor | None,
        x_TBG: Tensor,
        keys_BSN: Tensor,
        source_BSE: Tensor,
        weight_s: Tensor,
        bias_s: Tensor,
        weight_c: Tensor,
        energy_1N: Tensor,
        *start: Tensor,
    ) -> tuple[Tensor, ...]:
        (steps, batch, size_g), (_, length, size_n) = x_TBG.shape, keys_BSN.shape
        states = States(start, steps)
        gates_TBG = x_TBG.new_empty(steps, batch, size_g)
        s_TBX = x_TBG.new_empty(steps, batch, size_n + size_g)
        weights_TBS = x_TBG.new_empty(steps, batch, length)
        contexts_TBE = x_TBG.new_empty(steps, batch, source_BSE.shape[2])
        activation_BSN, energies_X1 = torch.empty_like(keys_BSN), x_TBG.new_empty(batch * length, 1)
        activation_XN, energies_BS = activation_BSN.view(-1, size_n), energies_X1.view(batch, length)
        queries, recurrents = s_TBX[..., None, :size_n].unbind(0), s_TBX[..., size_n:].unbind(0)
        rows = zip(
            *(x.unbind(0) for x in (x_TBG, gates_TBG, s_TBX, weights_TBS, weights_TBS[:, :, None])),
            *(x.unbind(0) for x in (contexts_TBE, contexts_TBE[:, :, None])),
            strict=True,
        )
        weight_sT, weight_cT, energy_N1 = weight_s.t(), weight_c.t(), energy_1N.t()
        with torch.autocast(x_TBG.device.type, enabled=False):
            for t, (x_BG, gates_BG, s_BX, weights_BS, weights_B1S, context_BE, context_B1E) in enumerate(rows):
                torch.addmm(bias_s, states.hidden[t], weight_sT, out=s_BX)
                torch.add(keys_BSN, queries[t], out=activation_BSN).tanh_()
                torch.mm(activation_XN, energy_N1, out=energies_X1)
                if padding_BS is not None:
                    energies_BS.masked_fill_(padding_BS, -torch.inf)
                torch.ops.aten._softmax.out(energies_BS, -1, False, out=weights_BS)
                torch.bmm(weights_B1S, source_BSE, out=context_B1E)
                torch.addmm(x_BG, context_BE, weight_cT, out=gates_BG)
                cell.step(gates_BG, recurrents[t], states, t)
        ctx.cell = cell
        ctx.save_for_backward(
            keys_BSN, source_BSE, weight_s, weight_c, energy_1N, gates_TBG, s_TBX, weights_TBS, contexts_TBE,
            *states.tapes,
        )  # fmt: skip
        last = tuple(memory_BH.clone() for memory_BH in states.memory[-1:])
        ctx.mark_non_differentiable(*last)
        return (states.tapes[0], contexts_TBE, *last)

    @staticmethod
    def backward(ctx: Any, grad_states_TBH: Tensor, grad_contexts_TBE: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        keys_BSN, source_BSE, weight_s, weight_c, energy_1N, gates_TBG, s_TBX, weights_TBS, contexts_TBE, *tapes = (
            ctx.saved_tensors
        )
        with torch.autocast(keys_BSN.device.type, enabled=False):
            states = States.of(tuple(tapes))
            steps, size_n = len(gates_TBG), keys_BSN.shape[2]
            carry = Carry(torch.zeros_like(tapes[1][0]) if ctx.cell.has_memory else None)
            grad_gates_TBG, grad_s_TBX = torch.empty_like(gates_TBG), torch.empty_like(s_TBX)
            grad_energies_TBS, grad_c_TBE = torch.empty_like(weights_TBS), torch.empty_like(contexts_TBE)
            # A sum over all steps, so not in 16 bits.
            slope_BSN = torch.zeros_like(keys_BSN, dtype=torch.promote_types(keys_BSN.dtype, torch.float32))
            grad_energy_1N = torch.zeros_like(energy_1N, dtype=slope_BSN.dtype)
            activation_BSN, grad_activation_BSN = torch.empty_like(keys_BSN), torch.empty_like(keys_BSN)
            grad_BH = grad_states_TBH[steps]
            for t in range(steps - 1, -1, -1):
                s_BX, grad_s_BX, weights_BS = s_TBX[t], grad_s_TBX[t], weights_TBS[t]
                recurrent_BG, grad_recurrent_BG = s_BX[:, size_n:], grad_s_BX[:, size_n:]
                grad_x_BG = ctx.cell.step_back(gates_TBG[t], recurrent_BG, states, t, grad_BH, carry, grad_recurrent_BG)
                grad_gates_TBG[t].copy_(grad_x_BG)
                torch.addmm(grad_contexts_TBE[t], grad_gates_TBG[t], weight_c, out=grad_c_TBE[t])
                grad_weights_BS = torch.bmm(source_BSE, grad_c_TBE[t][:, :, None])[:, :, 0]
                grad_energies_BS = torch.ops.aten._softmax_backward_data(
                    grad_weights_BS, weights_BS, -1, weights_BS.dtype
                )
                grad_energies_TBS[t].copy_(grad_energies_BS)
                torch.add(keys_BSN, s_BX[:, None, :size_n], out=activation_BSN).tanh_()
                grad_energy_1N += torch.mm(grad_energies_BS.view(1, -1), activation_BSN.view(-1, size_n))
                torch.ops.aten.tanh_backward.grad_input(
                    grad_energies_BS[:, :, None].expand_as(activation_BSN), activation_BSN,
                    grad_input=grad_activation_BSN,
                )  # fmt: skip
                slope_BSN += grad_activation_BSN
                torch.mul(grad_activation_BSN.sum(dim=1), energy_1N, out=grad_s_BX[:, :size_n])
                grad_BH = torch.addmm(grad_states_TBH[t], grad_s_BX, weight_s)
                if carry.hidden_BH is not None:
                    grad_BH += carry.hidden_BH
            grad_keys_BSN = (slope_BSN * energy_1N).to(keys_BSN.dtype)
            grad_source_BSE = torch.bmm(weights_TBS.permute(1, 2, 0), grad_c_TBE.transpose(0, 1))
            grad_s_XX, grad_gates_XG = grad_s_TBX.flatten(0, 1), grad_gates_TBG.flatten(0, 1)
            grad_weight_s = grad_s_XX.t() @ tapes[0][:-1].flatten(0, 1)
            grad_weight_c = grad_gates_XG.t() @ contexts_TBE.flatten(0, 1)
            start = (grad_BH,) if carry.memory_BH is None else (grad_BH, carry.memory_BH)
        return (
            None, None, grad_gates_TBG, grad_keys_BSN, grad_source_BSE, grad_weight_s, grad_s_XX.sum(dim=0),
            grad_weight_c, grad_energy_1N.to(energy_1N.dtype), *start,
        )  # fmt: skip
