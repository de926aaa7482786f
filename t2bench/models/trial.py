"""Trial: small batches that have everything a variant's axes need, and how a model is run on them.

    tokens, labels        as in training; a few labels are to be ignored
    source                encdec
    prefix, documents     patterns of these names
    before                memory: the segment before
    lengths, source_lengths   ragged batches: what lies beyond them is padding. A variant with packed or nested batches
                          gets it packed, any other padded; what comes out at padding is set to zero

Shape letters: B batch, T length, S source length, V vocabulary (padded), D width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from t2bench.models.loss import IGNORE
from t2bench.models.own import Own
from t2bench.models.packing import pack, unpack
from t2bench.models.stack import Memories
from t2bench.models.transformer import Transformer
from t2bench.spec.model import ModelSpec

MAX_LAYERS = 2
MAX_VOCAB = 256
MAX_DISTANCE = 7

Batch = Mapping[str, Tensor]


def shrunk(spec: ModelSpec, length: int) -> ModelSpec:
    """The variant with few layers and a small vocabulary, at its full width, and with windows, memories and distances
    so short that they matter at this length.
    """
    position, pattern = spec.position, spec.pattern
    if position.kind == "shaw":
        position = dataclasses.replace(position, max_distance=min(position.max_distance, MAX_DISTANCE))
    pattern = dataclasses.replace(
        pattern, window=min(pattern.window, max(2, length // 4)), global_tokens=min(pattern.global_tokens, 2)
    )
    return dataclasses.replace(
        spec,
        enc_layers=min(spec.enc_layers, MAX_LAYERS),
        dec_layers=min(spec.dec_layers, MAX_LAYERS),
        vocab=min(spec.vocab, MAX_VOCAB),
        memory=min(spec.memory, max(1, length // 2)),
        position=position,
        pattern=pattern,
    )


def make_batch(spec: ModelSpec, length: int, seed: int, device: torch.device | str) -> Batch:
    """Two sequences; a shorter source."""
    generator = torch.Generator().manual_seed(seed)
    tokens_BT = torch.randint(0, spec.vocab, (2, length + 1), generator=generator)
    labels_BT = tokens_BT[:, 1:].clone()
    labels_BT[1, : length // 3] = IGNORE
    batch = {"tokens": tokens_BT[:, :-1], "labels": labels_BT}
    if spec.arch == "encdec":
        batch["source"] = torch.randint(0, spec.vocab, (2, max(1, length - 3)), generator=generator)
    if spec.pattern.kind == "prefix":
        batch["prefix"] = torch.tensor([length // 3, length // 4])
    if spec.pattern.kind == "document":
        second_BT = torch.arange(length) >= torch.tensor([[length // 2], [length // 3]])
        batch["documents"] = second_BT.long()
    if spec.memory:
        batch["before"] = torch.randint(0, spec.vocab, (2, length), generator=generator)
    return {name: tensor.to(device) for name, tensor in batch.items()}


def ragged(spec: ModelSpec, batch: Batch) -> Batch:
    """The batch with a second sequence, and source, that end early."""
    full = batch["tokens"].shape[1]
    found = {**batch, "lengths": torch.tensor([full, max(1, full - 5)])}
    found["labels"] = torch.where(_exists(found["lengths"], batch["labels"]), batch["labels"], IGNORE)
    if spec.arch == "encdec":
        source = batch["source"].shape[1]
        found["source_lengths"] = torch.tensor([source, max(1, source - 2)])
    return found


def can_be_ragged(spec: ModelSpec) -> bool:
    """Whether sequences of several lengths can be packed together in this variant."""
    return spec.pattern.kind in ("full", "window") and not spec.pattern.global_tokens and not spec.memory


def logits(model: Transformer | Own, batch: Batch) -> Tensor:
    """Logits (B, T, V), without gradients."""
    with torch.no_grad():
        return _run(model, batch, model)


def step(model: Transformer, batch: Batch, trains: bool) -> Tensor:
    """Loss, and backward from it if it trains."""
    labels_BT = batch["labels"]
    if _packs(model, batch):
        labels_BT = pack(labels_BT, batch["lengths"])
    with torch.set_grad_enabled(trains):
        loss = model.loss(_states(model, batch, model.hidden), labels_BT)
        if trains:
            loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _run(model: Transformer | Own, batch: Batch, function: Callable[..., Tensor]) -> Tensor:
    """What the function makes of the batch, (B, T, ...), zero where there is padding."""
    y = _states(model, batch, function)
    if "lengths" not in batch:
        return y
    if _packs(model, batch):
        return unpack(y, batch["lengths"], batch["tokens"].shape[1])
    return torch.where(_exists(batch["lengths"], batch["tokens"])[..., None], y, 0.0)


def _states(model: Transformer | Own, batch: Batch, function: Callable[..., Tensor]) -> Tensor:
    """What the function makes of the batch, packed if the model packs."""
    given: dict[str, Any] = {"source_BS": batch["source"]} if "source" in batch else {}
    tokens_BT = batch["tokens"]
    for name, argument in (("prefix", "prefix_lengths_B"), ("documents", "documents_BT")):
        if name in batch:
            given[argument] = batch[name]
    if _packs(model, batch):
        tokens_BT = pack(tokens_BT, batch["lengths"])
        if "source" in batch:
            given["source_BS"] = pack(batch["source"], batch["source_lengths"])
    if "lengths" in batch:
        given["lengths_B"] = batch["lengths"]
    if "source_lengths" in batch:
        given["source_lengths_B"] = batch["source_lengths"]
    if "before" in batch:
        given["memories"] = _remembered(model.hidden, batch["before"])
    return function(tokens_BT, **given)


def _remembered(hidden: Callable[..., Tensor], before_BT: Tensor) -> Memories:
    memories = Memories()
    with torch.no_grad():
        hidden(before_BT, memories=memories)
    return memories


def _packs(model: Transformer | Own, batch: Batch) -> bool:
    return model.spec.padding != "mask" and "lengths" in batch


def _exists(lengths_B: Tensor, like_BT: Tensor) -> Tensor:
    """Bool (B, T), true where there is no padding."""
    position_T = torch.arange(like_BT.shape[1], device=like_BT.device)
    return position_T < lengths_B.to(like_BT.device)[:, None]
