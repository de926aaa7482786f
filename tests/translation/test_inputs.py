"""What models are fed of sentence pairs, against the pairs written out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from t2bench.models.transformer import build
from t2bench.quality.batching import EncodedPairs, PairBatch, Ragged, gather
from t2bench.quality.tokenizer import BOS, EOS, PAD
from t2bench.spec.axes import PatternSpec, PositionSpec
from t2bench.spec.model import ModelSpec
from t2bench.translation.inputs import check_trainable, feed

CPU = torch.device("cpu")
SMALL = {"width": 8, "heads": 2, "ff": 8, "enc_layers": 1, "dec_layers": 1, "vocab": 20}
SOURCES, TARGETS = [[5, 6, 7], [8]], [[9, 10], [11, 12, 13]]
X = -100


def pairs(sources: Sequence[Sequence[int]] = SOURCES, targets: Sequence[Sequence[int]] = TARGETS) -> PairBatch:
    split = EncodedPairs(source=Ragged.of(sources), target=Ragged.of(targets))
    return gather(split, np.arange(len(split)))


def test_an_encoder_decoder_reads_both_sides() -> None:
    fed = feed(ModelSpec(**SMALL), pairs(), CPU)
    batch = fed.batch
    assert batch.source_BS is not None
    assert batch.source_BS.tolist() == [[5, 6, 7, EOS], [8, EOS, PAD, PAD]]
    assert batch.tokens_BT.tolist() == [[BOS, 9, 10, PAD], [BOS, 11, 12, 13]]
    assert batch.labels_BT.tolist() == [[9, 10, EOS, X], [11, 12, 13, EOS]]
    assert batch.given["source_lengths_B"].tolist() == [4, 2]
    assert batch.given["lengths_B"].tolist() == [3, 4]
    assert fed.labelled_N is not None
    assert fed.labelled_N.tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert (fed.num_labels, fed.num_tokens) == (7, 13)


def test_no_lengths_without_padding() -> None:
    fed = feed(ModelSpec(**SMALL), pairs([[5, 6], [7, 8]], [[9], [10]]), CPU)
    assert fed.batch.given.keys() == {"source_BS"}
    assert fed.labelled_N is None


def test_one_side_without_padding() -> None:
    batch = feed(ModelSpec(**SMALL), pairs([[5, 6], [7, 8]], TARGETS), CPU).batch
    assert batch.given.keys() == {"source_BS", "lengths_B"}


@pytest.mark.parametrize("kind", ["full", "prefix"])
def test_a_decoder_reads_both_texts_and_predicts_the_second(kind: str) -> None:
    spec = ModelSpec(arch="decoder", pattern=PatternSpec(kind=kind), **SMALL)
    fed = feed(spec, pairs(), CPU)
    batch = fed.batch
    assert batch.source_BS is None
    assert batch.tokens_BT.tolist() == [[5, 6, 7, EOS, BOS, 9, 10], [8, EOS, BOS, 11, 12, 13, PAD]]
    assert batch.labels_BT.tolist() == [[X, X, X, X, 9, 10, EOS], [X, X, 11, 12, 13, EOS, X]]
    assert batch.given["lengths_B"].tolist() == [7, 6]
    # All that a translator is given, the begin id included: its last token predicts the first one of the translation.
    prefix = batch.given["prefix_lengths_B"].tolist() if kind == "prefix" else None
    assert prefix == ([5, 3] if kind == "prefix" else None)
    assert (fed.num_labels, fed.num_tokens) == (7, 13)


@pytest.mark.parametrize("arch", ["encdec", "decoder"])
@pytest.mark.parametrize("attention", ["math", "sdpa"])
def test_packed_sentences_have_the_loss_of_padded_ones(arch: str, attention: str) -> None:
    padded = ModelSpec(arch=arch, **SMALL)
    packed = ModelSpec(arch=arch, padding="packed", attention=attention, **SMALL)
    losses = []
    for spec in (padded, packed):
        model = build(spec, dtype=torch.float64, seed=3)
        fed = feed(spec, pairs(), CPU)
        rows = 1 if spec is packed else 2
        assert fed.batch.tokens_BT.shape[0] == rows
        losses.append(model.loss(model.hidden(fed.batch.tokens_BT, **fed.batch.given), fed.batch.labels_BT))
        if spec is packed:
            assert not (fed.batch.tokens_BT == PAD).any()
    assert torch.allclose(*losses, rtol=1e-12)


@pytest.mark.parametrize("model", [{}, {"recurrence": "gru", "score": "additive"}, {"arch": "decoder"}])
def test_padding_changes_no_loss(model: dict[str, str]) -> None:
    spec = ModelSpec(**SMALL, **model)
    made = build(spec, dtype=torch.float64, seed=3)

    def total(sources: list[list[int]], targets: list[list[int]]) -> float:
        fed = feed(spec, pairs(sources, targets), CPU)
        loss = made.loss(made.hidden(fed.batch.tokens_BT, **fed.batch.given), fed.batch.labels_BT)
        return loss.item() * fed.num_labels

    alone = [total([source], [target]) for source, target in zip(SOURCES, TARGETS, strict=True)]
    assert total(SOURCES, TARGETS) == pytest.approx(sum(alone), rel=1e-12)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (ModelSpec(arch="encoder", **SMALL), "does not write text"),
        (ModelSpec(arch="decoder", memory=4, position=PositionSpec(kind="rope"), **SMALL), "memory: 0"),
        (ModelSpec(arch="decoder", padding="packed", pattern=PatternSpec(kind="prefix"), **SMALL), "padding mask"),
        (ModelSpec(compile="default", **SMALL), "compile: off"),
        (ModelSpec(position=PositionSpec(kind="learned", max_len=8), **SMALL), "9 tokens.*max_len 8"),
        (ModelSpec(arch="decoder", position=PositionSpec(kind="learned", max_len=16), **SMALL), "17 tokens"),
    ],
)
def test_what_cannot_be_trained_is_refused(spec: ModelSpec, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_trainable(spec, longest_source=9, longest_target=8, longest_pair=17)


def test_a_table_that_is_just_long_enough_is_not_refused() -> None:
    spec = ModelSpec(position=PositionSpec(kind="learned", max_len=9), **SMALL)
    check_trainable(spec, longest_source=9, longest_target=8, longest_pair=17)
