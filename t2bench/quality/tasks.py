"""Three tasks over strings of symbols, made on the spot: copying, reversing, and associative recall.

    copy      d q a        ->  d q a
    reverse   d q a        ->  a q d
    recall    ka 7 1 4 2 bo 2 2 0 9 mo 9 8 8 1 bo  ->  2 2 0 9
              groups of a key and its value of four digits, then a key: its value is wanted

Copying and reversing have a test set for each range of lengths. Recall (Ba et al. 2016, "Using fast weights to attend
to the recent past") has one for each range of distances, counted in groups back from the query: 1 is the last group.
Test sets whose distances occur in training differ in nothing but the distance: they have as many groups as the longest
string of training; those beyond have as many as their longest distance needs.

A symbol is a word: `char` gives a token for each of its one or two characters and for each space, `bpe` one token for
each symbol. Nothing but `random.Random.random` is drawn, so a seed is the same corpus on every machine. Scores on these
tasks are labelled synthetic. BLEU, chrF and the share of exact answers all count: an answer of recall has the four
words that BLEU needs. Guessed digits are right once in 10,000 strings, the value of any of n groups once in n.
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
KEYS = tuple(f"{consonant}{vowel}" for consonant in "bcdfghjklmnprstv" for vowel in "ao")
DIGITS = tuple("0123456789")
VALUE_DIGITS = 4  # words of an answer: BLEU counts up to four in a row
MAX_WASTED = 200  # draws in a row that gave nothing new: there are no more strings of that length

Range = tuple[int, int]
Draw = Callable[[random.Random], tuple[list[str], list[str]]]

LENGTHS: Range = (4, 20)
TEST_LENGTHS: tuple[Range, ...] = ((4, 20), (21, 40), (41, 80))
RECALL_LENGTHS: Range = (2, 4)  # groups
RECALL_DISTANCES: tuple[Range, ...] = ((1, 2), (3, 4), (5, 8))


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSpec:
    """Which corpus to make.

    Attributes:
        task: `copy`, `reverse` or `recall`.
        seed: of the strings.
        train: training pairs.
        val: validation pairs.
        test: pairs of each test set.
        lengths: fewest and most source symbols, of recall groups, of training and validation; empty for LENGTHS or
            RECALL_LENGTHS.
        test_lengths: a test set for each range, of source symbols or (recall) of distances in groups; empty for
            TEST_LENGTHS or RECALL_DISTANCES.
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
        f"{most} {'groups' if recall else 'symbols'}",
    )


def _check(spec: TaskSpec, recall: bool, fewest: int, most: int) -> None:
    for name in ("train", "val", "test"):
        if getattr(spec, name) < 1:
            raise DataError(f"{spec.task}: {name} must be at least 1, got {getattr(spec, name)}")
    ranges = {part_name("test", low, high, "d" if recall else ""): (low, high) for low, high in spec.test_lengths}
    for name, (low, high) in {"lengths": (fewest, most), **ranges}.items():
        if not 1 <= low <= high or (recall and high > len(KEYS)):
            limit = f" <= {len(KEYS)} (in groups: there are no more keys)" if recall else ""
            raise DataError(f"{spec.task}: {name} must be 1 <= fewest <= most{limit}, got {low}, {high}")


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
    """So many groups, every number of them and then every group to ask for equally often."""

    def draw(rng: random.Random) -> tuple[list[str], list[str]]:
        count = low + _below(rng, high - low + 1)
        return _groups(rng, count, 1 + _below(rng, count))

    return draw


def _recall_at(low: int, high: int, most: int) -> Draw:
    """The group that is asked for lies so many groups before the query."""
    count = max(most, high)

    def draw(rng: random.Random) -> tuple[list[str], list[str]]:
        return _groups(rng, count, low + _below(rng, high - low + 1))

    return draw


def _groups(rng: random.Random, count: int, distance: int) -> tuple[list[str], list[str]]:
    """Groups of different keys, and the query for one of them."""
    keys = list(KEYS)
    for place in range(count):  # Fisher and Yates, as far as needed
        other = place + _below(rng, len(keys) - place)
        keys[place], keys[other] = keys[other], keys[place]
    values = [[DIGITS[_below(rng, len(DIGITS))] for _ in range(VALUE_DIGITS)] for _ in range(count)]
    source = [symbol for key, value in zip(keys[:count], values, strict=True) for symbol in (key, *value)]
    return [*source, keys[count - distance]], values[count - distance]


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
