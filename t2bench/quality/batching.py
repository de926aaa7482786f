"""Batches of sentence pairs: a budget of tokens a side, sentences of like length together, the same for every variant.

An epoch is a permutation of the training pairs, cut into chunks; each chunk is sorted by length and cut into batches of
at most `tokens` padded tokens a side; the batches of all chunks are shuffled. All of it follows from the lengths, the
seed and the epoch, and from no generator whose stream a new version of NumPy may change. Sorting follows a snake: the
longer side grows, and within one length the other side runs up and down in turn, so that neighbours fit each other on
both sides.

Shape letters: B batch, S source length, T target length, N tokens of a packed batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2bench.quality.errors import DataError
from t2bench.quality.tokenizer import BOS, EOS, PAD

IGNORE = -100  # label of a position where nothing is to be predicted, as the loss has it
CHUNK_BATCHES = 64  # batches that are sorted together: fewer mix better, more waste less

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of ids of different lengths, in two arrays that can be saved and mapped.

    Attributes:
        flat: int32; all rows one after the other.
        offsets: int64; where each row begins, and the end of the last.
    """

    flat: NDArray[np.int32]
    offsets: Ints

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        """From lists of ids."""
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        return cls(np.fromiter((number for row in rows for number in row), dtype=np.int32, count=offsets[-1]), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        return self.flat[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> Ints:
        """Ids of each row."""
        return np.diff(self.offsets)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedPairs:
    """One split as ids, without begin and end. Saved by whoever has the tokenizer, loaded by workers."""

    source: Ragged
    target: Ragged

    def __len__(self) -> int:
        return len(self.source)

    def save(self, path: Path) -> None:
        """Write as `.npz`."""
        np.savez(
            path,
            source=self.source.flat,
            source_offsets=self.source.offsets,
            target=self.target.flat,
            target_offsets=self.target.offsets,
        )

    @classmethod
    def load(cls, path: Path) -> EncodedPairs:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(
                source=Ragged(arrays["source"], arrays["source_offsets"]),
                target=Ragged(arrays["target"], arrays["target_offsets"]),
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PairBatch:
    """Sentence pairs, padded on the right.

    Attributes:
        rows: int64 (B,); which pairs of the split.
        source_BS: int64; each sentence and its end id.
        input_BT: int64; begin id and target sentence: what the decoder reads.
        labels_BT: int64; target sentence and end id; IGNORE where there is none.
        source_lengths_B: int64; end id included.
        target_lengths_B: int64; begin id (or end id) included.
    """

    rows: Ints
    source_BS: Ints
    input_BT: Ints
    labels_BT: Ints
    source_lengths_B: Ints
    target_lengths_B: Ints

    def packed(self) -> PackedBatch:
        """The same pairs one after the other in a single row, without padding."""
        source_BS = np.arange(self.source_BS.shape[1]) < self.source_lengths_B[:, None]
        target_BT = np.arange(self.input_BT.shape[1]) < self.target_lengths_B[:, None]
        return PackedBatch(
            rows=self.rows,
            source_1N=self.source_BS[source_BS][None],
            input_1N=self.input_BT[target_BT][None],
            labels_1N=self.labels_BT[target_BT][None],
            source_lengths_B=self.source_lengths_B,
            target_lengths_B=self.target_lengths_B,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedBatch:
    """A `PairBatch` without padding; N is the sum of the lengths of a side."""

    rows: Ints
    source_1N: Ints
    input_1N: Ints
    labels_1N: Ints
    source_lengths_B: Ints
    target_lengths_B: Ints


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchPlan:
    """Which pairs go together, and in which order.

    Attributes:
        source_lengths: int64; of every pair, end id included.
        target_lengths: int64; of every pair, begin id included.
        rows: int64; the pairs that are used: those that fit.
        tokens: padded tokens a side that a batch may have.
        seed: of the order.
    """

    source_lengths: Ints
    target_lengths: Ints
    rows: Ints
    tokens: int
    seed: int

    @property
    def num_too_long(self) -> int:
        """Pairs that are left out."""
        return len(self.source_lengths) - len(self.rows)

    def epoch(self, number: int) -> list[Ints]:
        """The batches of an epoch (from 0), each as the rows of its pairs."""
        order = self.rows[_permutation(len(self.rows), self.seed, number, 0)]
        longest_side = max(int(self.source_lengths[order].sum()), int(self.target_lengths[order].sum()))
        num_chunks = max(1, round(longest_side / (CHUNK_BATCHES * self.tokens)))
        batches = [batch for chunk in np.array_split(order, num_chunks) for batch in self._cut(self._sorted(chunk))]
        return [batches[index] for index in _permutation(len(batches), self.seed, number, 1)]

    def in_order(self) -> list[Ints]:
        """All pairs once, longest first: for validation and decoding. `rows` of a batch say where each belongs."""
        return self._cut(self._sorted(self.rows))[::-1]

    def digest(self, epoch: int) -> str:
        """A hash of an epoch's batches and their order: variants with equal digests saw equal data."""
        digest = hashlib.sha256()
        for batch in self.epoch(epoch):
            digest.update(len(batch).to_bytes(8, "little") + batch.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def padding_share(self, batches: Sequence[Ints]) -> float:
        """Padding over all tokens of both sides."""
        real = padded = 0
        for batch in batches:
            for lengths in (self.source_lengths[batch], self.target_lengths[batch]):
                real += int(lengths.sum())
                padded += int(lengths.max()) * len(lengths)
        return 1 - real / padded

    def _sorted(self, rows: Ints) -> Ints:
        source, target = self.source_lengths[rows], self.target_lengths[rows]
        longer = np.maximum(source, target)
        difference = source - target
        return rows[np.lexsort((np.where(longer % 2, difference, -difference), longer))]

    def _cut(self, rows: Ints) -> list[Ints]:
        """Consecutive batches within the budget."""
        longer = np.maximum(self.source_lengths[rows], self.target_lengths[rows]).tolist()
        batches = []
        start = longest = 0
        for place, length in enumerate(longer):
            longest = max(longest, length)
            if (place - start + 1) * longest > self.tokens:
                batches.append(rows[start:place])
                start, longest = place, length
        batches.append(rows[start:])
        return batches


def plan_batches(pairs: EncodedPairs, *, tokens: int, seed: int, max_length: int | None = None) -> BatchPlan:
    """Plan the batches of a split.

    Args:
        pairs: the split.
        tokens: padded tokens a side that a batch may have.
        seed: of the order; the same for every variant.
        max_length: pairs with more tokens on a side (begin or end id included) are left out; None for `tokens`.

    Returns:
        The plan.

    Raises:
        DataError: no pair fits.
    """
    source_lengths, target_lengths = pairs.source.lengths + 1, pairs.target.lengths + 1
    limit = tokens if max_length is None else min(tokens, max_length)
    longer = np.maximum(source_lengths, target_lengths)
    rows = np.flatnonzero(longer <= limit)
    if not len(rows):
        shortest = f"; the shortest has {longer.min()}" if len(longer) else ""
        raise DataError(f"no sentence pair has at most {limit} tokens a side{shortest}")
    return BatchPlan(source_lengths=source_lengths, target_lengths=target_lengths, rows=rows, tokens=tokens, seed=seed)


def _permutation(count: int, *key: int) -> Ints:
    """A permutation that depends on the key only: an argsort of raw bits, whose stream NumPy never changes."""
    bits = np.random.PCG64(np.random.SeedSequence(key)).random_raw(count)
    return np.argsort(np.asarray(bits, dtype=np.uint64), kind="stable").astype(np.int64)


def gather(pairs: EncodedPairs, rows: Ints, *, multiple: int = 1) -> PairBatch:
    """Make the arrays of one batch.

    Args:
        pairs: the split.
        rows: int64 (B,); which pairs.
        multiple: S and T are rounded up to a multiple of it.

    Returns:
        The batch.
    """
    source_lengths_B = pairs.source.lengths[rows] + 1
    target_lengths_B = pairs.target.lengths[rows] + 1
    num_source, num_target = (
        -(-int(lengths.max()) // multiple) * multiple for lengths in (source_lengths_B, target_lengths_B)
    )
    source_BS = np.full((len(rows), num_source), PAD, dtype=np.int64)
    input_BT = np.full((len(rows), num_target), PAD, dtype=np.int64)
    labels_BT = np.full((len(rows), num_target), IGNORE, dtype=np.int64)
    for place, row in enumerate(rows):
        source, target = pairs.source[row], pairs.target[row]
        source_BS[place, : len(source)] = source
        source_BS[place, len(source)] = EOS
        input_BT[place, 0] = BOS
        input_BT[place, 1 : len(target) + 1] = target
        labels_BT[place, : len(target)] = target
        labels_BT[place, len(target)] = EOS
    return PairBatch(
        rows=rows,
        source_BS=source_BS,
        input_BT=input_BT,
        labels_BT=labels_BT,
        source_lengths_B=source_lengths_B,
        target_lengths_B=target_lengths_B,
    )


class BatchStream:
    """Training batches without end, epoch after epoch; `state` put into a new stream continues it exactly."""

    def __init__(self, pairs: EncodedPairs, plan: BatchPlan, *, state: dict[str, int] | None = None, multiple: int = 1):
        self._pairs = pairs
        self._plan = plan
        self._multiple = multiple
        self._epoch = state["epoch"] if state else 0
        self._next = state["next"] if state else 0
        self._batches = plan.epoch(self._epoch)

    @property
    def state(self) -> dict[str, int]:
        """Where the stream is: the epoch, and its next batch. Plain numbers, for a checkpoint."""
        return {"epoch": self._epoch, "next": self._next}

    def __iter__(self) -> Iterator[PairBatch]:
        return self

    def __next__(self) -> PairBatch:
        if self._next == len(self._batches):
            self._epoch, self._next = self._epoch + 1, 0
            self._batches = self._plan.epoch(self._epoch)
        rows = self._batches[self._next]
        self._next += 1
        return gather(self._pairs, rows, multiple=self._multiple)


def record(plan: BatchPlan) -> dict[str, Any]:
    """What a record must hold about the data order."""
    return {
        "tokens_per_side": plan.tokens,
        "seed": plan.seed,
        "pairs": len(plan.rows),
        "too_long": plan.num_too_long,
        "order": plan.digest(0),
    }
