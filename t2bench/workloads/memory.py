"""memory: what a model with segment recurrence remembers, fed from one step to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from t2bench.models.stack import Memories
from t2bench.models.transformer import Transformer
from t2bench.workloads.batches import Batch


def remembering(model: Transformer, batches: Sequence[Batch]) -> dict[str, Any]:
    """The `memories` argument of every step; empty for a model without.

    The memory is full before the first step, so that all steps are the same work: it is filled with the last batches,
    which the first ones follow again and again. What a layer remembers depends on what the layers below remembered.
    """
    if not model.spec.memory:
        return {}
    memories = Memories()
    length = batches[-1].tokens_BT.shape[1]
    needed = -(-model.spec.num_dec_layers * (model.spec.memory + length) // length)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for index in range(needed):
            batch = batches[(index - needed) % len(batches)]
            model.hidden(batch.tokens_BT, memories=memories, **batch.given)
    model.train(was_training)
    return {"memories": memories}
