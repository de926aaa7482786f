import dataclasses
import json

import pytest

from t2bench.analysis.results import Comparison, ComparisonRow, Effect, Interval
from t2bench.report import comparison


def row(metric, ratio, verdict, *, unit="s", exact=False, ghost=False, spread=0.01):
    bounds = {} if exact else {"low": ratio * (1 - spread), "high": ratio * (1 + spread)}
    effect = Effect(
        group="train_step/fp32/L64",
        metric=metric,
        variant="b",
        reference="a",
        ratio=Interval(value=ratio, **bounds),
        mde=0 if exact else 0.03,
        verdict=verdict,
        paired=not exact,
        num_launches=3,
        exact=exact,
        ghost=ghost,
    )
    sides = {"baseline": Interval(value=2.0), "candidate": Interval(value=2.0 * ratio)}
    return ComparisonRow(case="train_step/fp32/L64/b", metric=metric, unit=unit, effect=effect, **sides)


MISSING = ComparisonRow(
    case="train_step/fp32/L128/b",
    metric="",
    unit="1",
    baseline=None,
    candidate=None,
    effect=None,
    note="oom in the candidate",
)


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (row("step_time_s", 0.5, "lower", spread=0.05), "2.00x [1.90, 2.11] faster"),
        (row("step_time_s", 2.0, "higher", spread=0.05), "2.00x [1.90, 2.10] slower"),
        (row("step_time_s", 1.005, "not distinguishable"), "0.995x [0.985, 1.005] the speed ~"),
        (row("num_params", 1.0, "not distinguishable", unit="count", exact=True), "equal, exactly"),
        (row("tracked_peak_bytes", 0.25, "lower", unit="bytes", exact=True), "4.00x less, exactly"),
    ],
)
def test_verdicts_in_words(member, words):
    (table,) = comparison.tables(Comparison(baseline="a", candidate="b", rows=(member,)))
    assert table.rows[0][0].text == "train_step/fp32/L64"
    assert table.rows[0][3].text == words


def test_power_is_told_where_nothing_was_proven():
    found = Comparison(baseline="a", candidate="b", rows=(row("step_time_s", 1.005, "not distinguishable"),))
    (table,) = comparison.tables(found)
    assert table.notes == ("~ not proven to differ; a difference of 3.0 % would have been seen.",)


def test_a_missing_case_is_a_row_with_its_reason():
    found = Comparison(baseline="a", candidate="b", rows=(row("step_time_s", 0.5, "lower"), MISSING))
    missing, timed = comparison.tables(comparison.selected(found, ("step_time_s",)))
    assert [cell.text for cell in missing.rows[0]] == ["train_step/fp32/L128", "oom in the candidate"]
    assert len(timed.rows) == 1


def test_the_geometric_mean_says_what_it_lacks_and_a_ghost_is_marked():
    ghost = row("step_time_s", 1.0, "not distinguishable", ghost=True)
    lost = dataclasses.replace(MISSING, metric="step_time_s")
    rows = (row("step_time_s", 0.5, "lower"), row("step_time_s", 2.0, "higher"), ghost, lost)
    (table,) = comparison.tables(Comparison(baseline="a", candidate="b", rows=rows))
    assert [cell.text for cell in table.rows[-1]][:4] == [
        "geomean of 2 cases, 1 of 3 MISSING",
        "",
        "",
        "1.00x the speed",
    ]
    assert [row[0].text for row in table.rows[:-1]] == [
        "train_step/fp32/L128",
        "train_step/fp32/L64",
        "train_step/fp32/L64",
        "train_step/fp32/L64 (ghost: the reference itself)",
    ]


def test_causes_and_redefined_models_are_shown_and_flat_rows_have_every_column():
    because = dataclasses.replace(row("step_time_s", 2.0, "higher"), cause="2 x the FLOPs")
    found = Comparison(baseline="a", candidate="b", rows=(because,), redefined=("variant b: heads: 4 -> 8",))
    first, timed = comparison.tables(found)
    assert "NOT THE SAME MODELS" in first.title
    assert (timed.columns[-1], timed.rows[0][-1].text) == ("with", "2 x the FLOPs")
    (line,) = comparison.flat(found)
    values = dict(zip(comparison.COLUMNS, line, strict=True))
    assert (values["ratio"], values["mde"], values["cause"]) == (2.0, 0.03, "2 x the FLOPs")


def test_differences_between_the_sides_are_told():
    found = Comparison(baseline="a", candidate="b", rows=(), differences=("torch.version: 2.12 -> 2.13",))
    (table,) = comparison.tables(found)
    assert table.rows[0][0].text == "torch.version: 2.12 -> 2.13"


def test_a_ghost_keeps_only_what_was_compared():
    rows = (row("step_time_s", 1.0, "not distinguishable", ghost=True), MISSING)
    assert len(comparison.selected(Comparison(baseline="a", candidate="b", rows=rows), ("step_time_s",)).rows) == 1


def test_plain_data_is_json(run_and_analysis):
    _, analysis = run_and_analysis
    analysis = dataclasses.replace(analysis, inside_fraction=float("nan"))
    data = json.loads(json.dumps(comparison.plain(analysis), allow_nan=False))
    assert data["inside_fraction"] is None
    assert data["exact_scaling"][0]["coefficients"] == ["4096", "12288", "96"]
