"""Small random models of every kind, and what they translate by the plainest means: one sentence, no cache, all again.

Shape letters: B rows, T length, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from t2bench.models.transformer import Transformer
from t2bench.models.truth import sharp_variant
from t2bench.quality.batching import Ragged
from t2bench.quality.tokenizer import BOS, EOS, PAD
from t2bench.spec.axes import PatternSpec, PositionSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.quality import Decoding
from t2bench.translation.translator import Translated, Translator

ENCDEC = ModelSpec(width=32, heads=4, ff=48, enc_layers=2, dec_layers=2, vocab=21, vocab_multiple=8, norm_place="pre")
DECODER = replace(ENCDEC, arch="decoder")
LSTM = ModelSpec(recurrence="lstm", score="dot", width=24, heads=1, ff=32, enc_layers=2, dec_layers=2, vocab=21)


def kind(name: str) -> PositionSpec:
    return PositionSpec(kind=name)  # type: ignore[arg-type]


SPECS: dict[str, ModelSpec] = {
    "encdec": ENCDEC,
    "rope+gqa": replace(ENCDEC, position=kind("rope"), kv_heads=2, attention="sdpa_math"),
    "alibi": replace(ENCDEC, position=kind("alibi")),
    "t5_bias": replace(ENCDEC, position=kind("t5_bias")),
    "shaw": replace(ENCDEC, position=kind("shaw")),
    "window": replace(ENCDEC, pattern=PatternSpec(kind="window", window=3)),
    "packed": replace(ENCDEC, padding="packed"),
    "decoder": DECODER,
    "txl decoder": replace(DECODER, position=kind("txl")),
    "prefix": replace(DECODER, pattern=PatternSpec(kind="prefix")),
    "window decoder": replace(DECODER, position=kind("rope"), pattern=PatternSpec(kind="window", window=4)),
    "lstm": replace(LSTM, bridge="state", score="scaled_dot"),
    "lstm decoder": replace(LSTM, arch="decoder", score="scaled_dot"),
    "gru_luong": replace(LSTM, recurrence="gru"),
    "lstm_bahdanau": replace(LSTM, score="additive"),
}


# What must be added to the end's logit so that some of the texts end and others are cut; 1 for the rest.
ENDS = {"decoder": 2.0, "prefix": 2.0}


def make(
    spec: ModelSpec, *, end: float = 0.0, sharp: float = 1.5, seed: int = 4, dtype: torch.dtype = torch.float32
) -> Transformer:
    """A model with large random weights; `sharp` is the spread of its logits, `end` is added to that of the end id."""
    model = sharp_variant(spec, "cpu", dtype, seed, 3.0)
    of_class = model.logits

    def logits(x_BTD: Tensor) -> Tensor:
        logits_BTV = of_class(x_BTD)
        logits_BTV = sharp * logits_BTV / logits_BTV.std(dim=-1, keepdim=True)
        logits_BTV[..., EOS] += end
        # What may never be written is made tempting.
        logits_BTV[..., PAD] += 3.0
        logits_BTV[..., spec.vocab :] += 3.0
        return logits_BTV

    model.logits = logits  # type: ignore[method-assign]
    return model


def sentences(num: int, *, longest: int = 9, vocab: int = 21, seed: int = 0) -> Ragged:
    random = np.random.default_rng(seed)
    return Ragged.of(
        [random.integers(3, vocab, size=length).tolist() for length in random.integers(0, longest + 1, num)]
    )


def log_probabilities(model: Transformer, source: list[int], texts: list[list[int]]) -> Tensor:
    """Of every next token, (B, T + 1, V), for texts of one length: teacher-forced, no cache, no padding."""
    sources_BS = torch.tensor([[*source, EOS]] * len(texts))
    texts_BT = torch.tensor([[BOS, *text] for text in texts])
    given: dict[str, Any] = {}
    if model.spec.arch == "encdec":
        given["source_BS"] = sources_BS
        if model.spec.padding != "mask":
            given = {"source_BS": sources_BS}
    else:
        texts_BT = torch.cat((sources_BS, texts_BT), dim=1)
        if model.spec.pattern.kind == "prefix":
            given["prefix_lengths_B"] = torch.full((len(texts),), len(source) + 2)
    with torch.inference_mode():
        logits_BTV = model(texts_BT, **given)[:, -len(texts[0]) - 1 :]
    return logits_BTV.double().log_softmax(dim=-1)


def may_be_written(model: Transformer) -> list[int]:
    return [token for token in range(model.spec.vocab) if token not in (PAD, BOS)]


def greedy_text(model: Transformer, source: list[int], limit: int) -> tuple[list[int], bool]:
    """The likeliest token again and again: the text, and whether it was cut."""
    text: list[int] = []
    allowed = torch.tensor(may_be_written(model))
    for _ in range(limit):
        token = int(allowed[log_probabilities(model, source, [text])[0, -1, allowed].argmax()])
        if token == EOS:
            return text, False
        text.append(token)
    return text, True


def score_of(model: Transformer, source: list[int], text: list[int], cut: bool) -> float:
    """Log-probability of a text and, unless it is cut, of its end."""
    steps_TV = log_probabilities(model, source, [text])[0]
    tokens = text if cut else [*text, EOS]
    return float(sum(steps_TV[place, token] for place, token in enumerate(tokens)))


def translate(model: Transformer, source: Ragged, decoding: Decoding, *, tokens: int = 64, seed: int = 0) -> Translated:
    """The whole split as one, in its order."""
    parts = list(Translator(model, tokens=tokens, dtype="fp32").translate(source, decoding, seed=seed))
    rows = [row for part in parts for row in part.rows]
    assert sorted(rows) == list(range(len(source)))
    order = sorted(range(len(rows)), key=rows.__getitem__)

    def joined(name: str) -> list[Any]:
        values = [value for part in parts for value in getattr(part, name) or ()]
        return [values[place] for place in order] if values else []

    return Translated(
        rows=list(range(len(rows))), tokens=joined("tokens"), cut=joined("cut"), scores=joined("scores"),
        candidates=joined("candidates") or None,
    )  # fmt: skip
