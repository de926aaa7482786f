"""Two runs whose trainings differ in more than the variant: whoever compares them is told."""

from dataclasses import replace

from quality_runs import QualityRuns

from t2bench.analysis.compare import compare


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
