"""A sliding window in blocks: what lies outside a query's block and its neighbours is never computed.

    first block     its own keys (and those of the next blocks, where the window has both sides)
    middle blocks   their own keys and those of the blocks that the window reaches, all blocks as one batch
    the rest        its own keys and those of the blocks before

so that a window of W keys costs T x O(W) instead of T x S, in time and memory, on any back end that takes a mask.

Shape letters: B batch, T query length, S key length, H query heads, G key/value heads, K head dim, M blocks in the
middle, C tokens of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from t2bench.attention.mask import Mask
from t2bench.attention.scores import Scores

MIN_BLOCK = 64  # smaller matrix products are slower than the work they save

Attend = Callable[[Tensor, Tensor, Tensor, Mask], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocks:
    """How a sequence is divided.

    Attributes:
        size: C, tokens of a block.
        behind: blocks before its own that a query can see into.
        ahead: the same after its own.
        middle: M, blocks that have all of them.
    """

    size: int
    behind: int
    ahead: int
    middle: int


def blocks(mask: Mask, scores: Scores, num_queries: int, num_keys: int) -> Blocks | None:
    """How to divide a sequence for this mask; None where that is not possible, or would save nothing."""
    window = mask.window_at(num_keys)
    structured = mask.documents_BS is None and mask.prefix_lengths_B is None and mask.query_positions_T is None
    same_for_all = scores.relative is None or scores.relative.values_BHTR.shape[2] == 1
    if window is None or num_queries != num_keys or mask.global_tokens or not structured or not same_for_all:
        return None
    size = max(MIN_BLOCK, window // 2)
    behind = -(-(window - 1) // size)
    ahead = behind if mask.both_sides else 0
    middle = num_queries // size - behind - max(ahead, 1)
    if middle < 1:
        return None
    return Blocks(size=size, behind=behind, ahead=ahead, middle=middle)


def attention(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Mask, cut: Blocks, attend: Attend) -> Tensor:
    """Attention within a window, block by block.

    Args:
        q_BHTK: queries.
        k_BGSK: keys, as many.
        v_BGSK: values.
        mask: with a window, and perhaps key lengths.
        cut: what `blocks` returned.
        attend: attention under a mask, for any number of queries and keys.

    Returns:
        o_BHTK.
    """
    head, tail = cut.behind * cut.size, (cut.behind + cut.middle) * cut.size
    reach = cut.ahead * cut.size
    masks = mask.keep(("banded", cut, q_BHTK.device), lambda: _masks(mask, cut, q_BHTK.shape[2], q_BHTK.device))
    first, middle, last = masks
    o_BHCK = attend(q_BHTK[:, :, :head], k_BGSK[:, :, : head + reach], v_BGSK[:, :, : head + reach], first)
    o_NHCK = attend(_fold(q_BHTK[:, :, head:tail], cut), _stack(k_BGSK, cut), _stack(v_BGSK, cut), middle)
    o_BHMK = o_NHCK.view(-1, cut.middle, *o_NHCK.shape[1:]).transpose(1, 2).flatten(2, 3)
    start = tail - head
    o_BHRK = attend(q_BHTK[:, :, tail:], k_BGSK[:, :, start:], v_BGSK[:, :, start:], last)
    return torch.cat((o_BHCK, o_BHMK, o_BHRK), dim=2)


def _fold(q_BHTK: Tensor, cut: Blocks) -> Tensor:
    """Blocks as members of the batch: (B * M, H, C, K)."""
    return _blocks(q_BHTK, cut.size).transpose(1, 2).flatten(0, 1)


def _stack(x_BGSK: Tensor, cut: Blocks) -> Tensor:
    """Each middle block with the blocks around it: (B * M, G, (behind + 1 + ahead) * C, K)."""
    each = cut.behind + 1 + cut.ahead
    x_BGNCK = _blocks(x_BGSK[:, :, : (cut.middle + each - 1) * cut.size], cut.size)
    parts = [x_BGNCK[:, :, start : start + cut.middle] for start in range(each)]
    return torch.cat(parts, dim=3).transpose(1, 2).flatten(0, 1)


def _blocks(x_BHTK: Tensor, size: int) -> Tensor:
    batch, heads, _, dim = x_BHTK.shape
    return x_BHTK.reshape(batch, heads, -1, size, dim)


def _masks(mask: Mask, cut: Blocks, length: int, device: torch.device) -> tuple[Mask, Mask, Mask]:
    """The window of the three parts; a query's position is within the keys that its part has."""

    def part(starts_M: list[int], keys: int, first_query: int, queries: int) -> Mask:
        positions_T = None
        if first_query + queries != keys:
            positions_T = torch.arange(first_query, first_query + queries, device=device)
        lengths_B = None
        if mask.key_lengths_B is not None:
            left_BM = mask.key_lengths_B.to(device)[:, None] - torch.tensor(starts_M, device=device)
            lengths_B = left_BM.clamp(0, keys).flatten()
        return Mask(
            causal=mask.causal,
            window=mask.window,
            both_sides=mask.both_sides,
            key_lengths_B=lengths_B,
            query_positions_T=positions_T,
        )

    head, tail = cut.behind * cut.size, (cut.behind + cut.middle) * cut.size
    each = cut.behind + 1 + cut.ahead
    middle_starts = [index * cut.size for index in range(cut.middle)]
    return (
        part([0], head + cut.ahead * cut.size, 0, head),
        part(middle_starts, each * cut.size, head, cut.size),
        part([tail - head], length - (tail - head), head, length - tail),
    )
