"""Linear: y = x W^T + b, and FusedLinear: several such maps of the same input in one matrix product.

Shape letters: B batch, T length, I input features, O output features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Module):
    """y = x W^T + b. Unlike `nn.Linear` it does not initialise itself: `t2bench.models.init` does, in one place."""

    def __init__(self, num_in: int, num_out: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_out, num_in))
        self.bias = nn.Parameter(torch.empty(num_out)) if bias else None

    def forward(self, x_BTI: Tensor) -> Tensor:
        """x_BTI -> y_BTO; any leading axes."""
        return F.linear(x_BTI, self.weight, self.bias)


class FusedLinear(Linear):
    """Several named linear maps of one input, stacked into one matrix.

    Args:
        num_in: input features.
        parts: name -> output features, in stacking order.
        bias: whether the maps have biases.
    """

    def __init__(self, num_in: int, parts: Mapping[str, int], *, bias: bool) -> None:
        super().__init__(num_in, sum(parts.values()), bias=bias)
        self.parts = dict(parts)

    def forward_parts(self, x_BTI: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """One matrix product, then one view (B, T, O_part) per part.

        Args:
            x_BTI: the input.
            names: of neighbouring parts, to compute these only; None for all.
        """
        chosen = list(self.parts if names is None else names)
        weight_OI: Tensor = self.weight
        bias_O: Tensor | None = self.bias
        if names is not None:
            rows = dict(self.rows())
            span = slice(rows[chosen[0]].start, rows[chosen[-1]].stop)
            weight_OI, bias_O = weight_OI[span], None if bias_O is None else bias_O[span]
        y_BTO = F.linear(x_BTI, weight_OI, bias_O)
        return dict(zip(chosen, torch.split(y_BTO, [self.parts[name] for name in chosen], dim=-1), strict=True))

    def rows(self) -> Iterator[tuple[str, slice]]:
        """Each part's name and its rows of `weight` and `bias`."""
        start = 0
        for name, size in self.parts.items():
            yield name, slice(start, start + size)
            start += size
