"""One variant in a launch of a group that learns: what it has learnt so far, and its checkpoints on the disk."""

from __future__ import annotations

import glob
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2bench.records import write_atomically
from t2bench.runner.launcher import Worker
from t2bench.runner.texts import Text
from t2bench.spec.case import Case
from t2bench.spec.quality import QualitySpec

CHECKPOINTS = "checkpoints"


@dataclass(slots=True)
class Trainee:
    """One variant in a launch: its worker while it lives, what it has learnt, and how it ended.

    Attributes:
        case: with the seed of the launch.
        text: what it learns from.
        curve: a row for each validation.
        seen: what `observed` of the record will hold.
    """

    case: Case
    text: Text
    worker: Worker | None = None
    step: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    seen: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)
    energy_j: float | None = None
    train_s: float = 0.0
    scores: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    status: str = "ok"
    reason: str = ""

    @property
    def stem(self) -> str:
        """Of its files: readable, short enough for any file system, and no other case's."""
        readable = re.sub(r"[^A-Za-z0-9.+-]", "_", self.case.id)[:100]
        return f"{readable}.{hashlib.sha256(self.case.id.encode()).hexdigest()[:8]}.seed{self.case.seed}"

    @property
    def quality(self) -> QualitySpec:
        """What it learns from, and how."""
        assert self.case.quality is not None
        return self.case.quality

    @property
    def trained(self) -> bool:
        """Whether its training is over: all updates made, or no better for `patience` validations."""
        recipe = self.quality.recipe
        if self.step >= recipe.steps:
            return True
        scores = [row["val_bleu"] for row in self.curve]
        if not recipe.patience or not scores:
            return False
        return len(scores) - 1 - scores.index(max(scores)) >= recipe.patience

    @property
    def left_s(self) -> float | None:
        """Seconds of training that are left, by what was needed so far."""
        return self.train_s / self.step * (self.quality.recipe.steps - self.step) if self.step else None

    def restart(self) -> None:
        """Know nothing again."""
        self.curve, self.energy_j, self.train_s = [], None, 0.0

    def leave(self) -> None:
        """End its worker."""
        if self.worker is not None:
            self.worker.close()
            self.worker = None


class Checkpoints:
    """The checkpoints of a run: weights, and a note that names them and holds the curve.

    Args:
        directory: of the run.
    """

    def __init__(self, directory: Path) -> None:
        self._folder = directory / CHECKPOINTS

    def save(self, trainee: Trainee, write: Callable[[str], object]) -> None:
        """Keep where a training is; `write` puts its weights into a file of the given path.

        Weights first, then the note: a kill between the two leaves the older pair in force.
        """
        self._folder.mkdir(exist_ok=True)
        weights = f"{trainee.stem}.step{trainee.step}.pt"
        write(str(self._folder / weights))
        note = {"weights": weights, "curve": trainee.curve, "energy_j": trainee.energy_j, "train_s": trainee.train_s}
        write_atomically(self._folder / f"{trainee.stem}.json", json.dumps(note))
        for old in self._weights(trainee):
            if old.name != weights:
                old.unlink()

    def load(self, trainee: Trainee) -> Path | None:
        """The weights to go on from, if an interrupted launch left some; the trainee's curve is taken up.

        A note that is damaged is none: the training begins again.
        """
        note = self._folder / f"{trainee.stem}.json"
        try:
            known = json.loads(note.read_bytes())
            weights = self._folder / str(known["weights"])
            trainee.curve, trainee.energy_j, trainee.train_s = known["curve"], known["energy_j"], known["train_s"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return weights

    def forget(self, trainee: Trainee) -> None:
        """Remove what a training left, which is recorded from here on or begins again."""
        for path in [*self._weights(trainee), self._folder / f"{trainee.stem}.json"]:
            path.unlink(missing_ok=True)
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def clear(self) -> None:
        """Remove what kills have left of trainings that are recorded."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _weights(self, trainee: Trainee) -> list[Path]:
        """Files of weights, halves of files that a kill left included."""
        return list(self._folder.glob(f"{glob.escape(trainee.stem)}.step*"))
