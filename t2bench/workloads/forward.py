"""forward: inference on a batch of real text, logits for every position, no autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle

import torch
from torch import Tensor

from t2bench.models.compiled import wrap_parts
from t2bench.models.precision import Precision
from t2bench.models.transformer import Transformer
from t2bench.workloads.batches import Batch
from t2bench.workloads.latency import Latencies
from t2bench.workloads.memory import remembering


class Forward:
    """One forward pass per call, in evaluation and inference mode.

    Attributes:
        phases: `forward`.
        latencies: none.
        tokens: token positions per step, padding not counted.
        held: parameters and position tables.
    """

    phases: tuple[str, ...] = ("forward",)

    def __init__(
        self,
        model: Transformer,
        batches: Sequence[Batch],
        *,
        precision: Precision,
        tokens: int,
        held: tuple[Tensor, ...],
    ) -> None:
        self.latencies: Latencies = {}
        self.tokens = tokens
        self.held = held
        self._model = model.eval()
        self._precision = precision
        self._batches = cycle(batches)
        self._memory = remembering(model, batches)
        wrap_parts(model, model.spec.compile)

    def step(self, mark: Callable[[str], None]) -> Tensor:
        """Run once; returns a checksum on the device: the mean magnitude of the first sequence's middle logits."""
        batch = next(self._batches)
        with torch.inference_mode(), self._precision.forward(batch.tokens_BT.device.type):
            logits_BTV = self._model(batch.tokens_BT, **batch.given, **self._memory)
            checksum: Tensor = logits_BTV[0, batch.middle].float().abs().mean()
        mark("forward")
        return checksum
