"""No verdict from a case whose records forbid one, whatever its numbers look like."""

from dataclasses import replace

import pytest

from t2bench.analysis.analyse import analyse
from t2bench.analysis.compare import compare

GROUP = "train_step/fp32/L512"


def effects_of(analysis, variant="flash", metric="step_time_s"):
    return next(e for e in analysis.effects if (e.group, e.variant, e.metric) == (GROUP, variant, metric))


def ending(case, pass_, launch, status, reason=""):
    def change(record):
        hit = (record.case, record.pass_, record.launch) == (f"{GROUP}/{case}", pass_, launch)
        return replace(record, status=status, reason=reason) if hit else record

    return change


@pytest.mark.parametrize("side", ["flash", "vanilla"])
@pytest.mark.parametrize(
    ("pass_", "launch", "status", "told"),
    [
        ("truth", 0, "wrong_numerics", "computes wrong numbers (off by 1)"),
        ("time", 1, "wrong_backend", "did not run the back end it names (off by 1)"),
        ("time", 2, "not_steady", "could not be measured steadily"),
    ],
)
def test_a_side_that_is_wrong_or_restless_decides_nothing(factory, edited, side, pass_, launch, status, told):
    run = factory(ladder=("vanilla", "flash")).build()
    assert effects_of(analyse(run)).verdict == "lower"
    bad = edited(run, ending(side, pass_, launch, status, "off by 1"))
    analysis = analyse(bad)
    found = effects_of(analysis)
    assert (found.verdict, found.doubt) == ("undecidable", f"{side} {told}")
    assert found.doubt in found.warnings
    assert found.ratio.low is not None
    counted = effects_of(analysis, metric="saved_for_backward_bytes")
    assert counted.verdict == ("lower" if status == "not_steady" else "undecidable")
    rung = next(rung for rung in analysis.ladder if rung.group == GROUP)
    assert {rung.effect.verdict, rung.cumulative.verdict} == {"undecidable"}
    assert "not distinguishable" not in analysis.crossovers[0].note
    rows = {(row.case, row.metric): row for row in compare([run, bad])[0].rows}
    assert rows[f"{GROUP}/{side}", "step_time_s"].effect.verdict == "undecidable"


def test_launches_that_are_missing_are_warned_about(factory, edited):
    run = factory(launches=4).build()
    assert effects_of(analyse(run)).warnings == ()
    found = effects_of(analyse(edited(run, ending("flash", "time", 3, "crashed"))))
    assert found.verdict == "lower"
    assert "only 3 of 4 planned launches" in found.warnings
