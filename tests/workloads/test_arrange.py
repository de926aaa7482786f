"""Arranged batches: ragged, packed, prefixes, documents, memories."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from t2bench.models.loss import IGNORE
from t2bench.spec.axes import PatternSpec
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.workloads.arrange import arrange, num_tokens, ragged_lengths
from t2bench.workloads.batches import Batch, cut
from t2bench.workloads.predict import predict
from t2bench.workloads.registry import build

CPU = torch.device("cpu")
Make = Callable[..., Case]


def batches(case: Case, tokens: Path) -> tuple[Batch, ...]:
    model = case.model
    made = cut(tokens, arch=model.arch, batch=case.batch, length=case.length, seed=0, device=CPU)
    return arrange(case, made)


def ragged(case: Case) -> Case:
    return replace(case, workload=replace(case.workload, ragged=True))


def test_lengths_are_about_half_of_the_longest_and_seeded(make_case: Make) -> None:
    case = ragged(make_case("gpt2", length=200, batch=400))
    lengths = ragged_lengths(case)
    assert lengths.max() == 200
    assert lengths.min() >= 1
    assert 90 < lengths.mean() < 110
    assert len(set(lengths)) > 50
    assert (lengths == ragged_lengths(case)).all()
    assert (lengths != ragged_lengths(replace(case, seed=1))).any()


def test_every_batch_is_the_same_work_in_another_order(make_case: Make, tokens: Path) -> None:
    case = ragged(make_case("gpt2", length=40, batch=8))
    lengths = [b.lengths_B for b in batches(case, tokens)]
    assert all(sorted(x.tolist()) == sorted(ragged_lengths(case).tolist()) for x in lengths if x is not None)
    assert len({tuple(x.tolist()) for x in lengths if x is not None}) > 1
    for batch in batches(case, tokens):
        assert int((batch.labels_BT != IGNORE).sum()) == num_tokens(case)


@pytest.mark.parametrize("arch", ["decoder", "encdec"])
def test_packed_batches_hold_the_same_tokens_and_no_padding(make_case: Make, tokens: Path, arch: str) -> None:
    padded = ragged(make_case("vanilla", arch=arch, length=24, batch=4))
    packed = replace(padded, model=replace(padded.model, padding="packed"))
    for a, b in zip(batches(padded, tokens), batches(packed, tokens), strict=True):
        assert a.lengths_B is not None
        exists_BT = torch.arange(24) < a.lengths_B[:, None]
        assert torch.equal(a.tokens_BT[exists_BT], b.tokens_BT[0])
        assert torch.equal(a.labels_BT[exists_BT], b.labels_BT[0])
        assert (a.labels_BT[~exists_BT] == IGNORE).all()


@pytest.mark.parametrize("kind", ["train_step", "forward"])
@pytest.mark.parametrize("name", ["vanilla", "bert", "llama"])
def test_padding_changes_no_loss(make_case: Make, tokens: Path, name: str, kind: str) -> None:
    """Padded and packed batches are the same sequences, so the first loss is the same; and so is what is predicted."""
    values = {}
    for padding in ("mask", "packed"):
        case = ragged(make_case(name, kind=kind, length=24, batch=4, padding=padding))
        workload = build(case, device=CPU, tokens=tokens)
        values[padding] = float(workload.step(lambda _: None))
        assert workload.tokens == num_tokens(case) < case.tokens
        assert predict(case)["executed_flops"].value
    assert values["packed"] == pytest.approx(values["mask"], rel=1e-4)


def test_a_prefix_is_seen_and_not_predicted(make_case: Make, tokens: Path) -> None:
    case = make_case("llama", length=40, batch=8, pattern=PatternSpec(kind="prefix"))
    for batch in batches(case, tokens):
        assert batch.prefix_lengths_B is not None
        for row, prefix in zip(batch.labels_BT, batch.prefix_lengths_B.tolist(), strict=True):
            assert 10 <= prefix < 30
            assert (row[: prefix - 1] == IGNORE).all()
            assert (row[prefix - 1 :] != IGNORE).all()


def test_documents_end_without_a_prediction(make_case: Make, tokens: Path) -> None:
    case = make_case("llama", length=64, batch=8, pattern=PatternSpec(kind="document"))
    counts = []
    for batch in batches(case, tokens):
        documents_BT = batch.documents_BT
        assert documents_BT is not None
        ends_BT = documents_BT[:, 1:] != documents_BT[:, :-1]
        assert (batch.labels_BT[:, :-1][ends_BT] == IGNORE).all()
        assert (batch.labels_BT[:, :-1][~ends_BT] != IGNORE).all()
        counts += (documents_BT[:, -1] + 1).tolist()
    assert 3 < np.mean(counts) < 5


def test_segments_follow_one_another(make_case: Make, tokens: Path) -> None:
    first, second, *_ = cut(tokens, arch="decoder", batch=3, length=8, seed=0, device=CPU, consecutive=True)
    assert torch.equal(first.labels_BT[:, -1], second.tokens_BT[:, 0])


def test_memories_reach_from_step_to_step(make_case: Make, tokens: Path) -> None:
    """The memory is full from the first step on, and what was read before decides the loss."""
    case = make_case("transformer_xl", arch="decoder", length=8, memory=12, kind="forward")
    workload = build(case, device=CPU, tokens=tokens)
    first = [float(workload.step(lambda _: None)) for _ in range(8)]
    assert len({round(x, 6) for x in first[:4]}) == 4
    assert first[:4] == pytest.approx(first[4:], rel=1e-4)  # the same text again, after the same text


@pytest.mark.parametrize("kind", ["prefix", "document"])
def test_patterns_train(make_case: Make, tokens: Path, kind: str) -> None:
    case = make_case("llama", pattern=PatternSpec(kind=kind))  # type: ignore[arg-type]
    assert torch.isfinite(build(case, device=CPU, tokens=tokens).step(lambda _: None))
    assert WorkloadSpec(ragged=True).label == "train_step+ragged"
