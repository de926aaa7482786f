"""Batches: what a model is fed, cut from a token stream.

Cuts depend on the seed, the batch size and the length only, so every variant of a group gets the same text. Several
batches are made beforehand and used in turn: no step sees the input of the step before, and nothing is copied inside a
measured step. What a variant's pattern, padding or memory needs beyond tokens is in `t2bench.workloads.arrange`.

Shape letters: B batch, T target length, S source length, N tokens of a packed batch.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One step's input. Packed batches have one row, (1, N) instead of (B, T).

    Attributes:
        tokens_BT: int64; what the model reads (for `encdec` the target, shifted right).
        labels_BT: int64; what it is to predict, IGNORE where nothing.
        source_BS: int64; for `encdec` the source.
        lengths_B: int64; tokens of each sequence, if ragged; on the host if packed, so that nobody waits for it.
        source_lengths_B: the same of the source.
        prefix_lengths_B: int64; for pattern `prefix`.
        documents_BT: int64; for pattern `document`.
        middle: a position of the first row that exists and is neither first nor last, if there is one.
    """

    tokens_BT: Tensor
    labels_BT: Tensor
    source_BS: Tensor | None = None
    lengths_B: Tensor | None = None
    source_lengths_B: Tensor | None = None
    prefix_lengths_B: Tensor | None = None
    documents_BT: Tensor | None = None
    middle: int = 0

    @property
    def given(self) -> dict[str, Any]:
        """What the model is handed along with the tokens, by the names of its arguments."""
        names = ("source_BS", "lengths_B", "source_lengths_B", "prefix_lengths_B", "documents_BT")
        return {name: tensor for name in names if (tensor := getattr(self, name)) is not None}


def cut(
    path: Path,
    *,
    arch: Arch,
    batch: int,
    length: int,
    seed: int,
    device: torch.device,
    count: int = NUM_BATCHES,
    consecutive: bool = False,
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
        consecutive: each row continues the same row of the batch before.

    Returns:
        The batches.

    Raises:
        ValueError: the stream is shorter than one sequence, or than the segments of one.
    """
    stream = np.load(path, mmap_mode="r")
    span = {"decoder": length + 1, "encoder": length, "encdec": 2 * length}[arch]
    whole = span + (count - 1) * length if consecutive else span
    if len(stream) < whole:
        raise ValueError(f"{path}: {len(stream)} tokens, but one sequence needs {whole}")
    made = []
    for index in range(count):
        random = np.random.default_rng([seed, index])
        first = np.random.default_rng([seed, 0]) if consecutive else random
        starts = first.integers(0, len(stream) - whole + 1, size=batch) + (index * length if consecutive else 0)
        rows = np.stack([stream[start : start + span] for start in starts]).astype(np.int64)
        made.append(_batch(rows, arch, length, random, device))
    return tuple(made)


def _batch(rows: Any, arch: Arch, length: int, random: np.random.Generator, device: torch.device) -> Batch:
    def put(ids: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(ids)).to(device)

    middle = length // 2
    if arch == "decoder":
        return Batch(tokens_BT=put(rows[:, :-1]), labels_BT=put(rows[:, 1:]), middle=middle)
    if arch == "encdec":
        tokens, labels, source = rows[:, length - 1 : -1], rows[:, length:], rows[:, :length]
        return Batch(tokens_BT=put(tokens), labels_BT=put(labels), source_BS=put(source), middle=middle)
    hidden = random.random(rows.shape) < MASKED_SHARE
    hidden[:, 0] = True  # at least one label a sequence, however short
    tokens, labels = np.where(hidden, MASK, rows), np.where(hidden, rows, IGNORE)
    return Batch(tokens_BT=put(tokens), labels_BT=put(labels), middle=middle)
