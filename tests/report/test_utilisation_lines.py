"""Utilisation in the reports: by hand from the run's own ceiling, silent where something is not known."""

import dataclasses

import pytest

from t2bench.report import cases, tables
from t2bench.report.content import build
from t2bench.report.utilisation import lines, utilisation
from t2bench.report.view import View

GROUP = "train_step/fp32/L4096"


def with_ceiling(run, flops_per_s, dtype="fp32"):
    environment = {**run.environment, "ceilings": {dtype: {"flops_per_s": flops_per_s}}}
    return dataclasses.replace(run, environment=environment)


def test_by_hand(run_and_analysis):
    run, analysis = run_and_analysis
    time = next(
        e for e in analysis.estimates if (e.group, e.variant, e.metric) == (GROUP, "flash", "step_time_s")
    ).interval.value
    view = View(run=with_ceiling(run, 4 * 3.1e11 / time), analysis=analysis)
    found = utilisation(view, GROUP, "flash")
    assert found is not None
    assert found.value == pytest.approx(0.25)
    table = cases.overview(view)
    row = next(row for row in table.rows if row[0].text == f"{GROUP}/flash")
    assert row[table.columns.index("MFU")].text == "25 %"


def test_more_than_the_ceiling_is_not_told_as_a_figure(run_and_analysis):
    run, analysis = run_and_analysis
    view = View(run=with_ceiling(run, 1e6), analysis=analysis)
    (line,) = lines(view)
    assert "not told" in line
    assert "impossible" in {cell.text for row in cases.overview(view).rows for cell in row}


@pytest.mark.parametrize("dtype", ["bf16", ""])
def test_silent_without_a_ceiling_of_the_dtype(run_and_analysis, dtype):
    run, analysis = run_and_analysis
    content = build(with_ceiling(run, 1e12, dtype), analysis)
    assert not [line for line in content.honesty if "MFU" in line]


def test_inference_has_no_column_for_what_it_does_not_save(run_and_analysis):
    run, analysis = run_and_analysis
    bare = {
        case: {name: 0.0 if "saved" in name else value for name, value in values.items()}
        for case, values in analysis.counted.items()
    }
    predicted = {
        case: {name: 0.0 if "saved" in name else value for name, value in values.items()}
        for case, values in analysis.predicted.items()
    }
    idle = dataclasses.replace(analysis, counted=bare, predicted=predicted)
    with_it, without = (tables.memory(View(run=run, analysis=a), "train_step/fp32") for a in (analysis, idle))
    assert with_it is not None
    assert without is not None
    assert "saved" in " ".join(with_it.notes)
    assert "saved" not in " ".join(without.notes)
