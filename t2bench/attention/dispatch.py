"""attend: the one door to every attention back end.

Shape letters: B batch, T query length, S key length, H query heads, G key/value heads, K head dim.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from t2bench.attention import banded, flex, fused, math, packed, reference, sdpa, varlen
from t2bench.attention.mask import Mask
from t2bench.attention.scores import DOT, Scores, Unsupported
from t2bench.spec.axes import BACKENDS

MaskForm = Literal["none", "flag", "kernel", "sequences", "blocks", "dense_mask"]
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
    if backend == REFERENCE:
        o_BHTK = reference.attention(q_BHTK, k_BGSK, v_BGSK, mask, scores=scores, dropout_p=dropout_p)
        return o_BHTK.to(q_BHTK.dtype)
    if backend == "flex":
        return flex.attention(q_BHTK, k_BGSK, v_BGSK, mask, scores=scores, dropout_p=dropout_p)
    if backend == "varlen":
        return varlen.attention(q_BHTK, k_BGSK, v_BGSK, mask, scores=scores, dropout_p=dropout_p)
    if backend in fused.MODULES:
        return fused.attention(q_BHTK, k_BGSK, v_BGSK, mask, backend=backend, scores=scores, dropout_p=dropout_p)
    if backend != "math" and backend not in sdpa.NAMES:
        raise ValueError(f"unknown attention back end {backend!r}; known: {', '.join(BACKENDS)}")
    return _dense(q_BHTK, k_BGSK, v_BGSK, mask, backend, scores, dropout_p)


def _dense(
    q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Mask, backend: str, scores: Scores, dropout_p: float
) -> Tensor:
    """Back ends that know nothing of structure beyond the causal flag: packed sequences and windows are cut up here."""

    def whole(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Mask, scores: Scores) -> Tensor:
        if backend == "math":
            return math.attention(q_BHTK, k_BGSK, v_BGSK, mask, scores=scores, dropout_p=dropout_p)
        return sdpa.attention(q_BHTK, k_BGSK, v_BGSK, mask, backend=backend, scores=scores, dropout_p=dropout_p)

    def blockwise(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Mask, scores: Scores) -> Tensor:
        cut = banded.blocks(mask, scores, q_BHTK.shape[2], k_BGSK.shape[2])
        if cut is None:
            return whole(q_BHTK, k_BGSK, v_BGSK, mask, scores)
        return banded.attention(q_BHTK, k_BGSK, v_BGSK, mask, cut, lambda q, k, v, part: whole(q, k, v, part, scores))

    if mask.packed is None:
        return blockwise(q_BHTK, k_BGSK, v_BGSK, mask, scores)
    if mask.packed.nested:
        if backend == "math" or not scores.are_dot_products or mask.window is not None:
            raise Unsupported("nested tensors go to sdpa or sdpa_* only, as dot products and without a window")
        return _nested(q_BHTK, k_BGSK, v_BGSK, mask, mask.packed, backend, scores, dropout_p)
    return packed.one_by_one(q_BHTK, k_BGSK, v_BGSK, mask, mask.packed, scores, blockwise)


def _nested(
    q_BHTK: Tensor,
    k_BGSK: Tensor,
    v_BGSK: Tensor,
    mask: Mask,
    sequences: packed.Packed,
    backend: str,
    scores: Scores,
    dropout_p: float,
) -> Tensor:
    repeats = q_BHTK.shape[1] // k_BGSK.shape[1]
    if repeats > 1:  # nested tensors have no grouped heads
        k_BGSK, v_BGSK = (x.repeat_interleave(repeats, dim=1) for x in (k_BGSK, v_BGSK))
    scale = scores.factor(q_BHTK.shape[-1])

    def attend_nested(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return sdpa.of_nested(q, k, v, backend=backend, causal=mask.causal, scale=scale, dropout_p=dropout_p)

    return packed.as_nested(q_BHTK, k_BGSK, v_BGSK, sequences, attend_nested)


def mask_form(backend: str, mask: Mask, scores: Scores, num_queries: int, num_keys: int) -> MaskForm:
    """How a mask reaches a back end: what a record says beside a time, since a tensor for all T x S pairs costs memory.

    Returns:
        `none`; `flag` (the causal flag of torch); `kernel` (the kernel knows the structure); `sequences` (each by
        itself); `blocks` (`t2bench.attention.banded`); `dense_mask`: a tensor over all pairs, as `math` always has.
    """
    if mask.packed is None and not mask.hides(num_queries, num_keys):
        return "none"
    if backend in ("flex", "varlen") or backend in fused.MODULES:
        return "kernel"
    if mask.packed is not None:
        return "sequences"
    if banded.blocks(mask, scores, num_queries, num_keys) is not None:
        return "blocks"
    flag = mask.is_flag(num_queries, num_keys) and scores.relative is None
    return "flag" if flag and backend != "math" else "dense_mask"


def takes_mask_tensor(backend: str, device_type: str) -> bool:
    """Whether the back end accepts a mask that differs between sequences of one padded batch."""
    packs = backend == "varlen" or backend in fused.MODULES
    return not packs and not (backend == "sdpa_flash" and device_type == "cuda")
