"""A setting that changes nothing is a mistake, said at its place: its variant would be measured under a false name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from t2bench.spec.loader import SuiteErrors, dump_suite, load_suite, load_variants
from t2bench.spec.suite import Suite

HEAD = "schema: 1\nname: idle\n"
MATRIX = "matrix: {length: [64]}\n"

IDLE = {
    "window without a window": ("vanilla", "pattern: {window: 64}", "set.pattern.window", "kind: window"),
    "factor without scaling": ("transformer2", "position: {scaling_factor: 8.0}", "position.scaling_factor", "yarn"),
    "scaling by one": ("transformer2", "position: {scaling: linear}", "position.scaling", "scaling_factor is 1.0"),
    "scaling of a sinusoid": (
        "vanilla", "position: {scaling: linear, scaling_factor: 8.0}", "position.scaling", "kind is sinusoidal",
    ),
    "length that linear does not read": (
        "rope", "position: {scaling: linear, scaling_factor: 8.0, original_len: 64}", "original_len", "yarn and llama3",
    ),
    "theta of a table": ("learned_pos", "position: {theta: 500000.0}", "position.theta", "kind is learned"),
    "buckets of alibi": ("alibi", "position: {buckets: 16}", "position.buckets", "belongs to t5_bias"),
    "rows of a rotation": ("transformer2", "position: {max_len: 4096}", "position.max_len", "belongs to learned"),
    "span of no norm": ("vanilla", "qk_norm_span: width", "qk_norm_span", "set qk_norm: true"),
}  # fmt: skip

READ = {
    "a window": ("vanilla", "pattern: {kind: window, window: 64}"),
    "an inherited window that is no longer used": ("mistral", "pattern: {kind: full}"),
    "the value that holds anyway": ("vanilla", "pattern: {window: 256}"),
    "rope stretched": ("transformer2", "position: {scaling: yarn, scaling_factor: 8.0, original_len: 64}"),
    "only the factor of what is stretched already": ("rope", "position: {scaling: ntk, scaling_factor: 2.0}"),
    "theta of a sinusoid": ("vanilla", "position: {theta: 500.0}"),
    "span of a norm": ("vanilla", "{qk_norm: true, qk_norm_span: width}"),
}


def load(folder: Path, text: str) -> Suite:
    path = folder / "idle.yaml"
    path.write_text(HEAD + text, encoding="utf-8")
    suite = load_suite(path, device="cpu")
    path.write_text(dump_suite(suite), encoding="utf-8")
    again = load_suite(path, device="cpu")  # a resolved suite says everything, read or not
    assert again.resolved == suite.resolved
    return suite


def entry(base: str, fields: str) -> str:
    fields = fields if fields.startswith("{") else f"{{{fields}}}"
    return f"variants: [vanilla, {{name: mine, base: {base}, set: {fields}}}]\n{MATRIX}"


@pytest.mark.parametrize("name", IDLE)
def test_idle_settings_are_refused(tmp_path: Path, name: str) -> None:
    base, fields, where, cure = IDLE[name]
    with pytest.raises(SuiteErrors) as found:
        load(tmp_path, entry(base, fields))
    error = found.value.errors[0]
    assert where in error.where
    assert "changes nothing" in error.message
    assert cure in error.message
    assert error.mark.line == 3


@pytest.mark.parametrize("name", READ)
def test_what_is_read_or_inherited_is_not(tmp_path: Path, name: str) -> None:
    base, fields = READ[name]
    suite = load(tmp_path, entry(base, fields))
    (mine,) = (variant for variant in suite.variants if variant.name == "mine")
    wanted = yaml.safe_load(fields if fields.startswith("{") else f"{{{fields}}}")
    found = mine.model.to_dict()
    for axis, value in wanted.items():
        assert value == ({key: found[axis][key] for key in value} if isinstance(value, dict) else found[axis])


def test_a_suites_model_may_speak_to_some_of_its_variants(tmp_path: Path) -> None:
    model = "model: {position: {max_len: 4096}}\n"
    load(tmp_path, "variants: [vanilla, learned_pos]\n" + model + MATRIX)
    with pytest.raises(SuiteErrors, match="changes nothing"):
        load(tmp_path, "variants: [vanilla, transformer2]\n" + model + MATRIX)


def test_points_of_a_matrix(tmp_path: Path) -> None:
    variants = "variants: [vanilla, transformer2]\n"
    load(tmp_path, variants + "matrix: {length: [64], pattern: [full, {kind: window, window: 8}]}\n")
    load(tmp_path, variants + "model: {qk_norm_span: width}\nmatrix: {length: [64], qk_norm: [true, false]}\n")
    with pytest.raises(SuiteErrors, match="changes nothing") as found:
        load(tmp_path, variants + "matrix: {length: [64], pattern: [full, {window: 8}]}\n")
    assert found.value.errors[0].where == "matrix.pattern[1].window"


def test_fields_of_a_built_in_variant() -> None:
    load_variants(["mistral"], overrides=["pattern.window=64"])
    with pytest.raises(SuiteErrors, match="changes nothing"):
        load_variants(["vanilla"], overrides=["pattern.window=64"])
