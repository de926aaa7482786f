"""forward: inference on a batch of real text, logits for every position, no autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle

import torch
from torch import Tensor

from t2bench.models.transformer import Transformer
from t2bench.workloads.batches import Batch


class Forward:
    """One forward pass per call, in evaluation and inference mode.

    Attributes:
        phases: `forward`.
        tokens: token positions per step.
        held: parameters and position tables.
    """

    phases: tuple[str, ...] = ("forward",)

    def __init__(self, model: Transformer, batches: Sequence[Batch], *, tokens: int, held: tuple[Tensor, ...]) -> None:
        self.tokens = tokens
        self.held = held
        self._model = model.eval()
        self._batches = cycle(batches)

    def step(self, mark: Callable[[str], None]) -> Tensor:
        """Run once; returns a checksum on the device: the mean magnitude of the first sequence's middle logits."""
        batch = next(self._batches)
        with torch.inference_mode():
            logits_BTV = self._model(batch.tokens_BT, source_BS=batch.source_BS)
            checksum: Tensor = logits_BTV[0, logits_BTV.shape[1] // 2].float().abs().mean()
        mark("forward")
        return checksum
