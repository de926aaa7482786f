"""Loss: mean cross-entropy of the next token, from hidden states.

    loss = mean_n (log sum_v exp z_nv - z_n,label),   dloss/dz_nv = (softmax(z_n)_v - [v = label]) / N,   z = x W^T

    dense    all logits (N x V) at once
    chunked  a slice of positions at a time; its logits are thrown away and made again in the backward pass, so that
             no more than one slice is ever held (a third more work in the output layer, N/chunk times less memory)

Logits are scored in float32 at least, whatever the model's dtype: a sum over V terms needs it.

Shape letters: N positions, D width, V vocabulary (padded).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -100
CHUNK_TOKENS = 512


def dense(x_ND: Tensor, table_VD: Tensor, labels_N: Tensor) -> Tensor:
    """Mean cross-entropy over the labels that are not IGNORE; scalar, float32 (float64 for a float64 model)."""
    return F.cross_entropy(_scores(x_ND, table_VD), labels_N, ignore_index=IGNORE)


def chunked(x_ND: Tensor, table_VD: Tensor, labels_N: Tensor, *, chunk_tokens: int = CHUNK_TOKENS) -> Tensor:
    """The same number as `dense`, holding the logits of `chunk_tokens` positions at a time."""
    total: Tensor = _ChunkedSum.apply(x_ND, table_VD, labels_N, chunk_tokens)  # type: ignore[no-untyped-call]
    return total / (labels_N != IGNORE).sum()


class _ChunkedSum(torch.autograd.Function):
    """Sum of cross-entropies. Keeps the inputs and one normaliser per position, never the logits.

    Written out rather than put through `torch.utils.checkpoint`: one buffer of logits instead of three, the table's
    gradient accumulated in place, and no import of the compiler behind the checkpoint.
    """

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, table_VD: Tensor, labels_N: Tensor, chunk_tokens: int) -> Tensor:
        total = torch.zeros((), dtype=_score_dtype(x_ND), device=x_ND.device)
        normalisers = []
        for x, labels in zip(torch.split(x_ND, chunk_tokens), torch.split(labels_N, chunk_tokens), strict=True):
            scores_NV = _scores(x, table_VD)
            normalisers.append(scores_NV.logsumexp(dim=-1))
            picked_N = scores_NV.gather(1, labels.clamp(min=0)[:, None])[:, 0]
            total += torch.where(labels != IGNORE, normalisers[-1] - picked_N, 0.0).sum()
        ctx.save_for_backward(x_ND, table_VD, labels_N, torch.cat(normalisers))
        ctx.chunk_tokens = chunk_tokens
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x_ND, table_VD, labels_N, normaliser_N = ctx.saved_tensors
        grad_x_ND, grad_table_VD = torch.empty_like(x_ND), torch.zeros_like(table_VD)
        weight_N = torch.where(labels_N != IGNORE, grad, 0.0)
        for start in range(0, x_ND.shape[0], ctx.chunk_tokens):
            rows = slice(start, start + ctx.chunk_tokens)
            g_NV = _scores(x_ND[rows], table_VD).sub_(normaliser_N[rows, None]).exp_()
            g_NV.scatter_add_(1, labels_N[rows, None].clamp(min=0), g_NV.new_full((g_NV.shape[0], 1), -1.0))
            g_NV = g_NV.mul_(weight_N[rows, None]).to(x_ND.dtype)
            torch.mm(g_NV, table_VD, out=grad_x_ND[rows])
            torch.addmm(grad_table_VD, g_NV.T, x_ND[rows], out=grad_table_VD)
        return grad_x_ND, grad_table_VD, None, None


def _scores(x_ND: Tensor, table_VD: Tensor) -> Tensor:
    """Logits in the dtype they are scored in."""
    return F.linear(x_ND, table_VD).to(_score_dtype(x_ND))


def _score_dtype(x_ND: Tensor) -> torch.dtype:
    return torch.promote_types(x_ND.dtype, torch.float32)
