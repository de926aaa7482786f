"""Good suites: layers, shorthands, defaults, and that a resolved suite reads back as itself."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from t2bench.spec import layers
from t2bench.spec.axes import PositionSpec
from t2bench.spec.case import WorkloadSpec
from t2bench.spec.loader import SuiteErrors, dump_suite, load_suite, suite_names
from t2bench.spec.model import ModelSpec
from t2bench.spec.plan import expand
from t2bench.spec.suite import Limits, Measure, Suite

SMALL = "schema: 1\nname: small\nvariants: [vanilla, vanilla+flash]\nmatrix: {length: [64, 128]}\n"


def write(folder: Path, text: str, name: str = "x.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str, **options: object) -> Suite:
    return load_suite(write(folder, text), **{"device": "cpu", **options})


def same(one: Suite, other: Suite) -> bool:
    return replace(one, source="") == replace(other, source="")


def test_a_small_suite_has_the_documented_defaults(tmp_path: Path) -> None:
    suite = load(tmp_path, SMALL)
    assert [variant.name for variant in suite.variants] == ["vanilla", "vanilla+flash"]
    assert suite.reference == "vanilla"
    assert suite.matrix == {"workload": (WorkloadSpec(),), "dtype": ("fp32",), "length": (64, 128)}
    assert (suite.measure, suite.limits) == (Measure(), Limits())
    assert (suite.ghost, suite.seed, suite.ladder, suite.tokens_per_step) == (True, 0, (), 0)
    assert suite.source == str(tmp_path / "x.yaml")


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
@pytest.mark.parametrize("name", ["quickstart", "long_context", "ladder", "backends"])
def test_built_in_suites_plan_and_read_back(tmp_path: Path, name: str, device: str) -> None:
    suite = load_suite(name, device=device)
    plan = expand(suite)
    assert plan.cases
    assert not plan.refusals
    again = load_suite(write(tmp_path, dump_suite(suite)), device=device)
    assert same(again, suite)
    assert expand(again) == plan


def test_built_in_suites_open_with_their_question() -> None:
    for name in suite_names():
        text = layers.find_suite(name).read_text(encoding="utf-8")
        assert text.startswith("# ")
        assert "?" in text.splitlines()[0] + text.splitlines()[1]
        assert "CPU" in text.partition("schema:")[0]


def test_long_context_spans_enough_lengths_for_a_fit() -> None:
    for name in ("quickstart", "long_context"):
        for device in ("cpu", "cuda"):
            lengths = load_suite(name, device=device).matrix["length"]
            assert len(lengths) >= 5
            assert max(lengths) >= 16 * min(lengths)


def test_built_in_suites_are_found_inside_an_installed_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "t2bench"
    for folder in (package / "spec", package / "_suites" / "h200", tmp_path / "suites"):
        folder.mkdir(parents=True)
    write(package / "_suites", SMALL, "inside.yaml")
    write(package / "_suites" / "h200", SMALL, "big.yaml")
    write(tmp_path / "suites", SMALL, "outside.yaml")
    monkeypatch.setattr(layers, "__file__", str(package / "spec" / "layers.py"))
    assert suite_names() == ("h200/big", "inside")
    assert load_suite("h200/big", device="cpu").name == "small"


def test_a_resolved_suite_with_everything_in_it_reads_back(tmp_path: Path) -> None:
    text = SMALL + (
        "summary: 'yes: 1e-3 ~ \"quoted\" \\u00e9'\n"
        "reference: mine\n"
        "include: [{length: 256, variant: mine, heads: 16, workload: {kind: attention, causal: true}}]\n"
        "exclude: [{match: {variant: mine, length: [64], position: rope}, reason: 'too slow'}]\n"
        "ladder: [vanilla, mine]\n"
        "limits: {memory_gib: 3, max_time_s: 1e3}\n"
        "only: '*'\n"
    ).replace("\\u00e9", "\u00e9")
    text = text.replace("variants: [vanilla, vanilla+flash]", "variants: [vanilla, {name: 1e-3x, base: modern}, "
                        "{name: mine, base: modern, set: {norm_eps: 1e-7}, summary: 'no'}]")  # fmt: skip
    text = text.replace("{length: [64, 128]}", "{length: [64, 128], position: [rope, {kind: none}], heads: 8}")
    suite = load(tmp_path, text)
    assert suite.limits.memory_gib == 3.0
    assert isinstance(suite.limits.memory_gib, float)
    again = load(tmp_path, dump_suite(suite))
    assert same(again, suite)
    assert expand(again) == expand(suite)
    assert again.variants[1].model.digest == suite.variants[1].model.digest


@pytest.mark.parametrize(
    "name", ["1e-3", "true", "null", "~", "010", "12:30", "2026-11-21", "'", "a: b", "#x", "*", "no"]
)
def test_names_that_look_like_something_else_read_back(tmp_path: Path, name: str) -> None:
    quoted = "'" + name.replace("'", "''") + "'"
    suite = load(tmp_path, SMALL.replace("[vanilla,", f"[{{name: {quoted}, base: vanilla}},"))
    assert suite.variants[0].name == name
    assert same(load(tmp_path, dump_suite(suite)), suite)


def test_yaml_1_2_numbers(tmp_path: Path) -> None:
    suite = load(tmp_path, SMALL + "model: {norm_eps: 1e-3, dropout: .5, position: {theta: 10000}}\nseed: +7\n")
    model = suite.variants[0].model
    assert (model.norm_eps, model.dropout, suite.seed) == (0.001, 0.5, 7)
    assert isinstance(model.position.theta, float)


def test_the_suites_model_holds_for_all_and_an_own_set_wins(tmp_path: Path) -> None:
    text = (
        "schema: 1\nname: x\nmatrix: {length: 64}\n"
        "model: {width: 64, heads: 8, ff: 96, arch: decoder}\n"
        "variants: [vanilla, {name: a, base: modern, set: {width: 128}},\n"
        "  {name: b, base: a, scale: {ff: 1/3}}, {name: c}]\n"
    )
    vanilla, a, b, c = load(tmp_path, text).variants
    assert (vanilla.model.width, vanilla.model.ff, vanilla.model.arch) == (64, 96, "decoder")
    assert (a.model.width, a.model.ff, a.model.kv_heads, a.base) == (128, 64, 2, "modern")
    assert (b.model.width, b.model.ff, b.model.qk_norm, b.base) == (128, 32, True, "a")
    assert c.model == vanilla.model


def test_layers_win_in_the_documented_order(tmp_path: Path) -> None:
    (tmp_path / "bases").mkdir()
    write(
        tmp_path / "bases",
        SMALL + "seed: 1\nmeasure: {rounds: 1, max_rounds: 90, launches: 1, warmup_calls: 1}\n"
        "profiles: {cpu: {measure: {launches: 3, warmup_calls: 3}}, cuda: {seed: 99}}\n",
        "base.yaml",
    )
    text = "extends: bases/base.yaml\nname: child\nseed: 2\nmeasure: {rounds: 2, launches: 2, warmup_calls: 2}\n"
    suite = load(tmp_path, text, overrides=["measure.warmup_calls=4"])
    assert (suite.name, suite.seed) == ("child", 2)
    assert suite.measure == Measure(rounds=2, max_rounds=90, launches=3, warmup_calls=4)
    assert load(tmp_path, text, device="cuda").seed == 99


def test_a_suite_may_extend_a_built_in_one(tmp_path: Path) -> None:
    suite = load(tmp_path, "extends: quickstart\nname: mine\nmatrix: {length: [32]}\n")
    assert suite.matrix["length"] == (32,)
    assert suite.variants == load_suite("quickstart", device="cpu").variants


@pytest.mark.parametrize(
    ("measure", "rounds"),
    [("{rounds: 30}", (30, 90)), ("{rounds: 5}", (5, 24)), ("{rounds: 30, max_rounds: 40}", (30, 40)), ("{}", (8, 24))],
)
def test_more_rounds_leave_room_for_contended_ones(tmp_path: Path, measure: str, rounds: tuple[int, int]) -> None:
    suite = load(tmp_path, SMALL + f"measure: {measure}\n")
    assert (suite.measure.rounds, suite.measure.max_rounds) == rounds
    assert same(load(tmp_path, dump_suite(suite)), suite)


def test_overrides_take_any_yaml_value() -> None:
    changes = ["matrix.length=64", "variants=[vanilla, modern]", "model.position={kind: rope}", "ghost=false", "seed=3"]
    suite = load_suite("quickstart", device="cpu", overrides=changes)
    assert suite.matrix["length"] == (64,)
    assert [variant.name for variant in suite.variants] == ["vanilla", "modern"]
    assert {variant.model.position for variant in suite.variants} == {PositionSpec(kind="rope")}
    assert (suite.ghost, suite.seed) == (False, 3)


def test_causal_and_backward_fold_into_the_workloads(tmp_path: Path) -> None:
    text = SMALL.replace("{length:", "{workload: attention, causal: [false, true], backward: [false, true], length:")
    labels = [workload.label for workload in load(tmp_path, text).matrix["workload"]]
    assert sorted(labels) == ["attention", "attention+backward", "attention+causal", "attention+causal+backward"]


def test_an_alias_repeats_what_it_names(tmp_path: Path) -> None:
    text = SMALL.replace("[vanilla,", "&all [vanilla,") + "ladder: *all\n"
    assert load(tmp_path, text).ladder == ("vanilla", "vanilla+flash")


def test_a_path_with_spaces_and_letters_of_any_language(tmp_path: Path) -> None:
    folder = tmp_path / "mes suites \u00e9\u4e2d"
    folder.mkdir()
    assert load(folder, SMALL).name == "small"


def test_names_win_over_files_of_that_name_and_paths_over_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, SMALL, "quickstart")
    write(tmp_path, SMALL, "mine")
    assert load_suite("quickstart", device="cpu").name == "quickstart"
    assert load_suite(f".{os.sep}quickstart", device="cpu").name == "small"
    assert load_suite("mine", device="cpu").name == "small"


def test_a_saved_model_is_absolute_and_complete(tmp_path: Path) -> None:
    suite = load_suite("ladder", device="cpu")
    saved = {entry["name"]: entry for entry in suite.resolved["variants"]}
    assert ModelSpec.from_dict(saved["modern"]["model"]) == suite.variants[-1].model
    again = load(tmp_path, dump_suite(suite), overrides=["matrix.heads=[4, 16]"])
    models = {case.model.kv_heads for case in expand(again).cases if case.variant == "modern"}
    assert models == {1, 4}


def test_errors_are_values_in_file_order(tmp_path: Path) -> None:
    with pytest.raises(SuiteErrors) as caught:
        load(tmp_path, SMALL + "seed: -1\ngost: 1\n")
    first, second = caught.value.errors
    assert (first.mark.line, first.mark.column, first.where) == (5, 7, "seed")
    assert (second.mark.line, second.mark.column, second.where) == (6, 1, "gost")
