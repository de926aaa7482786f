"""What the analysis concludes about translations, as plain values; see `t2bench.analysis.quality`.

The replicate is the seed: one training. A number without a spread over seeds is a number about one training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from t2bench.analysis.results import Interval
from t2bench.analysis.sentences import SentenceTest

# identical: the same text for every common seed. unresolved: neither a difference nor equality is shown. undecidable:
# nothing may be concluded, and `why` says the reason.
QualityVerdict = Literal["identical", "same function", "better", "worse", "equivalent", "unresolved", "undecidable"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """What two scores must have in common to stand in one table.

    Attributes:
        group: id of the cases that are compared with each other.
        corpus: name, and `text`: hash of training and validation text in this direction.
        direction: `SOURCE-TARGET`.
        synthetic: of a generated language or task.
        lowercase: all text was lowercased first.
        test: name of the test set.
        test_text: hash of its sentences and references.
        decoding: label of the decoding.
        signature: of BLEU, as sacreBLEU prints it; `chrf_signature`: of chrF.
    """

    group: str
    corpus: str
    text: str
    direction: str
    synthetic: bool
    lowercase: bool
    test: str
    test_text: str
    decoding: str
    signature: str
    chrf_signature: str = ""

    @property
    def comparable(self) -> Mapping[str, object]:
        """What must be equal in two runs, by the words for it."""
        return {
            "corpus": self.corpus,
            "training text": self.text,
            "direction": self.direction,
            "synthetic": self.synthetic,
            "lowercase": self.lowercase,
            "test set": self.test,
            "test text": self.test_text,
            "decoding": self.decoding,
            "BLEU signature": self.signature,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """One metric over seeds.

    Attributes:
        interval: mean with Student's t interval; one seed has no interval.
        sd: standard deviation over seeds; None with one.
        num_seeds: how many.
    """

    interval: Interval
    sd: float | None
    num_seeds: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Bucket:
    """Sentences of one range of source words: scores are means over seeds.

    Attributes:
        low, high: fewest and most words; `high` None for no limit.
        num_sentences: how many; below `MIN_SENTENCES` of `t2bench.analysis.seeds` nothing is concluded from them.
    """

    low: int
    high: int | None
    num_sentences: int
    bleu: float
    chrf: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One variant on one test set.

    Attributes:
        seeds: that were trained to the end, ascending.
        values: metric -> value per seed, parallel to `seeds`; metrics that a seed lacks are absent.
        spreads: metric -> the same summed up.
        hashes: of the output, per seed; empty where it is not known.
        diverged: seeds whose training broke down; `planned`: seeds that the suite asks for.
        empty, cut: outputs without a word, and at the length limit, over all seeds.
        num_sentences: of the test set.
        buckets: by source length.
        warnings: what looks wrong, in plain words.
    """

    variant: str
    seeds: tuple[int, ...]
    values: Mapping[str, tuple[float, ...]]
    spreads: Mapping[str, Spread]
    hashes: tuple[str, ...]
    diverged: tuple[int, ...]
    planned: int
    empty: int
    cut: int
    num_sentences: int
    buckets: tuple[Bucket, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """A score that needs no model.

    Attributes:
        bleu: the score.
        words: what gives it, for example `the nearest training sentence`.
    """

    bleu: float
    words: str

    @property
    def shown(self) -> str:
        """The score as text, which does not read 0 where it is not."""
        if 0 < self.bleu < 0.005:
            return "less than 0.01"
        return f"{self.bleu:.2f}" if 0 < self.bleu < 0.1 else f"{self.bleu:.1f}"


_FLOOR_WORDS = {"copy": "the source as its own translation", "retrieval": "the nearest training sentence"}


def copying_is_the_task(floors: Mapping[str, float]) -> bool:
    """Whether the source scores 100 as its own translation."""
    return floors.get("copy", 0.0) > 99.99


def highest_floor(floors: Mapping[str, float]) -> Floor | None:
    """The floor that a model must pass to have learned something; None if none is known.

    Copying is no floor where it is the task itself.
    """
    known = {name: bleu for name, bleu in floors.items() if name in _FLOOR_WORDS}
    if copying_is_the_task(floors):
        del known["copy"]
    if not known:
        return None
    name = max(known, key=lambda name: known[name])
    return Floor(bleu=known[name], words=_FLOOR_WORDS[name])


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A variant against another on one test set, in BLEU, over seeds.

    Attributes:
        difference: variant - reference with its 95 % interval.
        verdict: `better` / `worse` only if Holm's rule over the table proves a difference, it is at least `margin`,
            and the second metric has the same sign; `equivalent` if two one-sided tests (Schuirmann 1987), by Holm's
            rule too, put it within the margin; `same function` if both compute the same by their axes and the checks
            before training, and no difference is proven: what is left of it is how far rounding drives trainings apart.
        same_function: they differ in implementation axes only, and are trained by one recipe.
        why: the reason in words, where the verdict needs one.
        margin: difference of BLEU that matters.
        p_value: two-sided, of no difference, before Holm's rule; None with one seed, or where nothing was computed.
        within_p: of "it is outside the margin"; small proves equivalence.
        resolves: the smallest true difference that would have been called with 90 % power; None if none.
        paired: by seed; else Welch's test.
        num_seeds: on the smaller side.
        second: difference in the metric that must agree: `agrees_by` (chrF, or TER where chrF chose the output).
        sentences: seed -> test over sentences of that seed's two outputs. About this test set only.
    """

    variant: str
    reference: str
    verdict: QualityVerdict
    margin: float
    difference: Interval | None = None
    same_function: bool = False
    why: str = ""
    p_value: float | None = None
    within_p: float | None = None
    resolves: float | None = None
    error: float | None = None
    df: float = 0.0
    paired: bool = False
    num_seeds: int = 0
    second: float | None = None
    agrees_by: str = "chrF"
    sentences: Mapping[int, SentenceTest] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """All variants on one test set with one decoding: one table.

    Attributes:
        primary: verdicts of the run are about this one; others are their own families.
        floors: name -> BLEU that needs no model: `copy` the source, `retrieval` of the nearest training sentence.
        claims: variant -> against the reference.
        rungs: steps of the ladder, each against the one before.
        margin, agrees_by: as in `Claim`.
        why_not: why no verdict may rest on these scores; empty if one may.
        notes: what a reader of the table must know.
    """

    scope: Scope
    primary: bool
    reference: str
    margin: float
    agrees_by: str
    arms: tuple[Arm, ...]
    claims: Mapping[str, Claim]
    rungs: tuple[Claim, ...] = ()
    floors: Mapping[str, float] = field(default_factory=dict)
    why_not: str = ""
    notes: tuple[str, ...] = ()

    @property
    def floor(self) -> Floor | None:
        """The highest of the floors."""
        return highest_floor(self.floors)


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityRow:
    """One variant on one test set on two sides, in BLEU.

    Attributes:
        claim: candidate against baseline; None if either is missing or the two may not be compared.
        note: why there is no claim, in one line.
    """

    case: str
    scope: Scope
    baseline: Spread | None
    candidate: Spread | None
    claim: Claim | None
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one variant's trainings cost: metric -> spread over seeds.

    Attributes:
        to_target: metric -> median over seeds (None: more than half did not reach it), not reached, seeds.
        ratios: metric of `to_target` -> median / reference's median, only where every seed of both reached it.
        target: validation BLEU of `to_target`; None for none.
    """

    group: str
    variant: str
    spreads: Mapping[str, Spread]
    units: Mapping[str, str]
    target: float | None = None
    to_target: Mapping[str, tuple[float | None, int, int]] = field(default_factory=dict)
    ratios: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One training: points with `step`, `tokens`, `time_s`, `val_bleu`, `val_loss`, ... as far as they are known.

    `finished` is False for one that broke down on the way.
    """

    group: str
    variant: str
    seed: int
    points: tuple[Mapping[str, float], ...]
    finished: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One sentence and what became of it.

    Attributes:
        row: line of the test set, from 0.
        source, reference: empty where the run did not keep them.
        outputs: variant -> translation.
        gain: sentence chrF of the variant - the reference variant's, for wins and losses; None for plain samples.
        variant: whose win or loss it is.
    """

    group: str
    test: str
    decoding: str
    seed: int
    row: int
    source: str
    reference: str
    outputs: Mapping[str, str]
    gain: float | None = None
    variant: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """Everything a report shows about translations.

    Attributes:
        groups: ids of the groups that were trained.
        boards: tables, the primary one of each group first.
        wins, losses: sentences that a variant translates better, or worse, than the reference variant.
        warnings: about variants and tables, in plain words.
    """

    groups: tuple[str, ...]
    boards: tuple[Board, ...] = ()
    costs: tuple[Cost, ...] = ()
    curves: tuple[Curve, ...] = ()
    samples: tuple[Example, ...] = ()
    wins: tuple[Example, ...] = ()
    losses: tuple[Example, ...] = ()
    warnings: tuple[str, ...] = ()
