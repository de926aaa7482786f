"""`t2bench export` as it is called."""

import importlib.util
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from t2bench.cli import compare, export
from t2bench.records import encode

_path = Path(__file__).parents[1] / "export" / "conftest.py"
_spec = importlib.util.spec_from_file_location("t2bench_tests_made_runs", _path)
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "r"
    path.mkdir()
    run = made.make_run(path)
    (path / "records.jsonl").write_bytes(b"".join(map(encode, run.records)))
    (path / "environment.json").write_text(json.dumps(run.environment))
    return path


def call(*arguments):
    return CliRunner().invoke(export.command, [str(a) for a in arguments], catch_exceptions=False)


def test_text_goes_to_stdout_and_what_is_missing_to_stderr(directory):
    result = call("bencher", directory)
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)) == 6
    assert "train_step/fp32/L8192/vanilla (oom)" in result.stderr


def test_output_goes_to_the_file_and_nowhere_else(directory, tmp_path):
    result = call("csv", directory, "-o", tmp_path / "a.csv")
    assert (result.exit_code, result.stdout) == (0, "")
    assert (tmp_path / "a.csv").read_text().startswith("run,case,group")


def test_help_lists_every_format_with_its_extra():
    text = call("--help").stdout
    assert all(f"  {name} " in text for name in export.EXPORTERS)
    assert "needs t2bench[parquet]" in " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("xml", "."), 2, "'xml' is not one of 'csv'"),
        (("csv", "nowhere"), 2, "t2bench: nowhere: no such directory"),
        (("csv", "a", "b"), 2, "one run at a time"),
        (("tensorboard", "RUN"), 2, "tensorboard is a directory; it needs -o PATH"),
        (("csv", "RUN", "-o", "/nowhere/at/all.csv"), 5, "No such file or directory"),
    ],
)
def test_mistakes_are_one_line(directory, arguments, code, words):
    result = call(*(directory if a == "RUN" else a for a in arguments))
    assert result.exit_code == code
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_pytest_benchmark_files_are_runs_too(directory, tmp_path):
    assert call("pytest-benchmark", directory, "-o", tmp_path / "a.json").exit_code == 0
    result = call("csv", tmp_path / "a.json")
    assert result.exit_code == 0
    assert "train_step/fp32/L64/vanilla+flash" in result.stdout


def test_a_run_in_which_nothing_was_measured_is_not_good(directory):
    lines = (directory / "records.jsonl").read_bytes().splitlines(keepends=True)
    (directory / "records.jsonl").write_bytes(b"".join(line for line in lines if b"L8192" in line))
    result = call("csv", directory)
    assert result.exit_code == 3
    assert "nothing was measured" in result.stderr


def test_compare_takes_them_too_and_claims_nothing_about_time(directory, tmp_path):
    for name in ("a.json", "b.json"):
        assert call("pytest-benchmark", directory, "-o", tmp_path / name).exit_code == 0
    arguments = [str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--json", "--metric", "all"]
    result = CliRunner().invoke(compare.command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (comparison,) = json.loads(result.stdout)["comparisons"]
    rows = {(row["case"], row["metric"]): row["effect"] for row in comparison["rows"]}
    case = "train_step/fp32/L64/vanilla+flash"
    assert rows[case, "step_time_s"]["verdict"] == "undecidable"
    assert rows[case, "saved_for_backward_bytes"]["exact"]
