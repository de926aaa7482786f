"""Rungs: paired between neighbours, cumulative against the foot, gaps told."""

import pytest

from t2bench.analysis.index import Index
from t2bench.analysis.ladder import ladder

ORDER = ("vanilla", "pre", "gelu", "flash")
CURVES = {
    "vanilla": lambda n: 1e-3 * n,
    "pre": lambda n: 0.9e-3 * n,
    "gelu": lambda n: 0.9e-3 * n,
    "flash": lambda n: 0.45e-3 * n,
}


@pytest.fixture
def run(factory):
    return factory(curves=CURVES, lengths=(128, 512), launches=4, ladder=ORDER).build()


def test_steps_and_totals_recover_the_truth(run):
    rungs = ladder(Index(run), ORDER)
    assert [(r.variant, r.previous) for r in rungs[:3]] == [("pre", "vanilla"), ("gelu", "pre"), ("flash", "gelu")]
    assert len(rungs) == 6
    for rung, step, total in zip(rungs, (0.9, 1.0, 0.5) * 2, (0.9, 0.9, 0.45) * 2, strict=True):
        assert rung.effect.ratio.value == pytest.approx(step, rel=0.02)
        assert rung.cumulative.ratio.value == pytest.approx(total, rel=0.02)
        assert rung.effect.paired
    assert rungs[1].effect.verdict == "not distinguishable"
    assert rungs[2].cumulative.verdict == "lower"
    product = rungs[0].effect.ratio.value * rungs[1].effect.ratio.value
    assert product == pytest.approx(rungs[1].cumulative.ratio.value, rel=0.01)


def test_axes_name_what_changed(run):
    rungs = ladder(Index(run), ORDER)
    assert rungs[0].axes == {"norm_place": ("post", "pre")}
    assert rungs[1].axes == {"activation": ("relu", "gelu")}
    assert not rungs[0].effect.implementation_only
    assert set(rungs[2].axes) == {"norm_place", "activation", "attention"}
    backend_only = ladder(Index(run), ("vanilla", "flash"))
    assert backend_only[0].axes == {"attention": ("math", "sdpa_flash")}
    assert backend_only[0].effect.implementation_only


def test_a_missing_rung_is_stepped_over_and_told(run, edited):
    without = edited(run, lambda r: None if (r.variant, r.pass_) == ("gelu", "time") else r)
    last = ladder(Index(without), ORDER)[1]
    assert (last.variant, last.previous) == ("flash", "pre")
    assert "gelu was not measured" in last.effect.warnings[-1]
    assert not last.cumulative.warnings


def test_without_its_foot_totals_are_against_the_first_measured_and_say_so(run, edited):
    without = edited(run, lambda r: None if (r.variant, r.pass_) == ("vanilla", "time") else r)
    first = ladder(Index(without), ORDER)[0]
    assert (first.variant, first.previous, first.cumulative.reference) == ("gelu", "pre", "pre")
    assert "vanilla was not measured" in first.cumulative.warnings[-1]


def test_no_ladder_and_unknown_variants_give_no_rungs(run):
    assert ladder(Index(run), ()) == ()
    assert ladder(Index(run), ("vanilla", "nobody")) == ()
