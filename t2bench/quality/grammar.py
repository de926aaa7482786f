"""Trees of the synthetic language pair, and the two ways to write each of them.

    Sentence -> Clause (and Clause)* .
    Clause   -> [place Noun ,] subject verb [object] [to receiver] [that Clause]     the last only at the very end
    Noun     -> [numeral | article] adjective* [modifier] head [of Noun | that Relative]
    Relative -> verb [Noun] | Noun verb                                              subject or object relative clause

Nothing else nests, and a relative clause ends its noun phrase, so each sentence has one reading.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from t2bench.quality.lexicon import Lexicon, Word, pick

TENSES = ("present", "past")

_SVO_ARTICLES = {True: "the", False: "a"}
_SVO_TENSE = {"present": "", "past": "ed"}
_SOV_ARTICLE = {True: "d", False: "un"}
_SOV_GENDER = {"m": "o", "f": "a", "n": "i"}
_SOV_CASE = {"subject": "", "object": "m", "receiver": "x", "possessor": "q", "place": "th"}
_SOV_TENSE = {"present": "a", "past": "u"}
_SOV_NUMBER = {False: "t", True: "ns"}  # of the verb: singular, plural


@dataclass(frozen=True, kw_only=True, slots=True)
class Noun:
    """A noun phrase.

    Attributes:
        head: its noun.
        modifier: a noun before it that makes a compound.
        plural: more than one.
        definite: which article.
        numeral: instead of the article, of a plural.
        adjectives: before the noun in `svo`, after it in `sov`.
        possessor: after it in `svo`, before it in `sov`.
        relative: a clause about it.
    """

    head: Word
    modifier: Word | None
    plural: bool
    definite: bool
    numeral: Word | None
    adjectives: tuple[Word, ...]
    possessor: Noun | None
    relative: Relative | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Relative:
    """A relative clause: `other` is what the noun acts on, or (`noun_is_object`) what acts on the noun."""

    verb: Word
    tense: str
    negated: bool
    other: Noun | None
    noun_is_object: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Clause:
    """A clause; what its verb's class does not take is None."""

    subject: Noun
    verb: Word
    tense: str
    negated: bool
    object: Noun | None
    receiver: Noun | None
    complement: Clause | None
    place: tuple[Word, Noun] | None


@dataclass(frozen=True, slots=True)
class Sentence:
    """Clauses joined by `and`."""

    clauses: tuple[Clause, ...]


@dataclass(frozen=True, slots=True)
class _Draw:
    """Draws trees; `depth` counts how much deeper a part may nest."""

    rng: random.Random
    lexicon: Lexicon

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def noun(self, words: int, depth: int) -> Noun:
        """A noun phrase of about so many source words."""
        plural = self.chance(0.35)
        spare = words - 2
        modifier = pick(self.rng, self.lexicon.nouns) if spare >= 1 and self.chance(0.2) else None
        spare -= modifier is not None
        num_adjectives = sum(self.chance(0.45) for _ in range(min(spare, 2)))
        spare -= num_adjectives
        possessor = relative = None
        if depth > 0 and spare >= 3 and self.chance(0.8):
            if self.chance(0.45):
                possessor = self.noun(spare - 1, depth - 1)
            else:
                relative = self.relative(spare - 1, depth - 1)
        return Noun(
            head=pick(self.rng, self.lexicon.nouns),
            modifier=modifier,
            plural=plural,
            definite=self.chance(0.6),
            numeral=pick(self.rng, self.lexicon.numerals) if plural and self.chance(0.4) else None,
            adjectives=tuple(pick(self.rng, self.lexicon.adjectives) for _ in range(num_adjectives)),
            possessor=possessor,
            relative=relative,
        )

    def relative(self, words: int, depth: int) -> Relative:
        transitive = words >= 3 and self.chance(0.8)
        return Relative(
            verb=pick(self.rng, self.lexicon.verbs["transitive" if transitive else "intransitive"]),
            tense=pick(self.rng, TENSES),
            negated=self.chance(0.1),
            other=self.noun(words - 1, depth) if transitive else None,
            noun_is_object=transitive and self.chance(0.4),
        )

    def clause(self, words: int, depth: int, *, last: bool) -> Clause:
        """A clause of about so many source words; only the last of a sentence may hold a complement."""
        spare = words
        place = None
        if spare >= 9 and self.chance(0.3):
            place = (pick(self.rng, self.lexicon.places), self.noun(spare // 4, 1))
            spare -= spare // 4 + 2
        if last and depth > 0 and spare >= 8 and self.chance(0.3):
            return self._saying(spare, depth, place)
        if spare < 5:
            verb_class, phrases = "intransitive", 1
        elif spare < 8 or self.chance(0.75):
            verb_class, phrases = "transitive", 2
        else:
            verb_class, phrases = "ditransitive", 3
        shares = self._shares(spare - phrases + (phrases < 3), phrases)
        nouns = [self.noun(share, depth) for share in shares]
        return Clause(
            subject=nouns[0],
            verb=pick(self.rng, self.lexicon.verbs[verb_class]),
            tense=pick(self.rng, TENSES),
            negated=self.chance(0.15),
            object=nouns[1] if phrases > 1 else None,
            receiver=nouns[2] if phrases > 2 else None,
            complement=None,
            place=place,
        )

    def _saying(self, words: int, depth: int, place: tuple[Word, Noun] | None) -> Clause:
        of_subject = 2 + int(self.rng.random() * (words // 3))
        return Clause(
            subject=self.noun(of_subject, depth - 1),
            verb=pick(self.rng, self.lexicon.verbs["saying"]),
            tense=pick(self.rng, TENSES),
            negated=self.chance(0.15),
            object=None,
            receiver=None,
            complement=self.clause(max(3, words - of_subject - 2), depth - 1, last=True),
            place=place,
        )

    def _shares(self, words: int, parts: int) -> list[int]:
        """Split words among noun phrases, at least two each."""
        shares = [2] * parts
        for _ in range(words - 2 * parts):
            shares[int(self.rng.random() * parts)] += 1
        return shares


def draw_sentence(rng: random.Random, lexicon: Lexicon, *, words: int, max_depth: int) -> Sentence:
    """Draw a sentence of about `words` source words."""
    draw = _Draw(rng, lexicon)
    clauses = []
    left = words - 1
    while True:
        # A longer sentence is more clauses of the same kinds, so that length and depth can be told apart.
        most = min(left, 8 + int(rng.random() * 16))
        last = left - most < 4
        clauses.append(draw.clause(left if last else most, max_depth, last=last))
        left -= _num_words(clauses[-1]) + 1
        if last or left < 3:
            return Sentence(tuple(clauses))


def _num_words(clause: Clause) -> int:
    return len(_svo_clause(clause))


def source_words(sentence: Sentence) -> list[str]:
    """The sentence in `svo`."""
    words: list[str] = []
    for clause in sentence.clauses:
        words += ["and", *_svo_clause(clause)] if words else _svo_clause(clause)
    return [*words, "."]


def _svo_clause(clause: Clause) -> list[str]:
    words = []
    if clause.place:
        words += [clause.place[0].svo, *_svo_noun(clause.place[1]), ","]
    words += _svo_noun(clause.subject) + _svo_verb(clause.verb, clause.tense, clause.negated, clause.subject.plural)
    if clause.object:
        words += _svo_noun(clause.object)
    if clause.receiver:
        words += ["to", *_svo_noun(clause.receiver)]
    if clause.complement:
        words += ["that", *_svo_clause(clause.complement)]
    return words


def _svo_noun(noun: Noun) -> list[str]:
    words = [noun.numeral.svo] if noun.numeral else [_SVO_ARTICLES[noun.definite]]
    words += [adjective.svo for adjective in noun.adjectives]
    if noun.modifier:
        words.append(noun.modifier.svo)
    words.append(noun.head.svo + ("s" if noun.plural else ""))
    if noun.possessor:
        words += ["of", *_svo_noun(noun.possessor)]
    if noun.relative:
        words += ["that", *_svo_relative(noun.relative, plural=noun.plural)]
    return words


def _svo_relative(relative: Relative, *, plural: bool) -> list[str]:
    other = relative.other
    if other is None or not relative.noun_is_object:
        verb = _svo_verb(relative.verb, relative.tense, relative.negated, plural)
        return verb + (_svo_noun(other) if other else [])
    return _svo_noun(other) + _svo_verb(relative.verb, relative.tense, relative.negated, other.plural)


def _svo_verb(verb: Word, tense: str, negated: bool, plural: bool) -> list[str]:
    ending = _SVO_TENSE[tense] or ("" if plural else "s")
    return ["not", verb.svo + ending] if negated else [verb.svo + ending]


def target_words(sentence: Sentence) -> list[str]:
    """The sentence in `sov`."""
    words: list[str] = []
    for clause in sentence.clauses:
        words += ["ka", *_sov_clause(clause)] if words else _sov_clause(clause)
    return [*words, "."]


def _sov_clause(clause: Clause) -> list[str]:
    words = _sov_noun(clause.subject, "subject")
    if clause.place:
        words += [*_sov_noun(clause.place[1], "place"), clause.place[0].sov]
    if clause.receiver:
        words += _sov_noun(clause.receiver, "receiver")
    if clause.object:
        words += _sov_noun(clause.object, "object")
    if clause.complement:
        words += [*_sov_clause(clause.complement), "que"]
    return [*words, _sov_verb(clause.verb, clause.tense, clause.negated, clause.subject)]


def _sov_noun(noun: Noun, case: str) -> list[str]:
    """Possessor, article, noun, adjectives, relative clause; article and adjectives agree with the noun."""
    words = _sov_noun(noun.possessor, "possessor") if noun.possessor else []
    agreement = _SOV_GENDER[noun.head.gender] + ("s" if noun.plural else "")
    words.append(noun.numeral.sov if noun.numeral else _SOV_ARTICLE[noun.definite] + agreement + _SOV_CASE[case])
    compound = noun.modifier.sov if noun.modifier else ""
    words.append(compound + noun.head.sov + ("ne" if noun.plural else "") + _SOV_CASE[case])
    words += [adjective.sov + agreement for adjective in noun.adjectives]
    if noun.relative:
        words += ["qui", *_sov_relative(noun.relative, noun)]
    return words


def _sov_relative(relative: Relative, noun: Noun) -> list[str]:
    other = relative.other
    if other is None or not relative.noun_is_object:
        before = _sov_noun(other, "object") if other else []
        return [*before, _sov_verb(relative.verb, relative.tense, relative.negated, noun)]
    return [*_sov_noun(other, "subject"), _sov_verb(relative.verb, relative.tense, relative.negated, other)]


def _sov_verb(verb: Word, tense: str, negated: bool, subject: Noun) -> str:
    """Agrees with its subject in number and gender: its own ending, far from the noun that decides it."""
    gender = _SOV_GENDER[subject.head.gender]
    return ("ne" if negated else "") + verb.sov + _SOV_TENSE[tense] + _SOV_NUMBER[subject.plural] + gender
