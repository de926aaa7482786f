"""The note beside a checkpoint, when something else has written into it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from t2bench.runner.trainee import Checkpoints, Trainee


def trainee() -> Trainee:
    case: Any = SimpleNamespace(id="translate/fp32/L64/vanilla", seed=3)
    text: Any = None
    return Trainee(case, text, step=7, curve=[{"val_bleu": 1.0}], train_s=2.0)


def saved(directory: Path) -> Path:
    one = trainee()
    Checkpoints(directory).save(one, lambda path: Path(path).write_bytes(b"weights"))
    return directory / "checkpoints" / f"{one.stem}.json"


def test_a_whole_note_is_taken_up(tmp_path: Path) -> None:
    note = saved(tmp_path)
    fresh = trainee()
    fresh.restart()
    weights = Checkpoints(tmp_path).load(fresh)
    assert weights == note.with_suffix(".step7.pt")
    assert (fresh.curve, fresh.train_s) == ([{"val_bleu": 1.0}], 2.0)


@pytest.mark.parametrize(
    "damage", [b"", b'{"weights": "x', b"{}", b"[]", b"null", b"\xff\xfe\x00", b'{"weights": "x.pt"}']
)
def test_a_damaged_note_is_none(damage: bytes, tmp_path: Path) -> None:
    saved(tmp_path).write_bytes(damage)
    fresh = trainee()
    fresh.restart()
    assert Checkpoints(tmp_path).load(fresh) is None
    assert (fresh.curve, fresh.train_s) == ([], 0.0)
