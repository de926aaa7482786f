"""Two runs: translations are compared where the text is one, and else one line says why not."""

from dataclasses import replace

import pytest
from quality_runs import Learner, QualityRuns

from t2bench.analysis.compare import compare


@pytest.fixture
def runs(tmp_path):
    def make(*options):
        return [QualityRuns(**each).make(tmp_path / str(place)) for place, each in enumerate(options)]

    return make


def test_the_same_code_writes_the_same_text(runs):
    (found,) = compare(runs({}, {}))
    assert {row.case: row.claim.verdict for row in found.quality} == {
        "translate/fp32/L64/vanilla": "identical",
        "translate/fp32/L64/rope": "identical",
    }
    assert found.rows == ()


def test_identical_says_in_which_seeds_where_one_run_has_more(runs):
    (found,) = compare(runs({"seeds": 1}, {"seeds": 3}))
    assert {(row.claim.verdict, row.claim.why) for row in found.quality} == {
        ("identical", "in the seed that both have")
    }
    (found,) = compare(runs({}, {}))
    assert {row.claim.why for row in found.quality} == {""}


def test_a_better_candidate_is_called_so(runs):
    better = {"variants": {"vanilla": Learner(wrong=0.2), "rope": Learner(wrong=0.22)}}
    (found,) = compare(runs({}, better))
    assert [row.claim.verdict for row in found.quality] == ["better", "identical"]
    assert found.quality[0].claim.difference.value > 5


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"text_seed": 1}, "training text:"),
        ({"test_seed": 1}, "test text:"),
        ({"direction": "xb-xa"}, "direction: xa-xb -> xb-xa"),
        ({"lowercase": True}, "lowercase: False -> True"),
        ({"signature": "tok:intl"}, "BLEU signature:"),
        ({"synthetic": False}, "synthetic: True -> False"),
    ],
)
def test_other_text_is_not_compared_and_one_line_says_why(runs, other, words):
    (found,) = compare(runs({}, other))
    assert len(found.quality) == 2
    for row in found.quality:
        assert row.claim is None
        assert row.note.startswith("not compared: ")
        assert words in row.note


def test_what_one_side_lacks_is_a_row(runs):
    (found,) = compare(runs({"tests": ("test", "test[31-60]")}, {}))
    lost = [row for row in found.quality if row.scope.test == "test[31-60]"]
    assert {row.note for row in lost} == {"not in the candidate"}
    (back,) = compare(runs({}, {"tests": ("test", "test[31-60]")}))
    assert {row.note for row in back.quality if row.scope.test != "test"} == {"not in the baseline"}


def test_another_recipe_is_told(runs):
    one, two = runs({}, {"target": 25.0})
    (found,) = compare([one, two])
    assert "case translate/fp32/L64/vanilla: recipe.target: 20.0 -> 25.0" in found.redefined


def test_variants_of_one_run_against_any_of_them(runs):
    (run,) = runs({"variants": {"vanilla": Learner(), "rope": Learner(wrong=0.2), "flash": Learner(copies="rope")}})
    found = {each.candidate: each for each in compare([run], "variant", reference="rope")}
    assert found["flash"].quality[0].claim.verdict == "identical"
    assert found["vanilla"].quality[0].claim.verdict == "worse"
    assert found["vanilla"].rows == ()


def test_a_diverged_side_is_no_fault(runs):
    one, two = runs({}, {"variants": {"vanilla": Learner(diverged=(0, 1, 2)), "rope": Learner(wrong=0.22)}})
    (found,) = compare([one, two])
    first = next(row for row in found.quality if row.case.endswith("vanilla"))
    assert first.claim.why == "vanilla diverged with every seed"
    nothing = replace(two, records=tuple(r for r in two.records if r.status == "diverged"))
    assert compare([one, nothing])[0].quality


class OtherTokenizer(QualityRuns):
    def _corpus(self):
        return {**super()._corpus(), "tokenizer": {"kind": "char", "vocab": 90, "key": "0123456789"}}


class OtherSeeds(QualityRuns):
    def _record(self, path, group, place, name, launch):
        made = super()._record(path, group, place, name, launch)
        return replace(made, axes={**made.axes, "seed": launch + 10})


def told(tmp_path, old, new):
    (found,) = compare([old.make(tmp_path / "old"), new.make(tmp_path / "new")])
    return found.redefined


def test_another_tokenizer_is_told(tmp_path):
    said = told(tmp_path, QualityRuns(), OtherTokenizer())
    assert "case translate/fp32/L64/vanilla: tokenizer: bpe 500 #None -> char 90 #012345" in said


def test_seeds_that_cannot_be_paired_are_told(tmp_path):
    said = told(tmp_path, QualityRuns(), OtherSeeds())
    assert "case translate/fp32/L64/rope: seeds (not paired): 0, 1, 2 -> 10, 11, 12" in said


def test_more_seeds_of_the_same_training_are_no_other_training(tmp_path):
    assert told(tmp_path, QualityRuns(seeds=2), QualityRuns(seeds=4)) == ()
