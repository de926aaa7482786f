"""The `math` back end: softmax(Q K^T * scale) V as written, in three operations (Vaswani et al. 2017, eq. 1).

It is the baseline that the fused kernels are measured against, so it is written as well as plain PyTorch allows: the
scale is applied to Q (T x K) and not to the scores (T x S), the mask is filled in place, and grouped queries (GQA) are
stacked along the query axis so that keys and values are never repeated.

Shape letters: B batch, T query length, S key length, H query heads, G key/value heads, K head dim, N stacked queries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from t2bench.attention.mask import Mask


def attention(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Mask, *, scale: float, dropout_p: float) -> Tensor:
    """Attention with explicit scores; arguments and result as in `t2bench.attention.dispatch.attend`."""
    batch, heads, num_queries, head_dim = q_BHTK.shape
    kv_heads, num_keys = k_BGSK.shape[1], k_BGSK.shape[2]
    repeats = heads // kv_heads

    q_BGNK = (q_BHTK * scale).reshape(batch, kv_heads, repeats * num_queries, head_dim)
    scores_BGNS = q_BGNK @ k_BGSK.transpose(-2, -1)
    hidden_BGNS = mask.hidden(num_queries, num_keys, q_BHTK.device, repeats)
    if hidden_BGNS is not None:
        # The most negative finite number: exp() of it is exactly 0, and unlike -inf it leaves no NaN in a row without
        # visible keys. In place is safe: neither product nor fill needs the scores in the backward pass.
        scores_BGNS.masked_fill_(hidden_BGNS, torch.finfo(scores_BGNS.dtype).min)
    weights_BGNS = scores_BGNS.softmax(dim=-1)
    if dropout_p > 0.0:
        weights_BGNS = F.dropout(weights_BGNS, dropout_p)
    o_BHTK = (weights_BGNS @ v_BGSK).view(batch, heads, num_queries, v_BGSK.shape[-1])

    blind_BHTK = mask.blind(num_queries, num_keys, q_BHTK.device)
    return o_BHTK if blind_BHTK is None else o_BHTK.masked_fill(blind_BHTK, 0.0)
