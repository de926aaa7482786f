"""Label smoothing of every kind of loss, against torch's own in float64 and a target distribution written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from t2bench.models import factories, loss
from t2bench.models.transformer import build
from t2bench.spec.model import ModelSpec

KINDS = ("dense", "chunked", "fused")
N, D, V, E = 23, 6, 11, 0.1


def _inputs(rows: int = V) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    x_ND = torch.randn(N, D, generator=generator, dtype=torch.float64, requires_grad=True)
    table_VD = torch.randn(rows, D, generator=generator, dtype=torch.float64, requires_grad=True)
    labels_N = torch.randint(0, V, (N,), generator=generator)
    labels_N[::4] = loss.IGNORE
    return x_ND, table_VD, labels_N


def _scores(x_ND: torch.Tensor, table_VD: torch.Tensor, softcap: float | None) -> torch.Tensor:
    scores_NV = x_ND @ table_VD.T
    return scores_NV if softcap is None else softcap * torch.tanh(scores_NV / softcap)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_smoothing_is_torchs(kind: str, softcap: float | None) -> None:
    x_ND, table_VD, labels_N = _inputs()
    found = loss.mean(kind, x_ND, table_VD, labels_N, softcap=softcap, smoothing=E, vocab=V, chunk_tokens=5)
    wanted = F.cross_entropy(_scores(x_ND, table_VD, softcap), labels_N, label_smoothing=E)
    assert torch.allclose(found, wanted, rtol=0, atol=1e-13)
    leaves = (x_ND, table_VD)
    for ours, theirs in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(wanted, leaves), strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-14)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_pad_the_vocabulary_get_no_share(kind: str, softcap: float | None) -> None:
    x_ND, table_VD, labels_N = _inputs(rows=V + 5)
    found = loss.mean(kind, x_ND, table_VD, labels_N, softcap=softcap, smoothing=E, vocab=V, chunk_tokens=5)
    counts_N = labels_N != loss.IGNORE
    target_NV = torch.zeros(N, V + 5, dtype=torch.float64)
    target_NV[:, :V] = E / V
    target_NV[torch.arange(N), labels_N.clamp(min=0)] += 1 - E
    wanted = F.cross_entropy(_scores(x_ND, table_VD, softcap)[counts_N], target_NV[counts_N])
    assert torch.allclose(found, wanted, rtol=0, atol=1e-13)
    leaves = (x_ND, table_VD)
    for ours, theirs in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(wanted, leaves), strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-14)


@pytest.mark.parametrize("recurrence", ["none", "gru"])
@pytest.mark.parametrize("kind", KINDS)
def test_models_pass_it_on(kind: str, recurrence: str) -> None:
    spec = ModelSpec(
        arch="decoder", width=8, heads=2, ff=8, dec_layers=1, vocab=V, vocab_multiple=8, loss=kind,
        recurrence=recurrence,
    )  # fmt: skip
    model = build(spec, dtype=torch.float64)
    tokens_BT = torch.randint(0, V, (2, 6), generator=torch.Generator().manual_seed(0))
    x_BTD = model.hidden(tokens_BT)
    logits_NV = model.logits(x_BTD).flatten(0, 1)
    log_p_NV = logits_NV.log_softmax(-1)
    nll_N = -log_p_NV.gather(1, tokens_BT.flatten()[:, None])[:, 0]
    wanted = (0.8 * nll_N - 0.2 * log_p_NV[:, :V].mean(-1)).mean()
    assert torch.allclose(model.loss(x_BTD, tokens_BT, label_smoothing=0.2), wanted, atol=1e-12)
    assert torch.allclose(model.loss(x_BTD, tokens_BT), nll_N.mean(), atol=1e-12)


class _Splits(nn.Module):
    """A user's module with a loss of its own that knows no smoothing."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(V, D)

    def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        return self.hidden(tokens_BT) @ self.table.weight.T

    def hidden(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        return self.table(tokens_BT)

    def loss(self, x_BTD: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy((x_BTD @ self.table.weight.T).flatten(0, 1), labels_BT.flatten())


def test_a_module_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"whole": lambda spec: nn.Embedding(V, V), "splits": lambda spec: _Splits()}
    monkeypatch.setattr("t2bench.models.own.get", made.__getitem__)
    tokens_BT = torch.arange(8)[None] % V
    spec = {"arch": "decoder", "vocab": V}
    whole = build(ModelSpec(factory="whole", **spec))
    logits_BTV = whole.hidden(tokens_BT)
    wanted = F.cross_entropy(logits_BTV[0], tokens_BT[0], label_smoothing=E)
    assert torch.allclose(whole.loss(logits_BTV, tokens_BT, label_smoothing=E), wanted)
    splits = build(ModelSpec(factory="splits", **spec))
    with pytest.raises(factories.FactoryError, match="takes no label_smoothing"):
        splits.loss(splits.hidden(tokens_BT), tokens_BT, label_smoothing=E)
