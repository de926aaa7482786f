"""The sentence pairs that a run trains on: prepared once for each kind of group, encoded on the disk for workers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from t2bench.quality.corpora import Pairs, part_range
from t2bench.quality.errors import DataError
from t2bench.quality.floors import floors
from t2bench.quality.prepare import Prepared, prepare
from t2bench.runner.options import OptionError
from t2bench.spec.case import Case, Plan
from t2bench.spec.quality import CorpusSpec

Key = tuple[CorpusSpec, int, int, int]


@dataclass(slots=True)
class Text:
    """The text of a case.

    Attributes:
        prepared: corpus, tokenizer, and the encoded splits.
        farthest_first: whether verdicts are about the longest sentences (or distances) instead of the first test set.
    """

    prepared: Prepared
    farthest_first: bool
    _floors: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, Path]:
        """Split -> encoded pairs."""
        return self.prepared.files

    @property
    def record(self) -> dict[str, Any]:
        """What scores depend on."""
        return self.prepared.record

    @property
    def tests(self) -> tuple[str, ...]:
        """Names of the test sets, that of the verdicts first."""
        names = tuple(pairs.name for pairs in self.prepared.corpus.tests)
        return tuple(sorted(names, key=lambda name: -part_range(name)[1])) if self.farthest_first else names

    def split(self, name: str) -> Pairs:
        """The sentences of `val` or of a test set."""
        corpus = self.prepared.corpus
        if name == "val":
            return corpus.val
        return next(pairs for pairs in corpus.tests if pairs.name == name)

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Ids as text."""
        return self.prepared.tokenizer.decode(rows)

    def floors(self, test: str) -> dict[str, float]:
        """BLEU on a test set of what has learned nothing: `copy` the source, or `retrieval` of the nearest sentence."""
        if test not in self._floors:
            found = floors(self.prepared.corpus.train, self.split(test))
            self._floors[test] = {"copy": found.copy.bleu, "retrieval": found.retrieval.bleu}
        return self._floors[test]

    def samples(self) -> list[dict[str, Any]]:
        """The test set of the verdicts, for people to look at beside its translations."""
        pairs = self.split(self.tests[0])
        rows = enumerate(zip(pairs.source, pairs.target, strict=True))
        return [{"test": pairs.name, "row": row, "source": source, "reference": ref} for row, (source, ref) in rows]


class Texts:
    """The texts of all groups of a run that learn.

    Args:
        plan: the run's plan.
        data: the user's folder of corpora; None for the usual place.
        folder: for the encoded pairs.

    Raises:
        DataError: a corpus is missing or cannot be used.
    """

    def __init__(self, plan: Plan, data: Path | None, folder: Path) -> None:
        self._prepared: dict[Key, Prepared] = {}
        for case in plan.cases:
            if case.workload.learns and _key(case) not in self._prepared:
                place = folder / f"text-{len(self._prepared)}"
                place.mkdir()
                spec, vocab, length, tokens = _key(case)
                self._prepared[_key(case)] = prepare(
                    spec, vocab=vocab, max_length=length, tokens=tokens, data=data, folder=place
                )
        self._texts: dict[tuple[Key, bool], Text] = {}

    def of(self, case: Case) -> Text:
        """The text of a case: that of its group, unless its vocabulary is its own."""
        key = _key(case), case.workload.kind != "translate"
        if key not in self._texts:
            self._texts[key] = Text(self._prepared[key[0]], key[1])
        return self._texts[key]

    @property
    def record(self) -> list[dict[str, Any]]:
        """What must be the same for a run to be continued, as JSON gives it back."""
        found = [{"spec": asdict(key[0]), **prepared.record} for key, prepared in self._prepared.items()]
        plain: list[dict[str, Any]] = json.loads(json.dumps(found))
        return plain


def read_texts(plan: Plan, data: Path | None, folder: Path) -> Texts:
    """The texts of a plan; arguments as for `Texts`.

    Raises:
        OptionError: a corpus is missing or cannot be used.
    """
    try:
        return Texts(plan, data, folder)
    except DataError as error:
        raise OptionError(str(error)) from error


def _key(case: Case) -> Key:
    assert case.quality is not None
    return case.quality.corpus, case.model.vocab, case.length, case.batch * case.length
