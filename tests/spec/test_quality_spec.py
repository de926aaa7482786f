"""What a suite says about training: schedules by their papers' formulas, names of decodings, recipes of variants."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import pytest

from t2bench.spec.case import Case
from t2bench.spec.errors import SuiteErrors
from t2bench.spec.loader import dump_suite, load_suite
from t2bench.spec.plan import expand
from t2bench.spec.quality import CorpusSpec, Decoding, QualitySpec, Recipe

SUITE = """
schema: 1
name: tiny
variants:
  - vanilla
  - {name: sharp, base: vanilla, recipe: {label_smoothing: 0.0}}
  - {name: sharper, base: sharp, recipe: {lr: 0.001}}
model: {arch: encdec, width: 64, heads: 2, ff: 128, enc_layers: 1, dec_layers: 1, vocab: 500}
matrix: {workload: [translate], length: [32]}
tokens_per_step: 256
quality:
  corpus: {pairs: 500}
  recipe: {steps: 60, label_smoothing: 0.2}
  decode: [greedy, {method: beam, beam: 4}]
  seeds: 2
"""


@pytest.fixture
def load(tmp_path):
    def call(*overrides, text=SUITE):
        path = tmp_path / "tiny.yaml"
        path.write_text(text)
        return load_suite(path, device="cpu", overrides=overrides)

    return call


def noam(step: int, *, width: int, warmup: int) -> float:
    """Vaswani et al. 2017, equation 3, as printed."""
    return width**-0.5 * min(step**-0.5, step * warmup**-1.5)


@pytest.mark.parametrize("step", [1, 2, 100, 3999, 4000, 4001, 100_000])
def test_noam_is_equation_3(step: int) -> None:
    recipe = Recipe(schedule="noam", lr=2.0, warmup=4000, steps=100_000)
    assert recipe.learning_rate(step, 512) == pytest.approx(2 * noam(step, width=512, warmup=4000))


def test_the_peak_of_noam_is_what_its_formula_hides() -> None:
    recipe = Recipe(schedule="noam", lr=1.0, warmup=4000, steps=100_000)
    assert recipe.peak_learning_rate(512) == pytest.approx(512**-0.5 * 4000**-0.5)
    assert replace(recipe, steps=100).peak_learning_rate(512) == pytest.approx(noam(100, width=512, warmup=4000))


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "inverse_sqrt"])
def test_warm_up_grows_to_the_peak_and_decay_begins_there(schedule: str) -> None:
    recipe = Recipe(schedule=schedule, lr=3e-3, warmup=10, steps=50)
    rates = [recipe.learning_rate(step, 64) for step in range(1, 51)]
    assert rates[:10] == pytest.approx([3e-3 * step / 10 for step in range(1, 11)])
    assert max(rates) == pytest.approx(3e-3) == pytest.approx(recipe.peak_learning_rate(64))
    assert min(rates) > 0
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_decays_by_their_formulas() -> None:
    def rate(schedule: str, step: int) -> float:
        return Recipe(schedule=schedule, lr=1.0, warmup=16, steps=115).learning_rate(step, 64)

    assert rate("inverse_sqrt", 64) == pytest.approx(math.sqrt(16 / 64))
    assert rate("linear", 66) == pytest.approx(0.5)  # half of the 100 steps from 16 to 116
    assert rate("cosine", 41) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert rate("constant", 115) == 1.0


def test_without_warm_up_the_first_update_is_the_largest() -> None:
    for schedule in ("constant", "linear", "cosine", "inverse_sqrt", "noam"):
        recipe = Recipe(schedule=schedule, warmup=0, steps=20, lr=1.0)
        rates = [recipe.learning_rate(step, 16) for step in range(1, 21)]
        assert max(rates) == rates[0] == recipe.peak_learning_rate(16)


def test_validations_end_with_the_last_update() -> None:
    assert Recipe(steps=10, validate_every=4).validation_steps == (4, 8, 10)
    assert Recipe(steps=8, validate_every=4).validation_steps == (4, 8)
    assert Recipe(steps=3).validation_steps == (1, 2, 3)
    assert Recipe(steps=900).validation_steps == tuple(range(90, 901, 90))


def test_labels_tell_decodings_apart() -> None:
    decodings = [
        Decoding(),
        Decoding(method="beam"),
        Decoding(method="beam", beam=4),
        Decoding(method="beam", penalty="gnmt"),
        Decoding(method="beam", length_alpha=0.6),
        Decoding(method="beam", penalty="none"),
        Decoding(method="sample"),
        Decoding(method="sample", top_k=8),
        Decoding(method="sample", top_p=0.9, temperature=0.7),
        Decoding(method="sample", epsilon=0.02),
        Decoding(method="mbr"),
        Decoding(method="mbr", utility="bleu", samples=8),
        Decoding(max_extra=80),
        Decoding(method="beam", max_extra=80),
        Decoding(method="sample", max_extra=80),
        Decoding(method="mbr", max_extra=80),
    ]
    labels = [decoding.label for decoding in decodings]
    assert len(set(labels)) == len(labels)
    assert labels[:5] == ["greedy", "beam5/length^1", "beam4/length^1", "beam5/gnmt^1", "beam5/length^0.6"]


def test_plain_data_and_back() -> None:
    spec = QualitySpec(
        corpus=CorpusSpec(name="copy", tests=("a", "b"), lengths=(4, 9), test_lengths=((4, 9), (10, 20))),
        recipe=Recipe(steps=5),
        decode=(Decoding(), Decoding(method="mbr")),
        seeds=3,
    )
    assert QualitySpec.from_dict(json.loads(json.dumps(asdict(spec)))) == spec
    assert QualitySpec.from_dict({}) == QualitySpec()


def test_variants_have_recipes_of_their_own_and_inherit_them(load) -> None:
    cases = {case.variant: case for case in expand(load()).cases}
    assert {name: (case.quality.recipe.label_smoothing, case.quality.recipe.lr) for name, case in cases.items()} == {
        "vanilla": (0.2, 5e-3),
        "sharp": (0.0, 5e-3),
        "sharper": (0.0, 1e-3),
    }
    assert all(case.quality.recipe.steps == 60 and case.launches == 2 for case in cases.values())


def test_a_group_that_learns_has_no_ghost_and_survives_a_trip_through_json(load) -> None:
    cases = expand(load()).cases
    assert len(cases) == 3
    assert not any(case.ghost for case in cases)
    assert [Case.from_dict(json.loads(json.dumps(case.to_dict()))) for case in cases] == list(cases)
    step = cases[0].step
    assert (step.workload.kind, step.quality, step.model) == ("train_step", None, cases[0].model)


def test_the_resolved_suite_is_a_suite(load) -> None:
    suite = load()
    again = load(text=dump_suite(suite))
    assert again.resolved == suite.resolved
    assert expand(again) == expand(suite)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("quality.recipe.stpes=4", "unknown key, did you mean steps?"),
        ("quality.recipe.lr=0", "expected a number above 0"),
        ("quality.recipe.schedule=cosin", "did you mean cosine?"),
        ("quality.corpus.lengths=[5]", "expected [fewest, most] words"),
        ("quality.corpus.test_lengths=[[4, 9], [9, 4]]", "for example [1, 30], got [9, 4]"),
        ("quality.decode=[gredy]", "did you mean greedy?"),
        ("quality.decode=[greedy, greedy]", "greedy is given twice"),
        ("quality.decode=[]", "at least one value"),
        ("quality.decode=[{beam: 4}]", "changes nothing: the method is greedy"),
        ("quality.decode=[{method: sample, samples: 4}]", "changes nothing: the method is sample"),
        ("quality.decode=[{method: beam, temperature: 0.5}]", "changes nothing: the method is beam"),
        ("quality.decode=[{method: mbr, samples: 0}]", "needs at least 1 draw"),
        ("quality.decode=[{method: beam, length_alpha: 1000}]", "at most 10"),
        ("quality.corpus.lengths=[1000000, 2000000]", "words up to 10000"),
        ("quality.corpus.tests=flickr", "expected a list"),
        ("matrix.workload=recall", "needs one of copy, reverse, recall"),
        ("matrix.workload=train_step", "changes nothing: no workload learns"),
        ("quality.seeds=0", "a whole number of at least 1"),
    ],
)
def test_mistakes_are_said_in_one_line(load, override: str, words: str) -> None:
    with pytest.raises(SuiteErrors, match=r".") as caught:
        load(override)
    assert any(words in str(error) for error in caught.value.errors), [str(error) for error in caught.value.errors]


def test_extrapolation_on_real_text_needs_ranges(load) -> None:
    with pytest.raises(SuiteErrors) as caught:
        load("matrix.workload=extrapolate", "quality.corpus.name=somewhere")
    assert "needs quality.corpus.test_lengths" in str(caught.value.errors[0])
    load(
        "matrix.workload=extrapolate", "quality.corpus.name=somewhere", "quality.corpus.test_lengths=[[1, 9], [10, 20]]"
    )
