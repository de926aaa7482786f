"""Formats that are not text, each read back by the library that reads it."""

import pytest

from t2bench.export.registry import EXPORTERS, ExportError, export
from t2bench.export.series import curves, file_name


def expected(place, length):
    return (0.010 + 0.002 * place) * length / 64 * 1.011  # the median launch, without its contended sample


def test_parquet_has_a_row_per_sample(run, analysis, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is the extra t2bench[parquet]")
    export("parquet", run, analysis, tmp_path / "run.parquet")
    table = parquet.read_table(tmp_path / "run.parquet")
    assert table.schema.metadata[b"t2bench.torch"] == b"2.13.0"
    frame = table.to_pandas()
    assert set(frame["case"]) == {record.case for record in run.records}
    assert set(frame["status"]) == {"ok", "oom", "crashed", "unsupported", "skipped"}
    steps = frame[frame["metric"].eq("step_time_s") & frame["case"].eq("train_step/fp32/L64/vanilla+flash")]
    assert len(steps) == 12
    wanted = [0.012 * (1 + 0.01 * launch + 0.001 * turn) for launch in range(3) for turn in range(4)]
    assert list(steps["value"]) == pytest.approx(wanted)
    assert list(steps["round"]) == [0, 1, 2, 3] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["run.parquet"]


def test_tensorboard_reads_the_curves(run, analysis, tmp_path):
    reason = "tensorboard is the extra t2bench[trackers]"
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason=reason)
    export("tensorboard", run, analysis, tmp_path / "logs")
    for place, name in enumerate(("vanilla", "vanilla+flash", "-x")):
        reader = accumulator.EventAccumulator(str(tmp_path / "logs" / "made" / f"train_step-fp32_{name}"))
        reader.Reload()
        points = reader.Scalars("step_time_s")
        assert [point.step for point in points] == [64, 128]
        assert [point.value for point in points] == pytest.approx([expected(place, n) for n in (64, 128)], rel=1e-6)
        assert (
            reader.Scalars("step_time_s/low")[0].value < points[0].value < reader.Scalars("step_time_s/high")[0].value
        )
        assert reader.Scalars("saved_for_backward_bytes")[0].value == 4096 * 64 + 8 * place
    with pytest.raises(ExportError, match="exists already"):
        export("tensorboard", run, analysis, tmp_path / "logs")


def test_mlflow_reads_the_store(run, analysis, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is the extra t2bench[trackers]")
    export("mlflow", run, analysis, tmp_path / "store")
    client = mlflow.MlflowClient((tmp_path / "store").as_uri())
    runs = {
        r.info.run_name: r for r in client.search_runs([client.get_experiment_by_name("t2bench suite").experiment_id])
    }
    assert len(runs) == 4
    assert [file.path for file in client.list_artifacts(runs["made"].info.run_id)] == ["report.html"]
    child = runs["train_step-fp32_vanilla+flash"]
    assert child.data.tags["mlflow.parentRunId"] == runs["made"].info.run_id
    points = client.get_metric_history(child.info.run_id, "step_time_s")
    assert {p.step: p.value for p in points} == pytest.approx({64: expected(1, 64), 128: expected(1, 128)})


def test_wandb_writes_offline_runs(run, analysis, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is the extra t2bench[trackers]")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    export("wandb", run, analysis, tmp_path / "logs")
    found = list((tmp_path / "logs" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(found) == 3
    content = b"".join(path.read_bytes() for path in found)
    assert b"step_time_s.high" in content
    assert b"train_step-fp32_vanilla+flash" in content
    assert len(list((tmp_path / "logs" / "wandb").glob("offline-run-*/files/media/html/report_*.html"))) == 1


@pytest.mark.parametrize("name", [name for name, exporter in EXPORTERS.items() if exporter.library])
def test_a_missing_library_is_one_line_with_the_cure(name, run, analysis, tmp_path, monkeypatch):
    library = EXPORTERS[name].library
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(ExportError) as caught:
        export(name, run, analysis, tmp_path / "out")
    assert str(caught.value) == (
        f"{name} needs {library}, which is not installed: pip install 't2bench[{EXPORTERS[name].extra}]'"
    )
    assert not (tmp_path / "out").exists()


def test_what_a_library_refuses_is_said_in_one_line(run, analysis, tmp_path, monkeypatch):
    from t2bench.export import registry

    def refuse(*_):
        raise RuntimeError("not today\nat all")

    monkeypatch.setattr(registry, "_writer", lambda _: refuse)
    with pytest.raises(ExportError, match=r"^tensorboard: tensorboard refused: RuntimeError: not today$"):
        export("tensorboard", run, analysis, tmp_path / "out")


def test_curves_have_unique_names_of_one_level(make, tmp_path):
    from t2bench.analysis.analyse import analyse

    run = make(tmp_path, names=("../../etc", "..\\..\\etc", "/../../etc"))
    names = [curve.name for curve in curves(run, analyse(run))]
    assert len(set(names)) == 3
    assert not any("/" in name or "\\" in name or name.startswith(".") for name in names)
    assert file_name("..") == file_name("/") == file_name("\x00") == "run"
