"""The learner in a worker: each split for what it is there for, in pieces, and checkpoints that go on with clocks."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from t2bench.models.transformer import build
from t2bench.quality.batching import EncodedPairs, Ragged
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.quality import Decoding, QualitySpec, Recipe
from t2bench.translation import learner as module
from t2bench.translation.learner import VALIDATION, Learner
from t2bench.translation.trainer import Trainer
from t2bench.translation.translator import Translator

CPU = torch.device("cpu")
CASE = Case(
    variant="v",
    model=ModelSpec(width=16, heads=2, ff=16, enc_layers=1, dec_layers=1, vocab=30, dropout=0.2),
    workload=WorkloadSpec(kind="translate"),
    length=12,
    batch=4,
    dtype="fp32",
    device="cpu",
    seed=3,
    quality=QualitySpec(recipe=Recipe(steps=40, lr=1e-2, warmup=5, select="best")),
)
SIZES = {"train": (40, 5), "val": (9, 1), "test": (17, 2)}


@pytest.fixture(scope="module")
def splits() -> dict[str, EncodedPairs]:
    """Three splits of different text."""
    found = {}
    for split, (count, seed) in SIZES.items():
        random = np.random.default_rng(seed)
        rows = [random.integers(4, 30, size=random.integers(2, 9)).tolist() for _ in range(count)]
        found[split] = EncodedPairs(source=Ragged.of(rows), target=Ragged.of([row[::-1] for row in rows]))
    return found


@pytest.fixture
def learner(splits: dict[str, EncodedPairs], tmp_path: Path) -> Any:
    """A learner of a case."""
    files = {split: str(tmp_path / f"{split}.npz") for split in splits}
    for split, pairs in splits.items():
        pairs.save(Path(files[split]))
    return lambda case=CASE: Learner(case, files, CPU)


def trained(splits: dict[str, EncodedPairs], until: int) -> Trainer:
    """A trainer of the same case, which has never seen another split."""
    assert CASE.quality is not None
    trainer = Trainer(
        CASE.model,
        CASE.quality.recipe,
        splits["train"],
        tokens=CASE.batch * CASE.length,
        max_length=CASE.length,
        seed=CASE.seed,
        dtype="fp32",
        device=CPU,
    )
    trainer.advance(until, max_s=1e9)
    return trainer


def translated(trainer: Trainer, pairs: EncodedPairs, decoding: Decoding, seed: int = CASE.seed) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(len(pairs))]
    translator = Translator(trainer.model, tokens=4096, dtype="fp32")
    for batch in translator.translate(pairs.source, decoding, seed=seed):
        for row, tokens in zip(batch.rows, batch.tokens, strict=True):
            rows[row] = tokens
    return rows


def test_it_trains_on_training_text_and_validates_on_the_other(learner: Any, splits: Any) -> None:
    one = learner()
    begun = one.begin(None)
    assert begun["step"] == 0
    assert all(check["passed"] for check in begun["probes"])
    progress = one.train(20, 1e9)
    alone = trained(splits, 20)
    assert progress["loss"] == alone.advance(20, max_s=1.0).loss
    assert progress["energy_j"] is None
    answer = one.validate()
    assert answer["loss"] == alone.loss_of(splits["val"])
    assert answer["tokens"] == translated(alone, splits["val"], VALIDATION)
    assert len(answer["tokens"]) == SIZES["val"][0]


@pytest.mark.parametrize("decoding", [Decoding(method="beam", beam=3, max_extra=4), Decoding(method="sample")])
@pytest.mark.parametrize("max_s", [1e9, 0.0])
def test_a_test_set_is_translated_as_asked_in_pieces(
    learner: Any, splits: Any, decoding: Decoding, max_s: float, monkeypatch: Any
) -> None:
    monkeypatch.setattr(module, "DECODE_TOKENS", 1)
    one = learner()
    one.train(20, 1e9)
    one.translate("test", asdict(decoding))
    rows: list[Any] = [None] * SIZES["test"][0]
    pieces = 0
    while True:
        answer = one.more(max_s)
        pieces += 1
        for batch in answer["batches"]:
            for row, tokens in zip(batch["rows"], batch["tokens"], strict=True):
                assert rows[row] is None
                rows[row] = tokens
        if answer["done"]:
            break
    assert rows == translated(trained(splits, 20), splits["test"], decoding)
    assert (pieces > 1) == (max_s == 0.0)


def test_pairs_longer_than_the_case_are_not_trained_on(learner: Any, splits: Any) -> None:
    """Length 6 is of 5 tokens and the end (or the begin); all of a batch's budget does not count."""
    train = splits["train"]
    fitting = np.flatnonzero(np.maximum(train.source.lengths, train.target.lengths) <= 5)
    assert 0 < len(fitting) < len(train)
    short = EncodedPairs(
        source=Ragged.of([train.source[row].tolist() for row in fitting]),
        target=Ragged.of([train.target[row].tolist() for row in fitting]),
    )
    one = learner(replace(CASE, length=6, batch=8))
    alone = trained({"train": short}, 20)
    assert one.train(20, 1e9)["loss"] == alone.advance(20, max_s=1.0).loss


def test_it_translates_in_the_dtype_of_the_case(learner: Any, splits: Any) -> None:
    one = learner(replace(CASE, dtype="bf16_autocast"))
    one.translate("test", asdict(Decoding(max_extra=4)))
    scores = [batch["scores"] for batch in one.more(1e9)["batches"]]
    model = build(CASE.model, seed=CASE.seed)
    by_dtype = {
        dtype: [
            batch.scores
            for batch in Translator(model, tokens=4096, dtype=dtype).translate(
                splits["test"].source, Decoding(max_extra=4), seed=0
            )
        ]
        for dtype in ("fp32", "bf16_autocast")
    }
    assert scores == by_dtype["bf16_autocast"] != by_dtype["fp32"]


def test_the_weights_that_were_best_are_judged(learner: Any, splits: Any) -> None:
    one = learner()
    for until, score in ((10, 1.0), (20, 5.0), (30, 5.0), (40, 2.0)):
        one.train(until, 1e9)
        one.remember(score)
    assert one.select() == {"steps": [20]}
    assert one.validate()["tokens"] == translated(trained(splits, 20), splits["val"], VALIDATION)


def test_seeds_differ_in_weights_and_in_order(learner: Any) -> None:
    losses = {learner(replace(CASE, seed=seed)).train(1, 1e9)["loss"] for seed in (3, 4, 5)}
    assert len(losses) == 3


def test_a_checkpoint_that_is_not_its_own_or_not_there_is_said_and_no_error(learner: Any, tmp_path: Path) -> None:
    (tmp_path / "damaged.pt").write_bytes(b"x" * 1000)
    assert "damaged" in learner().begin(str(tmp_path / "damaged.pt"))["unusable"]
    assert "absent.pt" in learner().begin(str(tmp_path / "absent.pt"))["unusable"]


def test_a_checkpoint_goes_on_with_its_clocks(learner: Any, tmp_path: Path) -> None:
    one = learner()
    before = one.train(20, 1e9)
    one.remember(3.0)
    assert one.save(str(tmp_path / "at20.pt")) == {}
    undisturbed = one.train(30, 1e9)
    other = learner()
    assert other.begin(str(tmp_path / "at20.pt"))["step"] == 20
    resumed = other.train(30, 1e9)
    assert [resumed[name] for name in ("step", "loss", "tokens", "lr")] == [
        undisturbed[name] for name in ("step", "loss", "tokens", "lr")
    ]
    for clock in ("time_s", "cpu_s"):
        assert resumed[clock] > before[clock] > 0
    one.remember(1.0)
    other.remember(1.0)
    assert one.select() == other.select() == {"steps": [20]}


def test_a_checkpoint_that_cannot_be_written_is_told_by_its_error_number(learner: Any, tmp_path: Path) -> None:
    assert learner().save(str(tmp_path / "nowhere" / "at0.pt")) == {"failed": 2}


def test_energy_is_what_the_counter_moved_by(learner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([5.0, 9.0, 9.0, 12.5, None, 13.0])
    monkeypatch.setattr(Learner, "_energy", lambda self: next(readings))
    one = learner()
    assert [one.train(step, 1e9)["energy_j"] for step in (1, 2, 3)] == [4.0, 3.5, None]


def test_a_divergence_is_an_answer(learner: Any) -> None:
    recipe = Recipe(steps=40, lr=1000.0, clip=0.0, warmup=0)
    wild = learner(replace(CASE, quality=QualitySpec(recipe=recipe)))
    with torch.no_grad():
        next(wild._model.parameters()).fill_(float("nan"))
    assert "nan" in wild.train(2, 1e9)["diverged"]
