"""The front door: help without torch, near misses, exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from t2bench.cli.main import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[2]
BAD_SUITES = sorted((ROOT / "tests/faults/bad_suites").glob("*.yaml"))


def imported_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


HEAVY = {"torch", "pandas", "matplotlib", "numpy", "pydantic", "rich", "scipy"}


def test_help_and_import_load_nothing_heavy():
    assert not imported_by("import t2bench") & HEAVY
    help_text = "from click.testing import CliRunner; from t2bench.cli.main import cli; CliRunner().invoke(cli, ['-h'])"
    assert not imported_by(help_text) & HEAVY


def test_commands_that_only_read_load_no_torch():
    for module in ("report", "compare", "listing", "params", "schema", "new", "run", "plan"):
        assert "torch" not in imported_by(f"import t2bench.cli.{module}"), module
    reading = "import t2bench.analysis.analyse, t2bench.analysis.compare, t2bench.report.write, t2bench.spec.loader"
    assert "torch" not in imported_by(reading)


def test_the_scheduler_never_imports_torch():
    assert "torch" not in imported_by("import t2bench.api, t2bench.runner.execute, t2bench.runner.preview")


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_is_there_and_explains_itself(command):
    result = CliRunner().invoke(cli, [command, "--help"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Usage: cli {command}")


def test_overview_names_every_command_and_the_exit_codes():
    text = CliRunner().invoke(cli, ["--help"]).output
    for command, (_, summary) in COMMANDS.items():
        assert command in text
        assert summary in text
    assert "130" in text


def test_a_mistyped_command_is_corrected():
    result = CliRunner().invoke(cli, ["comapre"])
    assert result.exit_code == 2
    assert "did you mean 'compare'?" in result.output


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("path", BAD_SUITES, ids=lambda path: path.stem)
def test_a_wrong_suite_is_exit_2_with_its_place_and_no_traceback(command, path):
    result = CliRunner().invoke(cli, [command, str(path), "--device", "cpu"])
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert path.name in result.output
    assert result.output.startswith("t2bench: ")


def test_a_missing_suite_names_the_built_in_ones():
    result = CliRunner().invoke(cli, ["run", "quickstrat", "--device", "cpu"])
    assert result.exit_code == 2
    assert "quickstart" in result.output
