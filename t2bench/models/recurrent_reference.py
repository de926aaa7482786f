"""The recurrent models by the equations of their papers: slow, one step and one text at a time, for checks.

`by_definition` turns a built Recurrent into its own reference. It shares embedding, output and loss with it, and takes
its matrices by their logical names; nothing of torch.nn's cells, of packing or of masks, and no gradient by hand.

Shape letters: B batch, T length, S source length, D width, E width of the encoder's states, H hidden size, I input
features, N alignment features. A tensor of one step of one text is a vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from t2bench.models.bahdanau import AdditiveLayer
from t2bench.models.cell import torch_parts
from t2bench.models.cellstack import CellStack
from t2bench.models.linear import FusedLinear
from t2bench.models.recurrent import Recurrent

Matrices = Mapping[str, Tensor]
State = tuple[Tensor, ...]


def by_definition(model: Recurrent) -> None:
    """From now on the model's layers compute by `stack` and `additive` below."""
    for module in model.modules():
        if isinstance(module, CellStack):
            module.forward = partial(stack, module, model.spec.recurrence)  # type: ignore[method-assign]
        if isinstance(module, AdditiveLayer):
            module.forward = partial(additive, module, model.spec.recurrence)  # type: ignore[method-assign]


def step(kind: str, x: Matrices, s: Matrices, state: State) -> State:
    """One step of a cell.

    Args:
        kind: a value of `t2bench.spec.axes.Recurrence`.
        x: gate -> what enters from outside, (H,).
        s: gate -> what comes from the state before, (H,).
        state: hidden state and, for an LSTM, memory, before the step.

    Returns:
        The same after it.
    """
    if kind == "rnn":
        return (torch.tanh(x["h"] + s["h"]),)
    if kind == "gru":
        reset, update = torch.sigmoid(x["r"] + s["r"]), torch.sigmoid(x["z"] + s["z"])
        new = torch.tanh(x["n"] + reset * s["n"])
        return ((1 - update) * new + update * state[0],)
    enter, forget, leave = (torch.sigmoid(x[gate] + s[gate]) for gate in "ifo")
    memory = forget * state[1] + enter * torch.tanh(x["g"] + s["g"])
    return leave * torch.tanh(memory), memory


def stack(
    module: CellStack,
    kind: str,
    x_BTI: Tensor,
    start: list[State] | None = None,
    *,
    lengths_B: Tensor | None = None,
) -> tuple[Tensor, list[State]]:
    """`CellStack.forward`, by definition."""
    if module.cells is None:
        return x_BTI, []
    weights = _torch_weights(module.cells)
    names = [f"l{layer}" for layer in range(module.cells.num_layers)]
    ways = ("", "_reverse") if module.both_directions else ("",)
    rows, lasts = [], []
    for row, x_TI in enumerate(x_BTI):
        length = len(x_TI) if lengths_B is None else int(lengths_B[row])
        entering = list(x_TI[:length])
        last: list[State] = []
        for name in names:
            both = []
            for way in ways:
                first = _zeros(kind, module.cells.hidden_size, x_TI)
                if start is not None:
                    first = tuple(state_BH[row] for state_BH in start[len(last)])
                states = _run(kind, weights, name + way, entering[::-1] if way else entering, first)
                last.append(states[-1])
                hidden = [state[0] for state in states]
                both.append(hidden[::-1] if way else hidden)
            entering = [torch.cat(parts) for parts in zip(*both, strict=True)]
        padding = [torch.zeros_like(entering[0])] * (len(x_TI) - length)
        rows.append(torch.stack(entering + padding))
        lasts.append(last)
    joined = [_stacked(states) for states in zip(*lasts, strict=True)]
    return torch.stack(rows), joined


def additive(
    module: AdditiveLayer,
    kind: str,
    y_BTD: Tensor,
    keys_BSN: Tensor,
    source_BSE: Tensor,
    padding_BS: Tensor | None,
    start: State,
) -> tuple[Tensor, Tensor, State]:
    """`AdditiveLayer.forward`, by definition: appendix A.1.2 of Bahdanau et al. 2015, line by line."""
    weights = _fused_weights(module)
    rows = []
    for row, y_TD in enumerate(y_BTD):
        exists = slice(None) if padding_BS is None else ~padding_BS[row]
        source_SE = source_BSE[row][exists]
        state: State = tuple(first_BH[row] for first_BH in start)
        hidden, contexts = [], []
        for y in y_TD:
            query = _affine(weights, "query", state[0])
            energies = [
                module.energy.weight[0] @ torch.tanh(query + module.key.weight @ annotation) for annotation in source_SE
            ]
            share = torch.exp(torch.stack(energies) - max(energies).detach())
            context = (share / share.sum()) @ source_SE
            x = {
                gate: _affine(weights, f"input_{gate}", y) + weights[f"context_{gate}.weight"] @ context
                for gate in module.cell.gates
            }
            s = {gate: _affine(weights, f"recurrent_{gate}", state[0]) for gate in module.cell.gates}
            state = step(kind, x, s, state)
            hidden.append(state[0])
            contexts.append(context)
        rows.append((torch.stack(hidden), torch.stack(contexts), state))
    states, contexts_of_rows, lasts = zip(*rows, strict=True)
    return torch.stack(states), torch.stack(contexts_of_rows), _stacked(lasts)


def _run(kind: str, weights: Matrices, layer: str, entering: Iterable[Tensor], state: State) -> list[State]:
    """The states of one layer in one direction after each step."""
    gates = {name.split(".")[1].split("_")[1] for name in weights if name.startswith(f"{layer}.")}
    found = []
    for x_I in entering:
        x = {gate: _affine(weights, f"{layer}.input_{gate}", x_I) for gate in gates}
        s = {gate: _affine(weights, f"{layer}.recurrent_{gate}", state[0]) for gate in gates}
        state = step(kind, x, s, state)
        found.append(state)
    return found


def _affine(weights: Matrices, name: str, x: Tensor) -> Tensor:
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def _torch_weights(cells: nn.RNNBase) -> Matrices:
    """Logical name -> matrix or bias, on which gradients flow back to the module's parameters."""
    return {
        part: parameter[rows] for name, parameter in cells.named_parameters() for part, rows in torch_parts(cells, name)
    }


def _fused_weights(module: AdditiveLayer) -> Matrices:
    return {
        f"{part}.{name}": parameter[rows]
        for fused in module.project.values()
        if isinstance(fused, FusedLinear)
        for name, parameter in fused.named_parameters()
        for part, rows in fused.rows()
    }


def _zeros(kind: str, size: int, like: Tensor) -> State:
    zero = like.new_zeros(size)
    return (zero, zero) if kind == "lstm" else (zero,)


def _stacked(states: Iterable[State]) -> State:
    """States of several rows as one batch."""
    return tuple(torch.stack(kinds) for kinds in zip(*states, strict=True))
