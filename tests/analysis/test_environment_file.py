"""Runs whose environment.json is lost, edited by hand or from a newer version."""

import json
from dataclasses import replace

import pytest

from t2bench.analysis.analyse import analyse
from t2bench.analysis.compare import compare
from t2bench.records import RecordError, Run, encode
from t2bench.report import facts
from t2bench.report.view import View


def saved(path, run, environment):
    (path / "records.jsonl").write_bytes(b"".join(map(encode, run.records)))
    if environment is not None:
        (path / "environment.json").write_text(json.dumps(environment))
    return path


def test_without_environment_the_ghost_names_the_reference(factory, tmp_path):
    run = factory(lengths=(128,)).build()
    lost = replace(run, records=tuple(sorted(run.records, key=lambda r: r.variant)))
    analysis = analyse(Run.load(saved(tmp_path, lost, None)))
    assert analysis.reference == "vanilla"
    assert {e.reference for e in analysis.effects} == {"vanilla"}
    assert analysis.null.widest < 0.05
    told = [warning for warning in analysis.warnings if "environment.json is missing" in warning]
    assert "vanilla is taken as the reference" in told[0]


@pytest.mark.parametrize(
    ("environment", "key"),
    [
        ({"suite": []}, "suite"),
        ({"suite": {"variants": 5}}, "suite.variants"),
        ({"suite": {"variants": ["flash"]}}, "suite.variants.0"),
        ({"suite": {"variants": [{"name": "flash", "model": [1]}]}}, "suite.variants.0.model"),
        ({"suite": {"variants": [{"name": 3, "model": {}}]}}, "suite.variants.0.name"),
        ({"suite": {"reference": ["x"]}}, "suite.reference"),
        ({"suite": {"ladder": 5}}, "suite.ladder"),
        ({"suite": {"ladder": [5]}}, "suite.ladder"),
        ({"suite": {"measure": {"launches": "x"}}}, "suite.measure.launches"),
        ({"suite": {"measure": {"launches": True}}}, "suite.measure.launches"),
        ({"suite": {"limits": "none"}}, "suite.limits"),
        ({"plan": 3}, "plan"),
        ({"plan": {"groups": {"a": 3}}}, "plan.groups.a"),
        ({"plan": {"groups": {"a": [3]}}}, "plan.groups.a"),
    ],
)
def test_a_wrong_shape_is_one_clear_line(factory, tmp_path, environment, key):
    path = saved(tmp_path, factory(lengths=(128,)).build(), environment)
    with pytest.raises(RecordError) as caught:
        Run.load(path)
    assert f"{path / 'environment.json'}: {key}: expected" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("section", ["suite", "plan"])
def test_what_is_null_counts_as_absent(factory, tmp_path, section):
    run = factory(lengths=(128,)).build()
    environment = {**run.environment, "suite": {**run.suite, "variants": None, "measure": None}, section: None}
    loaded = Run.load(saved(tmp_path, run, environment))
    analysis = analyse(loaded)
    assert set(View(run=loaded, analysis=analysis).variants) == {"vanilla", "flash"}
    assert facts.title(loaded)


def test_a_model_of_a_newer_version_has_unknown_axes(factory, tmp_path):
    run = factory(lengths=(128,)).build()
    vanilla, flash = run.suite["variants"]
    newer = {**flash, "model": {**flash["model"], "mixture_of_experts": 8}}
    environment = {**run.environment, "suite": {**run.suite, "variants": [vanilla, newer]}}
    loaded = Run.load(saved(tmp_path, run, environment))
    effect = next(e for e in analyse(loaded).effects if e.variant == "flash")
    assert not effect.implementation_only
    assert compare([loaded, loaded])
