"""What this device can do at most, measured: the denominators of MFU and the roofline.

They are never looked up by the device's name: tables of names are how utilisations of 500 % come about.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from t2bench.meters.clock import make_clock

if TYPE_CHECKING:
    import torch

_SAMPLES = 5
_TARGET_S = {"cpu": 0.02, "cuda": 0.005}  # of one matrix product or copy
_FIRST_SIZE = {"cpu": 256, "cuda": 2048}
_LARGEST_SIZE = {"cpu": 2048, "cuda": 16384}
_COPY_BYTES = {"cpu": 2**27, "cuda": 2**31}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceilings:
    """Sustained limits of a device in one dtype.

    Attributes:
        flops_per_s: FLOP/s of a square matrix product, the median of several.
        bytes_per_s: read plus written bytes per second of a copy far larger than the caches, likewise.
        gemm_size: rows and columns of the matrices.
        spent_s: how long measuring took.
    """

    flops_per_s: float
    bytes_per_s: float
    gemm_size: int
    spent_s: float


def measure(device: str, dtype: str) -> Ceilings:
    """Measure a matrix product and a copy, with the thread settings in force.

    Args:
        device: `cpu` or `cuda` (or `cuda:1`).
        dtype: `fp32`, `bf16` or `fp16`.

    Returns:
        The ceilings; on a CPU within about half a second.
    """
    import torch

    begin = time.perf_counter()
    flops_per_s, size = _gemm(torch.device(device), dtype)
    bytes_per_s = _copy(torch.device(device))
    return Ceilings(
        flops_per_s=flops_per_s, bytes_per_s=bytes_per_s, gemm_size=size, spent_s=time.perf_counter() - begin
    )


def _gemm(device: torch.device, dtype_name: str) -> tuple[float, int]:
    """FLOP/s and size: the size is doubled until one product takes the target time."""
    import torch

    from t2bench.models.precision import PRECISIONS

    precision = PRECISIONS[dtype_name]
    precision.set_matmul()
    dtype = precision.compute
    size = _FIRST_SIZE[device.type]
    while True:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        out = torch.empty(size, size, device=device, dtype=dtype)
        multiply = _operation(torch.mm, a, b, out)
        multiply()
        step_time_s = _time(device, multiply, samples=1)
        if step_time_s >= _TARGET_S[device.type] or size >= _LARGEST_SIZE[device.type]:
            return 2.0 * size**3 / _time(device, multiply, samples=_SAMPLES), size
        size *= 2


def _operation(
    mm: Callable[..., torch.Tensor], a: torch.Tensor, b: torch.Tensor, out: torch.Tensor
) -> Callable[[], object]:
    return lambda: mm(a, b, out=out)


def _copy(device: torch.device) -> float:
    import torch

    source = torch.zeros(_COPY_BYTES[device.type] // 2, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)  # the first write maps the pages
    return 2.0 * source.numel() / _time(device, lambda: target.copy_(source), samples=_SAMPLES)


def _time(device: torch.device, operation: Callable[[], object], *, samples: int) -> float:
    """Median seconds of one operation."""
    clock = make_clock(str(device))

    def step(mark: Callable[[str], None]) -> None:
        operation()
        mark("operation")

    return median(clock.turn(step, 1, ("operation",)).step_time_s for _ in range(samples))
