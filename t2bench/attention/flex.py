"""The `flex` back end: torch's FlexAttention, a kernel compiled for the mask and the scores (Dong et al. 2024).

Masks become block masks, so that blocks without visible keys are skipped; biases and caps become part of the kernel.
The kernel exists once compiled only, which takes seconds to tens of seconds at each new shape. On CPUs it has no
backward pass.

Shape letters: B batch, T query length, S key length, H query heads, G key/value heads, K head dim, R distances.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from t2bench.attention import witness
from t2bench.attention.mask import Mask
from t2bench.attention.scores import DOT, Scores, Unsupported

COMPILE_ABOVE = 1 << 28  # pairs of query and key; below, to make a block mask as one tensor is quicker than to compile

MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


@functools.cache
def kernel() -> Callable[..., Any]:
    """The compiled operator, one for the process."""
    return torch.compile(flex_attention, dynamic=False)


def attention(
    q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Mask, *, scores: Scores = DOT, dropout_p: float = 0.0
) -> Tensor:
    """Attention by FlexAttention; arguments and result as in `t2bench.attention.dispatch.attend`.

    Raises:
        ValueError: dropout, additive scores or relative values, which it cannot express.
        NotImplementedError: from torch: gradients on a CPU.
    """
    if dropout_p > 0.0 or scores.additive_HK is not None or scores.value_table_RK is not None:
        raise Unsupported("flex has dot products, biases and caps, but no dropout, additive scores or relative values")
    num_queries, num_keys = q_BHTK.shape[2], k_BGSK.shape[2]
    blocks = block_mask(mask, num_queries, num_keys, q_BHTK.device)
    run = functools.partial(
        kernel(),
        q_BHTK,
        k_BGSK,
        v_BGSK,
        score_mod=_score_mod(scores, mask, num_queries, num_keys),
        block_mask=blocks,
        scale=scores.factor(q_BHTK.shape[-1]),
        enable_gqa=q_BHTK.shape[1] != k_BGSK.shape[1],
    )
    inputs = (q_BHTK, k_BGSK, v_BGSK)
    o_BHTK: Tensor = witness.marked("flex_attention", run, inputs, flops=lambda: _flops(q_BHTK, v_BGSK, blocks))
    return o_BHTK


def _flops(q_BHTK: Tensor, v_BGSK: Tensor, blocks: BlockMask | None) -> int:
    """Operations of the forward kernel: of the blocks that it visits, each of them whole."""
    batch, heads, num_queries, head_dim = q_BHTK.shape
    pairs = batch * num_queries * v_BGSK.shape[2]
    if blocks is not None:
        visited = blocks.kv_num_blocks.sum()
        if blocks.full_kv_num_blocks is not None:
            visited = visited + blocks.full_kv_num_blocks.sum()
        pairs = batch // len(blocks.kv_num_blocks) * int(visited) * math.prod(blocks.BLOCK_SIZE)
    return 2 * heads * pairs * (head_dim + v_BGSK.shape[-1])


def block_mask(mask: Mask, num_queries: int, num_keys: int, device: torch.device) -> BlockMask | None:
    """Which blocks have visible keys; None if all keys are visible.

    Where no tensor takes part it is made once for the process, else once for the mask.
    """
    if mask.packed is None and not mask.hides(num_queries, num_keys):
        return None
    if mask.has_no_tensors and mask.packed is None:
        return _of_structure(
            mask.causal, mask.window, mask.both_sides, mask.global_tokens, num_queries, num_keys, device
        )
    return mask.keep(("flex", num_queries, num_keys, device), lambda: _create(mask, num_queries, num_keys, device))


@functools.cache
def _of_structure(
    causal: bool,
    window: int | None,
    both_sides: bool,
    global_tokens: int,
    num_queries: int,
    num_keys: int,
    device: torch.device,
) -> BlockMask:
    mask = Mask(causal=causal, window=window, both_sides=both_sides, global_tokens=global_tokens)
    with torch.inference_mode(False):
        return _create(mask, num_queries, num_keys, device)


def _create(mask: Mask, num_queries: int, num_keys: int, device: torch.device) -> BlockMask:
    given = (mask.key_lengths_B, mask.prefix_lengths_B, mask.documents_BS)
    batch = next((len(tensor) for tensor in given if tensor is not None), None)
    create = create_block_mask if num_queries * num_keys <= COMPILE_ABOVE else torch.compile(create_block_mask)
    mod = _mask_mod(mask, num_queries, num_keys, device)
    with witness.unwatched():
        made: BlockMask = create(mod, batch, None, num_queries, num_keys, device=device)
    return made


def _mask_mod(mask: Mask, num_queries: int, num_keys: int, device: torch.device) -> MaskMod:
    """The mask as a function of sequence b, head h, query t and key s."""
    if mask.packed is not None:
        return _packed_mod(mask, device)
    given = (mask.key_lengths_B, mask.prefix_lengths_B, mask.documents_BS, mask.query_positions_T)
    lengths_B, prefix_B, documents_BS, p_T = (None if x is None else x.to(device) for x in given)
    shift = num_keys - num_queries

    def visible(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        p = t + shift if p_T is None else p_T[t]
        seen = s >= 0
        if mask.causal:
            seen = s <= p if prefix_B is None else (s <= p) | (s < prefix_B[b])
        if mask.window is not None:
            near = (s > p - mask.window) & ((s < p + mask.window) if mask.both_sides else (s <= p))
            seen = seen & (near | (s < mask.global_tokens) | (p < mask.global_tokens))
        if documents_BS is not None:
            seen = seen & (documents_BS[b, p] == documents_BS[b, s])
        return seen if lengths_B is None else seen & (s < lengths_B[b])

    return visible


def _packed_mod(mask: Mask, device: torch.device) -> MaskMod:
    assert mask.packed is not None
    places = []
    for lengths, starts in (
        (mask.packed.query_lengths, mask.packed.query_offsets(device)),
        (mask.packed.key_lengths, mask.packed.key_offsets(device)),
    ):
        length_N = torch.tensor(lengths, device=device)
        document_N = torch.repeat_interleave(torch.arange(len(lengths), device=device), length_N)
        places.append((document_N, torch.arange(sum(lengths), device=device) - starts[document_N], length_N))
    (query_document_N, t_N, queries_N), (key_document_N, s_N, keys_N) = places
    p_N = t_N + (keys_N - queries_N)[query_document_N]

    def visible(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        seen = query_document_N[t] == key_document_N[s]
        if mask.causal:
            seen = seen & (s_N[s] <= p_N[t])
        if mask.window is not None:
            seen = seen & (s_N[s] > p_N[t] - mask.window)
        if mask.both_sides and mask.window is not None:
            seen = seen & (s_N[s] < p_N[t] + mask.window)
        return seen

    return visible


def _score_mod(scores: Scores, mask: Mask, num_queries: int, num_keys: int) -> ScoreMod | None:
    """Bias and cap as a function of a score, its sequence b, head h, query t and key s; None if there are none."""
    relative, cap = scores.relative, scores.softcap
    if relative is None and cap is None:
        return None
    if relative is not None and mask.packed is not None:
        raise Unsupported("flex has no relative bias within packed sequences")
    p_T, shift = mask.query_positions_T, num_keys - num_queries
    slopes_H = None if relative is None else relative.slopes_H
    values_BHTR = None if relative is None else relative.values_BHTR
    by_b, by_h, by_t = (0, 0, 0) if values_BHTR is None else (int(size > 1) for size in values_BHTR.shape[:3])

    def changed(score: Tensor, b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        distance = s - (t + shift if p_T is None else p_T[t])
        if slopes_H is not None:
            score = score - slopes_H[h] * distance.abs()
        elif relative is not None and values_BHTR is not None:
            place = distance.clamp(-relative.left, relative.right) + relative.left
            score = score + values_BHTR[b * by_b, h * by_h, t * by_t, place]
        return score if cap is None else cap * torch.tanh(score / cap)

    return changed
