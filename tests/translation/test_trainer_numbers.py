"""What a trainer counts, leaves out, draws and keeps: figures by hand, and clocks that only updates move."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from t2bench.models.transformer import build
from t2bench.quality.batching import BatchStream, EncodedPairs, Ragged, plan_batches
from t2bench.spec.model import ModelSpec
from t2bench.spec.quality import Recipe
from t2bench.translation import checkpoint
from t2bench.translation import trainer as module
from t2bench.translation.trainer import Trainer

CPU = torch.device("cpu")
SMALL = ModelSpec(width=16, heads=2, ff=16, enc_layers=1, dec_layers=1, vocab=30)
RECIPE = Recipe(steps=60, lr=1e-2, warmup=5)


def pairs(lengths: list[tuple[int, int]]) -> EncodedPairs:
    """Pairs of so many source and target tokens, without begin and end."""
    random = np.random.default_rng(7)
    sides = ([random.integers(4, 30, size=pair[side]).tolist() for pair in lengths] for side in (0, 1))
    return EncodedPairs(source=Ragged.of(next(sides)), target=Ragged.of(next(sides)))


MIXED = pairs([(n % 7 + 1, n % 5 + 2) for n in range(40)])
ONE = pairs([(6, 6)])


def trainer(spec: ModelSpec = SMALL, recipe: Recipe = RECIPE, text: EncodedPairs = MIXED, **other: Any) -> Trainer:
    values = {"tokens": 64, "max_length": 32, "seed": 3, "dtype": "fp32", "device": CPU} | other
    return Trainer(spec, recipe, text, **values)


@pytest.mark.parametrize("arch", ["encdec", "decoder"])
def test_pairs_that_fit_are_trained_on_and_their_tokens_counted_on_both_sides(arch: str) -> None:
    """With begin and end ids: 5 + 4 and 3 + 6 tokens; 7 on a side are one too many."""
    made = trainer(replace(SMALL, arch=arch), text=pairs([(4, 3), (6, 2), (2, 5), (2, 6)]), max_length=6)
    assert [made.advance(step, max_s=60).tokens for step in (1, 2, 5)] == [18, 36, 90]


def test_dropout_is_another_for_every_update_and_every_seed() -> None:
    """One pair and weights that stay: losses differ by dropout only."""
    still = replace(RECIPE, lr=1e-30)
    state = build(SMALL, seed=3).state_dict()

    def losses(seed: int, dropout: float) -> list[float]:
        made = trainer(replace(SMALL, dropout=dropout), still, ONE, seed=seed)
        made.model.load_state_dict(state)
        return [made.advance(step, max_s=60).loss for step in (1, 2)]

    plain = losses(3, 0.0)
    assert plain == losses(4, 0.0)
    assert len(set(plain)) == 1
    assert len({*plain, *losses(3, 0.5), *losses(4, 0.5)}) == 5
    assert losses(3, 0.5) == losses(3, 0.5)


def test_the_loss_of_many_updates_weighs_their_tokens() -> None:
    singles, whole = trainer(), trainer()
    stream = BatchStream(MIXED, plan_batches(MIXED, tokens=64, seed=3))
    losses, counts = [], []
    for step in range(1, 9):
        losses.append(singles.advance(step, max_s=60).loss)
        counts.append(int((next(stream).labels_BT >= 0).sum()))
    wanted = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
    assert whole.advance(8, max_s=60).loss == pytest.approx(wanted, rel=1e-9)
    assert abs(sum(losses) / 8 - wanted) > 1e-5


def test_only_updates_take_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By clocks that stand still but for a batch, which takes 1 second, and 3 of the processors."""
    now = [0.0]
    clocks = SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: 3 * now[0])
    real = module.feed

    def slow(*arguments: Any) -> Any:
        now[0] += 1.0
        return real(*arguments)

    monkeypatch.setattr(module, "time", clocks)
    monkeypatch.setattr(module, "feed", slow)
    made = trainer(recipe=replace(RECIPE, accumulate=2, select="best"))
    for step in (3, 5):
        progress = made.advance(step, max_s=1000)
        assert (progress.time_s, progress.cpu_s) == (2 * step, 6 * step)
        made.loss_of(MIXED)
        made.remember(1.0)
    assert made.advance(60, max_s=5).step == 8, "the first update that ends after 5 seconds is the last"


@pytest.mark.parametrize("dtype", ["fp32", "bf16_autocast", "fp16_autocast"])
def test_moments_of_a_clipped_gradient(dtype: str, tmp_path: Path) -> None:
    """Of a gradient that stays the same: (1 - beta^n) times itself, and its square, whose sums follow from the clip.

    A gradient that is clipped before its scale is taken away would be smaller by that scale, unnoticed by Adam's steps.
    """
    made = trainer(recipe=replace(RECIPE, lr=1e-30, beta1=0.7, beta2=0.95, clip=0.25), text=ONE, dtype=dtype)
    made.advance(2, max_s=60)
    made.save(tmp_path / "state")
    moments = checkpoint.read(tmp_path / "state")["optimizer"]["state"].values()
    first = sum(float((each["exp_avg"].double() ** 2).sum()) for each in moments) ** 0.5
    second = sum(float(each["exp_avg_sq"].double().sum()) for each in moments)
    assert first == pytest.approx((1 - 0.7**2) * 0.25, rel=1e-3)
    assert second == pytest.approx((1 - 0.95**2) * 0.25**2, rel=1e-3)


def test_a_large_epsilon_makes_adam_a_descent() -> None:
    """Beside it the root of the second moment is nothing: a step is lr / eps times the gradient, of norm 1 here."""
    made = trainer(recipe=replace(RECIPE, schedule="constant", warmup=0, lr=1000.0, eps=1e6, clip=1.0))
    before = torch.cat([parameter.detach().flatten().clone() for parameter in made.model.parameters()])
    made.advance(1, max_s=60)
    after = torch.cat([parameter.detach().flatten() for parameter in made.model.parameters()])
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=1e-2)


def test_a_checkpoint_that_is_loaded_and_saved_is_the_same(tmp_path: Path) -> None:
    """Everything in it, also what rarely differs from a fresh training: the scale of the loss, what the watch knows."""
    recipe = replace(RECIPE, select="average", average=2)
    made = trainer(replace(SMALL, dropout=0.1), recipe, dtype="fp16_autocast")
    for step in (2, 4):
        made.advance(step, max_s=60)
        made.remember(float(step))
    made.save(tmp_path / "one")
    state = checkpoint.read(tmp_path / "one")
    state["scaler"] |= {"scale": 512.0, "_growth_tracker": 11}
    state["watch"] = {"first_loss": 1.5, "num_above": 7, "num_skipped": 2}
    checkpoint.write(tmp_path / "two", state)
    again = trainer(replace(SMALL, dropout=0.1), recipe, dtype="fp16_autocast")
    assert again.load(tmp_path / "two") == 4
    again.save(tmp_path / "three")
    assert_equal(checkpoint.read(tmp_path / "three"), state)


def assert_equal(found: Any, wanted: Any, path: str = "") -> None:
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), path
        for key, value in wanted.items():
            assert_equal(found[key], value, f"{path}/{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), path
        for place, value in enumerate(wanted):
            assert_equal(found[place], value, f"{path}/{place}")
    else:
        same = torch.equal(found, wanted) if isinstance(wanted, torch.Tensor) else found == wanted
        assert same, path
