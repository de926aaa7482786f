"""pytest-benchmark's JSON there and back, and what a foreign file may and may not claim."""

import json
import re
import subprocess
import sys

import pytest

from t2bench.analysis.analyse import analyse
from t2bench.analysis.compare import compare
from t2bench.analysis.index import Index
from t2bench.export.pytest_benchmark import read
from t2bench.export.registry import export
from t2bench.records import RecordError


@pytest.fixture
def file(run, analysis, tmp_path):
    path = tmp_path / "0001_run.json"
    export("pytest-benchmark", run, analysis, path)
    return path


def test_pytest_benchmark_itself_compares_the_file(file, tmp_path):
    command = [sys.executable, "-m", "pytest_benchmark", "compare", str(file), "--columns=median,rounds", "--sort=name"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("train_step/fp32/L64/vanilla+flash "))
    assert row.split()[2] == "12.1320"  # ms: 12 * 1.011
    assert row.split()[-1] == "3"


def test_our_own_file_comes_back_as_it_was(run, analysis, file):
    back = read([file])
    again = analyse(back)
    wanted = {(e.case, e.metric): e.interval for e in analysis.estimates if not e.variant.endswith("@ghost")}
    found = {(e.case, e.metric): e.interval for e in again.estimates}
    assert found.keys() == wanted.keys()
    for key, interval in wanted.items():
        assert found[key].value == pytest.approx(interval.value)
        assert found[key].low == pytest.approx(interval.low)
    case = "train_step/fp32/L64/vanilla+flash"
    samples = [launch.values.tolist() for launch in Index(back).launches(case, "step_time_s")]
    assert samples == [launch.values.tolist() for launch in Index(run).launches(case, "step_time_s")]
    assert again.counted[case] == analysis.counted[case]
    assert back.environment["fingerprint"] == run.environment["fingerprint"]


def test_a_sample_that_could_not_be_measured_is_null_in_every_format(run, tmp_path):
    from dataclasses import replace

    from t2bench.export.registry import EXPORTERS, render
    from t2bench.records import Metric, decode, encode

    first = run.records[0]
    samples = (float("nan"), *first.metrics["step_time_s"].samples[1:])
    metrics = {
        "step_time_s": Metric(value=0.01, unit="s", samples=samples),
        "tokens_per_s": Metric(value=float("inf"), unit="tokens/s"),
    }
    broken = decode(encode(replace(first, metrics=metrics)))
    run = replace(run, records=(broken, *run.records[1:]))
    analysis = analyse(run)
    for name, exporter in EXPORTERS.items():
        if exporter.kind == "text":
            text = render(name, run, analysis)
            assert not re.search(r"\b(nan|inf|infinity|none)\b", text, flags=re.IGNORECASE), name
    export("pytest-benchmark", run, analysis, tmp_path / "a.json")
    back = {
        e.case: e.interval.value for e in analyse(read([tmp_path / "a.json"])).estimates if e.metric == "step_time_s"
    }
    assert back[first.case] == pytest.approx(next(e.interval.value for e in analysis.estimates if e.case == first.case))


def foreign(path, values, **stats):
    benchmarks = [
        {
            "group": None,
            "name": name,
            "fullname": f"test_a.py::{name}",
            "extra_info": {},
            "stats": {"data": data, **stats},
        }
        for name, data in values.items()
    ]
    machine = {"cpu": {"brand_raw": "A CPU"}, "python_version": "3.12.1"}
    path.write_text(json.dumps({"machine_info": machine, "benchmarks": benchmarks, "datetime": "2031-02-03T04:05:06"}))
    return path


def test_parameters_are_variants_and_one_file_allows_no_interval(tmp_path):
    path = foreign(tmp_path / "a.json", {"test_step[flash]": [1.0, 1.1, 1.2], "test_step[math]": [2.0, 2.1, 2.2]})
    run = read([path])
    analysis = analyse(run)
    assert {e.case: e.interval.value for e in analysis.estimates} == {
        "test_a.py::test_step/flash": pytest.approx(1.1),
        "test_a.py::test_step/math": pytest.approx(2.1),
    }
    assert all(e.interval.low is None for e in analysis.estimates)
    (effect,) = (row.effect for one in compare([run], by="variant") for row in one.rows)
    assert effect.verdict == "undecidable"
    assert not effect.paired


def test_several_files_are_several_launches_that_took_no_turns(tmp_path):
    files = [
        foreign(tmp_path / f"{n}.json", {"test_a[x]": [1.0 + n / 100] * 3, "test_a[y]": [2.0 + n / 100] * 3})
        for n in range(4)
    ]
    analysis = analyse(read(files))
    assert {e.num_launches for e in analysis.estimates} == {4}
    assert all(e.interval.low is not None for e in analysis.estimates)
    (effect,) = analysis.effects
    assert effect.ratio.value == pytest.approx(2.0, rel=0.02)
    assert any(warning.startswith("not paired") for warning in effect.warnings)


def test_a_file_without_data_gives_its_median(tmp_path):
    path = foreign(tmp_path / "a.json", {"test_b": None}, median=0.25)
    (estimate,) = analyse(read([path])).estimates
    assert (estimate.case, estimate.interval.value) == ("test_a.py::test_b/default", 0.25)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read as JSON"),
        ("[]", "has no list 'benchmarks'"),
        ('{"benchmarks": 3}', "has no list 'benchmarks'"),
        ('{"benchmarks": [3]}', r"benchmarks\[0\]: not as pytest-benchmark writes it"),
        ('{"benchmarks": [{"fullname": "x"}]}', r"benchmarks\[0\]"),
        ('{"benchmarks": [{"fullname": "x", "stats": {"data": ["a"]}}]}', r"benchmarks\[0\]"),
        ('{"benchmarks": [{"fullname": "x", "extra_info": {"t2bench": {"case": "a"}}}]}', r"benchmarks\[0\]"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_a_broken_file_is_one_line_with_the_place(tmp_path, text, words):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=words) as caught:
        read([path])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
