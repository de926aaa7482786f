"""What the records of the quality pass say, read once: every training, its scores by scope, and its details file.

Records may come from anywhere, so what is not a number is taken as missing and a details file is only read inside the
run directory, up to a limit, and only if its hash is the recorded one.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from t2bench.analysis.index import Index
from t2bench.analysis.quality_results import Bucket, Scope
from t2bench.records import Record
from t2bench.spec.quality import QualitySpec

# metric -> its least and its greatest value.
SCORES = {
    **dict.fromkeys(("bleu", "bleu_lc_tok", "chrf", "chrfpp"), (0.0, 100.0)),
    **dict.fromkeys(("exact_match", "brevity_penalty"), (0.0, 1.0)),
    **dict.fromkeys(("ter", "length_ratio"), (0.0, math.inf)),
}
_DETAILS_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One output, scored.

    Attributes:
        values: metric -> value, those of `SCORES` that are known.
        floors: name -> BLEU.
        sha256: of the output; empty if not known.
    """

    scope: Scope
    values: Mapping[str, float]
    floors: Mapping[str, float]
    buckets: tuple[Bucket, ...]
    sha256: str
    num_sentences: int
    empty: int
    cut: int


@dataclass(frozen=True, kw_only=True)
class Training:
    """One record of the quality pass.

    Attributes:
        index: the run.
        record: as written.
    """

    index: Index
    record: Record
    _cache: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def variant(self) -> str:
        """Name of the variant."""
        return self.record.variant

    @property
    def seed(self) -> int:
        """The seed; the place of the launch where the axes do not name it."""
        seed = self.record.axes.get("seed")
        return seed if isinstance(seed, int) and not isinstance(seed, bool) else self.record.launch

    @property
    def diverged(self) -> bool:
        """Whether the training broke down."""
        return self.record.status == "diverged"

    @property
    def finished(self) -> bool:
        """Whether there are scores to judge."""
        return self.record.status == "ok"

    @cached_property
    def spec(self) -> QualitySpec:
        """How it was trained and judged; defaults for what a newer version described."""
        try:
            return QualitySpec.from_dict(mapping(mapping(self.record.observed.get("quality")).get("spec")))
        except (TypeError, ValueError, AttributeError):
            return QualitySpec()

    @property
    def tokenizer(self) -> str:
        """Kind, number of ids and (beginning of the) hash of the tokenizer, as one phrase."""
        made = mapping(mapping(mapping(self.record.observed.get("quality")).get("corpus")).get("tokenizer"))
        return f"{made.get('kind')} {made.get('vocab')} #{str(made.get('key'))[:6]}"

    @cached_property
    def scores(self) -> tuple[Score, ...]:
        """All outputs, in recorded order; the first is the one that metrics of the record are of."""
        if not self.finished:
            return ()
        entries = self.record.observed.get("scores")
        listed = entries if isinstance(entries, Sequence) and not isinstance(entries, str) else ()
        return tuple(self._score(entry) for entry in listed if isinstance(entry, Mapping))

    def _score(self, entry: Mapping[str, Any]) -> Score:
        return Score(
            scope=self._scope(entry),
            values=numbers(entry, SCORES),
            floors=numbers(mapping(entry.get("floors"))),
            buckets=tuple(_buckets(entry.get("buckets"))),
            sha256=text(entry.get("sha256")),
            num_sentences=_count(entry.get("num_sentences")),
            empty=_count(entry.get("empty")),
            cut=_count(entry.get("cut")),
        )

    def _scope(self, entry: Mapping[str, Any]) -> Scope:
        corpus = mapping(mapping(self.record.observed.get("quality")).get("corpus"))
        # What was used, after lowercasing and choosing by length; not what the files held.
        splits = mapping(corpus.get("used"))
        signatures = mapping(entry.get("signatures"))
        test = text(entry.get("test"))
        return Scope(
            group=self.record.group,
            corpus=text(corpus.get("corpus")) or self.spec.corpus.name,
            text=_hashes(splits, ("train", "val")),
            direction=text(corpus.get("direction")) or self.spec.corpus.direction,
            synthetic=bool(corpus.get("synthetic")),
            lowercase=bool(corpus.get("lowercase", self.spec.corpus.lowercase)),
            test=test,
            test_text=_hashes(splits, (test,)),
            decoding=text(entry.get("decoding")),
            signature=text(signatures.get("bleu")),
            chrf_signature=text(signatures.get("chrf")),
        )

    def in_training(self, test: str) -> int:
        """Sentences of a test set whose source is in the training text too."""
        corpus = mapping(mapping(self.record.observed.get("quality")).get("corpus"))
        return _count(mapping(mapping(corpus.get("used")).get(test)).get("in_training"))

    @cached_property
    def curve(self) -> tuple[Mapping[str, float], ...]:
        """Points of the training, by updates."""
        points = self.record.observed.get("curve")
        listed = points if isinstance(points, Sequence) and not isinstance(points, str) else ()
        known = [numbers(mapping(point)) for point in listed]
        return tuple(sorted((point for point in known if "step" in point), key=lambda point: point["step"]))

    @property
    def details(self) -> Mapping[str, Any]:
        """What the details file holds; empty where there is none (not kept: it is large)."""
        found, self._cache["problem"] = _read_details(self)
        return found

    @property
    def problem(self) -> str:
        """Why the details file, read before, could not be used; empty if it could, or there is none."""
        return str(self._cache.get("problem", ""))


def trainings(index: Index, group: str) -> tuple[Training, ...]:
    """Every training of a group, by variant in planned order, then by seed."""
    found = [
        Training(index=index, record=record)
        for case in index.groups[group]
        for record in sorted(index.records.get(case, ()), key=lambda record: record.launch)
        if record.pass_ == "quality" and not record.axes.get("ghost")
    ]
    return tuple(found)


def _read_details(training: Training) -> tuple[Mapping[str, Any], str]:
    observed = training.record.observed
    name, wanted = text(observed.get("details")), text(observed.get("details_sha256"))
    if not name:
        return {}, ""
    root = training.index.run.path.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        return {}, "lies outside the run directory"
    if not path.is_file():
        return {}, "is not there"
    try:
        packed = path.read_bytes()
        if wanted and hashlib.sha256(packed).hexdigest() != wanted:
            return {}, "was altered after the run"
        with gzip.open(path) as file:
            body = file.read(_DETAILS_BYTES + 1)
        found = json.loads(body) if len(body) <= _DETAILS_BYTES else None
    except (OSError, EOFError, ValueError, zlib.error, RecursionError) as error:
        return {}, f"cannot be read ({error})"
    return (found, "") if isinstance(found, Mapping) else ({}, "does not hold what a run writes")


def _buckets(entries: Any) -> Iterator[Bucket]:
    for entry in entries if isinstance(entries, Sequence) and not isinstance(entries, str) else ():
        known = numbers(mapping(entry))
        if "bleu" in known and "n" in known:
            high = known.get("high")
            yield Bucket(
                low=int(known.get("low", 0)),
                high=None if high is None else int(high),
                num_sentences=int(known["n"]),
                bleu=known["bleu"],
                chrf=known.get("chrf"),
            )


def _hashes(splits: Mapping[str, Any], names: Iterable[str]) -> str:
    """One short hash of the text of some splits; empty if none of them is known."""
    known = [mapping(splits.get(name)) for name in names]
    found = [text(split.get(key)) for split in known for key in ("source_sha256", "target_sha256")]
    return hashlib.sha256("".join(found).encode("utf-8", "replace")).hexdigest()[:12] if any(found) else ""


def numbers(values: Mapping[str, Any], names: Iterable[str] | None = None) -> dict[str, float]:
    """The finite numbers among some values."""
    chosen = values if names is None else [name for name in names if name in values]
    return {str(name): number for name in chosen if (number := finite(values[name])) is not None}


def finite(value: Any) -> float | None:
    """A number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def text(value: Any) -> str:
    """The value if it is text, else nothing."""
    return value if isinstance(value, str) else ""


def _count(value: Any) -> int:
    return int(finite(value) or 0)
