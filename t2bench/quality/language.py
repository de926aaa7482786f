"""A small formal language pair, made on the spot: the corpus that needs no download.

    svo   in the old house , the small dog that sees two cats gives the key of the door to a child .
    sov   the translation: verbs last in every clause, adpositions after their phrase, possessors before what they
          possess, adjectives after nouns, compounds in one word, and endings that must agree.

A sentence is drawn as a tree and written out twice, so every reference is exact and the only one. What the target marks
and the source does not (gender, case, the number of adjectives) follows from the lexicon and from the tree, so a model
must learn both. The grammar leaves one reading of every sentence: relative clauses end their noun phrase, a complement
clause ends the sentence, and only clauses are joined.

Words are invented and drawn from the seed. Nothing but `random.Random.random` is drawn, the one stream that Python
promises never to change; a seed is the same corpus on every machine. Scores on it are labelled synthetic: they say
whether a model works, not how well it translates.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from t2bench.quality.corpora import Corpus, Pairs, made_pairs, part_name
from t2bench.quality.errors import DataError
from t2bench.quality.grammar import Sentence, draw_sentence, source_words, target_words
from t2bench.quality.lexicon import Lexicon, make_lexicon
from t2bench.spec.quality import LANGUAGE

SOURCE, TARGET = "svo", "sov"
SHORTEST = 4  # words: article, noun, verb, stop
MAX_WASTED = 200  # draws in a row that gave nothing new: the language has no more sentences of that length

Lengths = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageSpec:
    """Which corpus to make.

    Attributes:
        seed: of the words and of the sentences.
        train: training pairs.
        val: validation pairs.
        test: pairs of each test set.
        lengths: fewest and most source words of training and validation sentences, the final stop included.
        test_lengths: name of a test set -> its fewest and most source words; empty for one test set, `test`, of the
            training lengths.
        nouns: words of the lexicon; likewise `verbs` (of each of four classes) and `adjectives`.
        max_depth: how deep clauses and possessors may nest.
        reverse: translate from the verb-final language.
    """

    seed: int = 0
    train: int = 20_000
    val: int = 500
    test: int = 1_000
    lengths: Lengths = (4, 24)
    test_lengths: dict[str, Lengths] = field(default_factory=dict)
    nouns: int = 120
    verbs: int = 30
    adjectives: int = 40
    max_depth: int = 3
    reverse: bool = False


EXTRAPOLATION: dict[str, Lengths] = {part_name("test", *words): words for words in ((4, 20), (21, 40), (41, 80))}


def make_corpus(spec: LanguageSpec) -> Corpus:
    """Make the corpus. No source sentence occurs twice, neither in one split nor in two.

    Args:
        spec: which. For extrapolation: `LanguageSpec(lengths=(4, 20), test_lengths=EXTRAPOLATION)`.

    Returns:
        The corpus, labelled synthetic.

    Raises:
        DataError: the language has fewer sentences of these lengths than were asked for, or the sizes are absurd.
    """
    _check(spec)
    lexicon = make_lexicon(seed=spec.seed, nouns=spec.nouns, verbs=spec.verbs, adjectives=spec.adjectives)
    seen: set[str] = set()
    # What is judged by is drawn first: it stays the same whatever the size of the training set.
    tests = {
        name: _draw(spec, lexicon, name, spec.test, lengths, seen)
        for name, lengths in (spec.test_lengths or {"test": spec.lengths}).items()
    }
    val = _draw(spec, lexicon, "val", spec.val, spec.lengths, seen)
    train = _draw(spec, lexicon, "train", spec.train, spec.lengths, seen)
    languages = (TARGET, SOURCE) if spec.reverse else (SOURCE, TARGET)
    return Corpus(
        name=LANGUAGE,
        source_language=languages[0],
        target_language=languages[1],
        train=train,
        val=val,
        tests=tuple(tests.values()),
        synthetic=True,
        description=f"synthetic language of seed {spec.seed}, {spec.train} training pairs of "
        f"{spec.lengths[0]} to {spec.lengths[1]} words",
    )


def _check(spec: LanguageSpec) -> None:
    for name in ("train", "val", "test", "nouns", "verbs", "adjectives", "max_depth"):
        if getattr(spec, name) < 1:
            raise DataError(f"synthetic language: {name} must be at least 1, got {getattr(spec, name)}")
    for name, (fewest, most) in {"lengths": spec.lengths, **spec.test_lengths}.items():
        if not SHORTEST <= fewest <= most:
            raise DataError(f"synthetic language: {name} must be {SHORTEST} <= fewest <= most, got {fewest}, {most}")
    for name in spec.test_lengths:
        if not name.startswith("test"):
            raise DataError(f"synthetic language: the name of a test set begins with test, got {name}")


def _draw(spec: LanguageSpec, lexicon: Lexicon, name: str, count: int, lengths: Lengths, seen: set[str]) -> Pairs:
    """Sentences of one split, of lengths that are asked for equally often, so that every length has its share."""
    rng = random.Random(f"{spec.seed} {name}")
    fewest, most = lengths
    svo: list[str] = []
    sov: list[str] = []
    wasted = 0
    while len(svo) < count:
        wanted = fewest + int(rng.random() * (most - fewest + 1))
        sentence: Sentence = draw_sentence(rng, lexicon, words=wanted, max_depth=spec.max_depth)
        words = source_words(sentence)
        text = " ".join(words)
        if not fewest <= len(words) <= most or text in seen:
            wasted += 1
            if wasted > MAX_WASTED:
                raise DataError(
                    f"synthetic language: {name} wants {count} sentences of {fewest} to {most} words; there are about "
                    f"{len(svo)} (allow other lengths or a larger lexicon)"
                )
            continue
        wasted = 0
        seen.add(text)
        svo.append(text)
        sov.append(" ".join(target_words(sentence)))
    source, target = (sov, svo) if spec.reverse else (svo, sov)
    return made_pairs(name, source, target)
