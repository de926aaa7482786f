"""FlexAttention: the mask and score functions run as plain operations here, and compiled once."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import flex_attention as torch_flex

from t2bench.attention import flex
from t2bench.attention.dispatch import attend
from t2bench.attention.mask import Mask
from t2bench.attention.packed import Packed
from t2bench.attention.scores import RelativeBias, Scores, Unsupported
from t2bench.attention.verify import backend_checks
from t2bench.attention.witness import observe
from t2bench.meters.counters import Counts, count

DOCUMENTS = torch.arange(43).div(10, rounding_mode="floor").expand(2, -1)
MASKS = {
    "full": Mask(),
    "causal": Mask(causal=True),
    "window": Mask(causal=True, window=5),
    "global": Mask(window=5, both_sides=True, global_tokens=3),
    "prefix": Mask(causal=True, prefix_lengths_B=torch.tensor([7, 0])),
    "documents": Mask(causal=True, documents_BS=DOCUMENTS),
    "lengths": Mask(key_lengths_B=torch.tensor([5, 0])),
    "positions": Mask(causal=True, query_positions_T=torch.arange(43)),
}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def qkv(batch: int = 2, length: int = 43) -> tuple[Tensor, ...]:
    return drawn(batch, 4, length, 16), drawn(batch, 2, length, 16, seed=1), drawn(batch, 2, length, 16, seed=2)


SCORES = {
    "plain": Scores(),
    "unscaled, capped": Scores(scale=1.0, softcap=2.0),
    "table": Scores(relative=RelativeBias(values_BHTR=drawn(1, 4, 1, 9, seed=3), left=6, right=2)),
    "by query, capped": Scores(
        softcap=2.0, relative=RelativeBias(values_BHTR=drawn(2, 4, 43, 7, seed=4), left=3, right=3)
    ),
}


@pytest.fixture
def plain_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr(flex, "kernel", lambda: torch_flex.flex_attention)


def assert_right(inputs: tuple[Tensor, ...], mask: Mask, scores: Scores) -> None:
    want = attend(*inputs, mask, backend="reference", scores=scores)
    assert torch.allclose(attend(*inputs, mask, backend="flex", scores=scores), want, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("plain_operations")
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES)
def test_masks_and_scores(mask: Mask, scores: Scores) -> None:
    assert_right(qkv(), mask, scores)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("plain_operations")
def test_packed_sequences_and_alibi_slopes() -> None:
    queries, keys = (5, 9, 1, 28), (7, 3, 2, 31)
    for causal, lengths in ((False, keys), (True, queries)):
        mask = Mask(causal=causal, packed=Packed(query_lengths=queries, key_lengths=lengths))
        assert_right(qkv(batch=1), mask, Scores())
    slopes_H = 2.0 ** -torch.arange(1.0, 5.0)
    values_BHTR = (-slopes_H[:, None] * torch.arange(-42.0, 2.0).abs())[None, :, None]
    alibi = RelativeBias(values_BHTR=values_BHTR, left=42, right=1, slopes_H=slopes_H)
    assert_right(qkv(), MASKS["causal"], Scores(relative=alibi))


def test_block_masks_are_made_once() -> None:
    device = torch.device("cpu")
    assert flex.block_mask(Mask(), 43, 43, device) is None
    one, other = Mask(causal=True, window=5), Mask(causal=True, window=5)
    assert flex.block_mask(one, 43, 43, device) is flex.block_mask(other, 43, 43, device)
    assert flex.block_mask(one, 43, 43, device) is not flex.block_mask(Mask(causal=True, window=6), 43, 43, device)
    lengths = MASKS["lengths"]
    assert flex.block_mask(lengths, 43, 43, device) is flex.block_mask(lengths, 43, 43, device)


def test_what_it_cannot_do() -> None:
    refused: list[dict[str, Any]] = [
        {"dropout_p": 0.1},
        {"scores": Scores(additive_HK=drawn(4, 16))},
        {"scores": Scores(relative=SCORES["table"].relative, value_table_RK=drawn(9, 16))},
    ]
    for options in refused:
        with pytest.raises(Unsupported, match="flex has"):
            attend(*qkv(), Mask(), backend="flex", **options)


@pytest.mark.filterwarnings("ignore")
def test_compiled_it_is_right_is_witnessed_and_has_no_gradients_on_a_cpu() -> None:
    inputs, mask = qkv(), Mask(causal=True, window=5)
    assert_right(inputs, mask, SCORES["table"])
    with torch.no_grad(), observe() as seen:
        attend(*inputs, mask, backend="flex", scores=SCORES["table"])
    assert seen.backends == {"flex"}
    assert all(check.passed for check in backend_checks("flex", seen, backward=False))
    with pytest.raises(NotImplementedError, match="backward on CPU"):
        attend(inputs[0].requires_grad_(), *inputs[1:], mask, backend="flex", scores=SCORES["table"])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("plain_operations")
def test_it_counts_the_blocks_that_it_visits() -> None:
    inputs = qkv(length=300)
    square = 4 * 2 * 4 * 128 * 128 * 16  # of each block: two products, two sequences, four heads, 16 features

    def counted(mask: Mask) -> Counts:
        return count(lambda: attend(*inputs, mask, backend="flex"), held=())

    full, causal = counted(Mask()), counted(Mask(causal=True))
    assert full.executed_flops == 4 * 2 * 4 * 300 * 300 * 16
    assert causal.executed_flops == 6 * square  # of 3 x 3 blocks
    assert counted(Mask(causal=True, window=20)).executed_flops == 5 * square
    assert counted(Mask(causal=True, prefix_lengths_B=torch.tensor([0, 200]))).executed_flops == (6 + 7) * square // 2
    assert full.uncounted == causal.uncounted == ()
    assert causal.bytes_touched >= sum(x.nbytes for x in inputs) + inputs[0].nbytes
