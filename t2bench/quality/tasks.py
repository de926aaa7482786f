"""Three tasks over strings of symbols, made on the spot: copying, reversing, and associative recall.

    copy      d q a        ->  d q a
    reverse   d q a        ->  a q d
    recall    ka 7 bo 2 mi 9 bo  ->  2      pairs of a key and a value, then a key: its value is wanted

Copying and reversing have a test set for each range of lengths. Recall (Ba et al. 2016, "Using fast weights to attend
to the recent past") has one for each range of distances: how many symbols the value lies before the query. Test sets
whose distances occur in training differ in nothing but the distance: their strings are as long as the longest of
training; those beyond are as long as their longest distance needs.

A symbol is a word: `char` gives a token for each of its one or two characters and for each space, `bpe` one token for
each symbol. Nothing but `random.Random.random` is drawn, so a seed is the same corpus on every machine. Scores on these
tasks are labelled synthetic. The answer of recall is a single word, of which BLEU is 0 whatever it is: the share of
exact answers is what counts there, and guessing gives a tenth.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from t2bench.quality.corpora import Corpus, Pairs, made_pairs, part_name
from t2bench.quality.errors import DataError
from t2bench.spec.quality import TASKS

SOURCE, TARGET = "in", "out"
SYMBOLS = tuple("abcdefghijklmnopqrstuvwxyz")
KEYS = tuple(f"{consonant}{vowel}" for consonant in "bcdfghjklmnprstv" for vowel in "aeio")
VALUES = tuple("0123456789")
MAX_WASTED = 200  # draws in a row that gave nothing new: there are no more strings of that length

Range = tuple[int, int]
Draw = Callable[[random.Random], tuple[list[str], list[str]]]

LENGTHS: Range = (4, 20)
TEST_LENGTHS: tuple[Range, ...] = ((4, 20), (21, 40), (41, 80))
RECALL_LENGTHS: Range = (5, 33)  # 2 to 16 pairs and the query
RECALL_DISTANCES: tuple[Range, ...] = ((1, 8), (9, 16), (17, 32), (33, 64))


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSpec:
    """Which corpus to make.

    Attributes:
        task: `copy`, `reverse` or `recall`.
        seed: of the strings.
        train: training pairs.
        val: validation pairs.
        test: pairs of each test set.
        lengths: fewest and most source symbols of training and validation (of recall: the query is one of them);
            empty for LENGTHS or RECALL_LENGTHS.
        test_lengths: a test set for each range, of source symbols or (recall) of distances; empty for TEST_LENGTHS or
            RECALL_DISTANCES.
    """

    task: str
    seed: int = 0
    train: int = 20_000
    val: int = 500
    test: int = 1_000
    lengths: Range | tuple[()] = ()
    test_lengths: tuple[Range, ...] = ()


def make_task(spec: TaskSpec) -> Corpus:
    """Make the corpus. No source occurs twice, neither in one split nor in two.

    Returns:
        The corpus, labelled synthetic; `copy` and `reverse` of a seed have the same sources.

    Raises:
        DataError: there are fewer strings of these lengths than were asked for, or no such task, length or distance.
    """
    if spec.task not in TASKS:
        raise DataError(f"no task {spec.task}; there are {', '.join(TASKS)}")
    recall = spec.task == "recall"
    fewest, most = spec.lengths or (RECALL_LENGTHS if recall else LENGTHS)
    _check(spec, recall, fewest, most)
    seen: set[str] = set()
    # What is judged by is drawn first: it stays the same whatever the size of the training set.
    tests = []
    for low, high in spec.test_lengths or (RECALL_DISTANCES if recall else TEST_LENGTHS):
        draw = _recall_at(low, high, most) if recall else _string(spec.task, low, high)
        tests.append(_draw(spec, part_name("test", low, high, "d" if recall else ""), spec.test, draw, seen))
    learned = _recall(fewest, most) if recall else _string(spec.task, fewest, most)
    val = _draw(spec, "val", spec.val, learned, seen)
    train = _draw(spec, "train", spec.train, learned, seen)
    return Corpus(
        name=spec.task,
        source_language=SOURCE,
        target_language=TARGET,
        train=train,
        val=val,
        tests=tuple(tests),
        synthetic=True,
        description=f"synthetic task {spec.task} of seed {spec.seed}, {spec.train} training pairs of {fewest} to "
        f"{most} symbols",
    )


def _check(spec: TaskSpec, recall: bool, fewest: int, most: int) -> None:
    for name in ("train", "val", "test"):
        if getattr(spec, name) < 1:
            raise DataError(f"{spec.task}: {name} must be at least 1, got {getattr(spec, name)}")
    shortest, longest = (3, 2 * len(KEYS) + 1) if recall else (1, None)
    asked = {"lengths": (fewest, most)}
    if not recall:
        asked |= {part_name("test", low, high): (low, high) for low, high in spec.test_lengths}
    for name, (low, high) in asked.items():
        if not shortest <= low <= high or (longest and high > longest):
            limit = f" <= {longest}" if longest else ""
            raise DataError(f"{spec.task}: {name} must be {shortest} <= fewest <= most{limit}, got {low}, {high}")
    for low, high in spec.test_lengths if recall else ():
        if not 1 <= low <= high < 2 * len(KEYS) or not _odd(low, high):
            most_distant = 2 * len(KEYS) - 1
            raise DataError(
                f"recall: distances are the odd numbers from 1 (the value just before the query) to {most_distant}; "
                f"[{low}, {high}] is no range of them"
            )
    if recall and not _odd(fewest, most):
        raise DataError(f"recall: pairs and a query are an odd number of symbols; got lengths {fewest} to {most}")


def _odd(low: int, high: int) -> range:
    """The odd numbers of a range, both ends included."""
    return range(low | 1, high + 1, 2)


def _below(rng: random.Random, count: int) -> int:
    return int(rng.random() * count)


def _string(task: str, low: int, high: int) -> Draw:
    """Strings of so many symbols, every length equally often."""

    def draw(rng: random.Random) -> tuple[list[str], list[str]]:
        count = low + _below(rng, high - low + 1)
        source = [SYMBOLS[_below(rng, len(SYMBOLS))] for _ in range(count)]
        return source, source[::-1] if task == "reverse" else source

    return draw


def _recall(low: int, high: int) -> Draw:
    """So many symbols, every number of pairs and then every queried pair equally often."""
    counts = [length // 2 for length in _odd(low, high)]

    def draw(rng: random.Random) -> tuple[list[str], list[str]]:
        count = counts[_below(rng, len(counts))]
        return _pairs(rng, count, _below(rng, count))

    return draw


def _recall_at(low: int, high: int, most: int) -> Draw:
    """The queried value lies so many symbols before the query."""
    distances = _odd(low, high)
    count = max((most - 1) // 2, distances[-1] // 2 + 1)

    def draw(rng: random.Random) -> tuple[list[str], list[str]]:
        return _pairs(rng, count, count - 1 - distances[_below(rng, len(distances))] // 2)

    return draw


def _pairs(rng: random.Random, count: int, asked: int) -> tuple[list[str], list[str]]:
    """Pairs of different keys, and the query for one of them."""
    keys = list(KEYS)
    for place in range(count):  # Fisher and Yates, as far as needed
        other = place + _below(rng, len(keys) - place)
        keys[place], keys[other] = keys[other], keys[place]
    values = [VALUES[_below(rng, len(VALUES))] for _ in range(count)]
    source = [symbol for pair in zip(keys[:count], values, strict=True) for symbol in pair]
    return [*source, keys[asked]], [values[asked]]


def _draw(spec: TaskSpec, name: str, count: int, draw: Draw, seen: set[str]) -> Pairs:
    rng = random.Random(f"{spec.seed} {name}")
    sources: list[str] = []
    targets: list[str] = []
    wasted = 0
    while len(sources) < count:
        source, target = draw(rng)
        text = " ".join(source)
        if text in seen:
            wasted += 1
            if wasted > MAX_WASTED:
                raise DataError(
                    f"{spec.task}: {name} wants {count} strings; there are about {len(sources)} of these lengths"
                )
            continue
        wasted = 0
        seen.add(text)
        sources.append(text)
        targets.append(" ".join(target))
    return made_pairs(name, sources, targets)
