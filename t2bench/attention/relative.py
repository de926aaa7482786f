"""Relative biases and relative values as plain operations, for back ends that have scores or take a bias tensor.

A bias for all T x S pairs has only T + S - 1 distances. A table of them is laid out by overlapping windows; one that
depends on the query is shifted as in Transformer-XL (Dai et al. 2019, appendix B), where row t of a matrix begins T - t
places further left if it is read as rows that are one place shorter. Both are faster than gathering single elements,
forward and backward.

Shape letters: B batch, T query length, S key length, H query heads, K head dim, R distances.
"""

from __future__ import annotations

import torch
from torch import Tensor

from t2bench.attention.mask import Mask
from t2bench.attention.scores import RelativeBias, Scores


def bias(relative: RelativeBias, mask: Mask, num_queries: int, num_keys: int) -> Tensor:
    """The bias of every query and key, broadcastable to (B, H, T, S); of any value where a causal mask hides the key.

    A bias that does not depend on the queries is made once and kept with `relative`, for the other layers.
    """
    if relative.values_BHTR.shape[2] == 1:
        key = ("bias", num_queries, num_keys)
        return relative.keep(key, mask, lambda: _of_table(relative, mask, num_queries, num_keys))
    if mask.query_positions_T is not None:
        place_TS = _places(relative, mask, num_queries, num_keys, relative.values_BHTR.device)
        return relative.values_BHTR.gather(-1, place_TS.expand(*relative.values_BHTR.shape[:2], -1, -1))
    # Rows must be longer than S, to be read as shorter ones; what a causal mask hides may be anything.
    ahead = 1 if mask.causal and mask.prefix_lengths_B is None else max(1, num_queries - 1)
    shifted_BHTR = _spread(relative, num_keys - 1, ahead)
    distances = shifted_BHTR.shape[-1]
    flat_BHN = shifted_BHTR.flatten(-2)[..., num_queries - 1 : num_queries * distances - 1]
    return flat_BHN.view(*flat_BHN.shape[:2], num_queries, distances - 1)[..., :num_keys]


def values(weights_BHTS: Tensor, scores: Scores, mask: Mask, *, normalised: bool) -> Tensor:
    """sum_s w_ts a[clip(s - p_t)], (B, H, T, K).

    Args:
        weights_BHTS: attention weights.
        scores: with a table of relative values a.
        mask: which made hidden weights 0.
        normalised: weights of a query sum to 1 (or do not matter).
    """
    relative, table_RK = scores.relative, scores.value_table_RK
    assert relative is not None
    assert table_RK is not None
    num_queries, num_keys = weights_BHTS.shape[2:]
    device = weights_BHTS.device
    if mask.query_positions_T is not None:
        place_TS = _places(relative, mask, num_queries, num_keys, device)
        share_BHTR = weights_BHTS.new_zeros(*weights_BHTS.shape[:3], len(table_RK))
        return share_BHTR.scatter_add(-1, place_TS.expand_as(weights_BHTS), weights_BHTS) @ table_RK

    # The weights at each distance between the ends, and all that lies beyond the ends: nothing ahead if that is hidden.
    blind_ahead = mask.causal and mask.prefix_lengths_B is None
    offset_R = torch.arange(1 - relative.left, relative.right + int(blind_ahead), device=device)
    key_TR = mask.positions(num_queries, num_keys, device)[:, None] + offset_R
    exists_TR = (key_TR >= 0) & (key_TR < num_keys)
    index_BHTR = key_TR.clamp(0, num_keys - 1).expand(*weights_BHTS.shape[:2], -1, -1)
    inner_BHTR = weights_BHTS.gather(-1, index_BHTR) * exists_TR
    total_BHT1 = 1.0 if normalised else weights_BHTS.sum(dim=-1, keepdim=True)
    beyond_BHT1 = total_BHT1 - inner_BHTR.sum(dim=-1, keepdim=True)
    if blind_ahead:
        return torch.cat((beyond_BHT1, inner_BHTR), dim=-1) @ table_RK
    behind_BHT1 = weights_BHTS.tril(num_keys - num_queries - relative.left).sum(dim=-1, keepdim=True)
    return torch.cat((behind_BHT1, inner_BHTR, beyond_BHT1 - behind_BHT1), dim=-1) @ table_RK


def _of_table(relative: RelativeBias, mask: Mask, num_queries: int, num_keys: int) -> Tensor:
    if mask.query_positions_T is not None:
        place_TS = _places(relative, mask, num_queries, num_keys, relative.values_BHTR.device)
        return relative.values_BHTR[:, :, 0][:, :, place_TS]
    # Window j holds the distances that begin at j - (S - 1): those of query T - 1 - j.
    return _spread(relative, num_keys - 1, num_queries - 1)[:, :, 0].unfold(-1, num_keys, 1).flip(-2)


def _spread(relative: RelativeBias, left: int, right: int) -> Tensor:
    """The values of the distances -left .. right, clipped ones repeated."""
    values_BHTR = relative.values_BHTR
    values_BHTR = values_BHTR[..., max(0, relative.left - left) : relative.left + right + 1]
    shape_BHT = values_BHTR.shape[:3]
    parts = [values_BHTR]
    if left > relative.left:
        parts.insert(0, values_BHTR[..., :1].expand(*shape_BHT, left - relative.left))
    if right > relative.right:
        parts.append(values_BHTR[..., -1:].expand(*shape_BHT, right - relative.right))
    return torch.cat(parts, dim=-1) if len(parts) > 1 else values_BHTR


def _places(relative: RelativeBias, mask: Mask, num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """Index of each query and key's distance in the table, int64 (T, S)."""

    def make() -> Tensor:
        p_T = mask.positions(num_queries, num_keys, device)
        distance_TS = torch.arange(num_keys, device=device) - p_T[:, None]
        return distance_TS.clamp(-relative.left, relative.right) + relative.left

    return mask.keep(("places", relative.left, relative.right, num_queries, num_keys, device), make)
