"""Presets: single deltas that resolve to the models they are named after, at any width."""

from __future__ import annotations

import pytest

from t2bench.spec.axes import PositionSpec
from t2bench.spec.loader import load_variants
from t2bench.spec.model import ModelSpec
from t2bench.spec.presets import (
    LADDER,
    Entry,
    at_point,
    preset,
    preset_chain,
    preset_names,
    recipe,
    resolve,
)

# Whole published recipes, and a window with the back end that can do it.
BUNDLES = {
    "transformer2_head", "modern", "gpt2", "bert", "llama", "llama2_70b", "mistral", "gemma2", "olmo2", "neox", "bloom",
    "t5", "t5_v1_1", "transformer_xl", "modern_local", "table3-big",
    "lstm", "gru", "rnn", "lstm_bahdanau", "lstm_luong",
}  # fmt: skip


def test_vanilla_is_the_default_model() -> None:
    assert preset("vanilla").model == ModelSpec()


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_resolves_and_says_what_and_from_where(name: str) -> None:
    variant = preset(name)
    assert variant.name == name
    assert variant.summary
    assert recipe(name).source
    assert preset_chain(name)[0].name == "vanilla"


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_but_the_published_bundles_changes_one_thing(name: str) -> None:
    entry = recipe(name)
    if name not in BUNDLES and entry.base:
        changed = set(preset(name).model.delta(preset(entry.base).model))
        assert len(changed) == 1 or changed in ({"norm_place", "final_norm"}, {"enc_layers", "dec_layers"})


@pytest.mark.parametrize("name", preset_names())
def test_names_are_no_spreadsheet_formulas(name: str) -> None:
    assert name[0].isalpha()
    assert name.isprintable()
    assert not set("/@ ") & set(name)


def test_each_rung_of_the_ladder_stands_on_the_one_before() -> None:
    assert [recipe(name).base for name in LADDER] == ["", *LADDER[:-1]]


def test_transformer2_is_the_published_recipe() -> None:
    assert preset("transformer2").model == ModelSpec(
        position=PositionSpec(kind="rope", layout="interleaved"),
        activation="gelu_tanh",
        norm_place="pre",
        final_norm=True,
        attention="sdpa_flash",
    )


def test_modern_has_every_change_of_the_ladder() -> None:
    assert preset("modern").model == ModelSpec(
        kv_heads=2,
        ff=1368,
        vocab_multiple=128,
        tie="none",
        position=PositionSpec(kind="rope"),
        activation="silu",
        gated=True,
        norm="rms",
        norm_place="pre",
        final_norm=True,
        qk_norm=True,
        bias=False,
        attention="sdpa_flash",
        projections="fused_qkv",
        loss="chunked",
    )


@pytest.mark.parametrize(
    ("ff", "heads", "expected_ff", "expected_kv_heads"),
    [
        (2048, 8, 1368, 2),  # 1365.33 is nearest to 1368
        (512, 4, 344, 1),  # 341.33
        (384, 16, 256, 4),  # exact
        (8, 1, 8, 1),  # never below one multiple, never below one head
        (1024, 6, 680, 1),  # 6 / 4 = 1.5
        (1024, 10, 680, 2),
        (1024, 18, 680, 3),  # 4.5 -> 4 does not divide 18
    ],
)
def test_scaled_sizes_follow_the_suites_sizes(ff: int, heads: int, expected_ff: int, expected_kv_heads: int) -> None:
    shared = {"ff": ff, "heads": heads, "width": 16 * heads}
    model = resolve(preset_chain("transformer2_head+gqa"), shared=shared).model
    assert (model.ff, model.kv_heads) == (expected_ff, expected_kv_heads)


def test_an_own_size_is_absolute_and_one_relative_to_it_can_follow() -> None:
    own = [Entry(name="mine", base="modern", set={"ff": 1200, "kv_heads": 8})]
    model = resolve(preset_chain("modern"), shared={"ff": 512}, own=own).model
    assert (model.ff, model.kv_heads) == (1200, 8)
    halved = [*own, Entry(name="half", base="mine", scale={"ff": "1/2"})]
    model = resolve(preset_chain("modern"), shared={"ff": 512}, own=halved).model
    assert (model.ff, model.kv_heads) == (600, 8)


def test_a_nested_axis_is_merged_key_by_key() -> None:
    own = [Entry(name="mine", base="llama", set={"position": {"theta": 500000.0}})]
    model = resolve(preset_chain("llama"), own=own).model
    assert model.position == PositionSpec(kind="rope", layout="halves", theta=500000.0)


def test_a_matrix_point_rescales_what_follows_it_and_nothing_else() -> None:
    variant = preset("transformer2_head+gqa")
    assert at_point(variant, {}) == variant.model
    assert at_point(variant, {"heads": 16}).kv_heads == 4
    assert at_point(variant, {"heads": 16}).ff == 1368
    assert at_point(variant, {"ff": 3072}).ff == 2048
    assert at_point(variant, {"heads": 16, "kv_heads": 16}).kv_heads == 16
    assert at_point(preset("vanilla"), {"ff": 3072}).ff == 3072
    assert at_point(variant, {"position": {"theta": 1e6}}).position == PositionSpec(kind="rope", theta=1e6)


def test_an_impossible_model_names_its_fields() -> None:
    with pytest.raises(ValueError, match="width 100 is not divisible by heads 8"):
        resolve(preset_chain("vanilla"), shared={"width": 100})


def test_fields_can_be_set_without_a_suite() -> None:
    (variant,) = load_variants(["modern"], overrides=["width=64", "ff=96", "position.theta=100", "norm_eps=1e-6"])
    assert (variant.model.width, variant.model.ff) == (64, 64)
    assert variant.model.position.theta == 100.0
    assert variant.model.norm_eps == 1e-6
