"""`t2bench report` and `t2bench compare` on runs written to disk."""

import importlib.util
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from t2bench.cli import compare, report
from t2bench.records import encode

_path = Path(__file__).parents[1] / "report" / "synthetic.py"
_spec = importlib.util.spec_from_file_location("t2bench_tests_synthetic_cli", _path)
synthetic = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(synthetic)


def saved(path, started="2031-02-03T04:05:06+00:00", **options):
    path.mkdir(parents=True)
    run, _ = synthetic.make(path, **options)
    (path / "records.jsonl").write_bytes(b"".join(map(encode, run.records)))
    environment = {**run.environment, "run": path.name, "started": started}
    (path / "environment.json").write_text(json.dumps(environment))
    return path


def call(command, *arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def test_report_shows_and_rewrites(tmp_path):
    path = saved(tmp_path / "r")
    result = call(report.command, path)
    assert result.exit_code == 0
    assert "Speed: train_step/fp32" in result.stdout
    assert "<!doctype html>" in (path / "report.html").read_text()
    assert (path / "report.md").is_file()


def test_report_can_write_one_kind_only(tmp_path):
    path = saved(tmp_path / "r")
    assert call(report.command, path, "--md").exit_code == 0
    assert (path / "report.md").is_file()
    assert not (path / "report.html").exists()


def test_a_results_folder_means_its_latest_run(tmp_path):
    saved(tmp_path / "results/quickstart/b", started="2031-01-01T00:00:00")
    latest = saved(tmp_path / "results/quickstart/a", started="2031-01-02T00:00:00")
    (tmp_path / "results/quickstart/latest").symlink_to("a")
    result = call(report.command, tmp_path / "results", "--md")
    assert f"2 runs in {tmp_path / 'results'}; showing the latest, {latest}" in result.stderr
    assert (latest / "report.md").is_file()


def test_json_is_json_and_writes_nothing(tmp_path):
    path = saved(tmp_path / "r")
    before = sorted(path.iterdir())
    result = call(report.command, path, "--json")
    data = json.loads(result.stdout)
    assert data["analysis"]["reference"] == "vanilla"
    flash = [e for e in data["analysis"]["effects"] if e["variant"] == "flash" and e["metric"] == "step_time_s"]
    assert flash[-1]["ratio"]["value"] == pytest.approx(0.585, abs=0.01)
    assert sorted(path.iterdir()) == before


def test_an_unwritable_directory_is_said_and_the_report_still_shown(tmp_path, monkeypatch):
    path = saved(tmp_path / "r")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)  # root may write anywhere, so the refusal is injected
    result = call(report.command, path)
    assert result.exit_code == 0
    assert "not written: Permission denied" in result.stderr
    assert "Speed: train_step/fp32" in result.stdout
    assert "report:" not in result.stdout


@pytest.mark.parametrize("command", [report.command, compare.command])
def test_what_is_not_a_run_is_one_line_and_exit_2(tmp_path, command):
    for path in (tmp_path, tmp_path / "absent"):
        result = call(command, path)
        assert result.exit_code == 2
        assert result.stderr.startswith("t2bench: ")
        assert len(result.stderr.splitlines()) == 1


def test_nothing_measured_is_never_good(tmp_path):
    path = saved(tmp_path / "r", measured=False)
    assert call(report.command, path).exit_code == 3
    assert call(compare.command, path).exit_code == 3


def test_compare_variants_of_a_run(tmp_path):
    result = call(compare.command, saved(tmp_path / "r"), "--metric", "step_time_s")
    assert result.exit_code == 0
    assert "flash against vanilla: step_time_s" in result.stdout
    assert "faster" in result.stdout
    assert "tracked_peak_bytes" not in result.stdout


def test_compare_runs(tmp_path):
    old, new = saved(tmp_path / "old"), saved(tmp_path / "new", launches=2)
    result = call(compare.command, old, new)
    assert result.exit_code == 0
    assert "new against old: step_time_s" in result.stdout
    data = json.loads(call(compare.command, old, new, "--json").stdout)
    assert data["by"] == "run"
    assert data["comparisons"][0]["baseline"] == "old"


def test_compare_says_which_metrics_there_are(tmp_path):
    result = call(compare.command, saved(tmp_path / "r"), "--metric", "speed")
    assert result.exit_code == 2
    assert "no metric speed" in result.stderr
    assert "step_time_s" in result.stderr


def test_reference_needs_variants(tmp_path):
    old, new = saved(tmp_path / "old"), saved(tmp_path / "new")
    assert call(compare.command, old, new, "--reference", "flash").exit_code == 2
    result = call(compare.command, old, "--reference", "absent")
    assert result.exit_code == 2
    assert "absent" in result.stderr


def test_runs_of_two_machines_are_compared_on_request_only(tmp_path):
    old, new = saved(tmp_path / "old"), saved(tmp_path / "new")
    path = new / "environment.json"
    environment = json.loads(path.read_text())
    environment["fingerprint"] = {**environment.get("fingerprint", {}), "hw": "another"}
    environment["host"] = {**environment.get("host", {}), "cpu": "another processor"}
    path.write_text(json.dumps(environment))
    refused = call(compare.command, old, new)
    assert refused.exit_code == 4
    assert "another processor" in refused.stderr
    allowed = call(compare.command, old, new, "--allow-cross")
    assert allowed.exit_code == 0
    assert "ANOTHER MACHINE" in allowed.stdout


@pytest.mark.parametrize(("name", "beginning"), [("md", "# t2bench compare"), ("csv", "baseline_run,"), ("json", "{")])
def test_formats_of_a_comparison(tmp_path, name, beginning):
    result = call(compare.command, saved(tmp_path / "r"), "--format", name)
    assert result.exit_code == 0
    assert result.stdout.startswith(beginning)
