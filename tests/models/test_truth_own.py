"""A user's module that is honest in evaluation mode only is found out, since training is what a training step times."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2bench.models import factories
from t2bench.models.truth_own import check_own
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


def failures(factory: Callable[[ModelSpec], nn.Module], monkeypatch: pytest.MonkeyPatch, *, trains: bool) -> set[str]:
    monkeypatch.setitem(factories._factories, "mine", factory)
    spec = ModelSpec(arch="decoder", factory="mine")
    wide = {"dtype": torch.float32, "rounding": torch.float32}
    checks = check_own(spec, device="cpu", seed=0, length=24, trains=trains, **wide)
    return {check.name for check in checks if not check.passed}


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
