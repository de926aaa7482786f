"""What copying and looking up are worth, against plain formulas and known numbers of real text."""

from __future__ import annotations

import math
import re
from collections import Counter

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from t2bench.quality.corpora import read_corpus
from t2bench.quality.floors import floors, nearest
from t2bench.quality.language import LanguageSpec, make_corpus
from t2bench.quality.scoring import quick_bleu

LINE = st.lists(st.sampled_from(["a", "B", "b", "c.", "d", "e-f", "...", "7"]), min_size=1, max_size=6).map(" ".join)


def cosines(known, line):
    """Similarity of one sentence with all known ones, by the definition."""
    bags = [set(re.findall(r"\w+", one.lower())) for one in known]
    frequency = Counter(word for bag in bags for word in bag)
    idf = {word: math.log(len(known) / count) for word, count in frequency.items()}
    wanted = set(re.findall(r"\w+", line.lower())) & set(idf)
    return [
        sum(idf[word] ** 2 for word in wanted & bag) / (math.sqrt(sum(idf[word] ** 2 for word in bag)) or 1)
        for bag in bags
    ]


@settings(max_examples=300, deadline=None)
@given(st.lists(LINE, min_size=1, max_size=8), st.lists(LINE, max_size=4))
def test_the_nearest_is_the_most_similar_by_the_definition(known, wanted):
    found = nearest(known, wanted)
    assert len(found) == len(wanted)
    for line, row in zip(wanted, found, strict=True):
        similar = cosines(known, line)
        assert similar[row] == pytest.approx(max(similar), rel=1e-12, abs=1e-12)
        assert known.index(known[row]) == row


def test_rare_words_decide_and_the_first_of_equals_wins():
    known = ["the dog in the park", "a zebra in a car", "the cat in the park", "A zebra, in a car!"]
    assert nearest(known, ["the zebra", "the ...", "unseen", "...", "CAT"]) == [1, 0, 0, 0, 2]


def test_floors_are_scored_as_translations_are():
    corpus = make_corpus(LanguageSpec(train=300, val=5, test=40))
    test = corpus.tests[0]
    found = floors(corpus.train, test)
    targets = [corpus.train.target[row] for row in nearest(corpus.train.source, test.source)]
    assert found.copy.bleu == sacrebleu.corpus_bleu(list(test.source), [list(test.target)]).score
    assert found.retrieval.bleu == sacrebleu.corpus_bleu(targets, [list(test.target)]).score
    assert found.retrieval.chrf > found.copy.chrf


def test_a_test_set_that_is_in_training_has_a_perfect_retrieval_floor():
    corpus = make_corpus(LanguageSpec(train=300, val=5, test=5))
    assert floors(corpus.train, corpus.train).retrieval.bleu > 99


@pytest.mark.parametrize(
    ("name", "test", "copy", "retrieval"),
    [
        ("multi30k", "test_2016_flickr", (0.48, 16.3), (7.11, 30.9)),
        ("multi30k", "test_2017_flickr", (0.15, 15.1), (5.52, 30.3)),
        ("lohelp", "test", (1.73, 19.8), (10.00, 31.5)),
    ],
)
def test_floors_of_real_text_are_the_known_ones(real, name, test, copy, retrieval):
    corpus = read_corpus(real(name), direction="en-de", tests=[test])
    source, target = corpus.tests[0].source, corpus.tests[0].target
    found = [corpus.train.target[row] for row in nearest(corpus.train.source, source)]
    for outputs, (bleu, chrf) in ((source, copy), (found, retrieval)):
        assert quick_bleu(outputs, target) == pytest.approx(bleu, abs=0.05)
        assert sacrebleu.corpus_chrf(outputs, [target]).score == pytest.approx(chrf, abs=0.1)
