"""Whatever a suite file holds, the answer is a suite or a list of faults: never another exception."""

from __future__ import annotations

import string

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from t2bench.spec.errors import SuiteErrors, did_you_mean
from t2bench.spec.layers import find_suite
from t2bench.spec.loader import dump_suite, load_suite
from t2bench.spec.plan import expand
from t2bench.spec.presets import preset_names

NAMES = ("quickstart", "ladder", "backends", "long_context")
TEXTS = {name: find_suite(name).read_text(encoding="utf-8") for name in NAMES}
FULL = """\
schema: 1
name: full
variants: [vanilla, {name: mine, base: modern, set: {ff: 64, position: {kind: rope}}, scale: {kv_heads: 1/2}}]
reference: vanilla
model: {width: 64, heads: 4, ff: 128}
matrix: {workload: [forward, {kind: attention, causal: true}], length: [64], dtype: [fp32], batch: [1, 2], heads: [2]}
include: [{length: 32, variant: mine}]
exclude: [{match: {variant: mine, length: [64]}, reason: slow}]
measure: {rounds: 4, warmup_s: 0.5}
limits: {memory_gib: 1.5}
ladder: [vanilla, mine]
profiles: {cuda: {seed: 3}}
"""
SETTINGS = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

PIECES = st.sampled_from(
    [
        "{",
        "}",
        "[",
        "]",
        ":",
        ": ",
        ",",
        "- ",
        "\n",
        "\n  ",
        "#",
        "&a",
        "*a",
        "!!int ",
        "|",
        ">",
        "'",
        '"',
        "\\",
        "?",
        "%",
        "---",
        "...",
        "<<",
        "null",
        "~",
        "true",
        "1e-3",
        "-1",
        "0",
        "1e999",
        "[]",
        "{}",
        "vanilla",
        "modern",
        "length",
        "\t",
        "\u00e9",
        "\u2028",
        "\ufeff",
        "\x00",
        "\x85",
        "@",
        "`",
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(string.printable, max_size=8),
    st.sampled_from(["vanilla", "mine", "modern", "rope", "bf16", "attention", "quickstart", "x.yaml", "1/2", "1/0"]),
)
KEYS = st.sampled_from(["name", "base", "set", "kind", "match", "length", "ff", "variant", "x"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=6,
)


def has_one_line_each(faults: SuiteErrors) -> None:
    assert faults.errors
    assert len(str(faults).splitlines()) == len(faults.errors)
    assert all(line.isprintable() for line in str(faults).splitlines())


def faults_of(source, device: str, folder, overrides: tuple[str, ...] = ()) -> SuiteErrors | None:
    """None for a good suite, which must plan and read back; any exception but SuiteErrors fails the test."""
    try:
        suite = load_suite(source, device=device, overrides=overrides)
    except SuiteErrors as error:
        has_one_line_each(error)
        return error
    expand(suite)
    again = folder / "again.yaml"
    again.write_text(dump_suite(suite), encoding="utf-8")
    assert load_suite(again, device=device).resolved == suite.resolved
    return None


def survive(folder, data: bytes) -> None:
    path = folder / "x.yaml"
    path.write_bytes(data)
    for device in ("cpu", "cuda"):
        faults_of(path, device, folder)


@SETTINGS
@given(
    text=st.sampled_from([FULL, *TEXTS.values()]),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6), PIECES), min_size=1, max_size=4),
)
def test_edited_text(tmp_path, text: str, edits: list[tuple[float, int, str]]) -> None:
    for place, removed, piece in edits:
        start = int(place * len(text))
        text = text[:start] + piece + text[start + removed :]
    survive(tmp_path, text.encode())


@settings(SETTINGS, max_examples=250)
@given(data=st.data())
def test_edited_values(tmp_path, data: st.DataObject) -> None:
    tree = yaml.safe_load(FULL)
    for _ in range(data.draw(st.integers(1, 3))):
        node = tree
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(node[key], (dict, list)) and data.draw(st.booleans()):
                node = node[key]
                continue
            node[key] = data.draw(VALUES)
            break
    survive(tmp_path, yaml.safe_dump(tree, allow_unicode=True).encode())


@settings(SETTINGS, max_examples=100)
@given(content=st.binary(max_size=200))
def test_any_bytes(tmp_path, content: bytes) -> None:
    survive(tmp_path, content)


@settings(SETTINGS, max_examples=150)
@given(
    key=st.sampled_from(
        ["matrix.length", "variants", "model.ff", "measure", "exclude", "name", "only", "x.y", "matrix"]
    ),
    value=st.one_of(st.text(max_size=12), VALUES.map(lambda value: yaml.safe_dump(value, default_flow_style=True))),
)
def test_any_argument(tmp_path, key: str, value: str) -> None:
    faults = faults_of("quickstart", "cpu", tmp_path, (f"{key}={value}",))
    assert faults is not None or key != "x.y"


TYPED = "aeqz2+_"
IN_NAMES = "".join(sorted(set("".join(preset_names())))) + TYPED


def single_edits(word: str, letters: str) -> set[str]:
    splits = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    deleted = {a + b[1:] for a, b in splits if b}
    swapped = {a + b[1] + b[0] + b[2:] for a, b in splits if len(b) > 1}
    changed = {a + letter + b[1:] for a, b in splits if b for letter in letters}
    inserted = {a + letter + b for a, b in splits for letter in letters}
    return (deleted | swapped | changed | inserted) - set(preset_names())


@pytest.fixture(scope="module")
def typos_of() -> dict[str, set[str]]:
    """Every single typo of each name, by letters of other names too: one typo may be of several names."""
    return {name: {typo.casefold() for typo in single_edits(name, IN_NAMES)} for name in preset_names()}


@pytest.mark.parametrize("name", preset_names())
def test_every_single_typo_of_a_built_in_variant_is_understood(name: str, typos_of: dict[str, set[str]]) -> None:
    hints = {typo: did_you_mean(typo, preset_names()) for typo in single_edits(name, TYPED)}
    named = {typo: hint.removeprefix(", did you mean ").removesuffix("?") for typo, hint in hints.items()}
    assert {typo: found for typo, found in named.items() if typo.casefold() not in typos_of.get(found, ())} == {}


@pytest.mark.parametrize("word", ["table", "x", "", "resnet"])
def test_what_is_like_no_name_gets_no_suggestion(word: str) -> None:
    assert did_you_mean(word, ["vanilla", "t5", "modern"]) == ""
