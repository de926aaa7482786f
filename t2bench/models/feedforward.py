"""Feed-forward: two linear maps with a non-linearity between them, the same at every position.

    plain  act(x W1 + b1) W2 + b2                      Vaswani et al. 2017, eq. 2
    gated  (act(x Wg + bg) * (x W1 + b1)) W2 + b2      Shazeer 2020, eq. 5 and 6 (GEGLU, SwiGLU, ...)

Shape letters: B batch, T length, D width, F hidden features.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2bench.models.linear import Linear
from t2bench.spec.model import ModelSpec

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,  # x Phi(x), Hendrycks & Gimpel 2016
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,  # x sigmoid(x); SwiGLU when gated
    "relu2": lambda x_BTF: F.relu(x_BTF).square(),  # So et al. 2021, Primer
}

# The same in place of their input: without autograd nobody else has it. A pass over fresh memory costs twice as much.
IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "gelu": torch.ops.aten.gelu_,
    "gelu_tanh": partial(torch.ops.aten.gelu_, approximate="tanh"),
    "silu": partial(F.silu, inplace=True),
    "relu2": lambda x_BTF: x_BTF.relu_().square_(),
}


class FeedForward(nn.Module):
    """The feed-forward sub-layer, plain or gated."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[spec.activation]
        self.activation_in_place = IN_PLACE[spec.activation]
        self.dropout = spec.dropout
        self.gate = Linear(spec.width, spec.ff, bias=spec.bias) if spec.gated else None
        self.up = Linear(spec.width, spec.ff, bias=spec.bias)
        self.down = Linear(spec.ff, spec.width, bias=spec.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """x_BTD -> x_BTD, same dtype."""
        act = self.activation if torch.is_grad_enabled() else self.activation_in_place
        # No name for what the activation reads: it would be kept while `down` runs.
        h_BTF = act((self.up if self.gate is None else self.gate)(x_BTD))
        if self.gate is not None:
            up_BTF = self.up(x_BTD)
            h_BTF = h_BTF * up_BTF if torch.is_grad_enabled() else h_BTF.mul_(up_BTF)
            del up_BTF
        if self.dropout > 0.0:
            h_BTF = F.dropout(h_BTF, self.dropout, self.training)
        out_BTD: Tensor = self.down(h_BTF)
        return out_BTD
