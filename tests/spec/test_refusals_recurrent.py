"""A recurrent model is refused under axes that it does not have, rather than measured twice under two names."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from t2bench.spec.axes import PatternSpec, PositionSpec
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.model import AXIS_KINDS, ModelSpec
from t2bench.spec.presets import preset, preset_groups
from t2bench.spec.refusals import refusal
from t2bench.spec.refusals_recurrent import ABSENT

CHANGES: dict[str, Any] = {
    "position": PositionSpec(kind="alibi"),
    "pattern": PatternSpec(kind="window"),
    "memory": 8,
    "attention_softcap": 30.0,
    "attention_dropout": 0.1,
    "activation": "silu",
    "gated": True,
    "norm": "rms",
    "norm_place": "pre",
    "final_norm": True,
    "norm_eps": 1e-6,
    "qk_norm": True,
    "qk_norm_span": "width",
    "embed_norm": True,
    "bias": False,
    "head_scale": True,
    "logit_softcap": 30.0,
    "residual": "none",
}
# What the model reads, and the sizes of attention that it has no use for.
MEANT = {"arch", "recurrence", "bridge", "score", "width", "ff", "enc_layers", "dec_layers", "vocab", "vocab_multiple"}
MEANT |= {"tie", "embed_scale", "dropout", "factory"}
SIZES = {"heads", "kv_heads", "head_dim"}


def reason(**fields: Any) -> str | None:
    model = ModelSpec(**fields)
    case = Case(variant="v", model=model, workload=WorkloadSpec(), length=64, batch=2, dtype="fp32", device="cpu")
    return refusal(case)


def test_every_function_axis_is_meant_or_refused() -> None:
    function = {field.name for field in fields(ModelSpec) if AXIS_KINDS[field.name] == "function"}
    assert function == MEANT | SIZES | set(ABSENT)
    assert set(CHANGES) == set(ABSENT)


@pytest.mark.parametrize("name", sorted(ABSENT))
def test_what_a_recurrent_model_has_not_is_refused(name: str) -> None:
    same: dict[str, Any] = {"arch": "decoder", "recurrence": "gru", "position": PositionSpec(kind="none")}
    assert reason(**same) is None
    words = reason(**{**same, name: CHANGES[name]})
    assert words is not None
    assert words.startswith(name)
    assert "a recurrent model" in words


def test_no_positions_are_the_truth() -> None:
    assert reason(recurrence="lstm", bridge="state", position=PositionSpec(kind="none")) is None


def test_scores_need_something_to_score() -> None:
    assert "there are no scores" in str(reason(recurrence="lstm", bridge="state", score="additive"))
    assert reason(recurrence="lstm", bridge="attention", score="additive") is None


def test_a_transformer_has_no_bridge() -> None:
    assert "cross-attention" in str(reason(bridge="state"))


@pytest.mark.parametrize("name", preset_groups()["recurrent"])
def test_presets_say_only_what_they_mean(name: str) -> None:
    model = preset(name).model
    case = Case(variant=name, model=model, workload=WorkloadSpec(), length=64, batch=2, dtype="fp32", device="cpu")
    assert refusal(case) is None
