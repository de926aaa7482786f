"""Known defects, planted in a worker on request, so that a gate can prove that it finds them.

Only `t2bench gate --self-test` asks for one; no suite, option or environment variable can.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from t2bench.workloads.registry import Workload

Mark = Callable[[str], None]


class Planted:
    """A workload with a defect.

    Args:
        workload: the healthy one.
        plant: `slow`: share of each step's time to wait busily after it; `saved_tensor`: keep one more number for
            backward; `flop`: one more product of two numbers.
    """

    def __init__(self, workload: Workload, plant: Mapping[str, Any]) -> None:
        self._workload, self._plant = workload, plant
        self.phases, self.held = workload.phases, workload.held

    def step(self, mark: Mark) -> Any:
        """One step, and what was planted."""
        kept = []
        if self._plant.get("saved_tensor"):
            with torch.enable_grad():
                kept.append(torch.ones(1, requires_grad=True) * torch.ones(1))  # the product keeps its second factor
        if self._plant.get("flop"):
            one = torch.ones(1, 1)
            torch.mm(one, one)
        began = time.perf_counter()
        loss = self._workload.step(mark)
        if self._plant.get("slow"):
            _wait(loss, began, float(self._plant["slow"]))
        return loss


def _wait(loss: Any, began: float, share: float) -> None:
    """Spin until the step has taken `share` longer than it did."""
    if isinstance(loss, torch.Tensor) and loss.is_cuda:
        torch.cuda.synchronize(loss.device)
    until = began + (time.perf_counter() - began) * (1.0 + share)
    while time.perf_counter() < until:
        pass
