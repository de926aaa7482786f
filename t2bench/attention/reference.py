"""The oracle: attention in float64, from the definition, sharing no code with the back ends that it judges.

    o_t = sum_s w_ts (v_s + a_d),   w_ts = exp(z_ts) / sum_s' exp(z_ts'),   s, s' visible to t,   d = clip(s - p_t)

with z as in `t2bench.attention.scores` (a query that sees no key gets 0). Query head h reads key/value head
h // (H / G) (Ainslie et al. 2023). Slow and memory-hungry by design; it is never timed.

Shape letters: B batch, T query length, S key length, H query heads, G key/value heads, K head dim, R distances.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from t2bench.attention.mask import Mask
from t2bench.attention.packed import Packed
from t2bench.attention.scores import DOT, Scores


def attention(
    q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Mask, *, scores: Scores = DOT, dropout_p: float = 0.0
) -> Tensor:
    """Exact attention; differentiable.

    Args:
        q_BHTK: queries, any float dtype.
        k_BGSK: keys.
        v_BGSK: values.
        mask: its conditions are read; its own tensors are not used.
        scores: how scores are made.
        dropout_p: must be 0: an oracle is not random.

    Returns:
        o_BHTK in float64.

    Raises:
        ValueError: dropout was asked for.
    """
    if dropout_p:
        raise ValueError(f"the attention oracle has no dropout, got {dropout_p}")
    if mask.packed is not None:
        return packed(q_BHTK, k_BGSK, v_BGSK, mask, mask.packed, scores, attention)
    q, k, v = q_BHTK.double(), k_BGSK.double(), v_BGSK.double()
    heads, num_queries, kv_heads, num_keys = q.shape[1], q.shape[2], k.shape[1], k.shape[2]
    kv_of_head = [head // (heads // kv_heads) for head in range(heads)]
    k, v = k[:, kv_of_head], v[:, kv_of_head]
    outputs = [_row(q[:, :, t], k, v, row, t, mask, scores) for t, row in enumerate(rows(mask, num_queries, num_keys))]
    return torch.stack(outputs, dim=2)


def rows(mask: Mask, num_queries: int, num_keys: int) -> list[int]:
    """The position of each query among the keys."""
    if mask.query_positions_T is None:
        return [num_keys - 1 - (num_queries - 1 - t) for t in range(num_queries)]
    return [int(row) for row in mask.query_positions_T]


def packed(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask, packed: Packed, scores: Scores, attend: Callable[..., Tensor]
) -> Tensor:
    """Sequence by sequence, cut out of the row they share."""
    mask = Mask(causal=mask.causal, window=mask.window, both_sides=mask.both_sides)
    outputs, query, key = [], 0, 0
    for queries, keys in zip(packed.query_lengths, packed.key_lengths, strict=True):
        parts = q[:, :, query : query + queries], k[:, :, key : key + keys], v[:, :, key : key + keys]
        own = scores.of_queries(slice(query, query + queries))
        outputs.append(attend(*parts, mask, scores=own))
        query, key = query + queries, key + keys
    return torch.cat(outputs, dim=2)


def _row(q_BHK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, row: int, t: int, mask: Mask, scores: Scores) -> Tensor:
    """The output of one query, whose position among the keys is `row`."""
    batch, num_keys = k_BHSK.shape[0], k_BHSK.shape[2]
    if scores.additive_HK is None:
        scale = q_BHK.shape[-1] ** -0.5 if scores.scale is None else scores.scale
        z_BHS = scale * torch.einsum("bhk,bhsk->bhs", q_BHK, k_BHSK)
    else:
        z_BHS = torch.einsum("hk,bhsk->bhs", scores.additive_HK.double(), torch.tanh(q_BHK[:, :, None] + k_BHSK))
    place_S: list[int] = []
    if (relative := scores.relative) is not None:
        place_S = [relative.left + max(-relative.left, min(relative.right, s - row)) for s in range(num_keys)]
        values_BHTR = relative.values_BHTR.double()
        z_BHS = z_BHS + values_BHTR[:, :, t if values_BHTR.shape[2] > 1 else 0][:, :, place_S]
    if scores.softcap is not None:
        z_BHS = scores.softcap * torch.tanh(z_BHS / scores.softcap)

    seen_BHS = seen(mask, batch, row, num_keys, z_BHS.device)[:, None].expand_as(z_BHS)
    z_BHS = torch.where(seen_BHS, z_BHS, -torch.inf)
    top_BH1 = z_BHS.detach().amax(dim=-1, keepdim=True)
    shifted_BHS = torch.where(seen_BHS, z_BHS - torch.where(top_BH1.isfinite(), top_BH1, 0.0), 0.0)
    e_BHS = torch.where(seen_BHS, torch.exp(shifted_BHS), 0.0)
    sum_BH1 = e_BHS.sum(dim=-1, keepdim=True)
    w_BHS = e_BHS / torch.where(sum_BH1 > 0, sum_BH1, 1.0)
    o_BHK = torch.einsum("bhs,bhsk->bhk", w_BHS, v_BHSK)
    if scores.value_table_RK is not None:
        o_BHK = o_BHK + torch.einsum("bhs,sk->bhk", w_BHS, scores.value_table_RK.double()[place_S])
    return o_BHK


def seen(mask: Mask, batch: int, row: int, num_keys: int, device: torch.device) -> Tensor:
    """Bool (B, S): which keys the query at position `row` may look at, condition by condition."""
    s_BS = torch.arange(num_keys, device=device).expand(batch, num_keys)
    seen_BS = torch.ones_like(s_BS, dtype=torch.bool)
    if mask.causal:
        seen_BS = s_BS <= row
        if mask.prefix_lengths_B is not None:
            seen_BS = seen_BS | (s_BS < mask.prefix_lengths_B.to(device)[:, None])
    if mask.window is not None and row >= mask.global_tokens:
        behind_BS, ahead_BS = row - s_BS, s_BS - row
        near_BS = (behind_BS < mask.window) & ((ahead_BS < mask.window) if mask.both_sides else (ahead_BS <= 0))
        seen_BS = seen_BS & (near_BS | (s_BS < mask.global_tokens))
    if mask.documents_BS is not None:
        documents_BS = mask.documents_BS.to(device)
        seen_BS = seen_BS & (documents_BS == documents_BS[:, row : row + 1])
    if mask.key_lengths_B is not None:
        seen_BS = seen_BS & (s_BS < mask.key_lengths_B.to(device)[:, None])
    return seen_BS
