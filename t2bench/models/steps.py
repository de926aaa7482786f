"""run_cells: a recurrent layer over a whole sequence, where torch.nn's own loop is slower (RNN and GRU on a CPU).

    s_t = U h_{t-1} + b',   h_t = cell(x_t, s_t)                        x_t = W y_t + b, for all steps beforehand

The gradient of U is one matrix product over all steps, where autograd through torch.nn adds up one for each step.

Shape letters: T steps, B batch, H hidden size, G gates x H.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from t2bench.models.cell import CELLS, Carry, States
from t2bench.models.operator import no_autocast, register


def run_cells(kind: str, x_TBG: Tensor, weight_s: Tensor, bias_s: Tensor, start_BH: Tensor) -> Tensor:
    """Run a layer of cells without a memory.

    Args:
        kind: of cell: `rnn` or `gru`.
        x_TBG: x of all steps.
        weight_s: U, (G, H).
        bias_s: b', (G,).
        start_BH: the state before the first step.

    Returns:
        States (T + 1, B, H), that before the first step included.
    """
    given = [tensor.to(x_TBG.dtype) for tensor in (weight_s, bias_s, start_BH)]
    states_TBH: Tensor = _Steps.apply(kind, x_TBG, *given)  # type: ignore[no-untyped-call]
    return states_TBH


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kind: str, x_TBG: Tensor, weight_s: Tensor, bias_s: Tensor, start_BH: Tensor) -> Tensor:
        states_TBH, gates_TBG, s_TBG = _forward(kind, x_TBG, weight_s, bias_s, start_BH)
        ctx.kind = kind
        ctx.save_for_backward(weight_s, states_TBH, gates_TBG, s_TBG)
        return states_TBH

    @staticmethod
    def backward(ctx: Any, grad_states_TBH: Tensor) -> tuple[Tensor | None, ...]:
        weight_s, states_TBH, gates_TBG, s_TBG = ctx.saved_tensors
        grad_x_TBG, grad_s_TBG, grad_start_BH = _backward(
            ctx.kind, grad_states_TBH, weight_s, states_TBH, gates_TBG, s_TBG
        )
        grad_s_XG = grad_s_TBG.flatten(0, 1)
        grad_weight = grad_s_XG.t() @ states_TBH[:-1].flatten(0, 1)
        return None, grad_x_TBG, grad_weight, grad_s_XG.sum(dim=0), grad_start_BH


def _forward_kernel(kind: str, x_TBG: Tensor, weight_s: Tensor, bias_s: Tensor, start_BH: Tensor) -> list[Tensor]:
    cell = CELLS[kind]
    states = States((start_BH,), len(x_TBG))
    gates_TBG, s_TBG, weight_sT = x_TBG.clone(), torch.empty_like(x_TBG), weight_s.t()
    with no_autocast(x_TBG.device):
        rows = zip(s_TBG.unbind(0), cell.views(gates_TBG), cell.views(s_TBG), strict=True)
        for t, (s_BG, gates, s) in enumerate(rows):
            torch.addmm(bias_s, states.hidden[t], weight_sT, out=s_BG)
            cell.step(gates, s, states, t)
    return [states.tapes[0], gates_TBG, s_TBG]


def _backward_kernel(
    kind: str, grad_states_TBH: Tensor, weight_s: Tensor, states_TBH: Tensor, gates_TBG: Tensor, s_TBG: Tensor
) -> list[Tensor]:
    cell, states, carry = CELLS[kind], States.of((states_TBH,)), Carry(None)
    grad_x_TBG, grad_s_TBG = torch.empty_like(gates_TBG), torch.empty_like(s_TBG)
    grad_x, grad_s, gates, s = (cell.views(x) for x in (grad_x_TBG, grad_s_TBG, gates_TBG, s_TBG))
    grad_states, grad_s_rows = grad_states_TBH.unbind(0), grad_s_TBG.unbind(0)
    grad_BH = grad_states[-1]
    with no_autocast(gates_TBG.device):
        for t in range(len(gates_TBG) - 1, -1, -1):
            cell.step_back(gates[t], s[t], states, t, grad_BH, carry, grad_x[t], grad_s[t])
            grad_BH = torch.addmm(grad_states[t], grad_s_rows[t], weight_s)
            if carry.hidden_BH is not None:
                grad_BH += carry.hidden_BH
    return [grad_x_TBG, grad_s_TBG, grad_BH]


def _forward_fake(kind: str, x_TBG: Tensor, weight_s: Tensor, bias_s: Tensor, start_BH: Tensor) -> list[Tensor]:
    return [start_BH.new_empty(len(x_TBG) + 1, *start_BH.shape), torch.empty_like(x_TBG), torch.empty_like(x_TBG)]


def _backward_fake(
    kind: str, grad_states_TBH: Tensor, weight_s: Tensor, states_TBH: Tensor, gates_TBG: Tensor, s_TBG: Tensor
) -> list[Tensor]:
    return [torch.empty_like(gates_TBG), torch.empty_like(s_TBG), torch.empty_like(states_TBH[0])]


def _forward_flops(
    kind: str, x: tuple[int, ...], weight: tuple[int, ...], *_: Any, out_shape: Any = None, **__: Any
) -> int:
    return 2 * x[0] * x[1] * weight[0] * weight[1]


def _backward_flops(
    kind: str, grad_states: tuple[int, ...], weight: tuple[int, ...], *_: Any, out_shape: Any = None, **__: Any
) -> int:
    return 2 * (grad_states[0] - 1) * grad_states[1] * weight[0] * weight[1]


_forward = register(
    "cell_steps(str kind, Tensor x, Tensor weight_s, Tensor bias_s, Tensor start) -> Tensor[]",
    _forward_kernel,
    fake=_forward_fake,
    flops=_forward_flops,
)
_backward = register(
    "cell_steps_backward(str kind, Tensor grad_states, Tensor weight_s, Tensor states, Tensor gates, Tensor s) "
    "-> Tensor[]",
    _backward_kernel,
    fake=_backward_fake,
    flops=_backward_flops,
)
