"""Translator: translates a split of sentences with a trained model, of any variant.

Sentences of like length share a batch of at most so many source tokens, padding and repeated rows (hypotheses of a
beam, draws for one sentence) included. Where padding is not possible, all sentences of a batch have one length: for
decoders, whose prompt is the source; for packed and nested variants and for kernels that take no mask; and for a
user's own module that takes no lengths.

Shape letters: B sentences of a batch, S source length, L tokens at most.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from t2bench.attention.dispatch import takes_mask_tensor
from t2bench.models.own import Own
from t2bench.models.precision import PRECISIONS
from t2bench.models.transformer import Transformer
from t2bench.quality.batching import Ragged
from t2bench.quality.tokenizer import EOS, PAD
from t2bench.spec.quality import Decoding
from t2bench.translation.reader import Reader
from t2bench.translation.sampling import Sampler, uniforms
from t2bench.translation.search import Beam, Found, extend, greedy

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Translated:
    """Translations of a batch of sentences.

    Attributes:
        rows: places of the sentences in their split.
        tokens: ids of each translation, without begin and end; of `mbr`, where none is chosen yet: empty.
        cut: whether the translation (of `mbr`: any of its candidates) has no end: the limit of tokens was reached, or
            the source is longer than the model can read.
        scores: sums of the model's log-probabilities, end included, nothing divided; of `mbr`: empty.
        candidates: for `mbr` the draws for each sentence; else None.
    """

    rows: list[int]
    tokens: list[list[int]]
    cut: list[bool]
    scores: list[float]
    candidates: list[list[list[int]]] | None = None


class Translator:
    """Translates with one model.

    Args:
        model: put into evaluation mode while it translates.
        tokens: source tokens, end ids and padding included, that a batch may have.
        dtype: a name of `t2bench.models.precision`.

    Raises:
        ValueError: the model is an encoder.
    """

    def __init__(self, model: Transformer, *, tokens: int, dtype: str) -> None:
        self._model = model
        self._spec = model.spec
        if self._spec.arch == "encoder":
            raise ValueError("an encoder writes no text: translation needs arch encdec or decoder")
        self._tokens = tokens
        self._precision = PRECISIONS[dtype]
        self._device = next(model.parameters()).device
        self._one_length = self._spec.arch == "decoder" or not self._takes_padding()

    def translate(self, source: Ragged, decoding: Decoding, *, seed: int) -> Iterator[Translated]:
        """Translate every sentence once, the longest first.

        Args:
            source: ids without begin and end.
            decoding: how.
            seed: of what is drawn.
        """
        limits = self._limits(source.lengths, decoding)
        if len(beyond := np.flatnonzero(limits < 1)):
            yield _untranslated(beyond.tolist(), decoding)
        copies = {"beam": decoding.beam, "mbr": decoding.samples}.get(decoding.method, 1)
        for rows in self._batches(source.lengths + 1, limits >= 1, max(1, self._tokens // copies)):
            with torch.inference_mode(), _evaluating(self._model), self._precision.forward(self._device.type):
                yield self._translate(source, rows, limits[rows], decoding, seed)

    def _takes_padding(self) -> bool:
        if isinstance(self._model, Own):
            return "source_lengths_B" in self._model.takes
        if self._spec.recurrence != "none":
            return True
        return self._spec.padding == "mask" and takes_mask_tensor(self._spec.attention, self._device.type)

    def _limits(self, lengths: Ints, decoding: Decoding) -> Ints:
        """Tokens that each translation may have; 0 where the source itself has no place in a table of positions."""
        limits = lengths + max(1, decoding.max_extra)
        if self._spec.position.kind != "learned" or self._spec.recurrence != "none" or self._spec.factory:
            return limits
        places = self._spec.position.max_len
        if self._spec.arch == "encdec":  # the last token is never read
            return np.where(lengths + 1 > places, 0, np.minimum(limits, places))
        return np.clip(places - (lengths + 2) + 1, 0, limits)

    def _batches(self, lengths: Ints, wanted: NDArray[np.bool_], tokens: int) -> Iterator[Ints]:
        """Rows of each batch; `lengths` with the end id."""
        rows = np.flatnonzero(wanted)
        rows = rows[np.argsort(-lengths[rows], kind="stable")]
        start = 0
        while start < len(rows):
            longest = int(lengths[rows[start]])
            end = start + max(1, tokens // longest)
            if self._one_length:
                end = min(end, start + int(np.count_nonzero(lengths[rows[start:]] == longest)))
            yield rows[start:end]
            start = end

    def _translate(self, source: Ragged, rows: Ints, limits: Ints, decoding: Decoding, seed: int) -> Translated:
        limits_B = torch.from_numpy(limits).to(self._device)
        reader = self._reader(source, rows, int(limits.max()))
        vocab = self._spec.vocab
        if decoding.method == "mbr":
            return self._drawn(reader, rows, limits, decoding, seed)
        if decoding.method == "beam":
            found = Beam(reader, limits_B, vocab, decoding).run()
        elif decoding.method == "greedy" or decoding.temperature == 0.0:
            found = extend(reader, limits_B, vocab, greedy)
        else:
            found = extend(reader, limits_B, vocab, self._sampler(rows, limits, 1, decoding, seed))
        return Translated(rows=rows.tolist(), tokens=found.tokens, cut=found.cut, scores=found.scores)

    def _drawn(self, reader: Reader, rows: Ints, limits: Ints, decoding: Decoding, seed: int) -> Translated:
        """Several draws for each sentence, side by side."""
        samples = decoding.samples
        limits_B = torch.from_numpy(limits).to(self._device).repeat_interleave(samples)
        choose = self._sampler(rows, limits, samples, decoding, seed) if decoding.temperature > 0.0 else greedy
        found: Found = extend(reader, limits_B, self._spec.vocab, choose, copies=samples)
        firsts = range(0, len(found.tokens), samples)
        return Translated(
            rows=rows.tolist(),
            tokens=[],
            cut=[any(found.cut[first : first + samples]) for first in firsts],
            scores=[],
            candidates=[found.tokens[first : first + samples] for first in firsts],
        )

    def _reader(self, source: Ragged, rows: Ints, limit: int) -> Reader:
        lengths = source.lengths[rows] + 1
        ids_BS = np.full((len(rows), int(lengths.max())), PAD, dtype=np.int64)
        for place, row in enumerate(rows):
            ids_BS[place, : lengths[place] - 1] = source[row]
        ids_BS[np.arange(len(rows)), lengths - 1] = EOS
        padded = lengths.min() < lengths.max()
        return Reader(
            self._model,
            torch.from_numpy(ids_BS).to(self._device),
            torch.from_numpy(lengths).to(self._device) if padded else None,
            limit=limit,
            dtype=self._precision.compute,
        )

    def _sampler(self, rows: Ints, limits: Ints, samples: int, decoding: Decoding, seed: int) -> Sampler:
        numbers = uniforms(rows, limits, samples=samples, seed=seed)
        return Sampler(decoding, torch.from_numpy(numbers).to(self._device))


@contextlib.contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    trains = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(trains)


def _untranslated(rows: list[int], decoding: Decoding) -> Translated:
    """Sources that a table of positions has no place for: empty translations, counted as cut."""
    empty: list[list[int]] = [[] for _ in rows]
    if decoding.method == "mbr":
        candidates: list[list[list[int]]] = [[[] for _ in range(decoding.samples)] for _ in rows]
        return Translated(rows=rows, tokens=[], cut=[True] * len(rows), scores=[], candidates=candidates)
    return Translated(rows=rows, tokens=empty, cut=[True] * len(rows), scores=[0.0] * len(rows))
