"""Relative biases and relative values as plain operations, for back ends that have scores or take a bias tensor.

Shape letters: B batch, T query length, S key length, H query heads, K head dim, R distances.
"""

from __future__ import annotations

import torch
from torch import Tensor

from t2bench.attention.mask import Mask
from t2bench.attention.scores import RelativeBias, Scores


def bias(relative: RelativeBias, mask: Mask, num_queries: int, num_keys: int) -> Tensor:
    """The bias of every query and key, broadcastable to (B, H, T, S)."""
    values_BHTR = relative.values_BHTR
    place_TS = _places(relative, mask, num_queries, num_keys, values_BHTR.device)
    if values_BHTR.shape[2] == 1:
        return values_BHTR[:, :, 0][:, :, place_TS]
    return values_BHTR.gather(-1, place_TS.expand(*values_BHTR.shape[:2], -1, -1))


def values(weights_BHTS: Tensor, scores: Scores, mask: Mask) -> Tensor:
    """sum_s w_ts a[clip(s - p_t)], (B, H, T, K)."""
    assert scores.relative is not None
    assert scores.value_table_RK is not None
    num_queries, num_keys = weights_BHTS.shape[2:]
    place_TS = _places(scores.relative, mask, num_queries, num_keys, weights_BHTS.device)
    share_BHTR = weights_BHTS.new_zeros(*weights_BHTS.shape[:3], len(scores.value_table_RK))
    share_BHTR = share_BHTR.scatter_add(-1, place_TS.expand_as(weights_BHTS), weights_BHTS)
    return share_BHTR @ scores.value_table_RK


def _places(relative: RelativeBias, mask: Mask, num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """Index of each query and key's distance in the table, int64 (T, S)."""

    def make() -> Tensor:
        p_T = mask.positions(num_queries, num_keys, device)
        distance_TS = torch.arange(num_keys, device=device) - p_T[:, None]
        return distance_TS.clamp(-relative.left, relative.right) + relative.left

    return mask.keep(("places", relative.left, relative.right, num_queries, num_keys, device), make)
