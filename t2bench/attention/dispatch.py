"""attend: the one door to every attention back end.

Shape letters: B batch, T query length, S key length, H query heads, G key/value heads, K head dim.
"""

from __future__ import annotations

from torch import Tensor

from t2bench.attention import math, reference, sdpa
from t2bench.attention.mask import Mask
from t2bench.attention.scores import DOT, Scores

REFERENCE = "reference"  # the float64 oracle, for checks; not a value of the `attention` axis


def attend(
    q_BHTK: Tensor,
    k_BGSK: Tensor,
    v_BGSK: Tensor,
    mask: Mask,
    *,
    backend: str,
    scores: Scores = DOT,
    dropout_p: float = 0.0,
) -> Tensor:
    """softmax(scores of Q and K) V by the back end named, or an error: never by another one.

    Args:
        q_BHTK: queries, any float dtype; H is a multiple of G.
        k_BGSK: keys, same dtype and device.
        v_BGSK: values, same dtype and device.
        mask: which keys a query may see.
        backend: a value of `t2bench.spec.axes.Backend`.
        scores: how scores are made of queries and keys.
        dropout_p: probability of dropping an attention weight (0 outside training).

    Returns:
        o_BHTK, dtype of the queries; 0 where a query sees no key.

    Raises:
        ValueError: unknown back end, one that cannot do this at all, or heads not a multiple of key/value heads.
        RuntimeError: the back end cannot do this on this device (torch says why in warnings).
    """
    heads, kv_heads = q_BHTK.shape[1], k_BGSK.shape[1]
    if heads % kv_heads:
        raise ValueError(f"query heads {heads} are not a multiple of key/value heads {kv_heads}")
    if backend == "math":
        return math.attention(q_BHTK, k_BGSK, v_BGSK, mask, scores=scores, dropout_p=dropout_p)
    if backend in sdpa.KERNELS:
        return sdpa.attention(q_BHTK, k_BGSK, v_BGSK, mask, backend=backend, scores=scores, dropout_p=dropout_p)
    if backend == REFERENCE:
        o_BHTK = reference.attention(q_BHTK, k_BGSK, v_BGSK, mask, scores=scores, dropout_p=dropout_p)
        return o_BHTK.to(q_BHTK.dtype)
    raise ValueError(f"unknown attention back end {backend!r}; known: math, {', '.join(sdpa.KERNELS)}")


def takes_mask_tensor(backend: str, device_type: str) -> bool:
    """Whether the back end accepts a mask that is not just the causal flag (padding, or causal with T != S)."""
    return not (backend == "sdpa_flash" and device_type == "cuda")
