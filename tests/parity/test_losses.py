"""Every way of computing the loss is F.cross_entropy in float64, values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from t2bench.models.transformer import build
from t2bench.parity.changes import SIZES
from t2bench.spec.model import ModelSpec


@pytest.mark.parametrize("ignored", [0, 5, 21])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("head_scale", [False, True])
@pytest.mark.parametrize("loss", ["dense", "chunked", "fused"])
def test_loss_is_cross_entropy(loss: str, head_scale: bool, softcap: float | None, ignored: int) -> None:
    spec = ModelSpec(arch="decoder", **SIZES, loss=loss, logit_softcap=softcap, head_scale=head_scale)
    model = build(spec, dtype=torch.float64)
    model.chunk_tokens = 8
    generator = torch.Generator().manual_seed(0)
    x_BTD = torch.randn(2, 11, spec.width, dtype=torch.float64, generator=generator).requires_grad_()
    labels_BT = torch.randint(0, spec.vocab, (2, 11), generator=generator)
    labels_BT.view(-1)[:ignored] = -100
    found = model.loss(x_BTD, labels_BT)
    logits_BTV = x_BTD @ model.table_VD.T / (spec.width**0.5 if head_scale else 1.0)
    if softcap is not None:
        logits_BTV = softcap * torch.tanh(logits_BTV / softcap)
    wanted = F.cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten(), ignore_index=-100)
    assert torch.allclose(found, wanted, rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad(3 * found, (x_BTD, model.table_VD))
    theirs = torch.autograd.grad(3 * wanted, (x_BTD, model.table_VD))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)
