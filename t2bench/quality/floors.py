"""What translations are worth that no model made: a score near them says that nothing was learned.

copy        the source as its own translation
retrieval   the target of the most similar training source: the best that a memory without any understanding does here

Similarity of two sources is the cosine of their vectors of distinct lowercased words (runs of letters, digits and
underscores) weighted by idf = ln(training sentences / training sentences with the word); words that training does not
have count nothing. Of equally similar ones the first is taken. (Without the cosine's normalisation, by the plain sum of
shared idf, long training sentences always win, and BLEU falls.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2bench.quality.corpora import Pairs
from t2bench.quality.scoring import Scores, score

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Floors:
    """Scores that a translation system must leave behind.

    Attributes:
        copy: of the sources as outputs.
        retrieval: of the targets of the nearest training sources.
    """

    copy: Scores
    retrieval: Scores


def floors(train: Pairs, test: Pairs) -> Floors:
    """The floors of a test set.

    Raises:
        DataError: sacrebleu is not installed.
    """
    found = [train.target[row] for row in nearest(train.source, test.source)]
    return Floors(
        copy=score(test.source, test.target, test.source),
        retrieval=score(found, test.target, test.source),
    )


def nearest(known: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Place of the most similar known sentence of each wanted one (see the module).

    Args:
        known: sentences to look in, one at least.
        wanted: sentences to look for.
    """
    numbers: dict[str, int] = {}
    rows = [sorted({numbers.setdefault(word, len(numbers)) for word in _words(line)}) for line in known]
    sizes = [len(row) for row in rows]
    words = np.fromiter((number for row in rows for number in row), dtype=np.int64, count=sum(sizes))
    owners = np.repeat(np.arange(len(known)), sizes)
    frequency = np.bincount(words, minlength=len(numbers))
    idf = np.log(len(known) / frequency)
    norm = np.sqrt(np.bincount(owners, weights=idf[words] ** 2, minlength=len(known)))
    norm[norm == 0] = np.inf  # only words that every sentence has: like nothing
    # For each word, the sentences that have it.
    places = np.split(owners[np.argsort(words, kind="stable")], np.cumsum(frequency)[:-1])
    return [_nearest(sorted({numbers[word] for word in _words(line) if word in numbers}), places, idf, norm)
            for line in wanted]  # fmt: skip


def _nearest(
    words: Sequence[int],
    places: Sequence[NDArray[np.int64]],
    idf: NDArray[np.float64],
    norm: NDArray[np.float64],
) -> int:
    similarity = np.zeros(len(norm))
    for word in words:  # in one order, so that equal sentences have equal sums
        similarity[places[word]] += idf[word] ** 2
    return int(np.argmax(similarity / norm))


def _words(line: str) -> list[str]:
    return _WORD.findall(line.lower())
