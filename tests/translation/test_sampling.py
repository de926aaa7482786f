"""Sampling: draws have the distribution that the cuts define, and depend on the seed and the sentence alone."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from tiny_models import ENCDEC, SPECS, log_probabilities, make, may_be_written, sentences, translate

from t2bench.quality.batching import Ragged
from t2bench.quality.tokenizer import EOS
from t2bench.spec.quality import Decoding
from t2bench.translation.sampling import Sampler, probabilities, uniforms

LOGITS = np.log(np.array([0.05, 0.3, 0.2, 0.02, 0.25, 0.1, 0.08])).astype(np.float32)
CUTS = [
    {},
    {"temperature": 0.5},
    {"temperature": 2.0},
    {"top_k": 3},
    {"top_p": 0.5},
    {"top_p": 0.6},
    {"epsilon": 0.09},
    {"epsilon": 0.9},
    {"top_k": 4, "top_p": 0.8, "temperature": 0.8},
    {"top_p": 0.9, "epsilon": 0.15},
    {"top_p": 1e-9},
]


def expected(cuts: dict[str, float]) -> np.ndarray:
    """The definition, on one distribution, in float64."""
    p = np.exp(LOGITS.astype(np.float64) / cuts.get("temperature", 1.0))
    p /= p.sum()
    order = np.argsort(-p)
    if "top_k" in cuts:
        p[order[int(cuts["top_k"]) :]] = 0
        p /= p.sum()
    if "top_p" in cuts:
        enough = next(n for n in range(1, len(p) + 1) if p[order[:n]].sum() >= cuts["top_p"] - 1e-7)
        p[order[enough:]] = 0
        p /= p.sum()
    if "epsilon" in cuts:
        p[(p < cuts["epsilon"]) & (p < p.max())] = 0
        p /= p.sum()
    return p


@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_draws_have_the_distribution(cuts: dict[str, float]) -> None:
    decoding = Decoding(method="sample", **cuts)  # type: ignore[arg-type]
    p_1C, ids_1C = probabilities(torch.from_numpy(LOGITS)[None], decoding)
    p_C = torch.zeros(len(LOGITS)).scatter_(0, torch.arange(len(LOGITS)) if ids_1C is None else ids_1C[0], p_1C[0])
    np.testing.assert_allclose(p_C.numpy(), expected(cuts), atol=1e-6)
    num = 40_000
    numbers = uniforms(np.arange(8), np.full(8, 1), samples=num // 8, seed=3)
    draw = Sampler(decoding, torch.from_numpy(numbers))
    drawn = draw(torch.from_numpy(LOGITS).expand(num, -1), torch.arange(num), 0)
    counts = np.bincount(drawn.numpy(), minlength=len(LOGITS))
    possible = expected(cuts) > 0
    assert not counts[~possible].any()
    if possible.sum() > 1:
        assert chisquare(counts[possible], num * expected(cuts)[possible]).pvalue > 1e-3


def test_what_is_impossible_is_not_drawn_at_the_ends_of_the_range() -> None:
    logits_RV = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]]).expand(2, -1)
    draw = Sampler(Decoding(method="sample"), torch.tensor([[0.0], [1.0 - 2.0**-32]], dtype=torch.float64))
    assert draw(logits_RV, torch.arange(2), 0).tolist() == [1, 2]


@pytest.mark.parametrize("name", ["encdec", "decoder", "lstm_bahdanau"])
def test_whole_texts_have_the_distribution_of_the_model(name: str) -> None:
    """Texts of at most three tokens; the caches of several draws for one sentence must not be mixed up."""
    model = make(SPECS[name], end=1.0, sharp=1.0)
    decoding = Decoding(method="mbr", samples=3000, temperature=0.4, max_extra=1)
    source = Ragged.of([[4, 9], [17, 5]])
    letters = may_be_written(model)
    found = translate(model, source, decoding).candidates
    assert found is not None
    for row in range(2):
        ids = source[row].tolist()
        texts = [list(text) for text in product([x for x in letters if x != EOS], repeat=1)]
        steps_BTV = log_probabilities(model, ids, texts)[..., letters]
        p_BTV = (steps_BTV / 0.4).softmax(dim=-1).numpy()
        end = letters.index(EOS)
        pairs = {(): p_BTV[0, 0, end]}
        for text, p_TV in zip(texts, p_BTV, strict=True):
            first = p_TV[0, letters.index(text[0])]
            pairs |= {(text[0], token): first * p_TV[1, place] for place, token in enumerate(letters)}
        seen = dict.fromkeys(pairs, 0)
        for text in found[row]:
            seen[() if not text else (text[0], text[1] if len(text) > 1 else EOS)] += 1
        keys = sorted(pairs, key=lambda key: -pairs[key])
        common = [key for key in keys if pairs[key] * 3000 >= 8]
        rest = [key for key in keys if key not in set(common)]
        counts = [seen[key] for key in common] + [sum(seen[key] for key in rest)]
        shares = [pairs[key] for key in common] + [sum(pairs[key] for key in rest)]
        assert len(common) > 4
        assert chisquare(counts, np.array(shares) / sum(shares) * 3000).pvalue > 1e-3


@pytest.mark.parametrize("method", ["sample", "mbr"])
def test_temperature_zero_is_greedy(method: str) -> None:
    model, source = make(ENCDEC, end=1.0), sentences(20)
    greedy = translate(model, source, Decoding(max_extra=5)).tokens
    for temperature in (0.0, 1e-5):
        found = translate(model, source, Decoding(method=method, temperature=temperature, samples=2, max_extra=5))  # type: ignore[arg-type]
        texts = found.tokens if method == "sample" else [pair[1] for pair in found.candidates or ()]
        assert texts == greedy


@pytest.mark.parametrize("name", ["encdec", "decoder", "lstm"])
def test_draws_depend_on_the_seed_and_not_on_the_batches(name: str) -> None:
    model, source = make(SPECS[name], end=1.0), sentences(20)
    decoding = Decoding(method="sample", max_extra=5)
    first, again, alone = (translate(model, source, decoding, tokens=tokens, seed=5).tokens for tokens in (90, 90, 1))
    assert first == again == alone
    assert translate(model, source, decoding, seed=6).tokens != first


def test_draws_of_a_sentence_differ() -> None:
    model, source = make(ENCDEC, end=1.0), sentences(6)
    found = translate(model, source, Decoding(method="mbr", samples=8, max_extra=5))
    assert found.candidates is not None
    assert [len(texts) for texts in found.candidates] == [8] * 6
    assert all(len({tuple(text) for text in texts}) > 3 for texts in found.candidates)
    assert (found.tokens, found.scores) == ([], [])
    cut = [
        [len(text) == length + 5 for text in texts]
        for texts, length in zip(found.candidates, source.lengths, strict=True)
    ]
    assert found.cut == [any(row) for row in cut] != [all(row) for row in cut], "one that is cut is enough"
