"""`t2bench show`: one variant in full, from the same facts as `params`."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from t2bench.spec.axes import BACKENDS
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.loader import load_variants
from t2bench.spec.presets import preset_names
from t2bench.spec.refusals import refusal


def call(module: str, *arguments: str) -> Result:
    command = importlib.import_module(f"t2bench.cli.{module}").command
    return CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1"}).invoke(command, list(arguments))


def shown(*arguments: str) -> Any:
    result = call("show", *arguments, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_fits_80_columns_and_says_what_it_changes(name: str) -> None:
    result = call("show", name, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert all(backend in result.stdout for backend in BACKENDS)


def test_params_and_show_say_the_same() -> None:
    one = shown("modern", "--length", "512", "--set", "width=256")["costs"]
    (other,) = json.loads(call("params", "modern", "--length", "512", "--set", "width=256", "--json").stdout)
    assert one == other


def test_the_delta_is_against_the_base_and_against_vanilla_by_kind() -> None:
    deltas = shown("transformer2_head+gqa")["deltas"]
    assert list(deltas) == ["transformer2_head", "vanilla"]
    assert deltas["transformer2_head"] == [{"axis": "kv_heads", "kind": "function", "from": 8, "to": 2}]
    assert {"axis": "position.kind", "kind": "function", "from": "sinusoidal", "to": "rope"} in deltas["vanilla"]
    kinds = [row["kind"] for row in deltas["vanilla"]]
    assert kinds == sorted(kinds)  # function before implementation
    assert shown("vanilla")["deltas"] == {}


def test_costs_follow_the_length_and_the_overrides() -> None:
    short, long = (shown("gpt2", "--length", length)["costs"] for length in ("256", "512"))
    assert short["kv_bytes"] * 2 == long["kv_bytes"] == 512 * long["kv_bytes_per_token"]
    # Attention over twice the length: 4 L^2 H K a layer forward, three times that in a step, so 12 L H K more a token.
    assert long["model_flops_per_token"] - short["model_flops_per_token"] == 12 * 12 * 256 * 768
    assert shown("gpt2", "--set", "dec_layers=1")["costs"]["params"]["total"] < long["params"]["total"]


def test_back_ends_are_refused_exactly_as_a_run_would() -> None:
    found = {row["backend"]: row for row in shown("alibi", "--dtype", "fp32", "--length", "64")["backends"]}
    assert list(found) == list(BACKENDS)
    for backend, row in found.items():
        for use, reason in row["reasons"].items():
            (variant,) = load_variants(["alibi"], overrides=[f"attention={backend}"])
            case = Case(
                variant="x", model=variant.model, workload=WorkloadSpec(kind=use), length=32, batch=1, dtype="fp32",
                device="cpu",
            )  # fmt: skip
            if use != "decode":
                case = replace(case, length=64)
            assert (refusal(case) or "") == reason
            assert (use in row["runs"]) == (not reason)
    assert "math" in [name for name, row in found.items() if "train_step" in row["runs"]]


def test_a_suites_own_variant(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "schema: 1\nname: mine\nvariants: [vanilla, {name: wide heads, base: vanilla, set: {heads: 2}, summary: few}]\n"
        "model: {arch: decoder, width: 32, ff: 64, dec_layers: 1, vocab: 512}\nmatrix: {length: [16]}\n"
    )
    row = shown("wide heads", "--suite", str(path), "--set", "ff=128")
    assert row["deltas"]["vanilla"] == [
        {"axis": "heads", "kind": "function", "from": 8, "to": 2},
        {"axis": "ff", "kind": "function", "from": 64, "to": 128},
    ]
    assert row["model"]["ff"] == 128
    assert row["summary"] == "few"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vanila"], "vanila: unknown variant, did you mean vanilla?"),
        (["vanilla", "--set", "widht=3"], "--set widht=3: unknown key, did you mean width?"),
        (["vanilla", "--set", "width=3"], "width 3 is not divisible by heads 8"),
        (["vanilla", "--suite", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["nopos", "--suite", "quickstart"], "nopos: unknown variant (there are: vanilla, vanilla+flash"),
        (["vanilla", "--suite", "quickstart", "--set", "width=3"], "width 3 is not divisible by heads 2"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str) -> None:
    result = call("show", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_state_is_the_same_for_every_text() -> None:
    text = call("show", "lstm", "--device", "cpu").output
    assert "16,320 B" in text
    assert "however long" in text
    assert " 0 B" not in text
