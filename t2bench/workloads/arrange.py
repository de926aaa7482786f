"""Arranging batches: sequences of several lengths, prefixes, documents: what a workload or a pattern asks for.

    ragged     lengths of a log-normal mix with a long tail, as sentences have; the longest is the case's, their mean
               about half of it. `padding: mask` fills them up on the right, `packed` and `nested` put them one after
               the other. All batches have the same lengths in another order: every step is the same work
    prefix     a quarter to three quarters of each text are given (Raffel et al. 2020, figure 4); only the rest is
               predicted
    document   each text is divided into about DOCUMENTS parts of unequal length; nothing is predicted across a border

Shape letters: B batch, T length, N tokens of a packed batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily

from t2bench.models.loss import IGNORE
from t2bench.models.packing import pack
from t2bench.spec.case import Case
from t2bench.workloads.batches import Batch

SPREAD = 0.6  # standard deviation of the logarithm of a length: the longest tenth is three times the median or more
DOCUMENTS = 4


def arrange(case: Case, batches: Sequence[Batch]) -> tuple[Batch, ...]:
    """The batches as the case's workload and the variant's pattern and padding need them."""
    lengths = ragged_lengths(case) if case.workload.ragged else None
    return tuple(_arranged(case, batch, lengths, index) for index, batch in enumerate(batches))


def ragged_lengths(case: Case) -> Any:
    """Lengths of a batch's sequences, int64 (B,), in no order: the longest is the case's length."""
    random = np.random.default_rng([case.seed, case.batch, case.length])
    draws = np.exp(SPREAD * random.standard_normal(case.batch))
    lengths = np.clip(np.rint(draws / draws.mean() * case.length / 2), 1, case.length).astype(np.int64)
    lengths[lengths.argmax()] = case.length
    return lengths


def num_tokens(case: Case) -> int:
    """Tokens that one step gets through, without padding."""
    if not case.workload.ragged:
        return case.tokens
    return int(ragged_lengths(case).sum()) * (2 if case.model.arch == "encdec" else 1)


def _arranged(case: Case, batch: Batch, lengths: Any, index: int) -> Batch:
    random = np.random.default_rng([case.seed, index, case.batch])
    pattern = case.model.pattern.kind
    # A prompt is all prefix, which generating sees to itself; and it has no documents.
    if pattern == "prefix" and not case.workload.generates:
        batch = _with_prefix(batch, random)
    if pattern == "document":
        batch = _with_documents(batch, random, predicts_next=case.model.arch == "decoder")
    if lengths is None:
        return batch
    lengths_B = torch.from_numpy(random.permutation(lengths))
    return _ragged(batch, lengths_B, packed=case.model.padding != "mask")


def _ragged(batch: Batch, lengths_B: Tensor, *, packed: bool) -> Batch:
    device = batch.tokens_BT.device
    length = batch.tokens_BT.shape[1]
    exists_BT = torch.arange(length) < lengths_B[:, None]
    labels_BT = batch.labels_BT.masked_fill(~exists_BT.to(device), IGNORE)
    source_BS, middle = batch.source_BS, int(lengths_B[0]) // 2
    if not packed:
        put_B = lengths_B.to(device)
        return replace(
            batch,
            labels_BT=labels_BT,
            lengths_B=put_B,
            source_lengths_B=None if source_BS is None else put_B,
            middle=middle,
        )
    return replace(
        batch,
        tokens_BT=pack(batch.tokens_BT, lengths_B),
        labels_BT=pack(labels_BT, lengths_B),
        source_BS=None if source_BS is None else pack(source_BS, lengths_B),
        lengths_B=lengths_B,
        source_lengths_B=None if source_BS is None else lengths_B,
        middle=middle,
    )


def _with_prefix(batch: Batch, random: np.random.Generator) -> Batch:
    rows, length = batch.tokens_BT.shape
    prefix = torch.from_numpy(random.integers(max(1, length // 4), max(2, 3 * length // 4), size=rows))
    # The last token of the prefix predicts the first one after it; those before it see what they would predict.
    given_BT = torch.arange(length) < prefix[:, None] - 1
    device = batch.tokens_BT.device
    labels_BT = batch.labels_BT.masked_fill(given_BT.to(device), IGNORE)
    return replace(batch, labels_BT=labels_BT, prefix_lengths_B=prefix.to(device))


def _with_documents(batch: Batch, random: np.random.Generator, *, predicts_next: bool) -> Batch:
    rows, length = batch.tokens_BT.shape
    begins_BT = torch.from_numpy(random.random((rows, length)) < (DOCUMENTS - 1) / length)
    begins_BT[:, 0] = False
    device = batch.tokens_BT.device
    documents_BT = begins_BT.cumsum(1).to(device)
    if not predicts_next:
        return replace(batch, documents_BT=documents_BT)
    last_BT = begins_BT.roll(-1, dims=1).to(device)
    return replace(batch, labels_BT=batch.labels_BT.masked_fill(last_BT, IGNORE), documents_BT=documents_BT)


def blank(case: Case, device: torch.device) -> Batch:
    """A batch of zeros in the shapes that `arrange` makes, for predictions."""

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(*shape, dtype=torch.int64, device=device)

    rows, length, model = case.batch, case.length, case.model
    lengths_B: Tensor | None = None
    if case.workload.ragged:
        with unset_fake_temporarily():  # the host reads the lengths of a packed batch
            lengths_B = torch.from_numpy(ragged_lengths(case))
        if model.padding != "mask":
            rows, length = 1, int(ragged_lengths(case).sum())
    encdec = model.arch == "encdec"
    return Batch(
        tokens_BT=zeros(rows, length),
        labels_BT=zeros(rows, length),
        source_BS=zeros(rows, length) if encdec else None,
        lengths_B=lengths_B,
        source_lengths_B=lengths_B if encdec else None,
        prefix_lengths_B=zeros(rows) if model.pattern.kind == "prefix" and not case.workload.generates else None,
        documents_BT=zeros(rows, length) if model.pattern.kind == "document" else None,
    )
