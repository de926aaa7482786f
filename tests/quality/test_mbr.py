"""Minimum Bayes risk against all pairs of sacreBLEU's sentence scores."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
import sacrebleu
from hypothesis import example, given, settings
from hypothesis import strategies as st

from t2bench.quality.mbr import TIE, choose, utilities

SENTENCE = {
    "chrf": lambda output, reference: sacrebleu.sentence_chrf(output, [reference]).score,
    "bleu": lambda output, reference: sacrebleu.sentence_bleu(output, [reference]).score,
}
WORDS = st.sampled_from(["ein", "Ein", "Mann", "a,b", ".", "", "aaaa", "\u65e5\u672c", "\U0001f600", "<skipped>"])
LINE = st.one_of(
    st.lists(WORDS, max_size=8).map(" ".join), st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
)
SAMPLES = st.lists(LINE, min_size=1, max_size=7)


def by_brute_force(samples, utility):
    worth = [np.mean([SENTENCE[utility](output, reference) for reference in samples]) for output in samples]
    return next(row for row, value in enumerate(worth) if value >= max(worth) - TIE)


@pytest.mark.parametrize("utility", ["chrf", "bleu"])
def test_utilities_are_sentence_scores_of_sacrebleu(utility):
    @settings(max_examples=150, deadline=None)
    @given(SAMPLES)
    @example(["", "", "a"])
    @example(["a-\n", "a", "a -"])
    @example(["a a a a a a a", "a a", "a b a b a b a b"])
    def check(samples):
        wanted = [[SENTENCE[utility](output, reference) for reference in samples] for output in samples]
        np.testing.assert_allclose(utilities(samples, utility), wanted, rtol=1e-12, atol=0)

    check()


@pytest.mark.parametrize("utility", ["chrf", "bleu"])
def test_the_choice_is_that_of_brute_force(utility):
    @settings(max_examples=150, deadline=None)
    @given(st.lists(SAMPLES, max_size=3))
    def check(sentences):
        assert choose(sentences, utility) == [by_brute_force(samples, utility) for samples in sentences]

    check()


@pytest.mark.parametrize("utility", ["chrf", "bleu"])
def test_the_choice_is_that_of_brute_force_among_noisy_translations(utility):
    draw = random.Random(3)
    line = re.findall(r"\S+", "Ein kleiner Junge in einem roten Hemd springt von der Mauer in das Wasser .")
    sentences = [
        [" ".join(word for word in line if draw.random() > 0.3) for _ in range(16)] for _ in range(5)
    ]  # fmt: skip
    chosen = choose(sentences, utility)
    assert chosen == [by_brute_force(samples, utility) for samples in sentences]
    assert set(chosen) != {0}


@pytest.mark.parametrize("utility", ["chrf", "bleu"])
def test_what_was_drawn_twice_counts_twice(utility):
    odd, other = "ein Mann schläft hier", "zwei Hunde rennen dort"
    assert choose([[odd, other, other], [odd, odd, other], [other, odd, other, odd]], utility) == [1, 0, 0]


@pytest.mark.parametrize("utility", ["chrf", "bleu"])
def test_the_first_of_equals_is_chosen(utility):
    assert choose([["a b c d", "a b c d"], ["x"], ["", ""], ["a b c d e", "v w x y z"]], utility) == [0, 0, 0, 0]


def test_rounding_does_not_choose_among_equals():
    ring = ["b c d", "d e f", "f a b", "a b c", "c d e", "e f a"]  # each shares as much with the others as any
    assert choose([ring], "bleu") == [0]


def test_the_two_utilities_can_disagree():
    samples = ["Hundehütten stehen da", "Hundehütte steht da", "Katzen sind da", "Katzen sind da nun"]
    assert choose([samples], "chrf") != choose([samples], "bleu")
