"""`t2bench check-variant`: verdicts, exit codes, and what is said when an oracle is not there."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor

import t2bench.models.attention
from t2bench.attention.dispatch import attend
from t2bench.cli.check_variant import command
from t2bench.parity import oracle as oracle_module
from t2bench.parity.proof import prove
from t2bench.runner.checking import Checker
from t2bench.spec.presets import preset

SMALL = {"width": 32, "heads": 4, "kv_heads": None, "ff": 48, "enc_layers": 1, "dec_layers": 1, "vocab": 64}


def call(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1"}).invoke(command, [*arguments, "--device", "cpu"])


def check(part: str, **changes: Any) -> dict[str, Any]:
    return {"part": part, "name": "x", "passed": True, "detail": "fine", "error": 1e-6, "tolerance": 2e-5, **changes}


def answering(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> None:
    def checked(self: Checker, variants: Any, **options: Any) -> Iterator[Any]:
        yield from ((variant, answer) for variant in variants)

    monkeypatch.setattr(Checker, "check", checked)
    monkeypatch.setattr("t2bench.runner.launcher.launcher", lambda *_: SimpleNamespace(close=lambda: None))


@pytest.mark.skipif(sys.platform != "linux", reason="workers are tested on Linux")
def test_a_right_variant_through_the_front_door() -> None:
    result = call("nopos", "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["variants"]
    assert row["verdict"] == "right"
    assert {"truth", "property", "oracle", "control"} == {verdict["part"] for verdict in row["verdicts"]}
    (control,) = [verdict for verdict in row["verdicts"] if verdict["part"] == "control"]
    assert control["error"] > 2e-5


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ({"verdicts": [check("truth")], "oracle": "", "version": "", "notes": ["a note"]}, 0, "vanilla: a note"),
        (
            {
                "verdicts": [check("truth"), check("oracle", passed=False, error=None, detail="off by far")],
                "oracle": "Marian",
                "version": "5.0",
                "notes": [],
            },
            5,
            "vanilla: FAILED: x: off by far",
        ),
        ({"status": "crashed", "reason": "killed by SIGKILL"}, 5, "vanilla: killed by SIGKILL"),
        ({"verdicts": [], "oracle": "", "version": "", "notes": ["not checked: no GPU"]}, 0, "not here"),
    ],
)
def test_verdicts_and_exit_codes(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], code: int, words: str
) -> None:
    answering(monkeypatch, answer)
    result = call("vanilla")
    assert result.exit_code == code, result.output
    assert words in " ".join(result.stdout.split())


def test_the_table_names_oracle_version_error_and_tolerance_in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = [check("truth"), check("property"), check("oracle"), check("control", error=0.5, tolerance=None)]
    answering(monkeypatch, {"verdicts": verdicts, "oracle": "MarianMT, interleaved", "version": "5.23.0", "notes": []})
    result = call("vanilla", "transformer2_head+gqa", "-v")
    table = [line for line in result.stdout.splitlines() if ": passed:" not in line]
    assert max(map(len, table)) <= 80
    text = " ".join(result.stdout.split())
    for word in ("MarianMT,", "5.23.0", "1e-06", "2e-05", "5e-01", "right"):
        assert word in text
    assert text.count(": passed: x: fine") == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give the names of variants, or --all"),
        (["vanilla", "--all"], "give the names of variants, or --all"),
        (["vanila"], "did you mean vanilla?"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def small(name: str) -> Any:
    return replace(preset(name).model, **SMALL)


def test_a_broken_scale_is_noticed_by_the_float64_reference_and_by_the_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prove(small("nopos"), device="cpu", dtype="fp32").passed

    def broken(q: Tensor, k: Tensor, v: Tensor, mask: Any, **options: Any) -> Tensor:
        return attend(q if options["backend"] == "reference" else q * 1.05, k, v, mask, **options)

    monkeypatch.setattr(t2bench.models.attention, "attend", broken)
    failed = {
        part for part, verdict in prove(small("nopos"), device="cpu", dtype="fp32").verdicts if not verdict.passed
    }
    assert {"truth", "oracle"} <= failed


def test_an_oracle_that_is_not_installed_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle_module.importlib.util, "find_spec", lambda name: None)
    found = prove(small("vanilla"), device="cpu", dtype="fp32")
    assert found.passed
    assert any("transformers is not installed (pip install 't2bench[test]')" in note for note in found.notes)


def test_what_cannot_run_here_is_checked_otherwise_and_says_so() -> None:
    found = prove(small("vanilla+cudnn"), device="cpu", dtype="fp32")
    assert found.passed
    assert any("no cuDNN attention kernel for CPUs" in note and "checked with" in note for note in found.notes)


def test_low_precision_is_held_to_the_rule_of_16_bits() -> None:
    found = prove(small("nopos"), device="cpu", dtype="bf16")
    assert found.passed
    assert any("bfloat16" in verdict.name for part, verdict in found.verdicts if part == "oracle")
    assert torch.finfo(torch.bfloat16).eps < max(v.tolerance or 0 for p, v in found.verdicts if p == "oracle")
