"""Each mistake that attention invites, made on purpose: the checks before timing must notice every one of them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from t2bench.attention import rows, verify
from t2bench.attention.dispatch import attend
from t2bench.attention.features import Features
from t2bench.attention.mask import Mask
from t2bench.attention.scores import RelativeBias, Scores
from t2bench.spec.axes import PatternSpec, PositionSpec

WINDOW = Features(pattern=PatternSpec(kind="window", window=40))
GLOBAL = Features(pattern=PatternSpec(kind="window", window=40, global_tokens=3))
PREFIX, DOCUMENT = (Features(pattern=PatternSpec(kind=kind)) for kind in ("prefix", "document"))
ALIBI, T5, SHAW, TXL = (
    Features(position=PositionSpec(kind=kind, max_distance=8, buckets=8))
    for kind in ("alibi", "t5_bias", "shaw", "txl")
)
CAPPED, CAPPED_T5 = Features(softcap=2.0), replace(T5, softcap=2.0)
ADDITIVE, PACKED = Features(score="additive"), Features(padding="packed")

Change = Callable[[Mask, Scores], tuple[Mask, Scores]]


def of_mask(**changes: Any) -> Change:
    return lambda mask, scores: (replace(mask, **{k: f(getattr(mask, k)) for k, f in changes.items()}), scores)


def of_bias(change: Callable[[RelativeBias], RelativeBias]) -> Change:
    def made(mask: Mask, scores: Scores) -> tuple[Mask, Scores]:
        assert scores.relative is not None
        return mask, replace(scores, relative=change(scores.relative))

    return made


def of_scores(**changes: Any) -> Change:
    return lambda mask, scores: (mask, replace(scores, **{k: f(getattr(scores, k)) for k, f in changes.items()}))


def shifted(bias: RelativeBias, by: int) -> RelativeBias:
    return replace(bias, values_BHTR=bias.values_BHTR.roll(by, -1))


def narrower(bias: RelativeBias) -> RelativeBias:
    values_BHTR = torch.cat((bias.values_BHTR[..., 1:2], bias.values_BHTR[..., 1:]), dim=-1)
    return replace(bias, values_BHTR=values_BHTR)


def top_left(mask: Mask, scores: Scores) -> tuple[Mask, Scores]:
    """The mask moved one key down, as where queries are aligned with the wrong corner."""
    return replace(mask, query_positions_T=torch.arange(-1, 400)[: LENGTH[0]].clamp(min=0)), scores


LENGTH = [0]
MUTANTS: dict[str, tuple[Features, Change]] = {
    "window + 1": (WINDOW, of_mask(window=lambda w: w + 1)),
    "window - 1": (WINDOW, of_mask(window=lambda w: w - 1)),
    "window missing": (WINDOW, of_mask(window=lambda w: None)),
    "one global token too many": (GLOBAL, of_mask(global_tokens=lambda g: g + 1)),
    "global tokens missing": (GLOBAL, of_mask(global_tokens=lambda g: 0)),
    "prefix + 1": (PREFIX, of_mask(prefix_lengths_B=lambda n: n + 1)),
    "prefix missing": (PREFIX, of_mask(prefix_lengths_B=lambda n: None)),
    "documents missing": (DOCUMENT, of_mask(documents_BS=lambda d: None)),
    "documents off by one": (DOCUMENT, of_mask(documents_BS=lambda d: d.roll(1, -1))),
    "alignment": (Features(), top_left),
    "scale": (Features(), of_scores(scale=lambda s: 1.05 * s)),
    "scale missing": (Features(), of_scores(scale=lambda s: 1.0)),
    "cap missing": (CAPPED, of_scores(softcap=lambda c: None)),
    "cap of another size": (CAPPED, of_scores(softcap=lambda c: 1.1 * c)),
    "bias sign, alibi": (ALIBI, of_bias(lambda b: replace(b, values_BHTR=-b.values_BHTR))),
    "bias sign, t5": (T5, of_bias(lambda b: replace(b, values_BHTR=-b.values_BHTR))),
    "bias missing": (T5, of_scores(relative=lambda b: None)),
    "bias off by one": (T5, of_bias(lambda b: shifted(b, 1))),
    "shaw clipped too early": (SHAW, of_bias(narrower)),
    "shaw off by one": (SHAW, of_bias(lambda b: shifted(b, -1))),
    "shaw values missing": (SHAW, of_scores(value_table_RK=lambda a: None)),
    "shaw values off by one": (SHAW, of_scores(value_table_RK=lambda a: a.roll(1, 0))),
    "relative shift off by one": (TXL, of_bias(lambda b: shifted(b, 1))),
    "additive without its vector": (ADDITIVE, of_scores(additive_HK=torch.ones_like)),
}


def failures(features: Features, dtype: torch.dtype = torch.float32) -> list[str]:
    found = []
    options: dict[str, Any] = {"heads": 2, "kv_heads": 1, "head_dim": 16, "dtype": dtype, "device": "cpu"}
    for check, length in ((verify.check_attention, 64), (rows.check_rows, 200)):
        LENGTH[0] = length
        found += check("math", causal=True, backward=True, features=features, length=length, **options)
    return [check.detail for check in found if not check.passed]


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_mutant_is_caught(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    features, change = MUTANTS[name]
    assert failures(features, dtype) == []

    def mutant(q: Tensor, k: Tensor, v: Tensor, mask: Mask, *, scores: Scores, **options: Any) -> Tensor:
        return attend(q, k, v, *change(mask, scores)[:1], scores=change(mask, scores)[1], **options)

    for module in (verify, rows):
        monkeypatch.setattr(module, "attend", mutant)
    assert failures(features, dtype) != []


def test_a_cap_before_the_bias_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of cap and bias, which no option of ours could turn round."""
    assert failures(CAPPED_T5) == []

    def mutant(q: Tensor, k: Tensor, v: Tensor, mask: Mask, *, scores: Scores, **options: Any) -> Tensor:
        assert scores.softcap is not None
        repeats = q.shape[1] // k.shape[1]
        z_BHTS = q @ k.repeat_interleave(repeats, 1).transpose(-2, -1) * scores.factor(q.shape[-1])
        bias_BHTS = attention_bias(scores, mask, q.shape[2], k.shape[2])
        z_BHTS = scores.softcap * (z_BHTS / scores.softcap).tanh() + bias_BHTS
        visible = mask.visible(q.shape[2], k.shape[2], q.device)
        assert visible is not None
        return z_BHTS.masked_fill(~visible, -torch.inf).softmax(-1) @ v.repeat_interleave(repeats, 1)

    for module in (verify, rows):
        monkeypatch.setattr(module, "attend", mutant)
    assert failures(CAPPED_T5) != []


def attention_bias(scores: Scores, mask: Mask, queries: int, keys: int) -> Tensor:
    from t2bench.attention import relative

    assert scores.relative is not None
    return relative.bias(scores.relative, mask, queries, keys)


def test_packed_sequences_that_see_each_other_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failures(PACKED) == []

    def mutant(q: Tensor, k: Tensor, v: Tensor, mask: Mask, **options: Any) -> Tensor:
        return attend(q, k, v, mask.without_packing(), **options) if mask.packed else attend(q, k, v, mask, **options)

    monkeypatch.setattr(verify, "attend", mutant)
    assert any("packed" in detail for detail in failures(PACKED))
