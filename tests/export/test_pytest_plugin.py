"""The pytest plug-in through the front door: pytest sessions of their own, with and without pytest-benchmark."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUITE = """
schema: 1
name: tiny
summary: "seconds, not results"
reference: vanilla
variants: [vanilla]
model: {arch: decoder, width: 32, heads: 2, ff: 64, dec_layers: 1, vocab: 512}
matrix: {workload: [train_step], dtype: [fp32], length: [16]}
tokens_per_step: 64
measure: {launches: 2, rounds: 2, max_rounds: 3, clean_share: 0.01, warmup_s: 0.02, min_sample_s: 0.002}
"""
# Stands in for a measurement: a finished run, after noting who asked for it.
CANNED = """
import importlib.util, json, pathlib, pytest

spec = importlib.util.spec_from_file_location("made", {made!r})
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)

@pytest.fixture(autouse=True)
def canned(monkeypatch, tmp_path):
    def run(suite, **options):
        with pathlib.Path({log!r}).open("a") as file:
            file.write(json.dumps({{"suite": str(suite), "only": options["only"]}}) + "\\n")
        return made.make_run(tmp_path)
    monkeypatch.setattr("t2bench.api.run", run)
"""


@pytest.fixture
def session(tmp_path):
    """Run pytest on some test code; the finished process."""

    def call(code, *arguments, canned=True, autoload=False):
        (tmp_path / "test_it.py").write_text(code)
        if canned:
            made = str(Path(__file__).with_name("conftest.py"))
            (tmp_path / "conftest.py").write_text(CANNED.format(made=made, log=str(tmp_path / "asked")))
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        # What the session around this one set for itself is not for this one.
        env = {key: value for key, value in env.items() if not key.startswith("PYTEST_")}
        plugins = ["-p", "no:t2bench", "-p", "t2bench.pytest_plugin", "-p", "no:cacheprovider"]
        if not autoload:
            env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
            plugins += ["-p", "pytest_benchmark.plugin"]
        command = [sys.executable, "-m", "pytest", *plugins, "--rootdir", str(tmp_path), *arguments, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=200, check=False)

    return call


TEST = """
def test_case(t2bench_case):
    found = t2bench_case("s.yaml", "train_step/fp32/L64/vanilla+flash")
    assert found["saved_for_backward_bytes"] == 4096 * 64 + 8
    assert found.intervals["step_time_s"].low < round(found["step_time_s"], 9) == 0.012132
    assert found.case in {record.case for record in found.run.records}

def test_other():
    pass
"""


def test_a_case_is_measured_and_told_to_pytest_benchmark(session, tmp_path):
    (tmp_path / "tiny.yaml").write_text(SUITE)
    code = """
def test_case(t2bench_case):
    found = t2bench_case("tiny.yaml", "train_step/fp32/L16/vanilla", device="cpu")
    assert found["step_time_s"] > 0
    assert (found.run.path / "records.jsonl").is_file()
"""
    done = session(code, "--benchmark-json", str(tmp_path / "out.json"), canned=False)
    assert done.returncode == 0, done.stdout
    (benchmark,) = json.loads((tmp_path / "out.json").read_text())["benchmarks"]
    own = benchmark["extra_info"]["t2bench"]
    assert own["case"] == "train_step/fp32/L16/vanilla"
    assert benchmark["stats"]["rounds"] == 2
    assert benchmark["stats"]["data"] == own["metrics"]["step_time_s"]["launches"]
    assert len(own["step_time_samples"]) == 2

    from t2bench.analysis.analyse import analyse
    from t2bench.export.pytest_benchmark import read

    analysis = analyse(read([tmp_path / "out.json"]))
    step = next(e for e in analysis.estimates if e.metric == "step_time_s")
    assert step.interval.value == pytest.approx(own["metrics"]["step_time_s"]["value"])


def test_launch_medians_are_the_rounds(session, tmp_path):
    done = session(TEST, "--benchmark-json", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stdout
    (benchmark,) = json.loads((tmp_path / "out.json").read_text())["benchmarks"]
    assert benchmark["stats"]["data"] == pytest.approx([0.012018, 0.012132, 0.012258])
    assert benchmark["options"]["timer"].endswith("launch_medians")
    assert json.loads((tmp_path / "asked").read_text())["only"] == "train_step/fp32/L64/vanilla+flash"


def test_it_works_without_pytest_benchmark(session):
    done = session(TEST, "-p", "no:benchmark", autoload=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("option", "words"), [("--benchmark-only", "1 passed, 1 skipped"), ("--benchmark-skip", "1 passed, 1 skipped")]
)
def test_options_of_pytest_benchmark_hold(session, tmp_path, option, words):
    done = session(TEST, option)
    assert words in done.stdout
    assert (tmp_path / "asked").exists() is (option == "--benchmark-only")


def test_with_xdist_cases_are_measured_and_no_benchmark_is_kept(session, tmp_path):
    done = session(TEST + TEST.replace("test_case", "test_second"), "-n", "2", autoload=True)
    assert done.returncode == 0, done.stdout
    assert len((tmp_path / "asked").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("case", "outcome", "words"),
    [
        ("train_step/fp32/L8192/vanilla+flash", "failed", "crashed: no more"),
        ("train_step/fp32/L8192/-x", "skipped", "unsupported: no more"),
        ("train_step/fp32/L1/vanilla", "failed", "has no case train_step/fp32/L1/vanilla"),
    ],
)
def test_what_is_not_ok_fails_and_what_is_refused_skips(session, case, outcome, words):
    done = session(f"def test_case(t2bench_case):\n    t2bench_case('s.yaml', {case!r})\n", "-rs")
    assert f"1 {outcome}" in done.stdout
    assert words in done.stdout
    assert "Traceback" not in done.stdout
    assert "Benchmark fixture was not used" not in done.stdout


def test_a_wrong_suite_fails_in_one_line(session, tmp_path):
    (tmp_path / "tiny.yaml").write_text(SUITE.replace("matrix", "matrx"))
    code = "def test_case(t2bench_case):\n    t2bench_case('tiny.yaml', 'x', device='cpu')\n"
    done = session(code, canned=False)
    assert done.returncode == 1
    assert "tiny.yaml:8" in done.stdout
    assert "During handling" not in done.stdout


def test_the_case_is_the_benchmark(session):
    done = session("def test_case(t2bench_case, benchmark):\n    pass\n")
    assert done.returncode != 0
    assert "uses t2bench_case or benchmark, not both" in done.stdout + done.stderr


def test_the_second_case_of_a_test_is_measured_but_no_second_benchmark(session, tmp_path):
    code = """
def test_two(t2bench_case):
    a = t2bench_case("s.yaml", "train_step/fp32/L64/vanilla")
    b = t2bench_case("s.yaml", "train_step/fp32/L64/-x")
    assert a["step_time_s"] < b["step_time_s"]
"""
    done = session(code, "--benchmark-json", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stdout
    (benchmark,) = json.loads((tmp_path / "out.json").read_text())["benchmarks"]
    assert benchmark["extra_info"]["t2bench"]["variant"] == "vanilla"


def test_who_does_not_use_it_pays_nothing(session):
    code = """
import sys

def test_other():
    ours = ("t2bench", "torch", "numpy", "pandas", "yaml")
    loaded = sorted(name for name in sys.modules if name.partition(".")[0] in ours)
    assert loaded == ["t2bench", "t2bench.pytest_plugin"]
"""
    done = session(code, canned=False)
    assert done.returncode == 0, done.stdout


def test_only_one_at_a_time_holds_the_lock(tmp_path):
    import fcntl

    from t2bench.pytest_plugin import _locked

    with _locked(tmp_path / "lock"), (tmp_path / "lock").open("w") as second, pytest.raises(BlockingIOError):
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tmp_path / "lock").open("w") as second:
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
