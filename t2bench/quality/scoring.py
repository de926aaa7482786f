"""Scores of translations: sacreBLEU's metrics with their signatures, and the sentence statistics that they are sums of.

Every corpus score is what sacreBLEU (Post 2018) itself gives for detokenised text and one reference. The integer
statistics of each sentence let BLEU and chrF of any subset or resample be had from sums, without text: `bleu_of` and
`chrf_of`. That the sums give the corpus scores is checked with every call of `score`.

Shape letters: N sentences; the statistics of a sentence are the last dimension, 10 (BLEU) or 18 (chrF) long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2bench.quality.errors import DataError

BOUNDS = (8, 12, 17)  # most source words of each bucket but the last, which is open
_ORDERS = 4  # of word n-grams in BLEU

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bucket:
    """Scores of the sentences of like source length.

    Attributes:
        low: fewest source words (parts between blanks).
        high: most source words; None for no limit.
        n: sentences in it. A bucket of fewer than about 200 sentences supports no verdict.
        bleu: corpus BLEU of these sentences, 0 to 100.
        chrf: corpus chrF of these sentences, 0 to 100.
    """

    low: int
    high: int | None
    n: int
    bleu: float
    chrf: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """What a set of translations is worth, against one reference each.

    Attributes:
        bleu: sacreBLEU on cased text, tokenised by its `13a`, 0 to 100 (Papineni et al. 2002).
        chrf: F2 of character n-grams up to 6, 0 to 100 (Popovic 2015).
        chrfpp: chrF++: chrF with word n-grams up to 2 (Popovic 2017).
        ter: edits for each reference word, in percent, lower is better, no upper limit (Snover et al. 2006).
        bleu_lc_tok: BLEU after lowercasing both sides, tokenised by sacreBLEU's `13a`: for the comparison with older
            tables of lowercased, tokenised text only. It is not the very number of those tables: they were computed
            with Moses' tokenizer after punctuation was normalised, and often by models trained on lowercased text.
            The two tokenisations agreed to 0.01 on one output (English to German captions).
        brevity_penalty: of BLEU, 1 for none.
        length_ratio: `13a` tokens of the outputs, divided by those of the references.
        exact_match: share of outputs that equal their reference, character by character.
        empty: outputs without a visible character.
        num_sentences: sentences scored.
        signatures: metric -> sacreBLEU's signature, without which its number means little.
        buckets: by source words, those that hold sentences.
    """

    bleu: float
    chrf: float
    chrfpp: float
    ter: float
    bleu_lc_tok: float
    brevity_penalty: float
    length_ratio: float
    exact_match: float
    empty: int
    num_sentences: int
    signatures: dict[str, str]
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceStatistics:
    """Counts of each sentence; those of a corpus are their sums.

    Attributes:
        bleu: int64 (N, 10): output tokens, reference tokens, matching n-grams of orders 1 to 4, output n-grams of
            orders 1 to 4.
        chrf: int64 (N, 18): for each order 1 to 6: output n-grams, reference n-grams, matching n-grams.
    """

    bleu: Ints
    chrf: Ints


def score(
    hypotheses: Sequence[str], references: Sequence[str], sources: Sequence[str], *, bounds: Sequence[int] = BOUNDS
) -> Scores:
    """Score translations with all metrics.

    A thousand sentences take a second. TER alone can take a minute where long outputs hold the words of their
    references many times and in disorder, as those of a failed training may.

    Args:
        hypotheses: outputs, detokenised.
        references: their references.
        sources: what was translated; only the number of words matters.
        bounds: most source words of each bucket but the last, growing.

    Raises:
        DataError: sacrebleu is not installed, or contradicts itself.
        ValueError: there is no sentence, or not one reference and source for each output.
    """
    _check(hypotheses, references, sources)
    metrics = _metrics()
    results = {name: metric.corpus_score(hypotheses, [references]) for name, metric in metrics.items()}
    statistics = sentence_statistics(hypotheses, references)
    _agree(statistics, results)
    bleu = results["bleu"]
    return Scores(
        **{name: float(result.score) for name, result in results.items()},
        brevity_penalty=float(bleu.bp),
        length_ratio=float(bleu.ratio),
        exact_match=sum(map(str.__eq__, hypotheses, references)) / len(hypotheses),
        empty=sum(not hypothesis.strip() for hypothesis in hypotheses),
        num_sentences=len(hypotheses),
        signatures={name: str(metric.get_signature()) for name, metric in metrics.items()},
        buckets=_buckets(statistics, sources, bounds),
    )


def quick_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """BLEU alone, the same as `Scores.bleu`; for validations.

    Raises:
        DataError: sacrebleu is not installed.
        ValueError: as `score`.
    """
    _check(hypotheses, references)
    return float(_sacrebleu().BLEU(force=True).corpus_score(hypotheses, [references]).score)


def sentence_statistics(hypotheses: Sequence[str], references: Sequence[str]) -> SentenceStatistics:
    """The counts of each sentence from which BLEU and chrF of any set of them follow by sums.

    Raises:
        DataError: sacrebleu is not installed.
        ValueError: as `score`.
    """
    _check(hypotheses, references)
    library = _sacrebleu()
    # sacreBLEU's own tests of significance rest on this method; no public one gives counts of chrF.
    bleu, chrf = (
        np.array(metric._extract_corpus_statistics(hypotheses, [references]), dtype=np.int64)
        for metric in (library.BLEU(force=True), library.CHRF())
    )
    return SentenceStatistics(bleu=bleu, chrf=chrf)


def bleu_of(statistics: Ints, *, effective_order: bool = False) -> Floats:
    """BLEU from (sums of) sentence statistics, with sacreBLEU's exponential smoothing, equal to rounding errors.

    Args:
        statistics: (..., 10), see `SentenceStatistics.bleu`.
        effective_order: leave out orders that the output is too short for, as for single sentences; else they make the
            score 0.

    Returns:
        float64 (...), 0 to 100.
    """
    length, reference, correct, total = np.split(statistics, (1, 2, 2 + _ORDERS), axis=-1)
    there = total > 0
    # The first order without a match counts as 1/2 of a match, the second as 1/4, and so on (NIST's smoothing).
    matches = np.where(correct > 0, correct, 0.5 ** np.cumsum(correct == 0, axis=-1))
    missing = 0.0 if effective_order else -np.inf
    logs = np.log(100 * matches / np.maximum(total, 1), where=there, out=np.full(total.shape, missing))
    orders = np.maximum(there.sum(axis=-1), 1)  # a missing one counts as nothing, or has made the score 0
    penalty = np.minimum(1.0, np.exp(1 - reference / np.maximum(length, 1)))[..., 0]
    return np.where(correct.any(axis=-1), penalty * np.exp(logs.sum(axis=-1) / orders), 0.0)


def chrf_of(statistics: Ints) -> Floats:
    """The chrF (F2) of (sums of) sentence statistics, equal to sacreBLEU's to the last bit.

    Args:
        statistics: (..., 18), see `SentenceStatistics.chrf`.

    Returns:
        float64 (...), 0 to 100.
    """
    precision, recall, orders = (np.zeros(statistics.shape[:-1]) for _ in range(3))
    for start in range(0, statistics.shape[-1], 3):
        output, reference, match = (statistics[..., start + offset] for offset in range(3))
        there = (output > 0) & (reference > 0)
        precision += np.where(there, match / np.maximum(output, 1), 0.0)
        recall += np.where(there, match / np.maximum(reference, 1), 0.0)
        orders += there
    precision /= np.maximum(orders, 1)
    recall /= np.maximum(orders, 1)
    below = 4 * precision + recall
    return np.where(below > 0, 100 * (5 * precision * recall / np.where(below > 0, below, 1.0)), 0.0)


def tokenizer_13a() -> Callable[[str], str]:
    """What BLEU cuts text into words with: text without blanks at its end -> words with a blank between them.

    Raises:
        DataError: sacrebleu is not installed.
    """
    cut: Callable[[str], str] = _sacrebleu().BLEU().tokenizer
    return cut


def _metrics() -> dict[str, Any]:
    library = _sacrebleu()
    return {  # force: no warning about text that looks tokenised, which text of a generated language does
        "bleu": library.BLEU(force=True),
        "chrf": library.CHRF(),
        "chrfpp": library.CHRF(word_order=2),
        "ter": library.TER(),
        "bleu_lc_tok": library.BLEU(lowercase=True, force=True),
    }


def _sacrebleu() -> Any:
    try:
        import sacrebleu
    except ImportError as error:
        raise DataError("sacrebleu is not installed: pip install 'sacrebleu>=2.6'") from error
    return sacrebleu


def _check(hypotheses: Sequence[str], *others: Sequence[str]) -> None:
    """Refuse what sacreBLEU cuts to the shorter list without a word."""
    if not hypotheses or any(len(other) != len(hypotheses) for other in others):
        counts = ", ".join(str(len(lines)) for lines in (hypotheses, *others))
        raise ValueError(f"scoring needs one reference (and source) for each output, and one output at least: {counts}")


def _agree(statistics: SentenceStatistics, results: dict[str, Any]) -> None:
    bleu, chrf = results["bleu"], results["chrf"]
    counts = [bleu.sys_len, bleu.ref_len, *bleu.counts, *bleu.totals]
    if statistics.bleu.sum(axis=0).tolist() != counts or chrf_of(statistics.chrf.sum(axis=0)) != chrf.score:
        raise DataError(
            f"sacrebleu {_sacrebleu().__version__}: its counts of sentences do not add up to its scores; "
            "pip install 'sacrebleu==2.6.0'"
        )


def _buckets(statistics: SentenceStatistics, sources: Sequence[str], bounds: Sequence[int]) -> tuple[Bucket, ...]:
    """Those that hold sentences."""
    place = np.searchsorted(bounds, [len(source.split()) for source in sources])
    buckets = []
    for number, (low, high) in enumerate(zip((1, *(bound + 1 for bound in bounds)), (*bounds, None), strict=True)):
        inside = place == number
        if inside.any():
            bleu, chrf = (
                float(formula(counts[inside].sum(axis=0)))
                for formula, counts in ((bleu_of, statistics.bleu), (chrf_of, statistics.chrf))
            )
            buckets.append(Bucket(low=low, high=high, n=int(inside.sum()), bleu=bleu, chrf=chrf))
    return tuple(buckets)
