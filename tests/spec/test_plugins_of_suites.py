"""Where a suite may take code from, said before any of it runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.errors import SuiteErrors
from t2bench.spec.loader import load_suite
from t2bench.spec.model import ModelSpec
from t2bench.spec.plugins import permitted
from t2bench.spec.refusals import refusal
from t2bench.spec.refusals_own import RULES

SUITE = """
schema: 1
name: own
plugins: [{plugin}]
variants: [vanilla]
matrix: {{length: [16]}}
tokens_per_step: 16
"""


def written(folder: Path, plugin: str) -> Path:
    path = folder / "suite.yaml"
    path.write_text(SUITE.format(plugin=plugin))
    return path


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        ("../outside.py", "outside this file's folder, where plugins must be"),
        ("/etc/outside.py", "outside this file's folder"),
        ("inner/../../outside.py", "outside this file's folder"),
        ("link.py", "outside this file's folder"),
        ("missing.py", "no such file"),
        ("inner", None),
        ("a-b", "expected a .py file in this file's folder or below, or a module's name"),
        ("mine.pyc.", "expected a .py file"),
        ('"\\0.py"', "expected a .py file"),
        ("3", "expected text"),
    ],
)
def test_plugins_are_files_below_the_suite_or_modules(tmp_path: Path, plugin: str, words: str | None) -> None:
    folder = tmp_path / "suites"
    folder.mkdir()
    (tmp_path / "outside.py").write_text("raise SystemExit")
    (folder / "link.py").symlink_to(tmp_path / "outside.py")
    path = written(folder, plugin)
    if words is None:
        assert load_suite(path, device="cpu").plugins == {plugin: plugin}
        return
    with pytest.raises(SuiteErrors) as caught:
        load_suite(path, device="cpu")
    (error,) = caught.value.errors
    assert words in str(error)
    assert f"{path}:4:" in str(error)


def test_a_file_is_known_by_its_hash_before_it_runs(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise SystemExit")
    suite = load_suite(written(tmp_path, "mine.py"), device="cpu")
    (plugin,) = permitted(suite, allow_code=True)
    assert plugin.name == "mine.py"
    assert plugin.path == str(tmp_path / "mine.py")
    assert plugin.sha256 == hashlib.sha256(b"raise SystemExit").hexdigest()
    with pytest.raises(SuiteErrors, match="--allow-code"):
        permitted(suite, allow_code=False)


def test_a_factory_that_nothing_defines_is_named(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE.replace("plugins: [{plugin}]\n", "model: {{factory: mine}}\n").format())
    with pytest.raises(SuiteErrors, match="factory mine: code runs with all your rights"):
        permitted(load_suite(path, device="cpu"), allow_code=False)
    with pytest.raises(SuiteErrors, match='no factory "mine"'):
        permitted(load_suite(path, device="cpu"), allow_code=True)


def test_suites_without_code_need_no_permission() -> None:
    assert permitted(load_suite("quickstart", device="cpu"), allow_code=False) == ()


def case(kind: str, *, ragged: bool = False, **axes: object) -> Case:
    workload = WorkloadSpec(kind=kind, ragged=ragged)  # type: ignore[arg-type]
    model = ModelSpec(arch="decoder", **axes)  # type: ignore[arg-type]
    return Case(variant="x", model=model, workload=workload, length=64, batch=1, dtype="fp32", device="cpu")


REFUSED = [
    (case("attention", factory="mine"), "our own operator"),
    (case("decode", factory="mine"), "set cache: off"),
    (case("forward", factory="mine", ragged=True, padding="packed"), "use padding: mask"),
    (case("train_step", factory="mine", checkpoint="full"), "leave it at off"),
]


@pytest.mark.parametrize(("refused", "words"), REFUSED)
def test_what_cannot_be_done_with_a_module_of_ones_own(refused: Case, words: str) -> None:
    assert words in (refusal(refused) or "")


def test_every_rule_is_needed_and_none_concerns_our_models() -> None:
    fired = [[rule for rule in RULES if rule(each)] for each, _ in REFUSED]
    assert [rules[0] for rules in fired] == list(RULES)
    assert all(len(rules) == 1 for rules in fired)
    assert not any(rule(case(kind)) for rule in RULES for kind in ("attention", "decode", "forward"))
    assert refusal(case("decode", factory="mine", cache="off")) is None
    assert refusal(case("forward", factory="mine", ragged=True)) is None
