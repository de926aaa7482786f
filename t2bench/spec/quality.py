"""QualitySpec: how a variant is taught to translate and how its translations are judged, as data.

Standard library only, as `t2bench.spec.model`: the scheduler plans with it and the worker trains by it.

    corpus   which sentence pairs, which tokenizer, which test sets
    recipe   how a model is trained on them; a variant may have a recipe of its own
    decode   how it then translates the test sets; the first one is what verdicts are about
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from t2bench.spec.axes import STRICT

TokenizerKind = Literal["bpe", "unigram", "char", "byte"]
Optimizer = Literal["adam", "adamw"]
Schedule = Literal["constant", "linear", "cosine", "inverse_sqrt", "noam"]
Select = Literal["last", "best", "average"]
Search = Literal["greedy", "beam", "sample", "mbr"]
Penalty = Literal["none", "length", "gnmt"]
Utility = Literal["chrf", "bleu"]

# Corpora that are made on the spot: a small formal language pair, and three tasks of copying.
LANGUAGE = "synthetic"
TASKS = ("copy", "reverse", "recall")
MADE = (LANGUAGE, *TASKS)
# Words of a source sentence, for the language: what is trained on, and what is judged on.
SHORT: tuple[int, int] = (4, 20)
LONGER: tuple[tuple[int, int], ...] = (SHORT, (21, 40), (41, 80))


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusSpec:
    """Which sentence pairs, in which direction, cut into which tokens.

    Attributes:
        name: `synthetic` (a generated language pair, always labelled so), `copy`, `reverse`, `recall` (generated
            strings of symbols), or the name or path of a folder of parallel text (see `t2bench data`).
        direction: `SOURCE-TARGET`, for example `de-en`; empty for a corpus with two languages.
        tests: names of the test sets to score; empty for all. Verdicts are about the first.
        tokenizer: `bpe` (Sennrich et al. 2016) or `unigram` (Kudo 2018) of both languages jointly, `char` or `byte`;
            of as many pieces as the model's `vocab`.
        lowercase: lowercase all text before anything else (for comparison with old tables).
        pairs: training pairs at most; null for all (of a generated corpus: 20,000).
        lengths: fewest and most words of a source sentence in training and validation (empty for all; of a generated
            corpus: what it is made with; of `recall`: groups of a key and a value).
        test_lengths: ranges of source words: every test set is split into one test set per range, so that what was
            trained on short sentences is judged on long ones; empty for no split. Of `recall`: ranges of the distance
            in groups from the question back to what is asked for; 1 is the last group.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: str = LANGUAGE
    direction: str = ""
    tests: tuple[str, ...] = ()
    tokenizer: TokenizerKind = "bpe"
    lowercase: bool = False
    pairs: int | None = None
    lengths: tuple[int, ...] = ()
    test_lengths: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a model is trained. The defaults are for a small model and a short budget.

    Attributes:
        steps: updates.
        optimizer: `adam` (Kingma & Ba 2015) or `adamw` (Loshchilov & Hutter 2019).
        lr: peak learning rate; for `noam` the factor of the formula.
        schedule: after `warmup` steps of linear growth: `constant`, `linear` or `cosine` decay to 0 at the last step,
            `inverse_sqrt` lr sqrt(warmup / step), or `noam` lr width^-0.5 min(step^-0.5, step warmup^-1.5) (Vaswani et
            al. 2017, eq. 3).
        warmup: steps of linear growth from 0.
        beta1: decay of the first moment; likewise `beta2` of the second.
        eps: added to the root of the second moment.
        weight_decay: of matrices (not of biases and norms).
        clip: largest norm of the gradient of all parameters together; 0 for no clipping.
        label_smoothing: share of the probability that is spread over the whole vocabulary (Szegedy et al. 2016).
        accumulate: batches whose gradients make one update.
        average: the newest so many validated states whose weights are averaged for `select: average`.
        validate_every: updates between validations; 0 for a tenth of `steps`.
        select: which weights are judged on the test sets: the `last`, the `best` by validation BLEU, or the `average`.
        patience: stop after so many validations without a better BLEU; 0 never.
        target: validation BLEU whose first crossing is the time, tokens and energy to quality; null for none.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    steps: int = 900
    optimizer: Optimizer = "adam"
    lr: float = 5e-3
    schedule: Schedule = "linear"
    warmup: int = 100
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-9
    weight_decay: float = 0.0
    clip: float = 1.0
    label_smoothing: float = 0.1
    accumulate: int = 1
    average: int = 5
    validate_every: int = 0
    select: Select = "last"
    patience: int = 0
    target: float | None = None

    @property
    def validation_steps(self) -> tuple[int, ...]:
        """Updates after which is validated, the last one included."""
        every = self.validate_every or max(1, self.steps // 10)
        return (*range(every, self.steps, every), self.steps)

    def learning_rate(self, step: int, width: int) -> float:
        """Learning rate of an update.

        Args:
            step: of the update, from 1 to `steps`.
            width: of the model; matters for `noam` only.
        """
        warmup = max(1, self.warmup)
        if self.schedule == "noam":
            return float(self.lr * width**-0.5 * min(step**-0.5, step * warmup**-1.5))
        if step <= self.warmup:
            return self.lr * step / warmup
        if self.schedule == "inverse_sqrt":
            return float(self.lr * (warmup / step) ** 0.5)
        if self.schedule == "constant":
            return self.lr
        # The last update still moves: 0 would be reached one step after it.
        done = (step - self.warmup) / (self.steps + 1 - self.warmup)
        return self.lr * (1 - done if self.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done)))

    def peak_learning_rate(self, width: int) -> float:
        """The highest learning rate that is really reached, which a formula with a factor hides."""
        candidates = {1, min(self.steps, max(1, self.warmup)), min(self.steps, self.warmup + 1)}
        return max(self.learning_rate(step, width) for step in candidates)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """How a trained model translates.

    Attributes:
        method: `greedy`; `beam`; `sample` (one draw for each sentence); `mbr`: minimum Bayes risk, of `samples` draws
            the one that is most like the others (Eikema & Aziz 2020).
        beam: hypotheses that are kept.
        penalty: what the sum of log-probabilities of a hypothesis of n tokens, end included, is divided by: `none` 1,
            `length` n^alpha (fairseq), `gnmt` ((5 + n) / 6)^alpha (Wu et al. 2016, eq. 14).
        length_alpha: exponent alpha of the penalty.
        temperature: logits are divided by it before sampling; 0 is greedy.
        top_k: sample among the k likeliest tokens (Fan et al. 2018); 0 for all.
        top_p: sample among the fewest tokens that have this probability together (Holtzman et al. 2020); 1 for all.
        epsilon: sample among tokens of at least this probability (Hewitt et al. 2022); 0 for all.
        samples: draws for each sentence, for `mbr`.
        utility: what `mbr` measures likeness with. A metric that chooses can no longer judge.
        max_extra: a translation is cut when it has so many more tokens than its source (Vaswani et al. 2017, section
            6.1: 50); the number of those cut is reported.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    method: Search = "greedy"
    beam: int = 5
    penalty: Penalty = "length"
    length_alpha: float = 1.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    epsilon: float = 0.0
    samples: int = 16
    utility: Utility = "chrf"
    max_extra: int = 50

    @property
    def label(self) -> str:
        """Readable name that says all that changes the result, for example `beam5/length^1`."""
        limit = "" if self.max_extra == Decoding().max_extra else f",+{self.max_extra}"
        if self.method == "greedy":
            return f"greedy{limit}"
        if self.method == "beam":
            penalty = "" if self.penalty == "none" else f"/{self.penalty}^{self.length_alpha:g}"
            return f"beam{self.beam}{penalty}{limit}"
        cuts = {"t": (self.temperature, 1.0), "k": (self.top_k, 0), "p": (self.top_p, 1.0), "e": (self.epsilon, 0.0)}
        said = "".join(f",{name}={value:g}" for name, (value, default) in cuts.items() if value != default)
        return f"sample{said}{limit}" if self.method == "sample" else f"mbr{self.samples}/{self.utility}{said}{limit}"

    @property
    def idle(self) -> tuple[str, ...]:
        """Fields that change nothing here."""
        beams = ("beam", "penalty", "length_alpha")
        draws, choice = ("temperature", "top_k", "top_p", "epsilon"), ("samples", "utility")
        if self.method == "beam":
            return (*draws, *choice) if self.penalty != "none" else (*draws, *choice, "length_alpha")
        return {"greedy": (*beams, *draws, *choice), "sample": (*beams, *choice), "mbr": beams}[self.method]


@dataclass(frozen=True, kw_only=True, slots=True)
class QualitySpec:
    """What a quality case trains on, how, and how it is judged.

    Attributes:
        corpus: the text.
        recipe: the training.
        decode: ways to translate the test sets; verdicts are about the first.
        seeds: trainings of every variant, each with weights, dropout and data order of its own (the order is the same
            for all variants); null for `measure.launches`. One seed proves nothing about a variant.
        margin: difference of BLEU that matters: below it nothing is called better, and within it (with a confidence
            of 95 %) variants are called equivalent.
        samples: translations that the report shows side by side.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    corpus: CorpusSpec = field(default_factory=CorpusSpec)
    recipe: Recipe = field(default_factory=Recipe)
    decode: tuple[Decoding, ...] = (Decoding(),)
    seeds: int | None = None
    margin: float = 0.5
    samples: int = 5

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> QualitySpec:
        """Rebuild from plain data (lists for tuples), keys that are missing taking their defaults."""
        values = dict(data)
        corpus = dict(values.get("corpus", {}))
        for name in ("tests", "lengths"):
            corpus[name] = tuple(corpus.get(name, ()))
        corpus["test_lengths"] = tuple(tuple(bounds) for bounds in corpus.get("test_lengths", ()))
        values["corpus"] = CorpusSpec(**corpus)
        values["recipe"] = Recipe(**values.get("recipe", {}))
        values["decode"] = tuple(Decoding(**entry) for entry in values.get("decode", ({},)))
        return cls(**values)
