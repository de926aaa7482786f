"""A user's module that is honest in evaluation mode only is found out, since training is what a training step times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2bench.attention.verify import Check
from t2bench.models import factories
from t2bench.models.truth_own import UNUSED, check_own
from t2bench.parity.proof import prove
from t2bench.spec.model import ModelSpec


class Honest(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.table = nn.Embedding(spec.vocab, 16)
        self.cells = nn.GRU(16, 16, batch_first=True)
        self.out = nn.Linear(16, spec.vocab)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        out_BTV: Tensor = self.out(self.cells(self.table(tokens_BT))[0])
        return out_BTV


class LooksAhead(Honest):
    def forward(self, tokens_BT: Tensor) -> Tensor:
        out_BTV = super().forward(tokens_BT)
        return out_BTV + out_BTV.mean(dim=1, keepdim=True) if self.training else out_BTV


class Nowhere(Honest):
    def forward(self, tokens_BT: Tensor) -> Tensor:
        return super().forward(tokens_BT) * (float("nan") if self.training else 1.0)


class SkipsWork(Honest):
    def hidden(self, tokens_BT: Tensor) -> Tensor:
        return self(tokens_BT[:, :1] if self.training else tokens_BT)

    def loss(self, x_BTV: Tensor, labels_BT: Tensor) -> Tensor:
        return F.cross_entropy(x_BTV.flatten(0, 1), labels_BT[:, : x_BTV.shape[1]].flatten())


class Drops(Honest):
    def forward(self, tokens_BT: Tensor) -> Tensor:
        return F.dropout(super().forward(tokens_BT), 0.5, self.training)


class Blocks(Honest):
    """Causal from block to block, and not inside of one."""

    size = 8

    def forward(self, tokens_BT: Tensor) -> Tensor:
        x_BTD = self.table(tokens_BT)
        blocks = [block_BTD.mean(1, keepdim=True).expand_as(block_BTD) for block_BTD in x_BTD.split(self.size, dim=1)]
        out_BTV: Tensor = self.out(x_BTD + torch.cat(blocks, dim=1))
        return out_BTV


class FarAhead(Honest):
    def forward(self, tokens_BT: Tensor) -> Tensor:
        out_BTV = super().forward(tokens_BT)
        return out_BTV + F.pad(out_BTV, (0, 0, 0, 40))[:, 40:]


class Unused(Honest):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.spare = nn.Linear(4, 4)


def checks_of(
    factory: Callable[[ModelSpec], nn.Module], monkeypatch: pytest.MonkeyPatch, *, trains: bool, length: int = 24
) -> tuple[Check, ...]:
    monkeypatch.setitem(factories._factories, "mine", factory)
    spec = ModelSpec(arch="decoder", factory="mine")
    wide = {"dtype": torch.float32, "rounding": torch.float32}
    return check_own(spec, device="cpu", seed=0, length=length, trains=trains, **wide)


def failures(factory: Callable[[ModelSpec], nn.Module], monkeypatch: pytest.MonkeyPatch, **how: Any) -> set[str]:
    return {check.name for check in checks_of(factory, monkeypatch, **how) if not check.passed}


@pytest.mark.parametrize("factory", [Honest, Drops])
def test_honest_modules_pass(factory: type[Honest], monkeypatch: pytest.MonkeyPatch) -> None:
    assert failures(factory, monkeypatch, trains=True) == set()


@pytest.mark.parametrize(
    ("factory", "check"),
    [
        (LooksAhead, "causality in training mode"),
        (Nowhere, "numerics: loss in training mode"),
        (SkipsWork, "numerics: loss in training mode"),
    ],
)
def test_training_mode_is_looked_at(factory: type[Honest], check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check in failures(factory, monkeypatch, trains=True)
    assert failures(factory, monkeypatch, trains=False) == set()


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 16, 24, 96])
def test_an_honest_module_passes_at_any_length(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failures(Honest, monkeypatch, trains=True, length=length) == set()


@pytest.mark.parametrize("size", [2, 3, 5, 7, 8, 9, 16, 21, 32, 63])
def test_a_look_ahead_inside_of_blocks_is_found(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    factory = type("Sized", (Blocks,), {"size": size})
    assert "causality" in failures(factory, monkeypatch, trains=False, length=1024)


def test_a_far_look_ahead_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "causality" in failures(FarAhead, monkeypatch, trains=False, length=1024)


def test_parameters_that_the_loss_does_not_reach_are_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = {check.name: check for check in checks_of(Unused, monkeypatch, trains=True)}
    assert all(check.passed for check in checks.values())
    (gru,) = [m for m in Honest(ModelSpec()).children() if isinstance(m, nn.GRU)]
    number = 1 + len(list(gru.parameters())) + 2 + 2
    detail = f"the loss does not reach 2 of {number} parameters: spare.weight, spare.bias"
    assert checks[UNUSED].detail == detail
    proof = prove(ModelSpec(arch="decoder", factory="mine"), device="cpu", dtype="fp32")
    assert detail in proof.notes
    assert UNUSED not in {check.name for check in checks_of(Honest, monkeypatch, trains=True)}
