"""Batches: what a model is fed, cut from a token stream.

Cuts depend on the seed, the batch size and the length only, so every variant of a group gets the same text. Several
batches are made beforehand and used in turn: no step sees the input of the step before, and nothing is copied inside a
measured step.

Shape letters: B batch, T target length, S source length.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from t2bench.models.loss import IGNORE
from t2bench.spec.axes import Arch
from t2bench.workloads.text import MASK

NUM_BATCHES = 4
MASKED_SHARE = 0.15  # of an encoder's tokens, as BERT (Devlin et al. 2018, section 3.1)


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's input.

    Attributes:
        tokens_BT: int64; what the model reads (for `encdec` the target, shifted right).
        labels_BT: int64; what it is to predict, IGNORE where nothing.
        source_BS: int64; for `encdec` the source.
    """

    tokens_BT: Tensor
    labels_BT: Tensor
    source_BS: Tensor | None = None


def cut(
    path: Path, *, arch: Arch, batch: int, length: int, seed: int, device: torch.device, count: int = NUM_BATCHES
) -> tuple[Batch, ...]:
    """Make `count` different batches.

    Args:
        path: token stream written by `t2bench.workloads.text.write_tokens`.
        arch: `decoder` predicts the next token; `encoder` the tokens behind MASK; `encdec` the `length` tokens that
            follow the `length` source tokens.
        batch: sequences B.
        length: T (and S).
        seed: of the cuts.
        device: where the batches live.
        count: how many.

    Returns:
        The batches.

    Raises:
        ValueError: the stream is shorter than one sequence.
    """
    stream = np.load(path, mmap_mode="r")
    span = {"decoder": length + 1, "encoder": length, "encdec": 2 * length}[arch]
    if len(stream) < span:
        raise ValueError(f"{path}: {len(stream)} tokens, but one sequence needs {span}")
    made = []
    for index in range(count):
        random = np.random.default_rng([seed, index])
        starts = random.integers(0, len(stream) - span + 1, size=batch)
        rows = np.stack([stream[start : start + span] for start in starts]).astype(np.int64)
        made.append(_batch(rows, arch, length, random, device))
    return tuple(made)


def placeholder(*, arch: Arch, batch: int, length: int, device: torch.device) -> Batch:
    """A batch of zeros, for predictions: under FakeTensorMode it has a shape and nothing else."""
    zeros = [torch.zeros(batch, length, dtype=torch.int64, device=device) for _ in range(3)]
    return Batch(zeros[0], zeros[1], zeros[2] if arch == "encdec" else None)


def _batch(rows: Any, arch: Arch, length: int, random: np.random.Generator, device: torch.device) -> Batch:
    def put(ids: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(ids)).to(device)

    if arch == "decoder":
        return Batch(put(rows[:, :-1]), put(rows[:, 1:]))
    if arch == "encdec":
        return Batch(put(rows[:, length - 1 : -1]), put(rows[:, length:]), put(rows[:, :length]))
    hidden = random.random(rows.shape) < MASKED_SHARE
    hidden[:, 0] = True  # at least one label a sequence, however short
    return Batch(put(np.where(hidden, MASK, rows)), put(np.where(hidden, rows, IGNORE)))
