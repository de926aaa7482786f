"""Normalisation: LayerNorm (Ba et al. 2016, eq. 4) and RMSNorm (Zhang & Sennrich 2019, eq. 4).

    layer: (x - mean) / sqrt(var + eps) * weight + bias         rms: x / sqrt(mean(x^2) + eps) * weight

Layer norm is torch's kernel, and so is RMS norm on CUDA. On a CPU torch composes F.rms_norm of elementary operators and
lets autograd differentiate each, which takes twice the time of the derivative written out below (1024 x 512, fp32, one
thread, torch 2.13) and keeps more for backward: a handicap of the library, not of the idea.

Shape letters: B batch, T length, D width; N all leading axes together.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2bench.spec.axes import NormKind


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
            if x_BTD.device.type == "cpu":
                y_BTD: Tensor = CpuRmsNorm.apply(x_BTD, self.weight, self.eps)  # type: ignore[no-untyped-call]
                return y_BTD
            return F.rms_norm(x_BTD, self.weight.shape, self.weight, self.eps)
        return F.layer_norm(x_BTD, self.weight.shape, self.weight, self.bias, self.eps)


class CpuRmsNorm(torch.autograd.Function):
    """RMSNorm with its derivative written out: h = x r, r = 1 / sqrt(mean(x^2) + eps), y = h w.

        dx = r (dy w - h mean(dy w h))        dw = sum over all rows of dy h

    Keeps the input, the weight and r, one number a row. In 16 bits all arithmetic is in fp32, as in torch's kernels.
    """

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        """Any leading axes N; same shape and dtype back."""
        wide = torch.promote_types(x_ND.dtype, torch.float32)
        norm_N1 = torch.linalg.vector_norm(x_ND, dim=-1, keepdim=True, dtype=wide)
        r_N1 = norm_N1.square_().div_(x_ND.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x_ND, weight_D, r_N1)
        y_ND: Tensor = (x_ND * r_N1).mul_(weight_D)
        return y_ND.to(x_ND.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of the input and the weight."""
        x_ND, weight_D, r_N1 = ctx.saved_tensors
        (dy_ND,) = grads
        h_ND = x_ND * r_N1
        dweight_D = (dy_ND * h_ND).flatten(0, -2).sum(0)
        dh_ND = dy_ND * weight_D.to(r_N1.dtype)
        mean_N1 = torch.linalg.vecdot(dh_ND, h_ND).unsqueeze(-1) / x_ND.shape[-1]
        dx_ND = dh_ND.sub_(h_ND.mul_(mean_N1)).mul_(r_N1)
        return dx_ND.to(x_ND.dtype), dweight_D.to(weight_D.dtype), None
