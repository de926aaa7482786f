"""The `math` back end: softmax(scores) V as written, in plain operations (Vaswani et al. 2017, eq. 1).

It is the baseline that the fused kernels are measured against, so it is written as well as plain PyTorch allows: the
scale is applied to Q (T x K) and not to the scores (T x S), the bias and the mask are put in place, and grouped queries
(GQA) are stacked along the query axis so that keys and values are never repeated.

Shape letters: B batch, T query length, S key length, H query heads, G key/value heads, K head dim, N stacked queries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from t2bench.attention import additive, relative
from t2bench.attention.mask import Mask
from t2bench.attention.scores import DOT, Scores


def attention(
    q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Mask, *, scores: Scores = DOT, dropout_p: float = 0.0
) -> Tensor:
    """Attention with explicit scores; arguments and result as in `t2bench.attention.dispatch.attend`."""
    batch, heads, num_queries, _ = q_BHTK.shape
    kv_heads, num_keys = k_BGSK.shape[1], k_BGSK.shape[2]
    repeats = heads // kv_heads

    z_BGNS = _scores(q_BHTK, k_BGSK, mask, scores)
    hidden_BGNS = mask.hidden(num_queries, num_keys, q_BHTK.device, repeats)
    if hidden_BGNS is not None:
        # The most negative finite number: exp() of it is exactly 0, and unlike -inf it leaves no NaN in a row without
        # visible keys. In place is safe: what made the scores does not need them in the backward pass.
        z_BGNS.masked_fill_(hidden_BGNS, torch.finfo(z_BGNS.dtype).min)
    weights_BGNS = z_BGNS.softmax(dim=-1)
    if dropout_p > 0.0:
        weights_BGNS = F.dropout(weights_BGNS, dropout_p)
    o_BHTK = (weights_BGNS @ v_BGSK).view(batch, heads, num_queries, v_BGSK.shape[-1])
    if scores.value_table_RK is not None:
        weights_BHTS = weights_BGNS.view(batch, heads, num_queries, num_keys)
        o_BHTK = o_BHTK + relative.values(weights_BHTS, scores, mask, normalised=dropout_p == 0.0)

    blind_BHTK = mask.blind(num_queries, num_keys, q_BHTK.device)
    return o_BHTK if blind_BHTK is None else o_BHTK.masked_fill(blind_BHTK, 0.0)


def _scores(q_BHTK: Tensor, k_BGSK: Tensor, mask: Mask, scores: Scores) -> Tensor:
    """Scores before the mask, (B, G, N, S), which may be changed in place."""
    batch, heads, num_queries, head_dim = q_BHTK.shape
    kv_heads, num_keys = k_BGSK.shape[1], k_BGSK.shape[2]
    stacked = (batch, kv_heads, heads // kv_heads * num_queries, num_keys)
    cap = scores.softcap
    if scores.additive_HK is not None:
        z_BGNS = additive.scores(q_BHTK, k_BGSK, scores.additive_HK)
    else:
        q_BGNK = (q_BHTK * scores.factor(head_dim)).reshape(*stacked[:-1], head_dim)
        z_BGNS = q_BGNK @ k_BGSK.transpose(-2, -1)
    if scores.relative is not None:
        bias_BHTS = relative.bias(scores.relative, mask, num_queries, num_keys)
        # Stacked like the scores, not the scores viewed like it: what is put into a view costs copies going back.
        z_BGNS.add_(bias_BHTS.expand(-1, heads, -1, -1).reshape(len(bias_BHTS), *stacked[1:]))
    # tanh keeps its result for the backward pass, so the product with the cap needs a tensor of its own.
    return z_BGNS if cap is None else z_BGNS.div_(cap).tanh_() * cap
