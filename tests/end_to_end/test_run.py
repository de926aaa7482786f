"""A suite file in, records and reports out, through the front door."""

import json
import sys
from collections import Counter

import pytest

import t2bench as package
from t2bench.analysis.analyse import analyse
from t2bench.records import Run
from t2bench.runner import passes
from t2bench.spec.model import ModelSpec

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are tested on Linux")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished tiny run, made through the Python interface."""
    from tiny_suite import TINY

    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.yaml").write_text(TINY)
    return package.run(folder / "tiny.yaml", device="cpu", directory=folder / "out", threads=1)


def by_pass(run, kind):
    return [record for record in run.records if record.pass_ == kind]


def test_every_case_has_every_pass_and_every_launch(finished):
    counts = Counter((record.pass_, record.status) for record in finished.records)
    groups, variants, ghosts, launches = 4, 2, 1, 2
    assert counts["plan", "ok"] == groups * (variants + ghosts)
    assert counts["truth", "ok"] == counts["counters", "ok"] == counts["memory", "ok"] == groups * variants
    timed = by_pass(finished, "time")
    assert len(timed) == groups * (variants + ghosts) * launches
    assert len({record.key for record in finished.records}) == len(finished.records)


def test_predicted_counts_are_what_real_steps_count(finished):
    predicted = {record.case: record.metrics for record in by_pass(finished, "plan")}
    for record in by_pass(finished, "counters"):
        for name in ("executed_flops", "saved_for_backward_bytes", "tracked_peak_bytes"):
            assert record.metrics[name].value == predicted[record.case][name].value, (record.case, name)


def test_the_observed_back_end_is_the_requested_one_and_named(finished):
    for record in by_pass(finished, "counters"):
        assert record.observed["backends"] == [record.observed["backend_requested"]]
        assert record.observed["kernels"]


def test_executed_flops_differ_as_the_kernels_do_and_model_flops_agree(finished):
    metrics = {record.case: record.metrics for record in by_pass(finished, "plan")}
    for length in (16, 32, 64, 128):
        math, flash = (metrics[f"train_step/fp32/L{length}/{v}"] for v in ("vanilla", "vanilla+flash"))
        assert math["model_flops"].value == flash["model_flops"].value == math["executed_flops"].value
        # causal flash: half of forward (1) and of backward with recomputation (2.5), against 1 + 2 in full
        batch = 128 // length
        attention_forward = 4 * batch * length * length * 32
        assert math["executed_flops"].value - flash["executed_flops"].value == attention_forward * (3 - 3.5 / 2)


def test_saved_bytes_have_an_exact_quadratic_term_for_math_and_none_for_flash(finished):
    exact = {(fit.variant, fit.metric): fit.coefficients for fit in analyse(finished).exact_scaling}
    heads = 2
    assert exact["vanilla", "sequence_saved_bytes"][2] >= 4 * heads
    assert exact["vanilla+flash", "sequence_saved_bytes"][2] == 0


def test_conditions_that_could_bend_the_numbers_are_recorded(finished):
    environment = finished.environment
    assert environment["torch"]["variables"]["OMP_WAIT_POLICY"] == "passive"
    assert environment["torch"]["threads"] == 1
    assert environment["torch"]["flush_denormal"] in (True, False)
    assert set(environment["fingerprint"]) == {"hw", "sw", "proto"}
    assert environment["ceilings"]["fp32"]["flops_per_s"] > 1e8
    (source,) = environment["data"].values()
    assert "ships with Python" in source["description"]
    for record in by_pass(finished, "time"):
        assert record.observed["settings"]["threads"] == 1
        assert len(record.turns["contended"]) == len(record.metrics["step_time_s"].samples)


def test_the_phases_of_a_step_add_up_to_it(finished):
    for record in by_pass(finished, "time"):
        parts = [record.metrics[f"{p}_time_s"].samples for p in ("forward", "loss", "backward", "optimizer")]
        for total, *phases in zip(record.metrics["step_time_s"].samples, *parts, strict=True):
            assert sum(phases) == pytest.approx(total, rel=1e-6)


def test_all_launches_computed_the_same_first_loss(finished):
    expected = {record.case: record.observed["checksum"] for record in by_pass(finished, "counters")}
    for record in by_pass(finished, "time"):
        original = record.case.replace("@ghost", "")
        assert record.observed["checksum"] == pytest.approx(expected[original], rel=1e-4)


def test_the_scheduler_leaves_the_processor_to_the_workers(finished):
    # the bar of 1 % of a core is for measuring; planning and writing of this seconds-long run are in this figure too
    assert finished.environment["scheduler_cpu_share"] < 0.05


def test_the_frame_has_a_row_for_every_metric_and_the_axes_as_columns(finished):
    frame = finished.frame()
    timed = frame[(frame["pass"] == "time") & (frame["metric"] == "step_time_s")]
    assert len(timed) == 24
    assert set(timed["length"]) == {16, 32, 64, 128}
    assert finished.samples().groupby("case").size().min() >= 4


def test_run_prints_its_path_last_and_leaves_the_promised_files(t2bench, tiny, tmp_path):
    done = t2bench("run", tiny, "--device", "cpu", "--only", "*/L16/*", "-o", tmp_path / "out", check=0)
    assert done.stdout.strip().splitlines()[-1] == str(tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"suite.yaml", "environment.json", "records.jsonl", "report.md", "report.html"} <= names
    again = t2bench("run", tiny, "--device", "cpu", "--only", "*/L16/*", "-o", tmp_path / "out", check=0)
    assert "complete already" in again.stderr
    other = t2bench("run", tiny, "--device", "cpu", "-o", tmp_path / "out", check=2)
    assert "another suite" in other.stderr


def test_json_is_alone_on_stdout(t2bench, tiny, tmp_path):
    done = t2bench("run", tiny, "--device", "cpu", "--only", "*/L16/*", "-o", tmp_path / "out", "--json", check=0)
    answer = json.loads(done.stdout)
    assert answer["cases"] == {"ok": 3, "failed": 0}


def test_a_case_that_cannot_fit_is_a_predicted_row_and_the_others_are_measured(t2bench, tiny, tmp_path):
    done = t2bench(
        "run",
        tiny,
        "--device",
        "cpu",
        "-o",
        tmp_path / "out",
        "--set",
        "matrix.length=[64, 2048]",
        "--set",
        "limits.memory_gib=0.05",
        "--set",
        "tokens_per_step=1",
        check=0,
    )
    run = Run.load(tmp_path / "out")
    (big,) = {r.reason for r in run.records if r.case == "train_step/fp32/L2048/vanilla"}
    assert big.startswith("predicted: needs 0.")
    assert any(r.pass_ == "time" and r.case.endswith("L2048/vanilla+flash") for r in run.records)
    assert "oom" in done.stdout


def test_an_allocation_that_fails_in_a_worker_is_an_oom_row(t2bench, tiny, tmp_path):
    # fits by its tensors, but not with what the process needs around them
    changes = ["--set", "matrix.length=[1024]", "--set", "limits.memory_gib=0.03", "--set", "tokens_per_step=1"]
    done = t2bench("run", tiny, "--device", "cpu", "-o", tmp_path / "out", *changes)
    statuses = {r.case: r.status for r in Run.load(tmp_path / "out").records if r.status != "ok"}
    assert statuses["train_step/fp32/L1024/vanilla"] == "oom"
    assert done.returncode in (0, 5)


def test_refused_combinations_are_rows_with_reasons(t2bench, tiny, tmp_path):
    changes = ["--set", "model.attention_dropout=0.1", "--only", "*/L16/*"]
    t2bench("run", tiny, "--device", "cpu", "-o", tmp_path / "out", *changes, check=0)
    refused = [r for r in Run.load(tmp_path / "out").records if r.status == "unsupported"]
    assert [r.variant for r in refused] == ["vanilla+flash"]
    assert "dropout" in refused[0].reason


def test_nothing_measured_is_never_good(t2bench, tiny, tmp_path):
    changes = ["--set", "variants=[vanilla+flash]", "--set", "reference=vanilla+flash"]
    changes += ["--set", "model.attention_dropout=0.1"]
    done = t2bench("run", tiny, "--device", "cpu", "-o", tmp_path / "out", *changes)
    assert done.returncode == 3


def test_data_folders_are_read_and_missing_ones_named(t2bench, tiny, tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    missing = t2bench("run", tiny, "--device", "cpu", "--data", texts, check=2)
    assert "no text found" in missing.stderr
    (texts / "a.txt").write_text("It was the best of times, it was the worst of times. " * 50)
    t2bench("run", tiny, "--device", "cpu", "--data", texts, "--only", "*/L16/*", "-o", tmp_path / "out", check=0)
    (source,) = Run.load(tmp_path / "out").environment["data"].values()
    assert "text files in texts" in source["description"]


def test_asking_for_a_gpu_that_is_not_there_is_one_line(t2bench, tiny):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    done = t2bench("run", tiny, "--device", "cuda", check=5)
    assert len(done.stderr.strip().splitlines()) == 1


def test_variants_that_should_agree_and_do_not_are_found():
    a, b = ModelSpec(), ModelSpec(attention="sdpa_flash", projections="fused_qkv")
    assert passes.same_function(a, b)
    assert not passes.same_function(a, ModelSpec(activation="gelu"))


def test_a_run_is_not_continued_under_other_conditions(t2bench, tiny, tmp_path):
    out = tmp_path / "out"
    command = ("run", tiny, "--device", "cpu", "--only", "*/L16/*", "-o", out)
    stopped = t2bench(*command, "--max-time", "0.001", check=3)  # planned, nothing timed
    assert "time limit" in stopped.stderr
    environment = json.loads((out / "environment.json").read_text())
    environment["finished"] = None
    environment["fingerprint"]["sw"] = "another"
    environment["torch"]["torch"] = "2.0.0"
    (out / "environment.json").write_text(json.dumps(environment))
    refused = t2bench(*command, "--max-time", "0.001", check=2)
    assert "torch: 2.0.0 ->" in refused.stderr
    assert "--fresh" in refused.stderr


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--threads", "10000"), "threads: 10000"),
        (("--max-time", "nan"), "max time"),
        (("--max-time", "-1"), "max time"),
    ],
)
def test_numbers_that_make_no_sense_are_one_line(t2bench, tiny, option, words):
    done = t2bench("run", tiny, "--device", "cpu", *option, check=2)
    assert words in done.stderr


def test_a_run_stopped_by_its_time_limit_is_continued_by_the_same_command(t2bench, tiny, tmp_path):
    command = ("run", tiny, "--device", "cpu", "--only", "*/L16/*", "-o", tmp_path / "out")
    t2bench(*command, "--max-time", "0.001", check=3)
    assert not by_pass(Run.load(tmp_path / "out"), "time")
    t2bench(*command, check=0)
    assert len(by_pass(Run.load(tmp_path / "out"), "time")) == 6


def test_a_directory_in_which_a_run_only_began_can_be_used(t2bench, tiny, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in (".lock", "records.jsonl", ".environment.json.x1"):
        (out / name).touch()
    t2bench("run", tiny, "--device", "cpu", "--only", "*/L16/*", "-o", out, check=0)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    refused = t2bench("run", tiny, "--device", "cpu", "-o", tmp_path / "other", check=2)
    assert "thesis.txt" in refused.stderr
