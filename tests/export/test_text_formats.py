"""Each text format read back as its consumer reads it, against values computed here from the records' formula."""

import csv
import io
import json
import math
import re
import statistics
from dataclasses import replace

import pytest
from pytest_benchmark.stats import Stats

from t2bench.analysis.analyse import analyse
from t2bench.export.pytest_benchmark import summary
from t2bench.export.registry import EXPORTERS, ExportError, export, render
from t2bench.records import Metric

CASES = [f"train_step/fp32/L{length}/{name}" for length in (64, 128) for name in ("vanilla", "vanilla+flash", "-x")]


def launch_medians(case):
    length, name = case.split("/")[2:]
    place = ("vanilla", "vanilla+flash", "-x").index(name)
    size = int(length[1:])
    # The second launch lacks its last sample, which was contended.
    middles = (0.0015, 0.011, 0.0215)
    return [(0.010 + 0.002 * place) * size / 64 * (1 + middle) for middle in middles]


def test_every_text_format_is_text_that_can_be_written_and_rendered(run, analysis, tmp_path):
    for name, exporter in EXPORTERS.items():
        if exporter.kind == "text":
            export(name, run, analysis, tmp_path / name)
            assert (tmp_path / name).read_text(encoding="utf-8") == render(name, run, analysis)
        else:
            with pytest.raises(ExportError, match="-o PATH"):
                render(name, run, analysis)


def test_github_action_benchmark_gets_costs_and_rates_apart(run, analysis):
    smaller, bigger = (json.loads(render(f"gha-{which}", run, analysis)) for which in ("smaller", "bigger"))
    assert {entry["name"].rpartition(" ")[2] for entry in bigger} == {"tokens_per_s"}
    assert {entry["name"].rpartition(" ")[2] for entry in smaller} == {
        "step_time_s",
        "process_peak_bytes",
        "saved_for_backward_bytes",
        "executed_flops",
    }
    by_name = {entry["name"]: entry for entry in smaller}
    for case in CASES:
        entry = by_name[f"{case} step_time_s"]
        assert entry["value"] == pytest.approx(statistics.median(launch_medians(case)))
        assert entry["unit"] == "s"
        # How the action reads a range: `(?<prefix>(\+-|...)\s*)(?<value>\d.+)`, and the value as a number.
        half = float(re.search(r"\+-\s*(?P<value>\d.+)", entry["range"])["value"])
        low, high = (float(bound) for bound in re.search(r"interval (\S+) to (\S+),", entry["extra"]).groups())
        assert half == pytest.approx((high - low) / 2, rel=1e-3)
        assert low < entry["value"] < high
    assert not any("ghost" in name or "8192" in name for name in by_name)


def test_bencher_follows_its_published_schema(run, analysis):
    found = json.loads(render("bencher", run, analysis))
    assert list(found) == CASES
    for measures in found.values():
        for name, metric in measures.items():
            assert len(name) <= 64
            assert metric.keys() <= {"value", "lower_value", "upper_value"}
            assert all(isinstance(value, (int, float)) for value in metric.values())
            assert metric.get("lower_value", metric["value"]) <= metric["value"] <= metric.get("upper_value", math.inf)
    exact = found["train_step/fp32/L64/vanilla+flash"]["saved_for_backward_bytes"]
    assert exact == {"value": 4096 * 64 + 8}


def test_google_benchmark_has_what_compare_py_reads(run, analysis):
    found = json.loads(render("google-benchmark", run, analysis))
    assert found["context"]["json_schema_version"] == 1
    assert "not measured" in found["context"]["cpu_time"]
    for case in CASES:
        entries = [entry for entry in found["benchmarks"] if entry["run_name"] == case]
        # gbench/report.py takes an entry for comparable if it holds these three, and repetitions by equal names.
        assert all({"time_unit", "real_time", "cpu_time"} <= entry.keys() for entry in entries)
        launches = [entry for entry in entries if entry["run_type"] == "iteration"]
        assert [entry["repetition_index"] for entry in launches] == [0, 1, 2]
        assert {entry["name"] for entry in launches} == {case}
        assert [entry["real_time"] for entry in launches] == pytest.approx([1e9 * t for t in launch_medians(case)])
        assert all(entry["executed_flops"] for entry in launches)
        size = int(case.split("/")[2][1:])
        rates = [4 * size / t for t in launch_medians(case)]
        assert [entry["tokens_per_s"] for entry in launches] == pytest.approx(rates)
        (median,) = (entry for entry in entries if entry["run_type"] == "aggregate")
        assert median["real_time"] == pytest.approx(1e9 * statistics.median(launch_medians(case)))


def read_go_benchmarks(text):
    """The grammar of golang.org/design/14313 and of x/perf/benchfmt's reader, written down once more."""
    config, units, results = {}, {}, []
    for line in text.splitlines():
        fields = line.split()
        if line.startswith("Benchmark"):
            name, iterations, *pairs = fields
            assert iterations.isdigit()
            assert len(pairs) % 2 == 0
            assert pairs
            results.append((name, {unit: float(value) for value, unit in zip(pairs[::2], pairs[1::2], strict=True)}))
        elif fields and fields[0] == "Unit":
            for pair in fields[2:]:
                key, equals, value = pair.partition("=")
                assert equals
                assert units.setdefault((fields[1], key), value) == value
        else:
            key, value = re.fullmatch(r"([^\sA-Z:][^\sA-Z:]*): (.*)", line).groups()
            assert key[0].islower()
            config[key] = value
    return config, units, results


def test_benchstat_reads_a_line_per_launch_and_knows_what_is_exact(run, analysis):
    config, units, results = read_go_benchmarks(render("benchstat", run, analysis))
    assert config["torch"] == "2.13.0"
    assert units["saved_for_backward_bytes", "assume"] == "exact"
    assert units["tokens_per_s", "better"] == "higher"
    assert units["ns/op", "better"] == "lower"
    assert ("ns/op", "assume") not in units
    for case in CASES:
        length, variant = case.split("/")[2:]
        lines = [v for n, v in results if f"/variant={variant}/" in n and n.endswith(f"/length={length[1:]}")]
        assert [line["ns/op"] for line in lines] == pytest.approx([1e9 * t for t in launch_medians(case)])
        assert len({line["saved_for_backward_bytes"] for line in lines}) == 1
    assert len({name for name, _ in results}) == len(CASES)


def test_pytorch_records_have_the_three_parts(run, analysis):
    records = json.loads(render("pytorch", run, analysis))
    for record in records:
        assert record.keys() == {"benchmark", "model", "metric"}
        assert record["benchmark"]["name"] == "t2bench"
        assert record["benchmark"]["mode"] == "training"
        assert all(isinstance(value, str) for value in record["benchmark"]["extra_info"].values())
        assert record["metric"]["benchmark_values"]
    steps = [r for r in records if r["metric"]["name"] == "step_time_s"]
    assert [r["benchmark"]["extra_info"]["case"] for r in steps] == CASES
    for record, case in zip(steps, CASES, strict=True):
        assert record["metric"]["benchmark_values"] == pytest.approx(launch_medians(case))


def test_csv_has_a_row_for_everything_and_loses_nothing(run, analysis):
    rows = list(csv.DictReader(io.StringIO(render("csv", run, analysis))))
    assert {row["case"] for row in rows} == {record.case for record in run.records}
    unmeasured = {row["status"]: row for row in rows if not row["metric"]}
    assert unmeasured.keys() == {"oom", "crashed", "unsupported", "skipped"}
    assert all(row["reason"] == "no more" and row["value"] == "" for row in unmeasured.values())
    steps = {row["case"]: row for row in rows if row["metric"] == "step_time_s"}
    assert float(steps[CASES[1]]["value"]) == pytest.approx(statistics.median(launch_medians(CASES[1])))
    assert steps[CASES[1]]["better"] == "lower"
    assert steps["train_step/fp32/L64/vanilla@ghost"]["ghost"] == "true"


def test_latex_says_what_the_report_says(run, analysis):
    text = render("latex", run, analysis)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") > 0
    assert r"Speed: train\_step/fp32" in text
    assert "crashed" in text
    for block in re.findall(r"\\toprule\n(.*?)\\bottomrule", text, flags=re.DOTALL):
        lines = [line for line in block.splitlines() if line != r"\midrule"]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in lines}) == 1


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 9, 30])
def test_statistics_are_those_of_pytest_benchmark(count):
    data = [0.01 * (1 + (7 * place) % 5) + {8: 1.0, 9: 0.08}.get(place, 0.0) for place in range(count)]
    theirs = Stats()
    for value in data:
        theirs.update(value)
    expected = {**theirs.as_dict(), "outliers": theirs.outliers}
    for name, value in summary(data).items():
        assert value == (expected[name] if isinstance(value, str) else pytest.approx(expected[name])), name
    assert summary(data).keys() == set(Stats.fields)


@pytest.mark.parametrize(
    ("workload", "mode"),
    [
        ("train_step", "training"),
        ("train_step+ragged", "training"),
        ("attention+causal+backward", "training"),
        ("translate", "training"),
        ("recall", "training"),
        ("forward", "inference"),
        ("attention+causal", "inference"),
        ("decode+8", "inference"),
    ],
)
def test_pytorch_records_know_what_trains(run, workload, mode):
    changed = replace(run, records=tuple(replace(record, workload=workload) for record in run.records))
    records = json.loads(render("pytorch", changed, analyse(changed)))
    assert {record["benchmark"]["mode"] for record in records} == {mode}


def test_pytorch_records_of_a_training_are_training_but_for_its_translating(run):
    first = run.records[0]
    metrics = {"bleu": Metric(value=20.0, unit="BLEU"), "decode_sentences_per_s": Metric(value=9.0, unit="sentences/s")}
    learned = replace(first, workload="translate", pass_="quality", metrics=metrics)
    plan = {**run.environment, "plan": {"groups": {first.group: [first.case]}}}
    changed = replace(run, records=(learned,), environment=plan)
    records = json.loads(render("pytorch", changed, analyse(changed)))
    modes = {record["metric"]["name"]: record["benchmark"]["mode"] for record in records}
    assert modes == {"bleu": "training", "decode_sentences_per_s": "inference"}
