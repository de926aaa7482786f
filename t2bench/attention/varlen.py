"""The `varlen` back end: `torch.nn.attention.varlen`, flash attention over sequences packed one after the other.

CUDA in 16 bits only. A padded batch is a packed one whose sequences have the same length; documents within a sequence
are sequences of their own.

Shape letters: B batch, T query length, S key length, N packed tokens, H query heads, G key/value heads, K head dim.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from t2bench.attention.mask import Mask
from t2bench.attention.packed import Packed
from t2bench.attention.scores import DOT, Scores, Unsupported


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """What a kernel for packed sequences needs to know of them.

    Attributes:
        query_offsets: begin of each sequence and end of the last, int32.
        key_offsets: the same of keys.
        max_queries: tokens of the longest sequence of queries.
        max_keys: the same of keys.
    """

    query_offsets: Tensor
    key_offsets: Tensor
    max_queries: int
    max_keys: int

    def lengths(self) -> list[tuple[int, int]]:
        """Queries and keys of each sequence; waits for the device."""
        sides = (self.query_offsets.diff().tolist(), self.key_offsets.diff().tolist())
        return list(zip(*sides, strict=True))


def attention(
    q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Mask, *, scores: Scores = DOT, dropout_p: float = 0.0
) -> Tensor:
    """Attention by `varlen_attn`; arguments and result as in `t2bench.attention.dispatch.attend`.

    Raises:
        ValueError: dropout, scores that are no scaled dot products, or a mask with more than causality, a window and
            documents.
        RuntimeError: a device or dtype that it has no kernel for, or a version of torch that lacks what is needed.
    """
    if dropout_p > 0.0 or not scores.are_dot_products:
        raise Unsupported("varlen computes scaled dot products without dropout, and nothing else")
    if not q_BHTK.is_cuda:
        raise Unsupported(f"torch.nn.attention.varlen has CUDA kernels only, the queries are on {q_BHTK.device}")
    from torch.nn.attention.varlen import varlen_attn

    found = extent(mask, q_BHTK.shape[0], q_BHTK.shape[2], k_BGSK.shape[2], q_BHTK.device)
    options = _options(varlen_attn, window_sides(mask, k_BGSK.shape[2]), q_BHTK.shape[1] != k_BGSK.shape[1])
    o_NHK: Any = varlen_attn(
        tokens_first(q_BHTK),
        tokens_first(k_BGSK),
        tokens_first(v_BGSK),
        found.query_offsets,
        found.key_offsets,
        found.max_queries,
        found.max_keys,
        scale=scores.factor(q_BHTK.shape[-1]),
        **options,
    )
    return tokens_back(o_NHK, q_BHTK.shape[0])


def tokens_first(x_BHTK: Tensor) -> Tensor:
    """The sequences of a batch one after the other, (N, H, K): a view where heads were split from a projection."""
    return x_BHTK.transpose(1, 2).flatten(0, 1)


def tokens_back(o_NHK: Tensor, batch: int) -> Tensor:
    """The opposite of `tokens_first`, (B, H, T, K)."""
    return o_NHK.view(batch, -1, *o_NHK.shape[1:]).transpose(1, 2)


def window_sides(mask: Mask, num_keys: int) -> tuple[int, int]:
    """Keys visible before and after the query's own, -1 for all: flash-attention's way to say causal and window."""
    window = mask.window_at(num_keys)
    if window is None:
        return (-1, 0) if mask.causal else (-1, -1)
    return (window - 1, window - 1 if mask.both_sides else 0)


def extent(mask: Mask, batch: int, num_queries: int, num_keys: int, device: torch.device) -> Extent:
    """The sequences of a batch, made once for each mask.

    Documents are found on the device of their numbers; those on a CUDA device are waited for.

    Raises:
        ValueError: conditions of the mask that these kernels do not have.
    """
    if mask.key_lengths_B is not None or mask.prefix_lengths_B is not None or mask.global_tokens:
        raise Unsupported(
            "kernels for packed sequences have causal masks, windows and documents; pack the batch instead"
        )
    if mask.query_positions_T is not None:
        raise Unsupported("kernels for packed sequences align queries with the last keys, not with given positions")
    key = ("extent", batch, num_queries, num_keys, device)
    return mask.keep(key, lambda: _extent(mask, batch, num_queries, num_keys, device))


def _extent(mask: Mask, batch: int, num_queries: int, num_keys: int, device: torch.device) -> Extent:
    packed = mask.packed
    if mask.documents_BS is not None:
        if num_queries != num_keys:
            raise Unsupported(f"documents need as many queries as keys, got {num_queries} and {num_keys}")
        lengths = _document_lengths(mask.documents_BS.expand(batch, num_keys))
        packed = Packed(query_lengths=lengths, key_lengths=lengths)
    if packed is None:
        packed = Packed(query_lengths=(num_queries,) * batch, key_lengths=(num_keys,) * batch)
    return Extent(
        query_offsets=packed.query_offsets(device),
        key_offsets=packed.key_offsets(device),
        max_queries=max(packed.query_lengths),
        max_keys=max(packed.key_lengths),
    )


def _document_lengths(documents_BS: Tensor) -> tuple[int, ...]:
    """Lengths of the runs of equal numbers, row by row; a document that is interrupted has several."""
    starts_BS = torch.ones_like(documents_BS, dtype=torch.bool)
    starts_BS[:, 1:] = documents_BS[:, 1:] != documents_BS[:, :-1]
    first_N = starts_BS.flatten().nonzero().flatten()
    lengths_N = torch.diff(first_N, append=first_N.new_tensor([documents_BS.numel()]))
    return tuple(int(length) for length in lengths_N.tolist())


def _options(varlen_attn: Any, sides: tuple[int, int], grouped: bool) -> dict[str, Any]:
    """Arguments that not every version of torch has.

    Raises:
        RuntimeError: this version lacks one that is needed.
    """
    known = inspect.signature(varlen_attn).parameters
    options: dict[str, Any] = {"enable_gqa": True} if grouped and "enable_gqa" in known else {}
    if "window_size" in known:
        return {**options, "window_size": sides}
    if sides in ((-1, 0), (-1, -1)):
        return {**options, "is_causal": sides == (-1, 0)}
    raise Unsupported(f"varlen_attn of torch {torch.__version__} has no windows; use math or flex")
