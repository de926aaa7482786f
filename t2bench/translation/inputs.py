"""Inputs: sentence pairs as a variant takes them.

    encdec    the encoder reads the source and its end, the decoder the begin id and the target
    decoder   a language model over both: source, end, begin, target, end; only the target and its end are predicted.
              With pattern `prefix` every token sees all of the prefix, which is what a translator is given: the source,
              its end and the begin id (Raffel et al. 2020, figure 4)

Recurrent models and users' own modules take the same. `padding: mask` fills rows up on the right; `packed` and `nested`
put the sentences one after the other. Lengths are handed over only where there is padding: without it every row is
whole, and a mask that hides nothing would cost time.

Shape letters: B batch, T target length (of a decoder: of both texts), S source length, N labels of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from t2bench.quality.batching import IGNORE, PairBatch
from t2bench.quality.tokenizer import PAD
from t2bench.spec.model import ModelSpec
from t2bench.workloads.batches import Batch

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Feed:
    """One batch for the model.

    Attributes:
        batch: what the model reads, and its labels.
        labelled_N: int64; places in the flattened batch where something is to be predicted, so that no logits are made
            where nothing is; None if that is everywhere.
        num_labels: places with a label.
        num_tokens: tokens of both sides, ends and begins included, padding not.
    """

    batch: Batch
    labelled_N: Tensor | None
    num_labels: int
    num_tokens: int


def check_trainable(spec: ModelSpec, *, longest_source: int, longest_target: int, longest_pair: int) -> None:
    """Refuse what cannot be trained on sentence pairs, before anything is trained.

    Args:
        spec: the variant.
        longest_source: tokens of the longest source, end included.
        longest_target: tokens of the longest target, begin included.
        longest_pair: tokens of the longest pair, both sides together.

    Raises:
        ValueError: the variant cannot translate, or its table of positions is too short.
    """
    if spec.arch == "encoder":
        raise ValueError("arch encoder does not write text: translation needs encdec or decoder")
    if spec.memory:
        raise ValueError(f"memory {spec.memory} continues one long text, and sentence pairs are short ones: memory: 0")
    if spec.pattern.kind == "prefix" and is_packed(spec):
        raise ValueError(f"pattern prefix needs rows of its own for each text: padding mask, not {spec.padding}")
    if spec.compile != "off":
        raise ValueError(
            "batches of sentences have ever new shapes, each of which would be compiled for minutes, until torch gives "
            "up and goes on without: compile: off"
        )
    longest = longest_pair if spec.arch == "decoder" else max(longest_source, longest_target)
    if spec.position.kind == "learned" and spec.recurrence == "none" and longest > spec.position.max_len:
        raise ValueError(
            f"a text of {longest} tokens, but the learned position table ends at position.max_len "
            f"{spec.position.max_len}; raise it, or lower the case's length"
        )


def is_packed(spec: ModelSpec) -> bool:
    """Whether sentences stand one after the other in a single row."""
    return spec.padding != "mask" and spec.recurrence == "none" and not spec.factory


def feed(spec: ModelSpec, pairs: PairBatch, device: torch.device) -> Feed:
    """Make what the model takes of sentence pairs.

    Args:
        spec: the variant; one that `check_trainable` lets pass.
        pairs: the batch.
        device: where the tensors shall live.

    Returns:
        The batch.
    """
    made = _joint(pairs) if spec.arch == "decoder" else pairs
    source_lengths_B, lengths_B = made.source_lengths_B, made.target_lengths_B
    source_BS, tokens_BT, labels_BT = made.source_BS, made.input_BT, made.labels_BT
    packed = is_packed(spec)
    if packed:
        flat = made.packed()
        source_BS, tokens_BT, labels_BT = flat.source_1N, flat.input_1N, flat.labels_1N
    encdec = spec.arch == "encdec"
    # Lengths of a packed batch stay on the host, where they are read.
    where = torch.device("cpu") if packed else device
    prefix_lengths_B = pairs.source_lengths_B + 1 if spec.pattern.kind == "prefix" else None
    labelled = np.flatnonzero(labels_BT != IGNORE)
    whole = len(labelled) == labels_BT.size
    return Feed(
        batch=Batch(
            tokens_BT=_put(tokens_BT, device),
            labels_BT=_put(labels_BT, device),
            source_BS=_put(source_BS, device) if encdec else None,
            lengths_B=_put(lengths_B, where) if packed or _has_padding(lengths_B) else None,
            source_lengths_B=(
                _put(source_lengths_B, where) if encdec and (packed or _has_padding(source_lengths_B)) else None
            ),
            prefix_lengths_B=None if prefix_lengths_B is None else _put(prefix_lengths_B, device),
        ),
        labelled_N=None if whole else _put(labelled, device),
        num_labels=len(labelled),
        num_tokens=int(pairs.source_lengths_B.sum() + pairs.target_lengths_B.sum()),
    )


def _has_padding(lengths_B: Ints) -> bool:
    return bool(lengths_B.min() < lengths_B.max())


def _joint(pairs: PairBatch) -> PairBatch:
    """Both texts of each pair in one row, as if they were targets."""
    source_B1, target_B1 = pairs.source_lengths_B[:, None], pairs.target_lengths_B[:, None]
    position_T = np.arange(int((source_B1 + target_B1).max()))
    is_source_BT = position_T < source_B1
    is_target_BT = (position_T >= source_B1) & (position_T < source_B1 + target_B1)
    exists_BS = np.arange(pairs.source_BS.shape[1]) < source_B1
    exists_BT = np.arange(pairs.input_BT.shape[1]) < target_B1
    tokens_BT = np.full(is_source_BT.shape, PAD, dtype=np.int64)
    labels_BT = np.full(is_source_BT.shape, IGNORE, dtype=np.int64)
    tokens_BT[is_source_BT] = pairs.source_BS[exists_BS]
    tokens_BT[is_target_BT] = pairs.input_BT[exists_BT]
    labels_BT[is_target_BT] = pairs.labels_BT[exists_BT]
    return PairBatch(
        rows=pairs.rows,
        source_BS=pairs.source_BS,
        input_BT=tokens_BT,
        labels_BT=labels_BT,
        source_lengths_B=pairs.source_lengths_B,
        target_lengths_B=pairs.source_lengths_B + pairs.target_lengths_B,
    )


def _put(array: Ints, device: torch.device) -> Tensor:
    """On the device, without waiting for it."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
