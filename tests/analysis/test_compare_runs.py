"""Comparisons of runs and of variants: exact where counted, honest where not paired, nothing silently absent."""

from dataclasses import replace

import pytest

from t2bench.analysis.compare import compare, other_machine
from t2bench.analysis.effects import NOT_PAIRED_RUNS
from t2bench.records import Metric

CASE = "train_step/fp32/L128/flash"


def row_of(comparison, case, metric="step_time_s"):
    return next(row for row in comparison.rows if (row.case, row.metric) == (case, metric))


@pytest.fixture
def before(factory):
    return factory(wander=0.0, launches=5).build()


@pytest.fixture
def after(factory):
    return factory(
        wander=0.0, launches=5, seed=1, curves={"vanilla": lambda n: 1e-3 * n, "flash": lambda n: 0.75e-3 * n}
    ).build()


def test_runs_are_compared_case_by_case_unpaired(before, after):
    (found,) = compare([before, after])
    row = row_of(found, CASE)
    assert row.effect.ratio.value == pytest.approx(1.5, rel=0.02)
    assert row.effect.ratio.low < 1.5 * 1.02
    assert (row.effect.verdict, row.effect.paired) == ("undecidable", False), "drift between runs is in no interval"
    assert NOT_PAIRED_RUNS in row.effect.warnings
    assert row.baseline.value == pytest.approx(0.064, rel=0.02)
    assert row.candidate.value == pytest.approx(0.096, rel=0.02)
    assert row_of(found, "train_step/fp32/L128/vanilla").effect.verdict == "undecidable"
    assert found.differences == ()


def test_one_byte_more_is_a_difference(before, after, edited):
    def change(record):
        if record.case != CASE or record.pass_ != "counters":
            return record
        entry = record.metrics["saved_for_backward_bytes"]
        return replace(record, metrics={"saved_for_backward_bytes": replace(entry, value=entry.value + 1)})

    (found,) = compare([before, edited(after, change)])
    row = row_of(found, CASE, "saved_for_backward_bytes")
    assert (row.effect.exact, row.effect.verdict) == (True, "higher")
    same = row_of(found, "train_step/fp32/L256/flash", "saved_for_backward_bytes")
    assert same.effect.verdict == "not distinguishable"
    gone = row_of(found, CASE, "num_params")
    assert (gone.effect, gone.candidate, gone.note) == (None, None, "not measured on both sides")


def test_a_case_on_one_side_only_is_a_row_that_says_so(factory, before, after, edited):
    shorter = factory(wander=0.0, lengths=(128, 4096), launches=5).build()
    (found,) = compare([before, shorter])
    assert row_of(found, "train_step/fp32/L2048/flash").note == "not in the candidate"
    assert row_of(found, "train_step/fp32/L2048/flash").candidate is None
    assert row_of(found, "train_step/fp32/L4096/flash").note == "not in the baseline"

    def crash(record):
        bad = record.case == CASE and record.pass_ == "time"
        return replace(record, status="crashed", reason="signal 9", metrics={}) if bad else record

    (found,) = compare([before, edited(after, crash)])
    assert row_of(found, CASE).note == "crashed in the candidate: signal 9"
    assert row_of(found, CASE).effect is None


def test_a_case_that_neither_run_measured_keeps_a_row(before, after, edited):
    def empty(record):
        return None if record.case == CASE else record

    (found,) = compare([edited(before, empty), edited(after, empty)])
    row = row_of(found, CASE, "")
    assert "incomplete in the baseline" in row.note
    assert "incomplete in the candidate" in row.note


def test_differences_of_machine_and_variants_are_readable(before, after):
    environment = {
        **after.environment,
        "fingerprint": {"hw": "aa", "sw": "zz", "proto": "cc"},
        "host": {"cpu": "model B", "ram_bytes": 8, "load_1min": 3.0},
        "torch": {"torch": "2.14.0"},
    }
    variants = [dict(entry) for entry in after.suite["variants"]]
    variants[1]["model"] = {**variants[1]["model"], "heads": 4}
    changed = replace(after, environment=environment, suite={**after.suite, "variants": variants})
    (found,) = compare([before, changed])
    assert found.differences == (
        "software fingerprint: bb -> zz",
        "host.cpu: model A -> model B",
        "torch.torch: 2.13.0 -> 2.14.0",
        "torch.threads: 1 -> None",
    )
    assert found.redefined == ("variant flash: heads: 8 -> 4",)
    assert other_machine(before.environment, changed.environment) == ()
    moved = {**environment, "fingerprint": {"hw": "other", "sw": "zz", "proto": "cc"}}
    assert "host.cpu: model A -> model B" in other_machine(before.environment, moved)


def test_a_proven_difference_has_its_cause(before, edited):
    def with_counts(record):
        if record.pass_ != "counters":
            return record
        flash = record.variant == "flash"
        flops = Metric(value=50.0 if flash else 100.0, unit="flops")
        observed = {**record.observed, "backends": ["sdpa_flash" if flash else "math"]}
        return replace(record, metrics={**record.metrics, "executed_flops": flops}, observed=observed)

    found = {c.candidate: c for c in compare([edited(before, with_counts)], by="variant")}
    assert row_of(found["flash"], CASE).cause == "0.5 x the FLOPs, sdpa_flash instead of math"
    assert row_of(found["vanilla@ghost"], CASE.replace("flash", "vanilla@ghost")).cause == ""


def test_variants_of_one_run_are_paired(before):
    found = {c.candidate: c for c in compare([before], by="variant")}
    assert set(found) == {"flash", "vanilla@ghost"}
    row = row_of(found["flash"], CASE)
    assert row.effect.paired
    assert row.effect.ratio.value == pytest.approx(0.5, rel=0.02)
    (back, _) = compare([before], by="variant", reference="flash")
    assert (back.baseline, back.candidate) == ("flash", "vanilla")
    assert row_of(back, "train_step/fp32/L128/vanilla").effect.ratio.value == pytest.approx(2.0, rel=0.02)


def test_a_variant_that_was_not_measured_says_so(before, edited):
    run = edited(before, lambda r: None if r.case == CASE and r.pass_ == "time" else r)
    found = {c.candidate: c for c in compare([run], by="variant")}
    row = row_of(found["flash"], CASE)
    assert (row.effect, row.candidate, row.note) == (None, None, "not measured for flash")
    assert row.baseline is not None


def test_every_further_run_is_compared_with_the_first(before, after):
    found = compare([before, after, before])
    assert len(found) == 2
    assert all(row.effect is None or row.effect.ratio.value == 1.0 for row in found[1].rows)


def test_too_few_runs_and_unknown_variants_are_refused(before):
    with pytest.raises(ValueError, match="at least two"):
        compare([before])
    with pytest.raises(ValueError, match="needs a run"):
        compare([], by="variant")
    with pytest.raises(ValueError, match="no variant nobody; it has vanilla, flash"):
        compare([before], by="variant", reference="nobody")
