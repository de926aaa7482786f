"""Minimum Bayes risk: of the samples of a sentence, the one that is most like all of them (Eikema & Aziz 2020).

The samples are both the candidates and the estimate of the model's distribution: a candidate's worth is the mean of
its utility with every sample as reference, itself included; a translation drawn twice counts twice. Utilities are
sacreBLEU's scores of single sentences. As a metric that has chosen can no longer judge, outputs chosen by chrF are
judged by BLEU and the other way round.

n-grams are counted for all samples of a sentence at once, instead of for each of their C^2 pairs.

Shape letters: C distinct candidates of a sentence, O orders of n-grams, G distinct n-grams of one order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from t2bench.quality.scoring import Floats, Ints, bleu_of, chrf_of, tokenizer_13a
from t2bench.spec.quality import Utility

TIE = 1e-9  # worths (0 to 100) that are closer are equal: rounding must not choose


def choose(candidates: Sequence[Sequence[str]], utility: Utility) -> list[int]:
    """Place of the chosen sample of each sentence; the first of equals.

    Args:
        candidates: the samples of each sentence, one at least, as text.
        utility: `chrf`, or `bleu`: of single sentences, with effective order and exponential smoothing.

    Raises:
        DataError: the utility is `bleu` and sacrebleu is not installed.
    """
    return [_choose(samples, utility) for samples in candidates]


def _choose(samples: Sequence[str], utility: Utility) -> int:
    count = Counter(samples)  # keeps the order of first occurrence
    distinct = list(count)
    if len(distinct) == 1:
        return 0
    worth = utilities(distinct, utility) @ np.array(list(count.values()), dtype=np.float64) / len(samples)
    best = int(np.argmax(worth >= worth.max() - TIE))
    return samples.index(distinct[best])


def utilities(samples: Sequence[str], utility: Utility) -> Floats:
    """Score of every sample with every sample as its reference.

    Returns:
        float64 (C, C), 0 to 100: row the output, column the reference.
    """
    if utility == "chrf":
        rows = [np.array([ord(sign) for sign in "".join(sample.split())], dtype=np.int64) for sample in samples]
        total_CO, match_CCO = _overlaps(rows, orders=6)
        output_CCO, reference_CCO = np.broadcast_arrays(total_CO[:, None], total_CO[None])
        statistics = np.stack((output_CCO, reference_CCO, match_CCO), axis=-1)
        return chrf_of(statistics.reshape(len(rows), len(rows), -1))
    numbers: dict[str, int] = {}
    cut = tokenizer_13a()
    rows = [
        np.array([numbers.setdefault(word, len(numbers)) for word in cut(sample.rstrip()).split()], dtype=np.int64)
        for sample in samples
    ]
    total_CO, match_CCO = _overlaps(rows, orders=4)
    output_CCO, reference_CCO = np.broadcast_arrays(total_CO[:, None], total_CO[None])
    lengths = (output_CCO[..., :1], reference_CCO[..., :1])
    return bleu_of(np.concatenate((*lengths, match_CCO, output_CCO), axis=-1), effective_order=True)


def _overlaps(rows: Sequence[Ints], *, orders: int) -> tuple[Ints, Ints]:
    """n-grams of each row, and those that each two rows share.

    Args:
        rows: C sequences of symbols, as numbers.
        orders: longest n-grams.

    Returns:
        int64 (C, O): n-grams of each order; int64 (C, C, O): sum over distinct n-grams of the lesser count.
    """
    lengths = np.array([len(row) for row in rows])
    owner = np.repeat(np.arange(len(rows)), lengths)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(owner))  # symbols from here to the row's end
    symbols = np.unique(np.concatenate(rows), return_inverse=True)[1]
    total_CO = np.maximum(lengths[:, None] - np.arange(orders), 0)
    match_CCO = np.zeros((len(rows), len(rows), orders), dtype=np.int64)
    grams = np.zeros_like(symbols)  # at each place, the number of the n-gram that begins there
    for order in range(orders):
        starts = np.flatnonzero(left > order)
        if not len(starts):
            break
        longer = grams[starts] * len(symbols) + symbols[starts + order]
        distinct, grams[starts] = np.unique(longer, return_inverse=True)
        match_CCO[:, :, order] = _shared(owner[starts], grams[starts], shape=(len(rows), len(distinct)))
    return total_CO, match_CCO


def _shared(owner: Ints, grams: Ints, *, shape: tuple[int, int]) -> NDArray[np.float32]:
    """(C, C): n-grams that each two rows share: of each n-gram, a product for its first occurrence, its second, ..."""
    count_CG = np.bincount(owner * shape[1] + grams, minlength=shape[0] * shape[1]).reshape(shape)
    shared_CC = np.zeros((shape[0], shape[0]), dtype=np.float32)  # whole numbers below 2^24: exact
    for times in range(1, int(count_CG.max()) + 1):
        count_CG = count_CG[:, (count_CG >= times).any(axis=0)]
        marks_CG = (count_CG >= times).astype(np.float32)
        shared_CC += marks_CG @ marks_CG.T
    return shared_CC
