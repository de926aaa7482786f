"""What stands in tables of translations, by hand from the records: means of what every seed has, pairs by seed."""

from dataclasses import replace
from statistics import fmean

import pytest
from quality_runs import Learner, QualityRuns

from t2bench.analysis.analyse import analyse
from t2bench.analysis.compare import compare
from t2bench.records import Metric

MBR = {"method": "mbr", "samples": 8, "utility": "chrf"}


def made(path, **options):
    """A run without details files, which cost time and are not looked at here."""
    return QualityRuns(details=False, **options).make(path)


def changed(run, change, *, variant="", launch=None):
    """The run with some records changed."""
    return replace(
        run,
        records=tuple(
            change(r) if variant in ("", r.variant) and launch in (None, r.launch) else r for r in run.records
        ),
    )


def seeded(run, by):
    """The run with other seeds; the launches keep their places."""
    return changed(run, lambda r: replace(r, axes={**r.axes, "seed": r.launch + by}))


def arms_of(run):
    return {arm.variant: arm for arm in analyse(run).quality.boards[0].arms}


def test_buckets_are_means_over_seeds_of_what_every_seed_has(tmp_path):
    run = made(tmp_path)
    scores = [r.observed["scores"][0] for r in run.records if r.variant == "rope"]
    wanted = [fmean(entry["buckets"][place]["bleu"] for entry in scores) for place in range(4)]
    found = arms_of(run)["rope"].buckets
    assert [bucket.bleu for bucket in found] == pytest.approx(wanted)
    assert [(bucket.low, bucket.high) for bucket in found] == [(1, 8), (9, 12), (13, 17), (18, None)]
    del scores[1]["buckets"][2]
    assert [bucket.low for bucket in arms_of(run)["rope"].buckets] == [1, 9, 18]


def test_seeds_are_those_of_the_records_and_not_their_places(tmp_path):
    run = seeded(made(tmp_path), 40)
    assert arms_of(run)["rope"].seeds == (40, 41, 42)
    turned = replace(run, records=run.records[::-1])
    assert arms_of(turned)["rope"] == arms_of(run)["rope"]


def test_two_runs_are_paired_by_seed(tmp_path):
    """Of seeds 0 to 2 and 1 to 3 two are shared."""
    one = made(tmp_path / "one")
    better = made(tmp_path / "two", variants={"vanilla": Learner(wrong=0.2), "rope": Learner(wrong=0.2)})
    (found,) = compare([one, seeded(better, 1)])
    before, after = (arms_of(run)["vanilla"].values["bleu"] for run in (one, better))
    claim = found.quality[0].claim
    assert (claim.paired, claim.num_seeds) == (True, 2)
    assert claim.difference.value == pytest.approx(fmean([after[0] - before[1], after[1] - before[2]]))


def test_sentences_are_tested_between_outputs_of_one_seed(tmp_path):
    run = QualityRuns().make(tmp_path)
    run = replace(run, records=tuple(r for r in run.records if r.variant != "vanilla" or r.launch != 0))
    tests = analyse(run).quality.boards[0].claims["rope"].sentences
    assert sorted(tests) == [1, 2]


def test_where_chrf_chose_steps_of_a_ladder_too_need_the_agreement_of_ter(tmp_path):
    """TER that says the opposite of BLEU, as chrF here does not, leaves no verdict."""
    run = made(tmp_path, decodings=("mbr8/chrf",), decode=(MBR,), ladder=("vanilla", "rope"))
    assert analyse(run).quality.boards[0].rungs[0].verdict == "better"
    for record in run.records:
        record.observed["scores"][0]["ter"] = record.observed["scores"][0]["bleu"]
    board = analyse(run).quality.boards[0]
    assert {claim.verdict for claim in (*board.rungs, board.claims["rope"])} == {"unresolved"}


def test_a_table_by_another_decoding_than_the_one_that_chose_by_bleu_is_judged(tmp_path):
    decode = ({"method": "greedy"}, {**MBR, "utility": "bleu"})
    boards = analyse(made(tmp_path, decodings=("greedy", "mbr8/bleu"), decode=decode)).quality.boards
    assert [board.claims["rope"].verdict for board in boards] == ["better", "undecidable"]


def without(*names, value=None):
    """A change of a record: metrics that are not there, or have another value."""

    def change(record):
        kept = {name: metric for name, metric in record.metrics.items() if name not in names}
        new = {} if value is None else {name: Metric(value=value, unit="s") for name in names}
        return replace(record, metrics={**kept, **new})

    return change


def test_a_cost_is_a_mean_only_where_every_seed_has_it(tmp_path):
    run = made(tmp_path)
    run = changed(run, without("train_time_s"), variant="rope", launch=1)
    vanilla, rope = analyse(run).quality.costs
    times = [r.metrics["train_time_s"].value for r in run.records if r.variant == "vanilla"]
    assert vanilla.spreads["train_time_s"].interval.value == pytest.approx(fmean(times))
    assert "train_time_s" not in rope.spreads
    assert rope.spreads["train_tokens"].num_seeds == 3


def test_costs_are_of_the_seeds_that_were_trained_to_the_end(tmp_path):
    run = made(tmp_path, variants={"vanilla": Learner(), "slow": Learner(diverged=(1,))})
    early = {"train_time_s": Metric(value=1e6, unit="s")}  # of a training that broke down on the way
    run = changed(run, lambda r: replace(r, metrics=early), variant="slow", launch=1)
    slow = analyse(run).quality.costs[1].spreads["train_time_s"]
    times = [r.metrics["train_time_s"].value for r in run.records if r.variant == "slow" and r.launch != 1]
    assert (slow.interval.value, slow.num_seeds) == (pytest.approx(fmean(times)), 2)


def test_time_to_quality_is_a_median_and_its_ratio_is_of_one_target(tmp_path):
    run = made(tmp_path)
    for name, values in (("vanilla", (10.0, 90.0, 20.0)), ("rope", (8.0, 9.0, 70.0))):
        for launch, value in enumerate(values):
            run = changed(run, without("time_to_quality_s", value=value), variant=name, launch=launch)
    vanilla, rope = analyse(run).quality.costs
    assert (vanilla.to_target["time_to_quality_s"], rope.to_target["time_to_quality_s"]) == ((20.0, 0, 3), (9.0, 0, 3))
    assert rope.ratios["time_to_quality_s"] == pytest.approx(9.0 / 20.0)
    for record in run.records:
        if record.variant == "rope":
            record.observed["quality"]["spec"]["recipe"]["target"] = 21.0
    assert analyse(run).quality.costs[1].ratios == {}


def test_a_variant_that_did_not_always_get_there_has_no_ratio(tmp_path):
    never = {name: Metric(value=None, unit="s") for name in ("time_to_quality_s", "tokens_to_quality")}
    run = made(tmp_path)
    run = changed(run, lambda r: replace(r, metrics={**r.metrics, **never}), variant="rope", launch=2)
    rope = analyse(run).quality.costs[1]
    assert rope.to_target["time_to_quality_s"][1:] == (1, 3)
    assert rope.ratios == {}


def test_variants_of_two_runs_are_judged_as_one_family(tmp_path):
    """With as many variants that are alike, a difference whose p is just below 5 % is no longer proven."""
    variants = {"v0": Learner(), **{f"v{place}": Learner(copies="v0") for place in range(1, 5)}}
    one, two = (made(tmp_path / name, variants=variants) for name in ("one", "two"))
    for record in (*one.records, *two.records):
        for score in record.observed["scores"]:
            score["sha256"] = f"{id(record)}"
    for run, shifts in ((one, (0.0, 0.0, 0.0)), (two, (1.0, 1.3, 1.6))):  # p = 0.018
        for record in run.records:
            score = record.observed["scores"][0]
            shift = shifts[record.launch] if record.variant == "v0" else (0.3, -0.3, 0.1)[record.launch] * (run is two)
            score["bleu"], score["chrf"] = 30.0 + shift, 50.0 + shift
    (found,) = compare([one, two])
    first = found.quality[0].claim
    assert 0.01 < first.p_value < 0.05
    assert first.verdict == "unresolved"
    alone = [replace(run, records=tuple(r for r in run.records if r.variant == "v0")) for run in (one, two)]
    (found,) = compare(alone)
    assert next(row.claim.verdict for row in found.quality if row.claim is not None) == "better"


def test_a_baseline_that_broke_down_for_a_seed_is_not_called_better(tmp_path):
    good, bad = Learner(wrong=0.2, diverged=(3,)), Learner(wrong=0.4)
    one = made(tmp_path / "one", variants={"vanilla": good}, seeds=4)
    two = made(tmp_path / "two", variants={"vanilla": bad}, seeds=4)
    (found,) = compare([one, two])
    claim = found.quality[0].claim
    assert claim.p_value < 0.05
    assert claim.verdict == "undecidable"
    assert claim.why.endswith("vanilla of the baseline diverged in 1 of 4 seeds")
    (turned,) = compare([two, one])
    assert turned.quality[0].claim.why.endswith("but vanilla diverged in 1 of 4 seeds")


def test_one_function_in_two_ways_is_said_to_be_one_in_tables_ladders_and_comparisons(tmp_path):
    """Trainings of one function that rounding drives apart, unless their recipes differ."""
    variants = {"vanilla": Learner(), "flash": Learner(copies="vanilla"), "rope": Learner(copies="vanilla")}
    run = made(tmp_path, variants=variants, ladder=("vanilla", "flash"))
    models = {variant["name"]: variant["model"] for variant in run.suite["variants"]}
    models["flash"].update({**models["vanilla"], "attention": "sdpa_flash"})
    for record in run.records:
        score = record.observed["scores"][0]
        score["sha256"] = record.case + str(record.launch)
        score["bleu"] += {"vanilla": 0.0}.get(record.variant, (2.0, -2.0, 1.0)[record.launch])
    board = analyse(run).quality.boards[0]
    assert [board.claims[name].verdict for name in ("flash", "rope")] == ["same function", "unresolved"]
    assert board.rungs[0].verdict == "same function"
    compared = compare([run], "variant", reference="vanilla")
    assert [each.quality[0].claim.verdict for each in compared] == ["same function", "unresolved"]
    for record in run.records:
        if record.variant == "flash":
            record.observed["quality"]["spec"]["recipe"]["lr"] = 0.5
    assert analyse(run).quality.boards[0].claims["flash"].verdict == "unresolved"
