"""Additive scores: z_ts = v . tanh(q_t + k_s) (Bahdanau et al. 2015, appendix A.1.2).

Shape letters: B batch, T query length, S key length, H query heads, G key/value heads, K head dim.
"""

from __future__ import annotations

import torch
from torch import Tensor


def scores(q_BHTK: Tensor, k_BGSK: Tensor, v_HK: Tensor) -> Tensor:
    """Scores (B, H, T, S) of every query with every key."""
    k_BHSK = k_BGSK.repeat_interleave(q_BHTK.shape[1] // k_BGSK.shape[1], dim=1)
    both_BHTSK = torch.tanh(q_BHTK[:, :, :, None] + k_BHSK[:, :, None])
    z_BHTS: Tensor = (both_BHTSK @ v_HK[:, None, :, None]).squeeze(-1)
    return z_BHTS
