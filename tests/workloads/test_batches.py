"""Batches: the right shift, the same cuts for everybody, never the same twice."""

from pathlib import Path

import numpy as np
import pytest
import torch

from t2bench.models.loss import IGNORE
from t2bench.workloads.batches import cut
from t2bench.workloads.text import MASK

CPU = torch.device("cpu")


@pytest.fixture
def counting(tmp_path: Path) -> Path:
    """A stream in which every token is its own position, so that shifts can be read off."""
    np.save(tmp_path / "s.npy", np.arange(5000, dtype=np.uint16))
    return tmp_path / "s.npy"


def test_a_decoder_predicts_the_next_token(counting: Path) -> None:
    for batch in cut(counting, arch="decoder", batch=3, length=8, seed=1, device=CPU):
        assert batch.tokens_BT.shape == (3, 8)
        assert batch.tokens_BT.dtype == torch.int64
        assert torch.equal(batch.labels_BT, batch.tokens_BT + 1)
        assert torch.equal(batch.tokens_BT.diff(dim=1), torch.ones(3, 7, dtype=torch.int64))
        assert batch.source_BS is None


def test_encdec_continues_its_source(counting: Path) -> None:
    for batch in cut(counting, arch="encdec", batch=3, length=8, seed=1, device=CPU):
        assert batch.source_BS is not None
        assert torch.equal(batch.labels_BT, batch.source_BS + 8)
        assert torch.equal(batch.tokens_BT, batch.labels_BT - 1)


def test_an_encoder_sees_a_mask_where_it_is_scored(counting: Path) -> None:
    (batch,) = cut(counting, arch="encoder", batch=20, length=100, seed=1, device=CPU, count=1)
    scored = batch.labels_BT != IGNORE
    assert (batch.tokens_BT[scored] == MASK).all()
    whole = torch.where(scored, batch.labels_BT, batch.tokens_BT)
    assert (whole.diff(dim=1) == 1).all()
    assert 0.12 < scored.float().mean() < 0.19
    assert scored.any(dim=1).all()


def test_batches_differ_from_each_other_and_by_seed_only(counting: Path) -> None:
    def all_tokens(seed: int) -> list[torch.Tensor]:
        return [b.tokens_BT for b in cut(counting, arch="decoder", batch=2, length=8, seed=seed, device=CPU)]

    first, again, other = all_tokens(0), all_tokens(0), all_tokens(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert len({tuple(t.flatten().tolist()) for t in first}) == len(first) == 4


@pytest.mark.parametrize(("arch", "span"), [("decoder", 17), ("encoder", 16), ("encdec", 32)])
def test_a_stream_of_just_one_sequence_will_do_and_a_shorter_one_not(tmp_path: Path, arch: str, span: int) -> None:
    np.save(tmp_path / "s.npy", np.arange(span, dtype=np.uint16))
    cut(tmp_path / "s.npy", arch=arch, batch=2, length=16, seed=0, device=CPU)  # type: ignore[arg-type]
    np.save(tmp_path / "s.npy", np.arange(span - 1, dtype=np.uint16))
    with pytest.raises(ValueError, match=f"one sequence needs {span}"):
        cut(tmp_path / "s.npy", arch=arch, batch=2, length=16, seed=0, device=CPU)  # type: ignore[arg-type]
