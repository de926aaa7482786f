"""analyse() on whole runs with known truth, and on what is left of runs that went wrong."""

from dataclasses import replace

import pytest

from t2bench.analysis.analyse import analyse
from t2bench.analysis.index import series_of
from t2bench.records import Metric, Record, Run, decode, encode

SERIES = "train_step/fp32"


def effect_of(analysis, length, variant, metric="step_time_s"):
    group = f"{SERIES}/L{length}"
    return next(e for e in analysis.effects if (e.group, e.variant, e.metric) == (group, variant, metric))


def outcome_of(analysis, length, variant):
    return next(o for o in analysis.outcomes if o.case == f"{SERIES}/L{length}/{variant}")


def test_a_whole_run_gives_back_its_truth(factory):
    run = factory(launches=5).build()
    analysis = analyse(run)
    assert {o.status for o in analysis.outcomes} == {"ok"}
    assert analysis.reference == "vanilla"
    assert analysis.launches == 5
    assert analysis.inside_fraction == pytest.approx(0.4)
    assert analysis.warnings == ()
    for length in (128, 2048):
        found = effect_of(analysis, length, "flash")
        assert found.ratio.value == pytest.approx(0.5, rel=0.02)
        assert found.ratio.low < found.ratio.value < found.ratio.high < 0.55
        assert (found.verdict, found.paired, found.implementation_only) == ("lower", True, True)
        assert effect_of(analysis, length, "flash", "forward_time_s").ratio.value == pytest.approx(0.5, rel=0.02)
    assert analysis.null.num_effects == 5
    assert analysis.null.widest < 0.05
    curve = next(s for s in analysis.timed_scaling if s.variant == "vanilla")
    assert (curve.series, curve.lengths) == (SERIES, (128, 256, 512, 1024, 2048))
    assert curve.exponent.low < 1 < curve.exponent.high
    assert curve.values[0].value == pytest.approx(1e-3 * 128 / 4, rel=0.6)  # per sequence; the machine wanders
    assert analysis.crossovers[0].note == "lower at every measured length (128 to 2048)"


def test_every_effect_pairs_against_the_reference_and_none_with_the_ghosts_curve(factory):
    analysis = analyse(factory().build())
    assert {e.reference for e in analysis.effects} == {"vanilla"}
    assert {e.variant for e in analysis.effects if e.ghost} == {"vanilla@ghost"}
    assert {s.variant for s in analysis.timed_scaling} == {"vanilla", "flash"}
    assert {c.variant for c in analysis.crossovers} == {"flash"}


def test_counted_metrics_are_exact(factory):
    analysis = analyse(factory().build())
    saved = effect_of(analysis, 2048, "flash", "saved_for_backward_bytes")
    quadratic, linear = 1000 + 200 * 2048 + 4 * 2048**2, 1000 + 250 * 2048
    assert (saved.exact, saved.verdict) == (True, "lower")
    assert saved.ratio.value == pytest.approx(linear / quadratic)
    exact = {s.variant: s.coefficients for s in analysis.exact_scaling if s.metric == "sequence_saved_bytes"}
    assert exact == {"vanilla": (1000, 200, 4), "flash": (1000, 250, 0)}
    assert analysis.counted[f"{SERIES}/L128/flash"]["num_params"] == 5.0
    assert analysis.predicted[f"{SERIES}/L128/flash"]["sequence_saved_bytes"] == 1000 + 250 * 128


def test_memory_of_one_launch_is_compared_without_a_verdict(factory):
    analysis = analyse(factory().build())
    peak = effect_of(analysis, 128, "flash", "process_peak_bytes")
    assert (peak.verdict, peak.paired, peak.ratio.low) == ("undecidable", False, None)
    case = f"{SERIES}/L128/flash"
    assert analysis.measured_memory[case]["process_peak_bytes"] == (1000 + 250 * 128) * 10
    metrics = {e.metric for e in analysis.estimates if e.case == case}
    assert metrics == {"step_time_s", "forward_time_s", "tokens_per_s", "process_peak_bytes"}


def test_crossing_curves_give_a_crossover(factory):
    curves = {"vanilla": lambda n: 1e-6 * n * n, "flash": lambda n: 4e-4 * n}
    crossing = analyse(factory(curves=curves).build()).crossovers[0]
    assert crossing.length.low < 400 < crossing.length.high
    assert 380 < crossing.length.value < 420


def test_every_way_to_end_is_an_outcome(factory, edited):
    endings = {
        128: ("plan", "unsupported", "flash needs more", True),
        256: ("plan", "oom", "predicted: needs 9 GiB at least, the limit is 8 GiB", True),
        512: ("counters", "wrong_backend", "math ran", False),
        1024: ("memory", "oom", "killed", False),
        2048: ("time", "crashed", "signal 11", False),
    }

    def change(record: Record) -> Record | None:
        if record.variant != "flash":
            return record
        pass_, status, reason, _ = endings[record.axes["length"]]
        order = ("plan", "truth", "counters", "memory", "time")
        if record.pass_ == pass_:
            return replace(record, status=status, reason=reason)
        return record if order.index(record.pass_) < order.index(pass_) else None

    analysis = analyse(edited(factory().build(), change))
    for length, (_, status, reason, expected) in endings.items():
        found = outcome_of(analysis, length, "flash")
        assert (found.status, found.reason, found.expected) == (status, reason, expected)
        assert outcome_of(analysis, length, "vanilla").status == "ok"
    assert not [e for e in analysis.effects if e.variant == "flash" and e.metric == "step_time_s"]
    assert f"{SERIES}/L256/flash" in analysis.predicted


def test_a_real_oom_is_expected_only_where_the_suite_says_so(factory, edited):
    def change(record: Record) -> Record | None:
        killed = record.variant == "flash" and record.pass_ == "time"
        return replace(record, status="oom", reason="killed") if killed else record

    for expect in (False, True):
        run = edited(factory(limits={"expect_oom": expect}).build(), change)
        assert outcome_of(analyse(run), 128, "flash").expected is expect


def test_the_first_bad_pass_decides_and_a_bad_launch_is_seen(factory, edited):
    def change(record: Record) -> Record | None:
        if record.variant != "flash":
            return record
        if record.pass_ == "truth":
            return replace(record, status="wrong_numerics", reason="off by 1")
        return replace(record, status="crashed", reason="later") if record.pass_ == "time" else record

    assert outcome_of(analyse(edited(factory().build(), change)), 128, "flash").status == "wrong_numerics"

    def third(record: Record) -> Record | None:
        bad = (record.variant, record.pass_, record.launch) == ("flash", "time", 2)
        return replace(record, status="timeout", reason="hung", metrics={}) if bad else record

    analysis = analyse(edited(factory().build(), third))
    assert outcome_of(analysis, 128, "flash").status == "timeout"
    assert effect_of(analysis, 128, "flash").num_launches == 2


def test_of_two_bad_records_the_earlier_pass_decides_before_the_earlier_launch(factory, edited):
    """The time pass fails in launch 0, the memory pass in its second launch: memory comes first."""
    run = factory().build()
    case = f"{SERIES}/L128/flash"
    memory = next(r for r in run.records if (r.case, r.pass_) == (case, "memory"))
    second = replace(memory, launch=1, status="oom", reason="killed")
    changed = edited(
        run, lambda r: replace(r, status="crashed") if (r.case, r.pass_, r.launch) == (case, "time", 0) else r
    )
    analysis = analyse(replace(changed, records=(*changed.records, second)))
    assert outcome_of(analysis, 128, "flash").status == "oom"


@pytest.mark.parametrize("launches", [1, 2, 3, 4])
def test_tokens_per_second_and_step_time_say_the_same(factory, edited, launches):
    """Contended samples are left out of the step time, and so out of the rate, whatever the record's own rate says."""

    def change(record: Record) -> Record | None:
        if record.pass_ != "time":
            return record
        step = record.metrics["step_time_s"]
        slow = (*step.samples[:5], *(9 * s for s in step.samples[5:]))
        turns = {**record.turns, "contended": [False] * 5 + [True] * 3}
        value = sorted(slow)[4]
        metrics = {
            "step_time_s": replace(step, samples=slow, value=value),
            "tokens_per_s": replace(record.metrics["tokens_per_s"], value=4 * record.axes["length"] / value),
        }
        return replace(record, metrics=metrics, turns=turns)

    analysis = analyse(edited(factory(launches=launches).build(), change))
    found = {(e.case, e.metric): e.interval for e in analysis.estimates}
    for length in (128, 2048):
        case = f"{SERIES}/L{length}/flash"
        step, rate = found[case, "step_time_s"], found[case, "tokens_per_s"]
        assert rate.value == pytest.approx(4 * length / step.value)
        if launches > 1:
            assert (rate.low, rate.high) == pytest.approx((4 * length / step.high, 4 * length / step.low))


def test_operators_without_a_formula_are_named_and_leave_executed_flops_unknown(factory, edited):
    case = f"{SERIES}/L128/flash"

    def change(record: Record) -> Record | None:
        if record.pass_ not in ("plan", "counters"):
            return record
        metrics = {**record.metrics, "executed_flops": Metric(value=5.0, unit="flops")}
        hit = record.case == case and record.pass_ == "counters"
        return replace(record, metrics=metrics, observed={"uncounted": ["aten.odd"] if hit else []})

    analysis = analyse(edited(factory().build(), change))
    assert f"executed FLOPs are n/a in {case}: no formula for aten.odd" in analysis.warnings
    assert "executed_flops" not in analysis.counted[case]
    assert "executed_flops" not in analysis.predicted[case]
    assert analysis.counted[f"{SERIES}/L256/flash"]["executed_flops"] == 5.0
    of_group = {(e.variant, e.metric) for e in analysis.effects if e.group == f"{SERIES}/L128"}
    assert ("flash", "num_params") in of_group
    assert ("flash", "executed_flops") not in of_group


def test_of_a_record_written_twice_the_later_one_counts(factory):
    run = factory().build()
    again = next(r for r in run.records if r.pass_ == "counters" and r.variant == "flash")
    failed = replace(again, status="crashed", reason="first try", metrics={})
    analysis = analyse(replace(run, records=(failed, *run.records)))
    assert outcome_of(analysis, 128, "flash").status == "ok"
    analysis = analyse(replace(run, records=(*run.records, failed)))
    assert outcome_of(analysis, 128, "flash").status == "crashed"


@pytest.mark.parametrize(
    ("stopped", "damage", "why"),
    [
        ("time limit", (), "the time limit was reached"),
        (None, (), "the run was not finished"),
        (None, ((7, "checksum"),), "records.jsonl is damaged"),
        ("time limit", ((7, "checksum"),), "records.jsonl is damaged"),
    ],
)
def test_launches_that_never_came_make_a_case_incomplete(factory, stopped, damage, why):
    run = factory().build()
    kept = tuple(r for r in run.records if not (r.pass_ == "time" and (r.launch > 0 or r.axes["length"] > 512)))
    analysis = analyse(replace(run, records=kept, damage=damage, environment={**run.environment, "stopped": stopped}))
    short, long = outcome_of(analysis, 128, "flash"), outcome_of(analysis, 2048, "flash")
    assert (short.status, long.status) == ("incomplete", "incomplete")
    assert short.reason.startswith("1 of 3 launches")
    assert long.reason.endswith(why)
    assert short.expected is ("limit" in why)


def test_any_beginning_of_a_journal_can_be_analysed(factory):
    """A run may stop after any record; every planned case keeps its row."""
    run = factory(lengths=(128, 256), launches=2, ladder=("vanilla", "flash")).build()
    for count in range(len(run.records) + 1):
        analysis = analyse(replace(run, records=run.records[:count]))
        assert len(analysis.outcomes) == 6
        bare = Run(path=run.path, suite={}, environment={}, records=run.records[:count])
        assert len(analyse(bare).outcomes) == len({r.case for r in bare.records})


def test_every_record_survives_the_journal(factory):
    run = factory().build()
    again = replace(run, records=tuple(decode(encode(record)) for record in run.records))
    assert analyse(again) == analyse(run)


def test_without_the_reference_there_are_values_but_no_effects(factory, edited):
    run = edited(factory().build(), lambda r: None if r.variant == "vanilla" and r.pass_ == "time" else r)
    analysis = analyse(run)
    assert not [e for e in analysis.effects if e.metric == "step_time_s"]
    assert [e for e in analysis.estimates if e.variant == "flash"]
    assert any("the reference vanilla was not measured there" in warning for warning in analysis.warnings)


def test_one_launch_at_one_length_gives_points_without_intervals(factory):
    analysis = analyse(factory(launches=1, lengths=(512,)).build())
    found = effect_of(analysis, 512, "flash")
    assert (found.verdict, found.ratio.low) == ("undecidable", None)
    assert found.ratio.value == pytest.approx(0.5, rel=0.02)
    assert analysis.null.num_effects == 0
    estimate = next(e for e in analysis.estimates if e.metric == "step_time_s")
    assert "one launch: no interval" in estimate.warnings
    assert analysis.timed_scaling[0].exponent is None


def test_a_ghost_of_a_failed_reference_is_no_failure_of_its_own(factory, edited):
    def change(record: Record) -> Record | None:
        if record.variant == "vanilla" and record.pass_ == "counters":
            return replace(record, status="crashed", reason="signal 6")
        return None if record.pass_ == "time" else record

    ghost = outcome_of(analyse(edited(factory().build(), change)), 128, "vanilla@ghost")
    assert (ghost.status, ghost.expected) == ("skipped", True)
    assert "vanilla" in ghost.reason


def test_the_run_warns_about_itself(factory, edited):
    run = factory(launches=4).build()

    def change(record: Record) -> Record | None:
        if record.pass_ == "time":
            observed = {**record.observed}
            turns = {**record.turns, "contended": [True] * 3 + [False] * 5}
            if record.variant == "flash" and record.launch == 1:
                observed["checksum"] = 7.5
            if record.variant == "flash" and record.axes["length"] == 512:
                observed["steady"] = False
            metrics = dict(record.metrics)
            if record.axes["ghost"]:
                entry = metrics["step_time_s"]
                metrics["step_time_s"] = replace(entry, samples=tuple(1.5 * s for s in entry.samples))
            return replace(record, observed=observed, turns=turns, metrics=metrics)
        if record.pass_ == "counters" and record.case.endswith("L256/flash"):
            entry = record.metrics["saved_for_backward_bytes"]
            changed = replace(entry, value=entry.value + 1)
            return replace(record, metrics={**record.metrics, "saved_for_backward_bytes": changed})
        return record

    damaged = replace(edited(run, change), damage=((7, "checksum does not match"),))
    analysis = analyse(damaged)
    text = "\n".join(analysis.warnings)
    assert "12 of 32 samples waited for a processor" in analysis.estimates[0].warnings
    for words in (
        "1 line of records.jsonl could not be read (the first is line 7: checksum does not match)",
        "38% of the samples waited for a processor",
        "no steady state in train_step/fp32/L512/flash",
        "the reference differs from itself in 5 of 5 groups",
        "computed different results: train_step/fp32/L128/flash",
        "saved_for_backward_bytes was predicted wrongly for train_step/fp32/L256/flash (260000, counted 260001)",
    ):
        assert words in text


def test_samples_of_a_case_are_warned_about_in_words(factory, edited):
    def change(record: Record) -> Record | None:
        if record.pass_ != "time" or record.variant != "flash":
            return record
        times = tuple(1.0 + 0.03 * i for i in range(8)) if record.axes["length"] == 128 else (1, 1, 1.01, 1, 3, 1, 1, 1)
        metrics = {"step_time_s": replace(record.metrics["step_time_s"], samples=times)}
        return replace(record, metrics=metrics, status="not_steady", reason="still drifting")

    analysis = analyse(edited(factory(wander=0.0).build(), change))
    told = {e.case: " / ".join(e.warnings) for e in analysis.estimates if e.metric == "step_time_s"}
    assert "times drift by +21% within a launch of 70 s" in told[f"{SERIES}/L128/flash"]
    assert "lag-1 autocorrelation" in told[f"{SERIES}/L128/flash"]
    assert "12% of the samples are spikes" in told[f"{SERIES}/L256/flash"]
    assert "still drifting" in told[f"{SERIES}/L256/flash"]
    assert "drift by" not in told[f"{SERIES}/L256/flash"]
    assert told[f"{SERIES}/L128/vanilla"] == ""


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("train_step/fp32/L4096", ("train_step/fp32", 4096)),
        ("attention+causal/bf16/L64/heads=16", ("attention+causal/bf16/heads=16", 64)),
        ("odd", ("odd", None)),
    ],
)
def test_a_series_is_a_group_without_its_length(group, expected):
    assert series_of(group) == expected
