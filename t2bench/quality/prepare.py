"""From the description of a corpus to what a training reads: text found or made, filtered, split, tokenised, saved.

All that decides whether two scores may be compared is in `Prepared.record`: the hashes of the files, what was done to
the text, the hashes of the text that came of it, the tokenizer, and the batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from t2bench.quality import batching
from t2bench.quality.batching import EncodedPairs, Ragged, plan_batches
from t2bench.quality.catalogue import locate
from t2bench.quality.corpora import VALIDATION, Corpus, Pairs, made_pairs, part_name, read_corpus
from t2bench.quality.errors import DataError
from t2bench.quality.language import SOURCE, TARGET, LanguageSpec, make_corpus
from t2bench.quality.tasks import SOURCE as TASK_SOURCE
from t2bench.quality.tasks import TARGET as TASK_TARGET
from t2bench.quality.tasks import TaskSpec, make_task
from t2bench.quality.tokenizer import UNK, Tokenizer, TokenizerSpec, make_tokenizer
from t2bench.spec.errors import did_you_mean, listing, printable
from t2bench.spec.quality import LANGUAGE, MADE, CorpusSpec

MADE_PAIRS = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A corpus as a training reads it.

    Attributes:
        corpus: the text that is used: filtered, split and, if asked, lowercased.
        tokenizer: made from both sides of its training text.
        files: `train`, `val` (whatever its files are called) or the name of a test set -> its `EncodedPairs`.
        record: all that makes scores comparable, ready for JSON. `Corpus.record()` of the text as it was found or made
            (`corpus`, `synthetic`, `direction`, `description`, `splits`); what was asked for (`lowercase`, `lengths`,
            `test_lengths`, `max_length`); `tokenizer`; `batches` (of seed 0, with `source_tokens` and `target_tokens`
            of an epoch, end or begin ids included); and `used`: name of a split -> `pairs`, `left_out`, hashes of its
            text, `longest_source` and `longest_target` (tokens, end id included), `unknown` (tokens that stand for
            what the tokenizer does not know), `in_training` (source sentences that are in the training text too).
    """

    corpus: Corpus
    tokenizer: Tokenizer
    files: dict[str, Path]
    record: dict[str, Any]


def prepare(spec: CorpusSpec, *, vocab: int, max_length: int, tokens: int, data: Path | None, folder: Path) -> Prepared:
    """Find or make a corpus and save it as ids.

    A range of words holds both its ends. `lengths` are of training and validation sentences, and of those at most
    `pairs` are trained on, the first that fit. Every test set becomes one for each range of `test_lengths`, named
    `test_2016_flickr[31-60]`; sentences in no range are left out. `tests` names test sets before they are split.

    Args:
        spec: which corpus.
        vocab: ids that the model has.
        max_length: training pairs with more tokens on a side (end id included) are left out of the batches.
        tokens: padded tokens a side of a batch.
        data: folder of corpora, or the corpus itself; None for T2BENCH_DATA or the user's data folder.
        folder: where to save; used for nothing else.

    Returns:
        What was prepared. The same text and settings give the same files and the same record.

    Raises:
        DataError: the corpus is not there or not sound, nothing is left of it, or its tokens do not fit the model.
    """
    _check(spec)
    found = find_corpus(spec, data)
    corpus = _cased(found, lowercase=spec.lowercase)
    if spec.name not in MADE:
        corpus = _fitting(corpus, spec)
    corpus = replace(corpus, val=replace(corpus.val, name=VALIDATION[0]))
    tokenizer = _tokenizer(spec, corpus, vocab)
    folder.mkdir(parents=True, exist_ok=True)
    files, encoded = {}, {}
    for pairs in (corpus.train, corpus.val, *corpus.tests):
        files[pairs.name] = folder / f"{pairs.name}.npz"
        encoded[pairs.name] = EncodedPairs(
            source=Ragged.of(tokenizer.encode(pairs.source)), target=Ragged.of(tokenizer.encode(pairs.target))
        )
        encoded[pairs.name].save(files[pairs.name])
    record = {
        **found.record(),
        "lowercase": spec.lowercase,
        "lengths": list(spec.lengths),
        "test_lengths": [list(bounds) for bounds in spec.test_lengths],
        "max_length": max_length,
        "tokenizer": tokenizer.record(),
        "batches": _batches(corpus, encoded[corpus.train.name], tokens, max_length),
        "used": _used(found, corpus, encoded),
    }
    return Prepared(corpus=corpus, tokenizer=tokenizer, files=files, record=record)


def find_corpus(spec: CorpusSpec, data: str | Path | None) -> Corpus:
    """Read a folder or make the corpus, before anything is done to its sentences.

    A name of MADE is the corpus that is made, even beside a folder of that name; its path selects the folder.

    Args:
        spec: which; of a folder only `name`, `direction` and `tests` matter, of a made corpus `lowercase` does not.
        data: as for `prepare`.

    Raises:
        DataError: it is not there, not sound, or cannot be made.
    """
    if spec.name not in MADE:
        return read_corpus(locate(spec.name, data), direction=spec.direction, tests=spec.tests)
    there = (TASK_SOURCE, TASK_TARGET) if spec.name != LANGUAGE else (SOURCE, TARGET)
    directions = ["-".join(there)] + (["-".join(there[::-1])] if spec.name == LANGUAGE else [])
    if spec.direction and spec.direction not in directions:
        near = did_you_mean(spec.direction, directions) or f"; there is {listing(directions)}"
        raise DataError(f"{spec.name}: no direction {printable(spec.direction)}{near}")
    for name in spec.tests:
        if name != "test":
            raise DataError(f"{spec.name}: no test set {printable(name)}; there is test")
    ranges = tuple((low, high) for low, high in spec.test_lengths)
    given: dict[str, Any] = {"lengths": (spec.lengths[0], spec.lengths[1])} if spec.lengths else {}
    num_pairs = MADE_PAIRS if spec.pairs is None else spec.pairs
    if spec.name != LANGUAGE:
        return make_task(TaskSpec(task=spec.name, train=num_pairs, test_lengths=ranges, **given))
    named = {part_name("test", *bounds): bounds for bounds in ranges}
    reverse = spec.direction == directions[1]
    return make_corpus(LanguageSpec(train=num_pairs, test_lengths=named, reverse=reverse, **given))


def _check(spec: CorpusSpec) -> None:
    asked = [("lengths", spec.lengths)] if spec.lengths else []
    asked += [("test_lengths", bounds) for bounds in spec.test_lengths]
    for name, bounds in asked:
        if len(bounds) != 2 or not 1 <= bounds[0] <= bounds[1]:
            raise DataError(f"{name}: {list(bounds)} is not [fewest, most] words, for example [1, 30]")
    if len(set(spec.test_lengths)) < len(spec.test_lengths):
        raise DataError("test_lengths: a range is there twice")
    if len(set(spec.tests)) < len(spec.tests):
        raise DataError("tests: a test set is there twice")
    if spec.pairs is not None and spec.pairs < 1:
        raise DataError(f"pairs: must be at least 1, got {spec.pairs}")


def _cased(corpus: Corpus, *, lowercase: bool) -> Corpus:
    if not lowercase:
        return corpus

    def lowered(pairs: Pairs) -> Pairs:
        return made_pairs(pairs.name, *([line.lower() for line in lines] for lines in (pairs.source, pairs.target)))

    tests = tuple(lowered(pairs) for pairs in corpus.tests)
    return replace(corpus, train=lowered(corpus.train), val=lowered(corpus.val), tests=tests)


def _fitting(corpus: Corpus, spec: CorpusSpec) -> Corpus:
    """The sentences of the lengths that were asked for."""
    train, val, tests = corpus.train, corpus.val, corpus.tests
    if spec.lengths:
        train, val = (_within(corpus, pairs, pairs.name, *spec.lengths) for pairs in (train, val))
    if spec.pairs is not None and spec.pairs < len(train):
        train = made_pairs(train.name, train.source[: spec.pairs], train.target[: spec.pairs])
    if spec.test_lengths:
        tests = tuple(
            _within(corpus, pairs, part_name(pairs.name, low, high), low, high)
            for pairs in tests
            for low, high in spec.test_lengths
        )
    return replace(corpus, train=train, val=val, tests=tests)


def _within(corpus: Corpus, pairs: Pairs, name: str, fewest: int, most: int) -> Pairs:
    words = [len(line.split()) for line in pairs.source]
    rows = [row for row, count in enumerate(words) if fewest <= count <= most]
    if not rows:
        raise DataError(
            f"{corpus.name}: {pairs.name} has no sentence of {fewest} to {most} source words; there are {len(words)} "
            f"sentences, of {min(words)} to {max(words)} words"
        )
    return made_pairs(name, [pairs.source[row] for row in rows], [pairs.target[row] for row in rows])


def _tokenizer(spec: CorpusSpec, corpus: Corpus, vocab: int) -> Tokenizer:
    wanted = TokenizerSpec(kind=spec.tokenizer, vocab=vocab)
    made = make_tokenizer(wanted, (*corpus.train.source, *corpus.train.target))
    if made.vocab > vocab:
        raise DataError(
            f"{corpus.name}: tokenizer {spec.tokenizer} has {made.vocab} ids and the model's vocab is {vocab}; "
            "make vocab larger"
        )
    return made


def _batches(corpus: Corpus, train: EncodedPairs, tokens: int, max_length: int) -> dict[str, Any]:
    try:
        plan = plan_batches(train, tokens=tokens, seed=0, max_length=max_length)
    except DataError as error:
        raise DataError(f"{corpus.name}: nothing to train on: {error}") from error
    return {
        **batching.record(plan),
        "source_tokens": int(plan.source_lengths[plan.rows].sum()),
        "target_tokens": int(plan.target_lengths[plan.rows].sum()),
    }


def _used(found: Corpus, corpus: Corpus, encoded: dict[str, EncodedPairs]) -> dict[str, dict[str, Any]]:
    """What became of each split, by its name."""
    whole = {pairs.name: len(pairs) for pairs in (found.train, *found.tests)} | {corpus.val.name: len(found.val)}
    learned = set(corpus.train.source)
    used = {}
    for pairs in (corpus.train, corpus.val, *corpus.tests):
        ids = encoded[pairs.name]
        # A part of a test set has the name of the whole before its bracket.
        before = whole.get(pairs.name) or whole[pairs.name.rpartition("[")[0]]
        used[pairs.name] = {
            "pairs": len(pairs),
            "left_out": before - len(pairs),
            "source_sha256": pairs.source_sha256,
            "target_sha256": pairs.target_sha256,
            "longest_source": int(ids.source.lengths.max()) + 1,
            "longest_target": int(ids.target.lengths.max()) + 1,
            "unknown": int(np.count_nonzero(ids.source.flat == UNK) + np.count_nonzero(ids.target.flat == UNK)),
        }
        if pairs is not corpus.train:
            used[pairs.name]["in_training"] = _shared(pairs.source, learned)
    return used


def _shared(lines: Sequence[str], learned: set[str]) -> int:
    return sum(line in learned for line in lines)
