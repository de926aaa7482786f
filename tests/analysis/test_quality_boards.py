"""From records to tables: what may stand side by side, runs that never reached the target, warnings, details files."""

import gzip
import hashlib
import json
from dataclasses import replace

import pytest
from quality_runs import Learner, QualityRuns
from sacrebleu import sentence_chrf

from t2bench.analysis.analyse import analyse
from t2bench.analysis.quality_warnings import arm_warnings
from t2bench.records import Metric, Run


def quality_of(path, **options):
    return analyse(QualityRuns(**options).make(path)).quality


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    variants = {
        "vanilla": Learner(),
        "rope": Learner(wrong=0.2, pace=0.8),
        "flash": Learner(copies="vanilla"),
        "slow": Learner(wrong=0.5, diverged=(1,), empty=2),
    }
    options = {"tests": ("test", "test[31-60]"), "decodings": ("greedy", "beam5/length^1"), "target": 30.0}
    return analyse(
        QualityRuns(variants=variants, ladder=("vanilla", "rope"), **options).make(tmp_path_factory.mktemp("q"))
    )


def test_every_test_set_and_decoding_is_a_table_of_its_own(full):
    scopes = [(board.scope.test, board.scope.decoding) for board in full.quality.boards]
    assert sorted(scopes) == sorted(
        (test, decoding) for test in ("test", "test[31-60]") for decoding in ("greedy", "beam5/length^1")
    )
    assert [board.primary for board in full.quality.boards] == [True, False, False, False]
    assert scopes[0] == ("test", "greedy")


def test_claims_of_the_primary_table(full):
    claims = full.quality.boards[0].claims
    assert claims["flash"].verdict == "identical"
    assert claims["flash"].sentences == {}
    assert claims["rope"].verdict == "better"
    assert claims["slow"].verdict == "worse"
    assert sorted(claims["rope"].sentences) == [0, 1, 2]
    assert sorted(claims["slow"].sentences) == [0, 2]
    assert full.quality.boards[0].rungs[0].variant == "rope"
    assert all(not claim.sentences for claim in full.quality.boards[1].claims.values())


def test_sentence_tests_have_the_scores_of_the_records(full):
    board = full.quality.boards[0]
    arms = {arm.variant: arm for arm in board.arms}
    for seed, test in board.claims["rope"].sentences.items():
        scores = [dict(zip(arms[n].seeds, arms[n].values["bleu"], strict=True))[seed] for n in ("rope", "vanilla")]
        assert test.difference.value == pytest.approx(scores[0] - scores[1], abs=1e-9)


def test_outcomes_know_seeds(full, tmp_path):
    assert {o.variant: o.status for o in full.outcomes} == {
        "vanilla": "ok", "rope": "ok", "flash": "ok", "slow": "diverged"
    }  # fmt: skip
    run = QualityRuns(seeds=4).make(tmp_path)
    short = replace(run, records=tuple(r for r in run.records if r.launch != 2 or r.variant != "rope"))
    outcome = {o.variant: o for o in analyse(short).outcomes}["rope"]
    assert outcome.status == "incomplete"
    assert outcome.reason == "3 of 4 seeds: the run was not finished"


def test_costs_to_the_target_with_runs_that_never_got_there(full):
    costs = {cost.variant: cost for cost in full.quality.costs}
    vanilla, rope, slow = (costs[name].to_target["time_to_quality_s"] for name in ("vanilla", "rope", "slow"))
    assert vanilla[1:] == (0, 3)
    assert costs["rope"].ratios["time_to_quality_s"] == pytest.approx(rope[0] / vanilla[0])
    assert slow == (None, 3, 3)  # one diverged, two were too slow
    assert "time_to_quality_s" not in costs["slow"].ratios


@pytest.mark.parametrize("lost", [(2,), (1, 2)])
def test_a_median_over_seeds_survives_one_that_did_not_reach_it(tmp_path, lost):
    run = QualityRuns().make(tmp_path)
    never = {"time_to_quality_s": Metric(value=None, unit="s"), "tokens_to_quality": Metric(value=None, unit="tokens")}
    records = [
        replace(r, metrics={**r.metrics, **never}) if r.variant == "vanilla" and r.launch in lost else r
        for r in run.records
    ]
    vanilla, rope = analyse(replace(run, records=tuple(records))).quality.costs
    times = [r.metrics["time_to_quality_s"].value for r in records[:3] if r.launch not in lost]
    middle = None if len(lost) == 2 else max(times)  # of two values and an infinite one
    assert vanilla.to_target["time_to_quality_s"] == (middle, len(lost), 3)
    assert rope.to_target["time_to_quality_s"][1] == 0
    assert rope.ratios == {}


def test_energy_that_nobody_measured_is_not_a_failure_to_reach(tmp_path):
    run = QualityRuns().make(tmp_path)
    blank = {"energy_to_quality_j": Metric(value=None, unit="J")}
    run = replace(run, records=tuple(replace(r, metrics={**r.metrics, **blank}) for r in run.records))
    assert all("energy_to_quality_j" not in cost.to_target for cost in analyse(run).quality.costs)


@pytest.mark.parametrize(
    "other",
    [
        {"text_seed": 1},
        {"test_seed": 1},
        {"direction": "xb-xa"},
        {"signature": "nrefs:1|case:lc|eff:no|tok:13a|smooth:exp|version:2.6.0"},
        {"lowercase": True},
        {"synthetic": False},
        {"corpus": "another"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_is_not_one_task_never_shares_a_table(tmp_path, other):
    one, two = QualityRuns().make(tmp_path / "a"), QualityRuns(**other).make(tmp_path / "b")
    # Half of the variants of one group were judged on something else.
    records = [r for r in one.records if r.variant == "vanilla"] + [r for r in two.records if r.variant == "rope"]
    boards = analyse(replace(one, records=tuple(records))).quality.boards
    assert len(boards) == 2
    assert sorted(arm.variant for board in boards for arm in board.arms) == ["rope", "vanilla"]
    assert all(not board.claims for board in boards)


def test_the_higher_floor_guards_warnings_and_verdicts(tmp_path):
    found = quality_of(
        tmp_path, variants={"vanilla": Learner(), "rope": Learner()}, floors={"copy": 99.0, "retrieval": 0}
    )
    assert any("is below the 99.0 of the source as its own translation" in warning for warning in found.warnings)
    assert found.boards[0].claims["rope"].why == "neither reaches the 99.0 BLEU of the source as its own translation"


def test_warnings_name_what_looks_wrong(tmp_path):
    variants = {
        "vanilla": Learner(),
        "blind": Learner(wrong=0.98, val_loss=0.17),
        "mute": Learner(empty=150),
    }
    told = quality_of(tmp_path, variants=variants).warnings
    assert any(w.startswith("blind (test, greedy): its validation loss is tiny (0.17 nats)") for w in told)
    assert any(w.startswith("blind") and "below the 7.1 of the nearest training sentence" in w for w in told)
    assert any(w.startswith("mute") and "450 of 660 outputs are empty" in w for w in told)
    assert any(w.startswith("mute") and "too short (brevity penalty" in w for w in told)
    assert not any(w.startswith("vanilla") for w in told)


def test_outputs_are_not_called_too_short_and_too_long_at_once(full):
    arm = replace(full.quality.boards[0].arms[0], values={"brevity_penalty": (0.5, 1.0), "length_ratio": (0.6, 7.0)})
    assert arm_warnings(arm, (), {}, primary=False).warnings == (
        "its outputs are 3.80 times as long as the references",
        "those of some seeds are too short (brevity penalty 0.75)",
    )


@pytest.mark.parametrize(("fall", "warned"), [(5, 2), (0.1, 0)])
def test_a_wider_search_that_is_worse_is_told_but_not_a_rounding(tmp_path, fall, warned):
    run = QualityRuns(decodings=("greedy", "beam5")).make(tmp_path)
    for record in run.records:
        for entry in record.observed["scores"]:
            entry["bleu"] -= fall * (entry["decoding"] == "beam5")
    told = [w for w in analyse(run).quality.warnings if "below greedy's" in w]
    assert len(told) == warned
    assert all("beam5 scores" in line for line in told)


def test_a_metric_that_chose_the_output_does_not_judge_it(tmp_path):
    mbr = {"method": "mbr", "samples": 8, "utility": "bleu"}
    board = quality_of(tmp_path / "a", decodings=("mbr8/bleu",), decode=(mbr,)).boards[0]
    assert board.claims["rope"].verdict == "undecidable"
    assert "BLEU chose these outputs" in board.claims["rope"].why
    chrf = {**mbr, "utility": "chrf"}
    assert quality_of(tmp_path / "b", decodings=("mbr8/chrf",), decode=(chrf,)).boards[0].agrees_by == "ter"


def test_few_sentences_allow_no_verdict(tmp_path):
    board = quality_of(tmp_path, sentences=150).boards[0]
    assert board.claims["rope"].verdict == "undecidable"
    assert board.claims["rope"].why == "150 sentences; 200 are needed for a verdict"


def test_one_seed_is_said_to_prove_nothing(tmp_path):
    quality = quality_of(tmp_path, seeds=1)
    assert any(warning.startswith("one seed proves nothing") for warning in quality.warnings)
    assert quality.boards[0].arms[0].spreads["bleu"].interval.low is None


def test_samples_wins_and_losses_come_from_the_details(full):
    sample = full.quality.samples[0]
    assert sample.source == sample.reference.upper()
    assert set(sample.outputs) == {"vanilla", "rope", "flash", "slow"}
    assert {win.variant for win in full.quality.wins} <= {"rope", "slow"}  # flash equals vanilla everywhere
    assert all(win.gain > 0 for win in full.quality.wins)
    assert all(loss.gain < 0 for loss in full.quality.losses)
    for each in (*full.quality.wins, *full.quality.losses):
        target = QualityRuns().text(each.test)[each.row]
        mine, theirs = (sentence_chrf(each.outputs[name], [target]).score for name in (each.variant, "vanilla"))
        assert each.gain == pytest.approx(mine - theirs)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(b"garbage"), "was altered after the run"),
        (lambda path: path.unlink(), "is not there"),
    ],
)
def test_a_details_file_that_is_not_the_recorded_one_is_left_out(tmp_path, damage, words):
    run = QualityRuns().make(tmp_path)
    damage(tmp_path / run.records[0].observed["details"])
    quality = analyse(run).quality
    assert any(words in warning for warning in quality.warnings)
    assert sorted(quality.boards[0].claims["rope"].sentences) == [1, 2]
    assert quality.boards[0].claims["rope"].verdict == "better"


def test_details_outside_the_run_are_not_read(tmp_path):
    run = QualityRuns().make(tmp_path / "run")
    body = gzip.compress(json.dumps({"outputs": [], "samples": []}).encode())
    (tmp_path / "secret.json.gz").write_bytes(body)
    place = {"details": "../secret.json.gz", "details_sha256": hashlib.sha256(body).hexdigest()}
    records = tuple(replace(r, observed={**r.observed, **place}) for r in run.records)
    assert any("lies outside" in w for w in analyse(replace(run, records=records)).quality.warnings)


def test_without_details_all_else_works(tmp_path):
    quality = quality_of(tmp_path, details=False)
    assert quality.boards[0].claims["rope"].verdict == "better"
    assert (quality.samples, quality.wins, quality.losses, quality.warnings) == ((), (), (), ())


@pytest.mark.parametrize("value", [None, 7, "x", [], {}, [None], [{"bleu": "high", "test": 3}], float("nan")])
def test_foreign_records_are_read_without_a_fault(tmp_path, value):
    run = QualityRuns(details=False).make(tmp_path)
    for key in ("scores", "curve", "quality", "details"):
        records = tuple(replace(r, observed={**r.observed, key: value}) for r in run.records)
        assert analyse(replace(run, records=records)).quality is not None


def test_a_run_without_any_record_of_a_planned_training(tmp_path):
    run = QualityRuns().make(tmp_path)
    found = analyse(replace(run, records=()))
    assert found.quality.boards == ()
    assert {o.status for o in found.outcomes} == {"incomplete"}


def test_records_survive_the_journal(tmp_path):
    from t2bench.records import encode

    made = QualityRuns().make(tmp_path)
    (tmp_path / "records.jsonl").write_bytes(b"".join(encode(record) for record in made.records))
    (tmp_path / "environment.json").write_text(json.dumps(made.environment))
    assert analyse(Run.load(tmp_path)).quality == analyse(made).quality


def test_a_low_loss_beside_good_validation_is_no_sign_of_blindness(tmp_path):
    """Trained on short sentences, judged on long ones: the test is lost, and validation is not."""
    variants = {"vanilla": Learner(), "short": Learner(wrong=0.98, val_loss=0.3)}
    run = QualityRuns(variants=variants).make(tmp_path)
    records = tuple(
        replace(record, metrics={**record.metrics, "val_bleu": Metric(value=80.0, unit="BLEU")})
        for record in run.records
    )
    told = analyse(replace(run, records=records)).quality.warnings
    assert any(w.startswith("short") for w in told)
    assert not any("validation loss is tiny" in w for w in told)


def test_text_that_was_mostly_trained_on_allows_no_verdict(tmp_path):
    few = quality_of(tmp_path / "few", in_training=110)
    most = quality_of(tmp_path / "most", in_training=111)
    assert few.boards[0].claims["rope"].verdict == "better"
    why = "111 of the 220 sentences to translate are in the training text"
    assert (most.boards[0].claims["rope"].verdict, most.boards[0].claims["rope"].why) == ("undecidable", why)
    assert f"no verdicts on test, greedy: {why}" in most.warnings
    assert not any("no verdicts" in warning for warning in few.warnings)


def test_a_reference_without_a_score_is_said_to_leave_nothing_to_compare(tmp_path):
    variants = {"vanilla": Learner(), "rope": Learner(wrong=0.22)}
    run = QualityRuns(variants=variants).make(tmp_path)
    left = replace(run, records=tuple(r for r in run.records if r.variant != "vanilla"))
    warned = "nothing is compared in translate/fp32/L64: the reference vanilla has no score there"
    assert warned in analyse(left).quality.warnings
    assert warned not in analyse(run).quality.warnings
