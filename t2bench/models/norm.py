"""Normalisation: LayerNorm (Ba et al. 2016, eq. 4) and RMSNorm (Zhang & Sennrich 2019, eq. 4).

    layer: (x - mean) / sqrt(var + eps) * weight + bias         rms: x / sqrt(mean(x^2) + eps) * weight

Both are torch's own functions. CUDA has a fused kernel for each; on a CPU torch composes F.rms_norm of elementary
operators, so there it can cost more time than the layer norm that does more arithmetic.

Shape letters: B batch, T length, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2bench.spec.model import NormKind


class Norm(nn.Module):
    """A norm over the last axis with a learned weight, and a learned bias if it is a layer norm."""

    def __init__(self, kind: NormKind, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(size))
        self.bias = nn.Parameter(torch.empty(size)) if kind == "layer" else None

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Normalise; any leading axes, same shape and dtype back."""
        if self.bias is None:
            return F.rms_norm(x_BTD, self.weight.shape, self.weight, self.eps)
        return F.layer_norm(x_BTD, self.weight.shape, self.weight, self.bias, self.eps)
