"""Paired tests over sentences: the three traps of the obvious approach, and sacreBLEU's own test as the reference."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest
from scipy import stats as scipy_stats

from t2bench.analysis.sentences import sentence_test
from t2bench.quality.scoring import bleu_of, chrf_of, sentence_statistics

WORDS = [f"{a}{b}" for a in ("ba", "ke", "lo", "mi") for b in ("ra", "so", "tin", "dal", "qu")]


def references(count, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(5, 20))) for _ in range(count)]


def worsened(lines, share, seed):
    """The lines with this share of their words replaced."""
    rng = np.random.default_rng(seed)
    return [" ".join(w if rng.random() > share else str(rng.choice(WORDS)) for w in line.split()) for line in lines]


def counts(lines, target):
    return sentence_statistics(lines, target).bleu


def test_identical_outputs_differ_by_nothing():
    # sacreBLEU 2.6.0 gives p = 0.001 here, which is why equality is tested first.
    target = references(200)
    same = counts(worsened(target, 0.3, 1), target)
    found = sentence_test(same, same.copy())
    assert found.p_value == 1.0
    assert (found.difference.low, found.difference.value, found.difference.high) == (0.0, 0.0, 0.0)


def test_outputs_that_differ_and_score_alike_are_not_significant():
    target = references(40)
    mine = counts(worsened(target, 0.3, 1), target)
    # The same sentences in another order score exactly alike and are not the same output.
    assert sentence_test(mine, mine[::-1].copy()).p_value == 1.0


def test_one_sentence_that_differs_is_never_significant():
    # Every shuffle shows the same difference: counting only what is greater would make p the smallest there is.
    target = references(40)
    mine = counts(worsened(target, 0.3, 1), target)
    other = mine.copy()
    other[0] = counts(target, target)[0]
    assert sentence_test(other, mine).difference.value > 0
    assert sentence_test(other, mine).p_value == 1.0


def test_the_same_run_gives_the_same_report():
    target = references(100)
    sides = [counts(worsened(target, share, 3), target) for share in (0.3, 0.4)]
    assert sentence_test(*sides) == sentence_test(*sides)
    back = sentence_test(*reversed(sides))
    assert back.difference.value == pytest.approx(-sentence_test(*sides).difference.value)


def test_p_values_are_uniform_where_nothing_differs():
    # 400 pairs of outputs of one "system": each sentence of both is worsened by the same share, independently.
    target = references(80)
    pool = [counts(worsened(target, 0.3, seed), target) for seed in range(60)]
    rng = np.random.default_rng(5)
    p_values = []
    for _ in range(400):
        pick = rng.integers(60, size=(2, 80))
        # Two draws may pick the same output for a sentence, as two good systems do.
        sides = [np.stack([pool[k][row] for row, k in enumerate(side)]) for side in pick]
        p_values.append(sentence_test(*sides, resamples=200).p_value)
    assert scipy_stats.kstest(p_values, "uniform").pvalue > 0.01
    # Binomial 99.9 % bounds around 5 %.
    assert scipy_stats.binom.ppf(0.0005, 400, 0.05) <= sum(p <= 0.05 for p in p_values)
    assert sum(p <= 0.05 for p in p_values) <= scipy_stats.binom.ppf(0.9995, 400, 0.05)


def test_agrees_with_the_library_on_different_systems():
    target = references(150)
    base = worsened(target, 0.30, 1)
    for share, seed in ((0.31, 2), (0.33, 3), (0.36, 4), (0.5, 5)):
        other = worsened(target, share, seed)
        metric = BLEU(force=True)
        named = [("base", base), ("other", other)]
        _, result = PairedTest(named, {"BLEU": metric}, [target], test_type="ar", n_samples=1000)()
        theirs = result["BLEU"][1]
        ours = sentence_test(counts(other, target), counts(base, target))
        assert ours.difference.value == pytest.approx(theirs.score - result["BLEU"][0].score, abs=1e-9)
        # Two Monte Carlo estimates of one p from 1000 shuffles each: 4 standard errors of their difference.
        error = np.sqrt(2 * max(theirs.p_value * (1 - theirs.p_value), 1e-3) / 1000)
        assert ours.p_value == pytest.approx(theirs.p_value, abs=4 * error)


def test_the_bootstrap_interval_holds_the_truth_as_often_as_it_says():
    # Sentences are drawn from a large pool whose own difference is the truth.
    target = references(1500, 9)
    pool = [counts(worsened(target, share, seed), target) for share, seed in ((0.3, 1), (0.36, 2))]
    truth = float(bleu_of(pool[0].sum(axis=0)) - bleu_of(pool[1].sum(axis=0)))
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(80):
        rows = rng.integers(1500, size=200)
        found = sentence_test(pool[0][rows], pool[1][rows], resamples=200).difference
        held += found.low <= truth <= found.high
    assert scipy_stats.binom.ppf(0.0005, 80, 0.95) <= held  # a lower bound only: too wide is no lie


def test_the_interval_is_of_95_percent_of_paired_test_sets():
    """Of a mean the bootstrap's spread is known: that of the differences, divided by the root of their number."""
    rng = np.random.default_rng(5)
    theirs = rng.integers(0, 1000, size=(400, 1))
    mine = theirs + rng.integers(-20, 30, size=(400, 1))
    found = sentence_test(mine, theirs, score=lambda sums: sums[..., 0] / 400, resamples=20_000).difference
    error = (mine - theirs).std() / 20
    assert found.value == pytest.approx((mine - theirs).mean())
    assert (found.high - found.low) / error == pytest.approx(2 * 1.96, rel=0.03)


def test_the_smallest_p_counts_what_was_observed_as_one_of_the_shuffles():
    target = references(100)
    sides = (counts(target, target), counts(worsened(target, 0.6, 1), target))
    assert sentence_test(*sides, resamples=99).p_value == 1 / 100


def test_any_score_of_sums_can_be_tested():
    target = references(100)
    sides = [sentence_statistics(worsened(target, share, 1), target).chrf for share in (0.2, 0.4)]
    found = sentence_test(*sides, score=chrf_of)
    assert found.p_value < 0.01
    assert found.difference.low > 0


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(ValueError, match="cannot be paired"):
        sentence_test(np.ones((3, 10), dtype=int), np.ones((4, 10), dtype=int))
    with pytest.raises(ValueError, match="cannot be paired"):
        sentence_test(np.ones((0, 10), dtype=int), np.ones((0, 10), dtype=int))
