"""What the details files add: tests over sentences, translations side by side, and where a variant wins or loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2bench.analysis import sentences
from t2bench.analysis.quality_records import Training, mapping, text
from t2bench.analysis.quality_results import Board, Claim, Example, Scope
from t2bench.analysis.sentences import SentenceTest
from t2bench.quality.scoring import chrf_of

Examples = list[Example]

_MAX_EXTREMES = 3  # wins, and losses, of one variant
_MAX_VARIANTS = 6
_BLEU_COUNTS, _CHRF_COUNTS = 10, 18  # see `t2bench.quality.scoring.SentenceStatistics`


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Output:
    """One output of one training, sentence by sentence; the counts are None where they were not kept whole."""

    hypotheses: tuple[str, ...]
    bleu: NDArray[np.int64] | None
    chrf: NDArray[np.int64] | None


@dataclass
class Files:
    """The details files of a run, each read once; of their content only what a report needs is kept."""

    _outputs: dict[tuple[str, int], dict[tuple[str, str], Output]] = field(default_factory=dict)
    _samples: dict[tuple[str, int], list[tuple[str, int, str, str]]] = field(default_factory=dict)
    _problems: dict[str, None] = field(default_factory=dict)

    @property
    def problems(self) -> tuple[str, ...]:
        """Files that could not be used, in words."""
        return tuple(self._problems)

    def output(self, training: Training, scope: Scope) -> Output | None:
        """A training's output for a test set; None where the details file lacks it."""
        self._load(training)
        return self._outputs[training.record.case, training.record.launch].get((scope.test, scope.decoding))

    def samples(self, training: Training, test: str) -> dict[int, tuple[str, str]]:
        """Row -> (source, reference) of a test set, in recorded order."""
        self._load(training)
        found = self._samples[training.record.case, training.record.launch]
        return {row: (source, reference) for name, row, source, reference in found if name == test}

    def _load(self, training: Training) -> None:
        key = (training.record.case, training.record.launch)
        if key in self._outputs:
            return
        details = training.details
        if training.problem:
            self._problems[f"{training.record.case}, seed {training.seed}: its details file {training.problem}"] = None
        self._outputs[key] = {
            (text(entry.get("test")), text(entry.get("decoding"))): _output(entry)
            for entry in map(mapping, _listed(details.get("outputs")))
        }
        self._samples[key] = [
            (text(entry.get("test")), entry["row"], text(entry.get("source")), text(entry.get("reference")))
            for entry in map(mapping, _listed(details.get("samples")))
            if isinstance(entry.get("row"), int)
        ]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _output(entry: Mapping[str, Any]) -> Output:
    hypotheses = tuple(text(line) for line in _listed(entry.get("hypotheses")))
    return Output(
        hypotheses=hypotheses,
        bleu=_counts(entry.get("bleu_stats"), _BLEU_COUNTS),
        chrf=_counts(entry.get("chrf_stats"), _CHRF_COUNTS),
    )


def _counts(rows: Any, width: int) -> NDArray[np.int64] | None:
    """[sentences, width] counts; None where they are not that."""
    try:
        counts = np.array(_listed(rows), dtype=np.int64)
    except (TypeError, ValueError, OverflowError):
        return None
    return counts if counts.ndim == 2 and counts.shape[1] == width and counts.size else None


def sentence_tests(board: Board, members: Sequence[Training], files: Files) -> Board:
    """The primary table with a test over sentences for every seed that a variant shares with the reference."""
    if not board.primary:
        return board
    claims = {
        name: claim if claim.verdict == "identical" else replace(claim, sentences=_tests(claim, board, members, files))
        for name, claim in board.claims.items()
    }
    return replace(board, claims=claims)


def _tests(claim: Claim, board: Board, members: Sequence[Training], files: Files) -> dict[int, SentenceTest]:
    found: dict[int, SentenceTest] = {}
    for mine in (t for t in members if t.variant == claim.variant and t.finished):
        theirs = _twin(mine, claim.reference, members)
        sides = [files.output(t, board.scope) for t in (mine, theirs) if t is not None]
        counts = [side.bleu for side in sides if side is not None and side.bleu is not None]
        if len(counts) == 2 and counts[0].shape == counts[1].shape:
            found[mine.seed] = sentences.sentence_test(counts[0], counts[1])
    return found


def _twin(training: Training, variant: str, members: Sequence[Training]) -> Training | None:
    """The other variant's training with the same seed."""
    return next((t for t in members if t.variant == variant and t.seed == training.seed and t.finished), None)


def examples(board: Board, members: Sequence[Training], files: Files) -> tuple[Examples, Examples, Examples]:
    """(samples, wins, losses) of the first seed that the reference was trained with."""
    reference = next((t for t in members if t.variant == board.reference and t.finished), None)
    if reference is None:
        return [], [], []
    others = [twin for arm in board.arms if (twin := _twin(reference, arm.variant, members)) is not None]
    outputs = {t.variant: out for t in others if (out := files.output(t, board.scope)) is not None and out.hypotheses}
    texts = {key: value for t in others for key, value in files.samples(t, board.scope.test).items()}
    if board.reference not in outputs:
        return [], [], []

    def example(row: int, names: Sequence[str], gain: float | None = None, variant: str = "") -> Example:
        source, target = texts.get(row, ("", ""))
        return Example(
            group=board.scope.group,
            test=board.scope.test,
            decoding=board.scope.decoding,
            seed=reference.seed,
            row=row,
            source=source,
            reference=target,
            outputs={name: outputs[name].hypotheses[row] for name in names if row < len(outputs[name].hypotheses)},
            gain=gain,
            variant=variant,
        )

    rows = [row for row in texts if 0 <= row < len(outputs[board.reference].hypotheses)]
    count = min(reference.spec.samples, len(rows))
    spread = [rows[(2 * place + 1) * len(rows) // (2 * count)] for place in range(count)]
    samples = [example(row, list(outputs)) for row in spread]
    wins: Examples = []
    losses: Examples = []
    for name in [name for name in outputs if name != board.reference][:_MAX_VARIANTS]:
        gains = _gains(outputs[name], outputs[board.reference])
        order = np.argsort(gains, kind="stable")
        pair = (board.reference, name)
        wins += [example(int(r), pair, float(gains[r]), name) for r in order[::-1][:_MAX_EXTREMES] if gains[r] > 0]
        losses += [example(int(r), pair, float(gains[r]), name) for r in order[:_MAX_EXTREMES] if gains[r] < 0]
    return samples, wins, losses


def _gains(mine: Output, theirs: Output) -> NDArray[np.float64]:
    """[sentences] chrF of one output minus the other's; empty where they cannot be paired."""
    if mine.chrf is None or theirs.chrf is None or mine.chrf.shape != theirs.chrf.shape:
        return np.zeros(0)
    if not len(mine.chrf) == len(mine.hypotheses) == len(theirs.hypotheses):
        return np.zeros(0)
    return chrf_of(mine.chrf) - chrf_of(theirs.chrf)
