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
        plant: `slow`: share of each step's time to wait busily at its end; `saved_tensor`: keep one more number for
            backward; `flop`: one more product of two numbers.
    """

    def __init__(self, workload: Workload, plant: Mapping[str, Any]) -> None:
        self._workload, self._plant = workload, plant
        self.phases, self.latencies = workload.phases, workload.latencies
        self.tokens, self.held = workload.tokens, workload.held

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

        def slowed(phase: str) -> None:
            if phase == self.phases[-1] and self._plant.get("slow"):
                self._wait(began)  # before the last mark, which ends the measured time
            mark(phase)

        return self._workload.step(slowed)

    def _wait(self, began: float) -> None:
        """Spin until the step has taken its share longer than it did."""
        devices = {tensor.device for tensor in self.held if tensor.is_cuda}
        for device in devices:
            torch.cuda.synchronize(device)
        until = began + (time.perf_counter() - began) * (1.0 + float(self._plant["slow"]))
        while time.perf_counter() < until:
            pass
