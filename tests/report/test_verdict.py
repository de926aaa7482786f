"""The verdict: few sentences that say neither more nor less than the analysis."""

import dataclasses
import textwrap

import pytest

from t2bench.analysis.effects import with_family_verdicts
from t2bench.analysis.results import Crossover, Interval
from t2bench.report import content, units, words
from t2bench.report.verdict import verdict
from t2bench.report.view import View

LENGTHS = (256, 512, 1024, 2048, 4096)


def of(run, analysis):
    return verdict(View(run=run, analysis=analysis))


def judged(analysis, verdicts, *, crossing=None, variant="flash"):
    """The analysis with these verdicts of one variant, length by length, and that crossover."""
    told = dict(zip(LENGTHS, verdicts, strict=True))

    def changed(effect):
        length = int(effect.group.rpartition("L")[2])
        return dataclasses.replace(effect, verdict=told[length]) if effect.variant == variant else effect

    others = tuple(c for c in analysis.crossovers if c.variant != variant)
    effects = tuple(changed(effect) for effect in analysis.effects)
    return dataclasses.replace(analysis, effects=effects, crossovers=(*others, *filter(None, [crossing])))


def at(length, note="a note"):
    series = {"series": "train_step/fp32", "variant": "flash", "reference": "vanilla", "metric": "step_time_s"}
    return Crossover(**series, length=length, note=note)


L, H, N = "lower", "higher", "not distinguishable"


@pytest.mark.parametrize(
    ("verdicts", "length", "sentence", "cell"),
    [
        ((L, L, L, L, L), None, "Faster at every length from 256 to 4096.", "every L"),
        ((N, L, L, L, L), None, "Faster from L=512 on; not distinguishable at 256.", "L=512"),
        ((N, L, N, L, L), None, "Faster at 512, 2048, 4096; not distinguishable at 256, 1024.", ""),
        ((H, H, H, N, H), None, "Slower at 256, 512, 1024, 4096; not distinguishable at 2048.", ""),
        ((H, H, H, H, H), None, "Slower at every length from 256 to 4096.", "nowhere"),
        ((N, N, N, N, N), None, "Not distinguishable at any length from 256 to 4096.", "not proven"),
        ((L, L, H, H, H), None, "In time, a note.", ""),
        (
            (H, N, L, L, L),
            Interval(value=700.0, low=500.0, high=900.0),
            "Faster from L=700 [500, 900] on; not distinguishable at 512.",
            "L=700 [500, 900]",
        ),
    ],
)
def test_from_which_length_on(run_and_analysis, verdicts, length, sentence, cell):
    run, analysis = run_and_analysis
    view = View(run=run, analysis=judged(analysis, verdicts, crossing=at(length)))
    assert words.from_length(view, "train_step/fp32", "flash") == sentence
    assert words.faster_from(view, "train_step/fp32", "flash") == cell
    assert any(told.endswith(sentence) for told in verdict(view))


def test_one_series_is_not_named_and_several_are(run_and_analysis, synthetic):
    assert "train_step/fp32" not in " ".join(of(*run_and_analysis))
    twice = " ".join(of(*synthetic.repeated(*run_and_analysis, 2)))
    assert "train_step/fp32.0" in twice
    assert "train_step/fp32.1" in twice


def test_a_memory_wall_is_the_headline(run_and_analysis):
    run, analysis = run_and_analysis
    assert of(run, analysis)[0] == (
        "vanilla runs out of memory at L=8192 (predicted: needs 12.4 GiB, the limit is 8 GiB); chunked runs there."
    )
    alone = tuple(
        dataclasses.replace(o, status="oom", reason="predicted: too large") if o.group.endswith("L8192") else o
        for o in analysis.outcomes
    )
    # Where nobody runs, the end of memory tells no variant from another.
    assert "out of memory" not in " ".join(of(run, dataclasses.replace(analysis, outcomes=alone)))


def test_a_ladder_is_told_as_a_whole_then_by_proven_steps(run_and_analysis, synthetic):
    run, analysis = synthetic.only(*run_and_analysis, 4096)
    first, last = analysis.ladder
    first = dataclasses.replace(first, effect=dataclasses.replace(first.effect, verdict=N))
    analysis = dataclasses.replace(analysis, ladder=(first, last))
    ladder, null = of(run, analysis)
    total = units.times(units.speed_up(analysis.ladder[-1].cumulative))
    assert ladder.startswith(f"The ladder at L=4096, vanilla to flash in 2 steps: {total} faster; peak memory ")
    proven, _, rest = ladder.partition("Steps: ")[2].partition("; not proven: ")
    assert proven.startswith("flash ")
    assert "chunked" not in proven
    assert rest == "chunked (differences of 3.1 % would have been seen)."
    assert "grows" not in ladder + null
    assert "the one measured length" not in ladder + null


def test_many_comparisons_share_a_sentence(run_and_analysis, synthetic):
    run, analysis = synthetic.only(*run_and_analysis, 4096)
    template = next(e for e in analysis.effects if e.variant == "flash")
    wins = {f"v{i}": 0.5 + 0.05 * i for i in range(7)}
    effects = [
        dataclasses.replace(template, variant=v, ratio=Interval(value=r, low=r - 0.01, high=r + 0.01))
        for v, r in wins.items()
    ]
    effects += [dataclasses.replace(template, variant=f"u{i}", verdict=N, mde=0.1 + i) for i in range(12)]
    own = [e for e in analysis.estimates if e.variant == "vanilla"]
    estimates = (*own, *(dataclasses.replace(own[0], variant=e.variant) for e in effects))
    many = dataclasses.replace(analysis, effects=tuple(effects), estimates=estimates, ladder=())
    (sentence,) = of(run, many)
    assert sentence.startswith("Against vanilla at L=4096: v0 2.00x [1.96, 2.04] faster, v1 ")
    assert "2 more proven" in sentence
    assert "and 3 more (differences of 10 % to a factor of 12 would have been seen)" in sentence
    assert len(textwrap.wrap(sentence, 80)) <= 8


@pytest.mark.parametrize("times", [1, 2, 9])
def test_about_a_dozen_lines(run_and_analysis, synthetic, times):
    sentences = of(*synthetic.repeated(*run_and_analysis, times))
    assert sum(len(textwrap.wrap(sentence, 78)) for sentence in sentences) <= 14


def test_the_null_in_percent(run_and_analysis):
    assert of(*run_and_analysis)[-1] == (
        "The null: vanilla against itself differs by +0.4 % [-0.7, +1.5] at most; 5 of 5 intervals hold 0."
    )


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [
        ((0.9784, 0.9541, 1.0038), "-2.2 % [-4.6, +0.4]"),
        ((1.0921, 0.196, 6.089), "+9 % [-80, +509]"),
        ((1.0002, 1.00004, 1.0004), "+0.020 % [+0.004, +0.040]"),
        ((1.0, 0.99, 1.01), "+0.0 % [-1.0, +1.0]"),
        ((1.021, None, None), "+2.1 %"),
    ],
)
def test_a_change_in_percent(ratio, shown):
    value, low, high = ratio
    assert units.change(Interval(value=value, low=low, high=high)) == shown


def test_what_the_tables_mark_is_left_to_the_report_files(run_and_analysis):
    run, analysis = run_and_analysis
    effects = [dataclasses.replace(e, verdict="lower", p_value=0.04) for e in analysis.effects if not e.ghost]
    family = with_family_verdicts(effects)
    assert any(effect.warnings for effect in family)
    built = content.build(run, dataclasses.replace(analysis, effects=tuple(family)))
    assert "the interval excludes 1" not in " ".join(built.warnings)
    assert "the interval excludes 1" in " ".join(built.further_warnings)
    assert any("drifted" in line for line in built.warnings)


def test_variants_are_rows_where_they_outnumber_the_lengths(run_and_analysis, synthetic):
    run, analysis = synthetic.only(*run_and_analysis, 4096)
    built = content.build(run, analysis)
    (speed,), (memory,) = built.speed, built.memory
    assert speed.title == "Speed: train_step/fp32, L=4096"
    assert [row[0].text for row in speed.rows] == ["vanilla", "flash", "chunked", "vanilla again"]
    assert speed.rows[1][1].text == units.interval(analysis.estimates[5].interval, "s")
    assert memory.columns == ("variant", "peak counted", "peak measured", "saved for backward")
    values = analysis.counted["train_step/fp32/L4096/flash"]
    assert memory.rows[1][1].text == units.quantity(values["tracked_peak_bytes"], "bytes")
    assert memory.rows[1][3].text == units.quantity(values["saved_for_backward_bytes"], "bytes")
    assert built.scaling == ()
    assert content.build(*run_and_analysis).speed[0].columns[0] == "L"


def test_what_is_not_judged_is_no_claim(run_and_analysis):
    run, analysis = run_and_analysis

    def changed(effect):
        if effect.variant != "flash":
            return effect
        return dataclasses.replace(effect, verdict="undecidable", doubt="flash could not be measured steadily")

    doubted = dataclasses.replace(analysis, effects=tuple(map(changed, analysis.effects)), ladder=(), crossovers=())
    told = " ".join(of(run, doubted))
    assert "flash cannot be judged against vanilla in speed: flash could not be measured steadily" in told
    assert "one launch" not in told


@pytest.mark.parametrize(
    ("ends", "bent"),
    [
        (((1.0, 0.9, 1.1), (1.9, 1.8, 2.0)), True),
        (((1.0, 0.5, 1.5), (1.9, 1.4, 2.4)), False),
        (((1.0, None, None), (1.9, None, None)), False),
    ],
)
def test_an_average_exponent_is_no_law_where_the_ends_differ(run_and_analysis, ends, bent):
    run, analysis = run_and_analysis
    local = tuple(
        (n, 2 * n, Interval(value=v, low=low, high=high)) for n, (v, low, high) in zip((512, 2048), ends, strict=True)
    )
    scaling = tuple(dataclasses.replace(s, local=local) for s in analysis.timed_scaling)
    told = " ".join(of(run, dataclasses.replace(analysis, timed_scaling=scaling, ladder=())))
    assert ("No power law" in told) == bent
    assert ("from 1.00 to 1.90 (" in told) == bent
    assert ("grows on average as" in told) == bent
