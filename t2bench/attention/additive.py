"""Additive scores: z_ts = v . tanh(q_t + k_s) (Bahdanau et al. 2015, appendix A.1.2).

Written out in operations, autograd would keep the hyperbolic tangent of every query and key, K times the size of the
scores. Here it exists for a few queries at a time, in the cache of the processor, and is computed again in the backward
pass: on a CPU this takes half the time of the plain form, and no more memory than dot products.

Shape letters: B batch, T query length, S key length, H query heads, G key/value heads, K head dim, C queries of a
chunk, N stacked queries.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 25}  # hyperbolic tangents at a time; chosen by measurement on the CPU


def scores(q_BHTK: Tensor, k_BGSK: Tensor, v_HK: Tensor) -> Tensor:
    """Scores (B, G, H/G * T, S) of every query with every key, a tensor that may be changed in place."""
    k_BHSK = k_BGSK.repeat_interleave(q_BHTK.shape[1] // k_BGSK.shape[1], dim=1)
    z_BGNS: Tensor = _AdditiveScores.apply(q_BHTK, k_BHSK, v_HK, k_BGSK.shape[1])  # type: ignore[no-untyped-call]
    return z_BGNS


def _chunks(q_BHTK: Tensor, k_BHSK: Tensor) -> Iterator[slice]:
    """Ranges of queries."""
    each = q_BHTK.shape[0] * k_BHSK.shape[1] * k_BHSK.shape[2] * k_BHSK.shape[3]
    budget = CHUNK_ELEMENTS.get(q_BHTK.device.type, CHUNK_ELEMENTS["cuda"])
    size = max(1, budget // max(1, each))
    for start in range(0, q_BHTK.shape[2], size):
        yield slice(start, min(start + size, q_BHTK.shape[2]))


def _tanh(q_BHTK: Tensor, k_BHSK: Tensor, chunk: slice) -> Tensor:
    return (q_BHTK[:, :, chunk, None] + k_BHSK[:, :, None]).tanh_()


class _AdditiveScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_BHTK: Tensor, k_BHSK: Tensor, v_HK: Tensor, kv_heads: int) -> Tensor:
        ctx.save_for_backward(q_BHTK, k_BHSK, v_HK)
        batch, heads, num_queries, _ = q_BHTK.shape
        num_keys = k_BHSK.shape[2]
        # In this shape at once: a mask put into a view of it would make the backward pass copy every score.
        z_BGNS = q_BHTK.new_empty(batch, kv_heads, heads // kv_heads * num_queries, num_keys)
        z_BHTS = z_BGNS.view(batch, heads, num_queries, num_keys)
        for chunk in _chunks(q_BHTK, k_BHSK):
            z_BHTS[:, :, chunk] = (_tanh(q_BHTK, k_BHSK, chunk) @ v_HK[:, None, :, None]).squeeze(-1)
        return z_BGNS

    @staticmethod
    def backward(ctx: Any, dz_BGNS: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q_BHTK, k_BHSK, v_HK = ctx.saved_tensors
        dz_BHTS = dz_BGNS.reshape(*q_BHTK.shape[:3], k_BHSK.shape[2])
        wide = torch.promote_types(q_BHTK.dtype, torch.float32)  # sums over chunks are not rounded to 16 bits
        dq_BHTK = torch.empty_like(q_BHTK)
        dk_BHSK, dv_HK = torch.zeros_like(k_BHSK, dtype=wide), torch.zeros_like(v_HK, dtype=wide)
        for chunk in _chunks(q_BHTK, k_BHSK):
            dz_BHCS, tanh_BHCSK = dz_BHTS[:, :, chunk], _tanh(q_BHTK, k_BHSK, chunk)
            dv_HK += (dz_BHCS[..., None, :] @ tanh_BHCSK).sum(dim=(0, 2, 3))
            slope_BHCSK = tanh_BHCSK.square_().neg_().add_(1.0)
            dq_BHTK[:, :, chunk] = (dz_BHCS[..., None, :] @ slope_BHCSK).squeeze(-2)
            dk_BHSK += slope_BHCSK.mul_(dz_BHCS[..., None]).sum(dim=2)
        return dq_BHTK * v_HK[:, None], (dk_BHSK * v_HK[:, None]).to(k_BHSK.dtype), dv_HK.to(v_HK.dtype), None
