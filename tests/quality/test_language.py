"""The synthetic language pair: exact references, agreement, order, disjoint splits, lengths, one seed one corpus."""

from __future__ import annotations

import random

import pytest

from t2bench.quality.errors import DataError
from t2bench.quality.grammar import Clause, Noun, Relative, Sentence, draw_sentence, source_words, target_words
from t2bench.quality.language import EXTRAPOLATION, LanguageSpec, make_corpus
from t2bench.quality.lexicon import Word, make_lexicon

SMALL = LanguageSpec(train=1500, val=100, test=200)

DOG, CAT, KEY, HOUSE = Word("dog", "vi", "m"), Word("cat", "zu", "f"), Word("key", "jo", "n"), Word("house", "cha", "f")


def noun(head, **changes):
    given = {"modifier": None, "plural": False, "definite": True, "numeral": None, "adjectives": (), "possessor": None,
             "relative": None}  # fmt: skip
    return Noun(head=head, **(given | changes))


def clause(subject, verb, **changes):
    given = {"tense": "present", "negated": False, "object": None, "receiver": None, "complement": None, "place": None}
    return Clause(subject=subject, verb=verb, **(given | changes))


def both(*clauses):
    sentence = Sentence(clauses)
    return " ".join(source_words(sentence)), " ".join(target_words(sentence))


def test_sentences_written_by_hand():
    see, give, say, sleep = Word("see", "wa"), Word("give", "he"), Word("say", "yo"), Word("sleep", "sho")
    small, two, inside = Word("small", "zhi"), Word("two", "vle"), Word("in", "khe")
    assert both(clause(noun(DOG), see, object=noun(CAT, plural=True, definite=False))) == (
        "the dog sees a cats .",
        "do vi unasm zunem waato .",
    )
    chased = Relative(verb=see, tense="past", negated=False, other=noun(CAT), noun_is_object=True)
    chaser = Relative(verb=sleep, tense="present", negated=True, other=None, noun_is_object=False)
    assert both(
        clause(
            noun(DOG, adjectives=(small,), relative=chased),
            give,
            tense="past",
            object=noun(KEY, modifier=HOUSE, possessor=noun(HOUSE)),
            receiver=noun(CAT, numeral=two, plural=True, relative=chaser),
            place=(inside, noun(HOUSE)),
        )
    ) == (
        "in the house , the small dog that the cat seeed giveed the house key of the house "
        "to two cats that not sleep .",
        "do vi zhio qui da zu wauta dath chath khe vle zunex qui neshoansa daq chaq dim chajom heuto .",
    )
    assert both(clause(noun(CAT), sleep), clause(noun(DOG), say, complement=clause(noun(KEY), sleep))) == (
        "the cat sleeps and the dog says that the key sleeps .",
        "da zu shoata ka do vi di jo shoati que yoato .",
    )


def test_a_seed_is_a_corpus_for_ever():
    corpus = make_corpus(SMALL)
    assert corpus == make_corpus(SMALL)
    # A change of these is a change of the default corpus: scores from before and after are not comparable.
    assert corpus.tests[0].source_sha256[:16] == "53a0f4d020182669"
    assert corpus.tests[0].target_sha256[:16] == "90d64671a898ea74"
    assert make_corpus(LanguageSpec(seed=1, train=10, val=10, test=10)).train.source[0] not in corpus.train.source


def test_it_is_labelled_synthetic():
    corpus = make_corpus(SMALL)
    assert corpus.synthetic
    assert corpus.record()["synthetic"] is True
    assert corpus.description.startswith("synthetic")


def test_splits_are_disjoint_and_without_repetition():
    corpus = make_corpus(SMALL)
    everything = [line for pairs in (corpus.train, corpus.val, *corpus.tests) for line in pairs.source]
    assert len(everything) == len(set(everything)) == 1800


def test_the_test_set_does_not_depend_on_the_size_of_the_training_set():
    fewer = make_corpus(LanguageSpec(train=50, val=100, test=200))
    assert fewer.tests == make_corpus(SMALL).tests


def test_references_are_a_function_of_the_source_and_back():
    corpus = make_corpus(LanguageSpec(train=8000, val=1, test=1, lengths=(4, 8), nouns=12, verbs=4, adjectives=3))
    pairs = list(zip(corpus.train.source, corpus.train.target, strict=True))
    assert len(dict(pairs)) == len({target: source for source, target in pairs}) == len(pairs)


def test_lengths_are_kept_and_all_used():
    spec = LanguageSpec(train=800, val=100, test=200, lengths=(4, 20), test_lengths=EXTRAPOLATION)
    corpus = make_corpus(spec)
    assert {len(line.split()) for line in corpus.train.source} == set(range(4, 21))
    for pairs in corpus.tests:
        fewest, most = EXTRAPOLATION[pairs.name]
        lengths = [len(line.split()) for line in pairs.source]
        assert fewest <= min(lengths) < fewest + 4
        assert most - 4 < max(lengths) <= most


def test_it_nests_reorders_and_agrees():
    corpus = make_corpus(SMALL)
    for source, target in zip(corpus.train.source, corpus.train.target, strict=True):
        assert source.endswith(" .")
        assert not set(source.split()) & set(target.split()) - {"."}  # copying scores nothing
    joined = " ".join(corpus.train.source).split()
    assert min(joined.count(word) for word in ("of", "that", "and", "not", "to", ",")) > 50
    assert sum("that" in line and line.split().count("that") > 1 for line in corpus.train.source) > 50  # nested


def test_verbs_end_every_target_clause():
    lexicon = make_lexicon(seed=3, nouns=20, verbs=5, adjectives=5)
    verbs = tuple(verb.sov for words in lexicon.verbs.values() for verb in words)
    rng = random.Random(0)
    for _ in range(300):
        sentence = draw_sentence(rng, lexicon, words=14, max_depth=3)
        words = target_words(sentence)
        for place, word in enumerate(words):
            if word in ("ka", "."):
                assert words[place - 1].removeprefix("ne").startswith(verbs)


def test_the_other_direction():
    there, back = make_corpus(SMALL), make_corpus(LanguageSpec(train=1500, val=100, test=200, reverse=True))
    assert back.direction == "sov-svo"
    assert back.train.source == there.train.target
    assert back.train.target_sha256 == there.train.source_sha256


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            LanguageSpec(train=5000, lengths=(4, 4), nouns=2, verbs=1),
            "test wants 1000 sentences of 4 to 4 words; there are about ",
        ),
        (LanguageSpec(lengths=(9, 5)), "lengths must be 4 <= fewest <= most, got 9, 5"),
        (LanguageSpec(val=0), "val must be at least 1, got 0"),
        (LanguageSpec(test_lengths={"long": (5, 9)}), "name of a test set begins with test, got long"),
    ],
)
def test_what_cannot_be_made_is_refused(spec, said):
    with pytest.raises(DataError, match=said):
        make_corpus(spec)
