"""train_step: forward, loss, backward, AdamW, on a batch of real text."""

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

LEARNING_RATE = 1e-4


class TrainStep:
    """One training step per call.

    Everything is in the model's dtype: parameters, activations, gradients and both moments of the optimizer; with
    autocast, matrix products of the forward pass and their gradients are in 16 bits. There is no loss scaling, which
    fp16 would need to learn anything, but not to take its time.

    The optimizer's state exists before the first step and gradients are freed at the start of each (`zero_grad` with
    set_to_none, in the forward phase), so that the first step does, and holds, what every other does.

    Attributes:
        phases: `forward` (to the hidden states), `loss` (output layer and cross-entropy), `backward`, `optimizer`.
        latencies: none.
        tokens: token positions per step, padding not counted.
        held: what the model holds apart from training: parameters and position tables.
    """

    phases: tuple[str, ...] = ("forward", "loss", "backward", "optimizer")

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
        self._model = model.train()
        self._precision = precision
        self._batches = cycle(batches)
        self._memory = remembering(model, batches)
        self._optimizer = adamw(model)
        wrap_parts(model, model.spec.compile)

    def step(self, mark: Callable[[str], None]) -> Tensor:
        """Train once; returns the loss, a scalar on the device."""
        batch = next(self._batches)
        self._optimizer.zero_grad(set_to_none=True)
        with self._precision.forward(batch.tokens_BT.device.type):
            x_BTD = self._model.hidden(batch.tokens_BT, **batch.given, **self._memory)
            mark("forward")
            loss = self._model.loss(x_BTD, batch.labels_BT)
            mark("loss")
        loss.backward()  # type: ignore[no-untyped-call]
        mark("backward")
        self._optimizer.step()
        mark("optimizer")
        return loss.detach()


def adamw(model: torch.nn.Module) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov & Hutter 2017) whose state is already there, as the first step would make it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    for parameter in model.parameters():
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }
    return optimizer
