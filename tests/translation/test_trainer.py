"""The trainer, against a training loop written out in float64, and against itself in pieces."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from t2bench.models.init import load_logical, logical_parameters
from t2bench.models.transformer import build
from t2bench.quality.batching import BatchStream, EncodedPairs, Ragged, gather, plan_batches
from t2bench.spec.axes import PatternSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.quality import Recipe
from t2bench.translation import checkpoint
from t2bench.translation.inputs import feed
from t2bench.translation.trainer import Trainer
from t2bench.translation.watch import EXPLODED_STEPS, MAX_SKIPPED, Diverged, Watch

CPU = torch.device("cpu")
SMALL = ModelSpec(width=16, heads=2, ff=16, enc_layers=1, dec_layers=1, vocab=30)
DECODER = replace(SMALL, arch="decoder", pattern=PatternSpec(kind="prefix"))
RECURRENT = replace(SMALL, recurrence="lstm", score="additive")
RECIPE = Recipe(steps=60, lr=1e-2, warmup=5)


def reversal(count: int = 120) -> EncodedPairs:
    """Strings and the same backwards."""
    random = np.random.default_rng(7)
    rows = [random.integers(4, 30, size=random.integers(2, 9)).tolist() for _ in range(count)]
    return EncodedPairs(source=Ragged.of(rows), target=Ragged.of([row[::-1] for row in rows]))


PAIRS = reversal()


def trainer(spec: ModelSpec = SMALL, recipe: Recipe = RECIPE, pairs: EncodedPairs = PAIRS, **other: Any) -> Trainer:
    values = {"tokens": 64, "max_length": 32, "seed": 3, "dtype": "fp32", "device": CPU} | other
    return Trainer(spec, recipe, pairs, **values)


def weights(made: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in made.model.state_dict().items()}


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


RATES = {  # of the first two updates, by hand: lr 0.01, warm-up 5, width 16
    "linear": (0.002, 0.004),
    "inverse_sqrt": (0.002, 0.004),
    "noam": (0.01 * 16**-0.5 * 5**-1.5, 0.01 * 16**-0.5 * 2 * 5**-1.5),
}


@pytest.mark.parametrize("schedule", RATES)
@pytest.mark.parametrize(
    ("optimizer", "weight_decay", "clip", "accumulate"),
    [("adam", 0.0, 1.0, 1), ("adam", 0.1, 0.3, 2), ("adamw", 0.1, 0.0, 2)],
)
def test_two_updates_written_out(
    schedule: str, optimizer: str, weight_decay: float, clip: float, accumulate: int
) -> None:
    recipe = replace(
        RECIPE, schedule=schedule, optimizer=optimizer, weight_decay=weight_decay, clip=clip, accumulate=accumulate
    )
    made = trainer(recipe=recipe)
    model = build(SMALL, dtype=torch.float64, seed=3)
    load_logical(model, logical_parameters(made.model))
    parameters = list(model.parameters())
    first = [torch.zeros_like(p) for p in parameters]
    second = [torch.zeros_like(p) for p in parameters]
    stream = BatchStream(PAIRS, plan_batches(PAIRS, tokens=64, seed=3, max_length=32))
    for step in (1, 2):
        # One batch of the pairs of all batches: its mean is over all their tokens.
        rows = np.concatenate([next(stream).rows for _ in range(accumulate)])
        batch = feed(SMALL, gather(PAIRS, rows), CPU).batch
        logits_NV = model(batch.tokens_BT, **batch.given).flatten(0, 1)
        loss = F.cross_entropy(logits_NV, batch.labels_BT.flatten(), label_smoothing=0.1)
        gradients = torch.autograd.grad(loss, parameters)
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
        factor = min(1.0, clip / norm) if clip else 1.0
        assert clip == 0 or factor < 1  # or nothing would be tested
        with torch.no_grad():
            for p, m, v, gradient in zip(parameters, first, second, gradients, strict=True):
                rate, g = RATES[schedule][step - 1], gradient * factor
                decay = weight_decay if p.ndim >= 2 else 0.0
                if optimizer == "adam":
                    g = g + decay * p
                else:
                    p.sub_(rate * decay * p)
                m.add_((1 - 0.9) * (g - m))
                v.add_((1 - 0.98) * (g * g - v))
                p.sub_(rate * (m / (1 - 0.9**step)) / ((v / (1 - 0.98**step)).sqrt() + 1e-9))
        progress = made.advance(step, max_s=60)
        assert progress.step == step
        assert progress.lr == pytest.approx(RATES[schedule][step - 1])
        assert progress.loss == pytest.approx(loss.item(), rel=1e-5)
        # What moves a weight by its rate has a gradient of more than rounding: the sign of nothing is nobody's.
        for ours, exact, gradient in zip(made.model.parameters(), parameters, gradients, strict=True):
            counts = (gradient * factor).abs() > 1e-6
            assert torch.allclose(ours.double()[counts], exact[counts], rtol=0, atol=2e-5)


def test_the_first_moments_of_unclipped_gradients_weigh_tokens_not_batches() -> None:
    """Accumulating is the update of one big batch, which the mean of the batches' means is not."""
    made = trainer(recipe=replace(RECIPE, accumulate=3, clip=0.0))
    stream = BatchStream(PAIRS, plan_batches(PAIRS, tokens=64, seed=3, max_length=32))
    batches = [next(stream) for _ in range(3)]
    counts = [int((batch.labels_BT >= 0).sum()) for batch in batches]
    assert len(set(counts)) > 1
    losses = []
    model = build(SMALL, seed=3)
    for batch in batches:
        fed = feed(SMALL, batch, CPU).batch
        losses.append(model.loss(model.hidden(fed.tokens_BT, **fed.given), fed.labels_BT, label_smoothing=0.1).item())
    wanted = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
    assert made.advance(1, max_s=60).loss == pytest.approx(wanted, rel=1e-6)
    assert abs(sum(losses) / 3 - wanted) > 1e-4


CONTINUED = {
    "encdec, dropout": (replace(SMALL, dropout=0.1), RECIPE),
    "accumulated": (replace(SMALL, dropout=0.1), replace(RECIPE, accumulate=2, select="average", optimizer="adamw")),
    "recurrent": (replace(RECURRENT, dropout=0.1), replace(RECIPE, select="best")),
    "decoder": (replace(DECODER, dropout=0.1), RECIPE),
    "packed": (replace(SMALL, padding="packed", dropout=0.1, loss="fused"), RECIPE),
}


@pytest.mark.parametrize("name", CONTINUED)
def test_forty_updates_are_twenty_a_checkpoint_and_twenty(name: str, tmp_path: Any) -> None:
    spec, recipe = CONTINUED[name]
    whole, begun = trainer(spec, recipe), trainer(spec, recipe)
    for made in (whole, begun):
        made.advance(20, max_s=60)
        made.remember(1.0)
    begun.save(tmp_path / "state")
    torch.rand(5)  # the process's own random numbers are its own affair
    continued = trainer(spec, recipe)
    assert continued.load(tmp_path / "state") == 20
    ends = [made.advance(40, max_s=60) for made in (whole, continued)]
    assert_same(weights(whole), weights(continued))
    assert ends[0].loss == ends[1].loss
    assert ends[0].tokens == ends[1].tokens
    assert continued.step == 40
    assert ends[1].cpu_s > 0
    for made in (whole, continued):
        made.remember(0.5)
    assert whole.select() == continued.select()
    assert_same(weights(whole), weights(continued))
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_pieces_do_not_matter_and_seeds_do() -> None:
    spec = replace(SMALL, dropout=0.1)
    whole, pieces, other = trainer(spec), trainer(spec), trainer(spec, seed=4)
    whole.advance(12, max_s=60)
    before = torch.get_rng_state()
    for _ in range(12):
        pieces.advance(12, max_s=0.0)  # one update each
    assert torch.equal(before, torch.get_rng_state())
    other.advance(12, max_s=60)
    assert_same(weights(whole), weights(pieces))
    assert not torch.equal(whole.model.state_dict()["table_VD"], other.model.state_dict()["table_VD"])


@pytest.mark.parametrize("spec", [SMALL, DECODER, RECURRENT], ids=["encdec", "decoder", "recurrent"])
def test_it_learns(spec: ModelSpec) -> None:
    made = trainer(spec)
    before = made.loss_of(PAIRS)
    assert abs(before - math.log(30)) < 1.0
    made.advance(60, max_s=60)
    assert made.loss_of(PAIRS) < before - 0.5


def test_the_loss_of_a_split_is_of_all_tokens_without_smoothing_or_dropout() -> None:
    made = trainer(replace(SMALL, dropout=0.5))
    long = EncodedPairs(source=Ragged.of([[5] * 90, [6]]), target=Ragged.of([[7] * 80, [8, 9]]))
    model = build(SMALL, seed=3, dtype=torch.float64)
    total = 0.0
    for row in range(2):
        batch = feed(SMALL, gather(long, np.array([row])), CPU).batch
        logits_TV = model(batch.tokens_BT, **batch.given)[0]
        total += float(F.cross_entropy(logits_TV, batch.labels_BT[0], reduction="sum").detach())
    assert made.loss_of(long) == pytest.approx(total / 84, rel=1e-5)
    assert made.model.training


def test_best_and_average_weights() -> None:
    for select, steps in (("last", (4,)), ("best", (2,)), ("average", (2, 3, 4))):
        made = trainer(recipe=replace(RECIPE, select=select, average=3))
        seen = {}
        for step, score in ((1, 5.0), (2, 9.0), (3, 9.0), (4, 1.0)):
            made.advance(step, max_s=60)
            made.remember(score)
            seen[step] = weights(made)
        assert made.select() == steps
        for name, tensor in made.model.state_dict().items():
            wanted = sum(seen[step][name].double() for step in steps) / len(steps)
            assert torch.equal(tensor, wanted.float()), (select, name)


def test_a_divergence_is_noticed_with_its_step() -> None:
    made = trainer(recipe=replace(RECIPE, lr=1e30, clip=0.0, warmup=1, schedule="constant"))
    with pytest.raises(Diverged, match=r"(loss|gradient) is (nan|inf) at update 2$"):
        made.advance(40, max_s=60)
    poisoned = trainer()
    poisoned.advance(7, max_s=60)
    with torch.no_grad():
        next(iter(poisoned.model.parameters())).fill_(math.nan)
    with pytest.raises(Diverged, match="nan at update 8"):
        poisoned.advance(8, max_s=60)


def test_what_counts_as_diverged() -> None:
    def watch(losses: list[float], norms: list[float] | None = None, *, scaled: bool = False) -> None:
        seen = Watch()
        for step, loss in enumerate(losses, 1):
            seen.add(step, torch.tensor(loss), torch.tensor(1.0 if norms is None else norms[step - 1]))
        assert seen.look(scaled=scaled) == pytest.approx(losses)

    many = EXPLODED_STEPS
    watch([3.0, *[5.5] * (many - 1), 4.9, *[5.5] * (many - 1)])
    with pytest.raises(Diverged, match=rf"exploded: 5.5 at update {many + 1}"):
        watch([3.0, *[5.5] * many])
    with pytest.raises(Diverged, match="norm of the gradient is inf at update 2"):
        watch([3.0] * 3, [1.0, math.inf, 1.0])
    watch([3.0] * 3, [1.0, math.inf, 1.0], scaled=True)
    with pytest.raises(Diverged, match="whatever the scale"):
        watch([3.0] * MAX_SKIPPED, [math.nan] * MAX_SKIPPED, scaled=True)


def test_a_damaged_or_foreign_checkpoint_is_refused_and_changes_nothing(tmp_path: Any) -> None:
    made, path = trainer(), tmp_path / "state"
    made.advance(2, max_s=60)
    made.save(path)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    fresh = trainer()
    before = weights(fresh)
    for damaged in (b"", whole[:-100], whole[:middle], b"x" * 1000, flipped):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            fresh.load(path)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="another training: batches, seed differ"):
        trainer(seed=9).load(path)
    with pytest.raises(ValueError, match="another training: recipe differ"):
        trainer(recipe=replace(RECIPE, lr=1.0)).load(path)
    with pytest.raises(ValueError, match="another training: variant differ"):
        trainer(replace(SMALL, activation="gelu")).load(path)
    with pytest.raises(ValueError, match="another training: dtype differ"):
        trainer(dtype="bf16_autocast").load(path)
    with pytest.raises(FileNotFoundError):
        fresh.load(tmp_path / "none")
    assert_same(before, weights(fresh))
    assert fresh.step == 0


@pytest.mark.parametrize("dtype", ["bf16", "bf16_autocast", "fp16_autocast"])
def test_sixteen_bits_learn(dtype: str) -> None:
    made = trainer(dtype=dtype)
    before = made.loss_of(PAIRS)
    made.advance(40, max_s=60)
    assert made.loss_of(PAIRS) < before - 0.3


def test_plain_fp16_is_refused() -> None:
    with pytest.raises(ValueError, match="use fp16_autocast"):
        trainer(dtype="fp16")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_checkpoint_on_a_full_disk_is_an_error_of_the_disk(tmp_path: Any, monkeypatch: Any) -> None:
    """What torch makes of a failed write is a RuntimeError, which would count as the variant's."""
    path = tmp_path / "full.pt"
    monkeypatch.setattr(Path, "open", lambda self, mode: open("/dev/full", mode))  # noqa: SIM115
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(path, {"step": 1, "weights": torch.zeros(1000)})
    assert not path.exists()
