"""Recurrent cells: their gates, and one step of each forward and backward, for loops that torch.nn has no kernel for.

    rnn     h' = tanh(x + s)                                                   Elman 1990
    gru     r = sig(x_r + s_r), z = sig(x_z + s_z), n = tanh(x_n + r s_n),     Cho et al. 2014, in the form of cuDNN,
            h' = (1 - z) n + z h                                               where r acts after the matrix product
    lstm    i, f, o = sig(x + s), g = tanh(x_g + s_g),                         Hochreiter & Schmidhuber 1997 with the
            c' = f c + i g, h' = o tanh(c')                                    forget gate of Gers et al. 2000

x stands for everything that enters from outside, W x + b, and s for U h + b'. These are the equations of torch.nn.RNN,
GRU and LSTM, which run whole sequences where nothing from outside depends on the state.

A step is written out, with its gradient, because a loop of autograd nodes would cost several times the arithmetic: it
would keep every intermediate, and add up each weight's gradient once per step instead of in one matrix product.

Shape letters: T steps, B batch, H hidden size, G gates x H.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input

# In the order in which torch.nn stacks them.
TORCH_GATES: dict[str, tuple[str, ...]] = {"rnn": ("h",), "gru": ("r", "z", "n"), "lstm": ("i", "f", "g", "o")}
TORCH_CELLS: dict[str, type[nn.RNN | nn.GRU | nn.LSTM]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def torch_parts(module: nn.RNNBase, name: str) -> Iterator[tuple[str, slice]]:
    """The matrices and biases that torch.nn stacks into one parameter, gate by gate.

    Args:
        module: an nn.RNN, nn.GRU or nn.LSTM.
        name: of the parameter: `weight_ih_l0`, `bias_hh_l1_reverse`, ...

    Yields:
        Logical name, such as `l0.input_i.weight` or `l1_reverse.recurrent_f.bias`, and its rows.
    """
    kind, where, layer = name.split("_", 2)
    gates = TORCH_GATES[module.mode.lower().split("_")[0]]
    prefix = {"ih": "input", "hh": "recurrent"}[where]
    size = module.hidden_size
    for index, gate in enumerate(gates):
        yield f"{layer}.{prefix}_{gate}.{kind}", slice(index * size, (index + 1) * size)


Views = tuple[Tensor, ...]


class Cell(Protocol):
    """One kind of cell.

    Attributes:
        gates: their names, in the order in which steps have them: those with a sigmoid first.
        has_memory: whether there is a second state, c.
    """

    gates: tuple[str, ...]
    has_memory: bool

    def views(self, x_TBG: Tensor) -> list[Views]:
        """For each step the parts that `step` works on, of x, s or their gradients; made at once, not step by step."""
        ...

    def step(self, gates: Views, s: Views, states: States, t: int) -> None:
        """Compute the states after step t, states.hidden[t + 1], from those before.

        Args:
            gates: x; becomes the activated gates.
            s: s.
            states: see there.
            t: the step, from 0.
        """
        ...

    def step_back(
        self,
        gates: Views,
        s: Views,
        states: States,
        t: int,
        grad_BH: Tensor,
        carry: Carry,
        grad_x: Views,
        grad_s: Views,
    ) -> None:
        """Gradients of step t.

        Args:
            gates: the activated gates.
            s: s.
            states: of the whole sequence.
            t: the step.
            grad_BH: gradient of the hidden state after the step, complete.
            carry: gradients of other states, of those after the step when called and of those before on return.
            grad_x: receives the gradient of x.
            grad_s: receives the gradient of s.
        """
        ...


class States:
    """The states before the first step and after each.

    Args:
        start: (B, H) each: hidden state, and memory if the cell has one.
        num_steps: T.
    """

    def __init__(self, start: tuple[Tensor, ...], num_steps: int) -> None:
        batch, hidden = start[0].shape
        self.tapes = tuple(start[0].new_empty(num_steps + 1, batch, hidden) for _ in start)
        for tape, first_BH in zip(self.tapes, start, strict=True):
            tape[0].copy_(first_BH)
        self._unbind()

    def _unbind(self) -> None:
        # One call here instead of an indexing operation per step and use.
        self.hidden = self.tapes[0].unbind(0)
        self.memory = self.tapes[1].unbind(0) if len(self.tapes) > 1 else ()

    @classmethod
    def of(cls, tapes: tuple[Tensor, ...]) -> States:
        """States that were computed before, (T + 1, B, H) each."""
        states = cls.__new__(cls)
        states.tapes = tapes
        states._unbind()
        return states


class Carry:
    """What the backward pass hands from a step to the one before it, apart from the gradient through s.

    Attributes:
        hidden_BH: gradient of the hidden state that goes around s (GRU), or None.
        memory_BH: gradient of the memory (LSTM), or None.
    """

    def __init__(self, memory_BH: Tensor | None) -> None:
        self.hidden_BH: Tensor | None = None
        self.memory_BH = memory_BH


def _views(*parts_TBH: Tensor) -> list[Views]:
    return list(zip(*(part_TBH.unbind(0) for part_TBH in parts_TBH), strict=True))


class Rnn:
    """See Cell."""

    gates = TORCH_GATES["rnn"]
    has_memory = False

    def views(self, x_TBG: Tensor) -> list[Views]:
        """See Cell."""
        return _views(x_TBG)

    def step(self, gates: Views, s: Views, states: States, t: int) -> None:
        """See Cell."""
        torch.tanh(gates[0].add_(s[0]), out=states.hidden[t + 1])

    def step_back(
        self,
        gates: Views,
        s: Views,
        states: States,
        t: int,
        grad_BH: Tensor,
        carry: Carry,
        grad_x: Views,
        grad_s: Views,
    ) -> None:
        """See Cell."""
        _tanh_backward(grad_BH, states.hidden[t + 1], grad_input=grad_s[0])
        grad_x[0].copy_(grad_s[0])


class Gru:
    """See Cell."""

    gates = TORCH_GATES["gru"]
    has_memory = False

    def views(self, x_TBG: Tensor) -> list[Views]:
        """See Cell: r and z together, r, z, n."""
        size = x_TBG.shape[2] // 3
        return _views(x_TBG[..., : 2 * size], *torch.split(x_TBG, size, dim=2))

    def step(self, gates: Views, s: Views, states: States, t: int) -> None:
        """See Cell."""
        rz, r, z, n = gates
        rz.add_(s[0]).sigmoid_()
        n.addcmul_(r, s[3]).tanh_()
        torch.lerp(n, states.hidden[t], z, out=states.hidden[t + 1])

    def step_back(
        self,
        gates: Views,
        s: Views,
        states: States,
        t: int,
        grad_BH: Tensor,
        carry: Carry,
        grad_x: Views,
        grad_s: Views,
    ) -> None:
        """See Cell."""
        rz, r, z, n = gates
        grad_rz, grad_r, grad_z, grad_sn = grad_s
        grad_n = grad_x[3]
        carry.hidden_BH = grad_BH * z
        _tanh_backward(grad_BH - carry.hidden_BH, n, grad_input=grad_n)
        torch.mul(grad_n, s[3], out=grad_r)
        torch.mul(grad_BH, states.hidden[t] - n, out=grad_z)
        _sigmoid_backward(grad_rz, rz, grad_input=grad_rz)
        torch.mul(grad_n, r, out=grad_sn)
        grad_x[0].copy_(grad_rz)


class Lstm:
    """See Cell."""

    gates: tuple[str, ...] = ("i", "f", "o", "g")
    has_memory = True

    def views(self, x_TBG: Tensor) -> list[Views]:
        """See Cell: all, those with a sigmoid, i, f, o, g."""
        size = x_TBG.shape[2] // 4
        return _views(x_TBG, x_TBG[..., : 3 * size], *torch.split(x_TBG, size, dim=2))

    def step(self, gates: Views, s: Views, states: States, t: int) -> None:
        """See Cell."""
        every, ifo, i, f, o, g = gates
        every.add_(s[0])
        ifo.sigmoid_()
        g.tanh_()
        memory_BH, hidden_BH = states.memory[t + 1], states.hidden[t + 1]
        torch.mul(f, states.memory[t], out=memory_BH)
        memory_BH.addcmul_(i, g)
        torch.tanh(memory_BH, out=hidden_BH)
        hidden_BH.mul_(o)

    def step_back(
        self,
        gates: Views,
        s: Views,
        states: States,
        t: int,
        grad_BH: Tensor,
        carry: Carry,
        grad_x: Views,
        grad_s: Views,
    ) -> None:
        """See Cell."""
        _, ifo, i, f, o, g = gates
        every, grad_ifo, grad_i, grad_f, grad_o, grad_g = grad_s
        squashed_BH = torch.tanh(states.memory[t + 1])  # again: cheaper than keeping it
        assert carry.memory_BH is not None
        grad_c = carry.memory_BH.add_(torch.ops.aten.tanh_backward(grad_BH * o, squashed_BH))
        torch.mul(grad_BH, squashed_BH, out=grad_o)
        torch.mul(grad_c, g, out=grad_i)
        torch.mul(grad_c, states.memory[t], out=grad_f)
        torch.mul(grad_c, i, out=grad_g)
        _sigmoid_backward(grad_ifo, ifo, grad_input=grad_ifo)
        _tanh_backward(grad_g, g, grad_input=grad_g)
        grad_c.mul_(f)
        grad_x[0].copy_(every)


CELLS: dict[str, Cell] = {"rnn": Rnn(), "gru": Gru(), "lstm": Lstm()}
