"""The oracle: attention in float64, from the definition, sharing no code with the back ends that it judges.

    o_t = sum_s w_ts v_s,   w_ts = exp(z_ts) / sum_s' exp(z_ts'),   z_ts = scale * q_t . k_s,   s, s' visible to t

(Vaswani et al. 2017, eq. 1; a query that sees no key gets 0.) Query head h reads key/value head h // (H / G) (Ainslie
et al. 2023). Slow and memory-hungry by design; it is never timed.

Shape letters: B batch, T query length, S key length, H query heads, G key/value heads, K head dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from t2bench.attention.mask import Mask


def attention(
    q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Mask, *, scale: float | None = None, dropout_p: float = 0.0
) -> Tensor:
    """Exact attention; differentiable.

    Args:
        q_BHTK: queries, any float dtype.
        k_BGSK: keys.
        v_BGSK: values.
        mask: only `causal` and `key_lengths_B` are read; the mask's own tensors are not used.
        scale: factor on the scores; None means 1 / sqrt(K).
        dropout_p: must be 0: an oracle is not random.

    Returns:
        o_BHTK in float64.

    Raises:
        ValueError: dropout was asked for.
    """
    if dropout_p:
        raise ValueError(f"the attention oracle has no dropout, got {dropout_p}")
    q, k, v = q_BHTK.double(), k_BGSK.double(), v_BGSK.double()
    batch, heads, num_queries, head_dim = q.shape
    kv_heads, num_keys = k.shape[1], k.shape[2]
    kv_of_head = [head // (heads // kv_heads) for head in range(heads)]
    factor = head_dim**-0.5 if scale is None else scale

    z_BHTS = torch.einsum("bhtk,bhsk->bhts", q, k[:, kv_of_head]) * factor
    t_T1 = torch.arange(num_queries, device=q.device)[:, None]
    s_1S = torch.arange(num_keys, device=q.device)[None, :]
    seen_BHTS = torch.ones(batch, 1, num_queries, num_keys, dtype=torch.bool, device=q.device)
    if mask.causal:
        seen_BHTS = seen_BHTS & (num_queries - 1 - t_T1 <= num_keys - 1 - s_1S)
    if mask.key_lengths_B is not None:
        seen_BHTS = seen_BHTS & (s_1S < mask.key_lengths_B.to(q.device).reshape(batch, 1, 1, 1))

    top_BHT1 = torch.where(seen_BHTS, z_BHTS, -torch.inf).amax(dim=-1, keepdim=True).detach()
    top_BHT1 = torch.where(top_BHT1.isfinite(), top_BHT1, 0.0)
    e_BHTS = torch.where(seen_BHTS, torch.exp(torch.where(seen_BHTS, z_BHTS - top_BHT1, 0.0)), 0.0)
    sum_BHT1 = e_BHTS.sum(dim=-1, keepdim=True)
    weights_BHTS = e_BHTS / torch.where(sum_BHT1 > 0, sum_BHT1, 1.0)
    return torch.einsum("bhts,bhsk->bhtk", weights_BHTS, v[:, kv_of_head])
