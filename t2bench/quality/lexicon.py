"""The invented words of the synthetic language pair.

Stems are syllables drawn from the seed. The two languages share none of them (other consonants begin the syllables of
the target), so that copying the source scores nothing. Grammatical words and endings are fixed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

GENDERS = ("m", "f", "n")
VERB_CLASSES = ("intransitive", "transitive", "ditransitive", "saying")
PLACES = 6
NUMERALS = 4

_ONSETS = {"svo": ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "st", "pl"),
           "sov": ("v", "z", "j", "ch", "h", "sh", "w", "zr", "vl", "kh", "zh", "y")}  # fmt: skip
_VOWELS = ("a", "e", "i", "o", "u")
_CODAS = ("", "", "n", "l", "r", "k")


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its translation; a noun's gender shows in the target language only."""

    svo: str
    sov: str
    gender: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lexicon:
    """All stems.

    Attributes:
        nouns: with genders.
        adjectives: stems that take endings in the target.
        numerals: make their noun plural.
        places: prepositions, postpositions in the target.
        verbs: class -> stems.
    """

    nouns: tuple[Word, ...]
    adjectives: tuple[Word, ...]
    numerals: tuple[Word, ...]
    places: tuple[Word, ...]
    verbs: dict[str, tuple[Word, ...]]


def pick(rng: random.Random, choices: Sequence[T]) -> T:
    """One of the choices, by `rng.random()` alone."""
    return choices[int(rng.random() * len(choices))]


def make_lexicon(*, seed: int, nouns: int, verbs: int, adjectives: int) -> Lexicon:
    """Draw all stems; no two words of a language are spelled alike."""
    rng = random.Random(f"{seed} lexicon")
    taken: set[str] = set()

    def words(count: int, *, gendered: bool = False) -> tuple[Word, ...]:
        return tuple(
            Word(_stem(rng, "svo", taken), _stem(rng, "sov", taken), pick(rng, GENDERS) if gendered else "")
            for _ in range(count)
        )

    return Lexicon(
        nouns=words(nouns, gendered=True),
        adjectives=words(adjectives),
        numerals=words(NUMERALS),
        places=words(PLACES),
        verbs={name: words(verbs) for name in VERB_CLASSES},
    )


def _stem(rng: random.Random, language: str, taken: set[str]) -> str:
    """A new stem of two syllables; of three, once those of two have become rare."""
    attempts = 0
    while True:
        syllables = 2 + attempts // 20
        parts = [pick(rng, _ONSETS[language]) + pick(rng, _VOWELS) for _ in range(syllables)]
        stem = "".join(parts) + pick(rng, _CODAS)
        if stem not in taken:
            taken.add(stem)
            return stem
        attempts += 1
