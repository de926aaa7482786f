"""Translator: however sentences are batched and whatever is cached, the translations are the same."""

from dataclasses import replace

import pytest
import torch
from tiny_models import ENCDEC, SPECS, make, sentences, translate
from torch import nn

from t2bench.models.transformer import build
from t2bench.quality.tokenizer import BOS, PAD
from t2bench.spec.model import ModelSpec
from t2bench.spec.quality import Decoding
from t2bench.translation.translator import Translator

GREEDY, BEAM = Decoding(max_extra=5), Decoding(method="beam", beam=3, max_extra=5)
SOURCE = sentences(25)


@pytest.mark.parametrize("decoding", [GREEDY, BEAM], ids=["greedy", "beam"])
@pytest.mark.parametrize("name", SPECS)
def test_caches_change_nothing(name: str, decoding: Decoding) -> None:
    kinds = ("on", "off", "static")
    models = {cache: make(replace(SPECS[name], cache=cache), end=1.0) for cache in kinds}  # type: ignore[arg-type]
    found = {cache: translate(model, SOURCE, decoding) for cache, model in models.items()}
    for cache in ("off", "static"):
        assert found[cache].tokens == found["on"].tokens
        assert found[cache].cut == found["on"].cut
        assert found[cache].scores == pytest.approx(found["on"].scores, abs=2e-4)


@pytest.mark.parametrize("decoding", [GREEDY, BEAM], ids=["greedy", "beam"])
@pytest.mark.parametrize("name", SPECS)
def test_batches_change_nothing(name: str, decoding: Decoding) -> None:
    model = make(SPECS[name], end=1.0)
    alone, small, large = (translate(model, SOURCE, decoding, tokens=tokens) for tokens in (1, 40, 4000))
    assert alone.tokens == small.tokens == large.tokens
    assert alone.cut == small.cut == large.cut


def test_the_longest_come_first_and_batches_keep_to_the_budget() -> None:
    parts = list(Translator(make(ENCDEC), tokens=40, dtype="fp32").translate(SOURCE, GREEDY, seed=0))
    lengths = [[int(SOURCE.lengths[row]) + 1 for row in part.rows] for part in parts]
    flat = [length for batch in lengths for length in batch]
    assert flat == sorted(flat, reverse=True)
    assert all(max(batch) * len(batch) <= 40 for batch in lengths)
    assert len(parts) < 12
    for part in Translator(make(SPECS["decoder"]), tokens=400, dtype="fp32").translate(SOURCE, GREEDY, seed=0):
        assert len({int(SOURCE.lengths[row]) for row in part.rows}) == 1


def test_what_no_text_has_is_never_written() -> None:
    """Padding, the begin id and the rows that only round up the table, all made likely by the model."""
    model = make(ENCDEC, end=-1.0)
    for decoding in (GREEDY, BEAM, Decoding(method="sample"), Decoding(method="sample", top_k=20, top_p=0.99)):
        found = {token for tokens in translate(model, SOURCE, decoding).tokens for token in tokens}
        assert found
        assert not found & {PAD, BOS}
        assert max(found) < ENCDEC.vocab


def test_an_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="an encoder writes no text"):
        Translator(build(replace(ENCDEC, arch="encoder")), tokens=100, dtype="fp32")


def test_the_model_goes_on_training_afterwards() -> None:
    model = build(replace(ENCDEC, dropout=0.5)).train()
    first, second = (translate(model, SOURCE, GREEDY) for _ in range(2))
    assert first.tokens == second.tokens
    assert model.training
    model(torch.tensor([[BOS]]), source_BS=torch.tensor([[5]])).sum().backward()


class Plain(nn.Module):
    """A user's own encoder-decoder, without lengths: the mean of the source, and the last token."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.table = nn.Embedding(spec.vocab, spec.width)

    def forward(self, tokens_BT: torch.Tensor, *, source_BS: torch.Tensor) -> torch.Tensor:
        x_BTD = self.table(tokens_BT).roll(1, dims=-1) + self.table(source_BS).mean(dim=1, keepdim=True)
        return x_BTD @ self.table.weight.t()


def test_a_module_of_the_user_is_asked_for_logits_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2bench.models.own.get", lambda name: Plain)
    spec = replace(ENCDEC, factory="plain", vocab_multiple=1)
    model = build(spec).eval()
    greedy, beam = translate(model, SOURCE, GREEDY), translate(model, SOURCE, replace(BEAM, beam=1))
    assert greedy.tokens == beam.tokens
    with torch.inference_mode():
        for row, tokens in enumerate(greedy.tokens):
            given = {"source_BS": torch.tensor([[*SOURCE[row].tolist(), 2]])}
            logits_TV = model(torch.tensor([[BOS, *tokens]]), **given)[0]
            logits_TV[:, [PAD, BOS]] = -torch.inf
            assert logits_TV.argmax(dim=-1).tolist()[: len(tokens)] == tokens


def test_half_precision_scores_are_sums_in_full_precision() -> None:
    spec = ENCDEC
    model = make(spec, end=1.0, dtype=torch.bfloat16)
    parts = list(Translator(model, tokens=100, dtype="bf16").translate(SOURCE, BEAM, seed=0))
    scores = torch.tensor([score for part in parts for score in part.scores])
    assert scores.isfinite().all()
    assert (scores.bfloat16().float() != scores).any()
