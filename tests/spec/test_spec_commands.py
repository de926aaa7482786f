"""The commands that only read specs: list, params, schema, new."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from t2bench.spec.loader import load_suite
from t2bench.spec.plan import expand
from t2bench.spec.presets import preset_names


def call(module: str, *arguments: str) -> Result:
    command = importlib.import_module(f"t2bench.cli.{module}").command
    return CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1"}).invoke(command, list(arguments))


@pytest.mark.parametrize("what", ["suites", "axes", "backends", "workloads", "metrics"])
def test_lists_fit_80_columns_and_have_the_same_rows_as_json(what: str) -> None:
    text = call("listing", what).stdout
    rows = json.loads(call("listing", what, "--json").stdout)
    assert max(map(len, text.splitlines())) <= 80
    lines = [line for line in text.splitlines() if not line.startswith((" ", "#"))]
    assert [line.split()[0] for line in lines[1:]] == [row["name"] for row in rows]
    assert all(row["summary"] for row in rows)


def test_the_overview_of_variants_fits_80_columns_and_names_those_of_json() -> None:
    text = call("listing", "variants").stdout
    rows = json.loads(call("listing", "variants", "--json").stdout)
    assert max(map(len, text.splitlines())) <= 80
    listed = "".join(line for line in text.splitlines() if line.startswith("  ")).replace(",", " ").split()
    assert sorted(listed) == sorted(row["name"] for row in rows)
    assert all(row["summary"] for row in rows)


def test_variants_are_what_is_listed_by_default() -> None:
    assert [row["name"] for row in json.loads(call("listing", "--json").stdout)] == list(preset_names())


def test_params_shows_the_published_count() -> None:
    result = call("params", "vanilla", "gpt2")
    assert "63.08M" in result.stdout
    assert "124.4M" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    (row,) = json.loads(call("params", "vanilla", "--set", "vocab=37467", "--json").stdout)
    assert row["params"]["total"] == 63_321_600
    assert sum(count for part, count in row["params"].items() if part != "total") == row["params"]["total"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vanila"], "vanila: unknown variant, did you mean vanilla?"),
        (["vanilla", "--set", "widht=3"], "--set widht=3: unknown key, did you mean width?"),
        (["vanilla", "--set", "width=3"], "--set width=3: vanilla: width 3 is not divisible by heads 8"),
    ],
)
def test_params_explains_what_is_wrong(arguments: list[str], message: str) -> None:
    result = call("params", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_params_refuses_lengths_beyond_any_text() -> None:
    result = call("params", "vanilla", "--length", "1" + "0" * 400)
    assert result.exit_code == 2
    assert "--length" in result.stderr


def test_schema_describes_every_key_of_a_suite() -> None:
    schema = json.loads(call("schema").stdout)
    assert schema["required"] == ["schema", "name", "variants"]
    assert schema["additionalProperties"] is False
    assert {"extends", "matrix", "profiles", "ladder"} <= set(schema["properties"])
    assert "kv_heads" in schema["$defs"]["Matrix"]["properties"]
    assert "grouped-query" in json.dumps(schema["$defs"]["Model"]["properties"]["kv_heads"])


def test_a_new_suite_loads_and_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "my suite.yaml"
    assert call("new", str(path)).exit_code == 0
    assert load_suite(path, device="cpu").name == "my_suite"
    for device in ("cpu", "cuda"):
        assert expand(load_suite(path, device=device)).cases
    again = call("new", str(path))
    assert again.exit_code == 2
    assert "exists; --force replaces it" in again.stderr
    path.write_text("mine")
    assert call("new", str(path), "--force").exit_code == 0
    assert path.read_text() != "mine"


def test_a_new_suite_can_extend_another(tmp_path: Path) -> None:
    path = tmp_path / "more.yaml"
    assert call("new", str(path), "--base", "ladder").exit_code == 0
    assert load_suite(path, device="cpu").ladder == load_suite("ladder", device="cpu").ladder
    second = tmp_path / "still_more.yaml"
    assert call("new", str(second), "--base", str(path)).exit_code == 0
    assert load_suite(second, device="cpu").name == "still_more"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.txt"], "ends in .yaml"),
        (["nobody/x.yaml"], "cannot be written"),
        (["we\nird.yaml"], "we\\nird.yaml: a suite file's path has printable characters only"),
        (["we\x1b[31mird.txt"], "we\\x1b[31mird.txt: a suite file's name ends in .yaml"),
        (["x.yaml", "--base", "laddr"], "did you mean ladder?"),
    ],
)
def test_new_explains_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("new", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_base_with_quotes_in_its_name_can_be_extended(tmp_path: Path) -> None:
    base = tmp_path / 'say "hi" \\ there.yaml'
    assert call("new", str(base)).exit_code == 0
    assert call("new", str(tmp_path / "x.yaml"), "--base", str(base)).exit_code == 0
    assert load_suite(tmp_path / "x.yaml", device="cpu").name == "x"


def test_a_base_outside_the_new_files_folder_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    call("new", str(base))
    (tmp_path / "inner").mkdir()
    result = call("new", str(tmp_path / "inner" / "x.yaml"), "--base", str(base))
    assert result.exit_code == 2
    assert "must be in the new file's folder" in result.stderr
