"""Two outputs for one test set, by sentence: paired tests on corpus scores from summed counts.

What these tests see is the choice of the test sentences, not the noise of training: two seeds of one model often differ
"significantly" by them. They are side information about one pair of outputs and never a claim about a variant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2bench.analysis.results import Interval
from t2bench.analysis.stats import CONFIDENCE, Floats
from t2bench.quality.scoring import bleu_of

RESAMPLES = 1000
_SEED = 20_240_229  # the same run gives the same report

Scorer = Callable[[NDArray[np.int64]], Floats]


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceTest:
    """One output against another on the sentences of one test set.

    Attributes:
        difference: of the corpus scores, with the paired bootstrap's 95 % percentile interval (Koehn 2004).
        p_value: of approximate randomisation (Riezler & Maxwell 2005), two-sided; 1 for equal outputs.
    """

    difference: Interval
    p_value: float


def sentence_test(
    mine: Sequence[Sequence[int]] | NDArray[np.int64],
    theirs: Sequence[Sequence[int]] | NDArray[np.int64],
    score: Scorer = bleu_of,
    resamples: int = RESAMPLES,
) -> SentenceTest:
    """Compare two outputs; equality is tested first, since a permutation test of nothing against nothing says nothing.

    Args:
        mine: [sentences, counts] of one output.
        theirs: likewise, of the other output for the same sentences in the same order.
        score: from sums of counts to scores.
        resamples: of either test.

    Raises:
        ValueError: the two have different numbers of sentences or counts, or none.
    """
    left, right = np.asarray(mine, dtype=np.int64), np.asarray(theirs, dtype=np.int64)
    if left.shape != right.shape or left.ndim != 2 or not left.size:
        raise ValueError(f"counts of shape {left.shape} cannot be paired with counts of shape {right.shape}")
    if np.array_equal(left, right):
        return SentenceTest(difference=Interval(value=0.0, low=0.0, high=0.0), p_value=1.0)
    rng = np.random.default_rng(_SEED)
    observed = float(score(left.sum(axis=0)) - score(right.sum(axis=0)))
    shuffled = _shuffled(left, right, score, resamples, rng)
    # As in sacreBLEU, but with >=: a shuffle that changes nothing is as extreme as what was observed.
    reached = int((np.abs(shuffled) >= abs(observed) - 1e-9).sum())
    low, high = _bootstrap(left, right, score, resamples, rng)
    return SentenceTest(
        difference=Interval(value=observed, low=low, high=high), p_value=(reached + 1) / (resamples + 1)
    )


def _shuffled(
    left: NDArray[np.int64], right: NDArray[np.int64], score: Scorer, resamples: int, rng: np.random.Generator
) -> Floats:
    """Differences when every sentence's two translations change sides by the toss of a coin."""
    # Sums of thousands of counts are exact in float64, whose matrix product is the fast one.
    kept = rng.integers(2, size=(resamples, len(left))).astype(np.float64)
    one = (kept @ (left - right).astype(np.float64)).round().astype(np.int64) + right.sum(axis=0)
    return score(one) - score(left.sum(axis=0) + right.sum(axis=0) - one)


def _bootstrap(
    left: NDArray[np.int64], right: NDArray[np.int64], score: Scorer, resamples: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Percentile interval of the difference over test sets of the same size, drawn with replacement."""
    count = len(left)
    weights = rng.multinomial(count, np.full(count, 1.0 / count), size=resamples).astype(np.float64)
    sums = [(weights @ side.astype(np.float64)).round().astype(np.int64) for side in (left, right)]
    tail = (1.0 - CONFIDENCE) / 2
    low, high = np.quantile(score(sums[0]) - score(sums[1]), [tail, 1.0 - tail])
    return float(low), float(high)
