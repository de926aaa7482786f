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

import math
from typing import Any

import torch
from torch import Tensor, nn

from t2bench.models.cell import CELLS, Carry, Cell, States
from t2bench.models.linear import FusedLinear, Linear
from t2bench.models.operator import no_autocast, register

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
        self.kind = kind
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
        hidden_TBH, contexts_TBE, *memory = _AdditiveSteps.apply(self.kind, padding_BS, *tensors)  # type: ignore[no-untyped-call]
        last = (hidden_TBH[-1], *memory)
        return hidden_TBH[1:].transpose(0, 1), contexts_TBE.transpose(0, 1), last


class _AdditiveSteps(torch.autograd.Function):
    """All steps, and their gradients. The memory of an LSTM after the last step comes out without gradient."""

    @staticmethod
    def forward(ctx: Any, kind: str, padding_BS: Tensor | None, *given: Tensor) -> tuple[Tensor, ...]:
        _, keys_BSN, source_BSE, weight_s, _, weight_c, energy_1N, *start = given
        *tapes, contexts_TBE, gates_TBG, s_TBX, weights_TBS = _forward(kind, padding_BS, *given[:7], start)
        ctx.kind = kind
        ctx.save_for_backward(
            keys_BSN, source_BSE, weight_s, weight_c, energy_1N, gates_TBG, s_TBX, weights_TBS, contexts_TBE, *tapes
        )
        last = tuple(memory_TBH[-1].clone() for memory_TBH in tapes[1:])
        ctx.mark_non_differentiable(*last)
        return (tapes[0], contexts_TBE, *last)

    @staticmethod
    def backward(ctx: Any, grad_states_TBH: Tensor, grad_contexts_TBE: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        *saved, weights_TBS, contexts_TBE = ctx.saved_tensors[:9]
        tapes = list(ctx.saved_tensors[9:])
        grad_gates_TBG, grad_s_TBX, grad_c_TBE, slope_BSN, grad_energy_1N, *grad_start = _backward(
            ctx.kind, grad_states_TBH, grad_contexts_TBE, *saved, weights_TBS, tapes
        )
        keys_BSN, energy_1N = saved[0], saved[4]
        grad_s_XX, grad_gates_XG = grad_s_TBX.flatten(0, 1), grad_gates_TBG.flatten(0, 1)
        with no_autocast(keys_BSN.device):
            grad_source_BSE = torch.bmm(weights_TBS.permute(1, 2, 0), grad_c_TBE.transpose(0, 1))
            grad_weight_s = grad_s_XX.t() @ tapes[0][:-1].flatten(0, 1)
            grad_weight_c = grad_gates_XG.t() @ contexts_TBE.flatten(0, 1)
        return (
            None, None, grad_gates_TBG, (slope_BSN * energy_1N).to(keys_BSN.dtype), grad_source_BSE, grad_weight_s,
            grad_s_XX.sum(dim=0), grad_weight_c, grad_energy_1N.to(energy_1N.dtype), *grad_start,
        )  # fmt: skip


def _forward_kernel(
    kind: str,
    padding_BS: Tensor | None,
    x_TBG: Tensor,
    keys_BSN: Tensor,
    source_BSE: Tensor,
    weight_s: Tensor,
    bias_s: Tensor,
    weight_c: Tensor,
    energy_1N: Tensor,
    start: list[Tensor],
) -> list[Tensor]:
    """Every step: the tapes of the states, contexts, activated gates, [query | s] and weights."""
    cell, states = CELLS[kind], States(tuple(start), len(x_TBG))
    contexts_TBE, gates_TBG, s_TBX, weights_TBS = made = _empty(x_TBG, keys_BSN, source_BSE)
    batch, length, size_n = keys_BSN.shape
    activation_BSN, energies_X1 = torch.empty_like(keys_BSN), x_TBG.new_empty(batch * length, 1)
    activation_XN, energies_BS = activation_BSN.view(-1, size_n), energies_X1.view(batch, length)
    gates, s = cell.views(gates_TBG), cell.views(s_TBX[..., size_n:])
    queries = s_TBX[..., None, :size_n].unbind(0)
    rows = zip(
        *(x.unbind(0) for x in (x_TBG, gates_TBG, s_TBX, weights_TBS, weights_TBS[:, :, None])),
        *(x.unbind(0) for x in (contexts_TBE, contexts_TBE[:, :, None])),
        strict=True,
    )
    weight_sT, weight_cT, energy_N1 = weight_s.t(), weight_c.t(), energy_1N.t()
    with no_autocast(x_TBG.device):
        for t, (x_BG, gates_BG, s_BX, weights_BS, weights_B1S, context_BE, context_B1E) in enumerate(rows):
            torch.addmm(bias_s, states.hidden[t], weight_sT, out=s_BX)
            torch.add(keys_BSN, queries[t], out=activation_BSN).tanh_()
            torch.mm(activation_XN, energy_N1, out=energies_X1)
            if padding_BS is not None:
                energies_BS.masked_fill_(padding_BS, -torch.inf)
            torch.softmax(energies_BS, dim=-1, out=weights_BS)
            torch.bmm(weights_B1S, source_BSE, out=context_B1E)
            torch.addmm(x_BG, context_BE, weight_cT, out=gates_BG)
            cell.step(gates[t], s[t], states, t)
    return [*states.tapes, *made]


def _backward_kernel(
    kind: str,
    grad_states_TBH: Tensor,
    grad_contexts_TBE: Tensor,
    keys_BSN: Tensor,
    source_BSE: Tensor,
    weight_s: Tensor,
    weight_c: Tensor,
    energy_1N: Tensor,
    gates_TBG: Tensor,
    s_TBX: Tensor,
    weights_TBS: Tensor,
    tapes: list[Tensor],
) -> list[Tensor]:
    """Every step, last first: gradients of x, of [query | s], of contexts; sums over steps; gradients of the start.

    The two sums are of (de/dz tanh'(z)) over steps, which times v is the gradient of the keys, and the gradient of v.
    """
    cell, states = CELLS[kind], States.of(tuple(tapes))
    carry = Carry(torch.zeros_like(tapes[1][0]) if cell.has_memory else None)
    made = _empty_gradients(grad_contexts_TBE, keys_BSN, energy_1N, gates_TBG, s_TBX)
    grad_gates_TBG, grad_s_TBX, grad_c_TBE, slope_BSN, grad_energy_1N = made
    slope_BSN.zero_()
    grad_energy_1N.zero_()
    activation_BSN, grad_activation_BSN = torch.empty_like(keys_BSN), torch.empty_like(keys_BSN)
    size_n = keys_BSN.shape[2]
    gates, s = cell.views(gates_TBG), cell.views(s_TBX[..., size_n:])
    grad_x, grad_s = cell.views(grad_gates_TBG), cell.views(grad_s_TBX[..., size_n:])
    grad_BH = grad_states_TBH[-1]
    with no_autocast(keys_BSN.device):
        for t in range(len(gates_TBG) - 1, -1, -1):
            s_BX, grad_s_BX, grad_c_BE, weights_BS = s_TBX[t], grad_s_TBX[t], grad_c_TBE[t], weights_TBS[t]
            cell.step_back(gates[t], s[t], states, t, grad_BH, carry, grad_x[t], grad_s[t])
            torch.addmm(grad_contexts_TBE[t], grad_gates_TBG[t], weight_c, out=grad_c_BE)
            grad_weights_BS = torch.bmm(source_BSE, grad_c_BE[:, :, None])[:, :, 0]
            grad_energies_BS = torch.ops.aten._softmax_backward_data(grad_weights_BS, weights_BS, -1, weights_BS.dtype)
            torch.add(keys_BSN, s_BX[:, None, :size_n], out=activation_BSN).tanh_()
            grad_energy_1N += torch.mm(grad_energies_BS.view(1, -1), activation_BSN.view(-1, size_n))
            grad_energies_BSN = grad_energies_BS[:, :, None].expand_as(activation_BSN)
            torch.ops.aten.tanh_backward.grad_input(grad_energies_BSN, activation_BSN, grad_input=grad_activation_BSN)
            slope_BSN += grad_activation_BSN
            torch.mul(grad_activation_BSN.sum(dim=1), energy_1N, out=grad_s_BX[:, :size_n])
            grad_BH = torch.addmm(grad_states_TBH[t], grad_s_BX, weight_s)
            if carry.hidden_BH is not None:
                grad_BH += carry.hidden_BH
    return [*made, grad_BH] if carry.memory_BH is None else [*made, grad_BH, carry.memory_BH]


def _empty(x_TBG: Tensor, keys_BSN: Tensor, source_BSE: Tensor) -> list[Tensor]:
    """Room for contexts, gates, [query | s] and weights of all steps."""
    (steps, batch, size_g), (_, length, size_n) = x_TBG.shape, keys_BSN.shape
    sizes = (source_BSE.shape[2], size_g, size_n + size_g, length)
    return [x_TBG.new_empty(steps, batch, size) for size in sizes]


def _empty_gradients(
    grad_contexts_TBE: Tensor, keys_BSN: Tensor, energy_1N: Tensor, gates_TBG: Tensor, s_TBX: Tensor
) -> list[Tensor]:
    """Room for the gradients; sums over all steps are not in 16 bits."""
    summed = torch.promote_types(keys_BSN.dtype, torch.float32)
    steps = [torch.empty_like(x) for x in (gates_TBG, s_TBX, grad_contexts_TBE)]
    return steps + [torch.empty_like(x, dtype=summed) for x in (keys_BSN, energy_1N)]


def _forward_fake(
    kind: str, padding: Tensor | None, x: Tensor, keys: Tensor, source: Tensor, *others: Any
) -> list[Tensor]:
    start: list[Tensor] = others[-1]
    tapes = [first_BH.new_empty(len(x) + 1, *first_BH.shape) for first_BH in start]
    return tapes + _empty(x, keys, source)


def _backward_fake(
    kind: str, grad_states: Tensor, grad_contexts: Tensor, keys: Tensor, source: Tensor, *others: Any
) -> list[Tensor]:
    _, _, energy, gates, s, _, tapes = others
    made = _empty_gradients(grad_contexts, keys, energy, gates, s)
    return made + [torch.empty_like(tape_TBH[0]) for tape_TBH in tapes]


def _forward_flops(kind: str, padding: Any, x: Any, keys: Any, source: Any, *others: Any, **__: Any) -> int:
    weight_s, _, weight_c = others[:3]
    return _flops(x[0] * x[1], keys, source, weight_s, weight_c)


def _backward_flops(
    kind: str, grad_states: Any, grad_contexts: Any, keys: Any, source: Any, *others: Any, **__: Any
) -> int:
    """Of the gradients of states, contexts, weights and v; what concerns whole sequences comes after the loop."""
    return _flops(grad_contexts[0] * grad_contexts[1], keys, source, *others[:2])


def _flops(rows: int, keys: Any, source: Any, weight_s: Any, weight_c: Any) -> int:
    """Each step has a product by each matrix, one over alignment features and one over the source's states."""
    return int(2 * rows * (math.prod(weight_s) + math.prod(weight_c) + keys[1] * (keys[2] + source[2])))


_forward = register(
    "_additive_steps(str kind, Tensor? padding, Tensor x, Tensor keys, Tensor source, Tensor weight_s, Tensor bias_s, "
    "Tensor weight_c, Tensor energy, Tensor[] start) -> Tensor[]",
    _forward_kernel,
    fake=_forward_fake,
    flops=_forward_flops,
)
_backward = register(
    "_additive_steps_backward(str kind, Tensor grad_states, Tensor grad_contexts, Tensor keys, Tensor source, "
    "Tensor weight_s, Tensor weight_c, Tensor energy, Tensor gates, Tensor s, Tensor weights, Tensor[] tapes) "
    "-> Tensor[]",
    _backward_kernel,
    fake=_backward_fake,
    flops=_backward_flops,
)
