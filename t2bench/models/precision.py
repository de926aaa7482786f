"""Precision: what the dtypes of a case mean in torch. The one table that models, checks and workloads share.

    dtype                         parameters   matrix products           softmax, norms   loss
    fp32                          float32      float32                   float32          float32
    tf32 (CUDA)                   float32      of 10 mantissa bits       float32          float32
    bf16, fp16                    16 bits      16 bits                   16 bits          float32
    bf16_autocast, fp16_autocast  float32      16 bits                   float32          float32

The last row is mixed precision (Micikevicius et al. 2018), without the loss scaling that fp16 needs to learn anything.
Autocast rounds each weight to 16 bits when it is used and keeps the rounded copy until the forward pass ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """One dtype of `t2bench.spec.case.Dtype`.

    Attributes:
        parameters: dtype of the parameters, their gradients and the optimizer's state.
        autocast: dtype that torch.autocast computes matrix products in; None without autocast.
        tf32: whether CUDA may round the inputs of float32 matrix products to 10 mantissa bits.
    """

    parameters: torch.dtype
    autocast: torch.dtype | None = None
    tf32: bool = False

    @property
    def compute(self) -> torch.dtype:
        """Dtype of queries, keys, values and the other inputs of matrix products."""
        return self.autocast or self.parameters

    @property
    def rounding(self) -> torch.dtype:
        """The dtype whose unit of rounding the results have: TF32 has as many mantissa bits as float16."""
        return torch.float16 if self.tf32 else self.compute

    def set_matmul(self) -> None:
        """Allow TF32 in this process, or forbid it: a global switch of torch, so the last call decides."""
        torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = self.tf32

    @contextlib.contextmanager
    def forward(self, device_type: str) -> Iterator[None]:
        """What a forward pass and its loss run in; the backward pass follows by itself."""
        if self.autocast is None:
            yield
            return
        with torch.autocast(device_type, dtype=self.autocast):
            yield


PRECISIONS: dict[str, Precision] = {
    "fp32": Precision(parameters=torch.float32),
    "tf32": Precision(parameters=torch.float32, tf32=True),
    "bf16": Precision(parameters=torch.bfloat16),
    "fp16": Precision(parameters=torch.float16),
    "bf16_autocast": Precision(parameters=torch.float32, autocast=torch.bfloat16),
    "fp16_autocast": Precision(parameters=torch.float32, autocast=torch.float16),
}
