"""Loss: mean cross-entropy of the next token, from hidden states.

    loss = mean_n (log sum_v exp z_nv - z_n,label),   dloss/dz_nv = (softmax(z_n)_v - [v = label]) / N,   z = x W^T

    dense    all logits (N x V) at once
    chunked  a slice of positions at a time; its logits are thrown away and made again in the backward pass, so that
             no more than one slice is ever held (a third more work in the output layer, N/chunk times less memory)
    fused    a slice at a time, and both gradients as soon as its logits are there: nothing is computed twice, and what
             is kept for the backward pass are the gradients themselves, N x D and V x D (Hsu et al. 2024, Liger Kernel,
             arXiv 2410.10989, section 3.2)

With label smoothing e (Szegedy et al. 2016, section 7) the target is (1 - e) [v = label] + e / V over the V rows of the
*real* vocabulary: rows that only pad the table are nobody's target and get no share, or a variant with a padded table
would learn to predict what does not exist.

    loss = mean_n (log sum_v exp z_nv - (1 - e) z_n,label - e mean_v z_nv)

With a softcap c, z becomes c tanh(z / c), whose derivative is 1 - (z / c)^2 of the capped z (Gemma 2).

Logits are scored in float32 at least, whatever the model's dtype: a sum over V terms needs it.

Shape letters: N positions, D width, V vocabulary (padded).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from t2bench.spec.axes import Loss

IGNORE = -100
CHUNK_TOKENS = 512


class Target(NamedTuple):
    """What the scores are compared with, and how they are made.

    Attributes:
        softcap: c of the cap on logits, or None.
        smoothing: e, the share that is spread over the real vocabulary.
        vocab: rows of the real vocabulary; those after them pad the table. None for all.
    """

    softcap: float | None = None
    smoothing: float = 0.0
    vocab: int | None = None


PLAIN = Target()


def mean(
    kind: Loss,
    x_ND: Tensor,
    table_VD: Tensor,
    labels_N: Tensor,
    *,
    softcap: float | None = None,
    smoothing: float = 0.0,
    vocab: int | None = None,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Tensor:
    """Mean cross-entropy over the labels that are not IGNORE.

    Args:
        kind: how it is computed, see the module's docstring.
        x_ND: hidden states as the output table reads them.
        table_VD: the output table.
        labels_N: int64; IGNORE where nothing is to be predicted.
        softcap: c of the cap on logits, or None.
        smoothing: e of label smoothing, 0 for none.
        vocab: rows of the real vocabulary, over which smoothing spreads; None for all.
        chunk_tokens: positions in a slice.

    Returns:
        Scalar, float32 (float64 for a float64 model); NaN if no label counts.
    """
    target = Target(softcap, smoothing, vocab)
    if kind == "dense":
        return dense(x_ND, table_VD, labels_N, target)
    by_slices = chunked if kind == "chunked" else fused
    return by_slices(x_ND, table_VD, labels_N, target, chunk_tokens=chunk_tokens)


def dense(x_ND: Tensor, table_VD: Tensor, labels_N: Tensor, target: Target = PLAIN) -> Tensor:
    """Mean cross-entropy over the labels that are not IGNORE; scalar, float32 (float64 for a float64 model)."""
    return of_scores(_scores(x_ND, table_VD, target.softcap), labels_N, smoothing=target.smoothing, vocab=target.vocab)


def of_scores(scores_NV: Tensor, labels_N: Tensor, *, smoothing: float = 0.0, vocab: int | None = None) -> Tensor:
    """Mean cross-entropy of scores that are there already, in the dtype it is to be computed in; see `mean`."""
    if not smoothing or vocab in (None, scores_NV.shape[1]):
        return F.cross_entropy(scores_NV, labels_N, ignore_index=IGNORE, label_smoothing=smoothing)
    # How far the label's score is above the mean of the real rows: what smoothing moves from the label to them.
    above_N = scores_NV.gather(1, labels_N.clamp(min=0)[:, None])[:, 0] - scores_NV[:, :vocab].mean(dim=-1)
    counts_N = labels_N != IGNORE
    entropy = F.cross_entropy(scores_NV, labels_N, ignore_index=IGNORE)
    return entropy + smoothing * torch.where(counts_N, above_N, 0.0).sum() / counts_N.sum()


def chunked(
    x_ND: Tensor,
    table_VD: Tensor,
    labels_N: Tensor,
    target: Target = PLAIN,
    *,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Tensor:
    """The same number as `dense`, holding the logits of `chunk_tokens` positions at a time."""
    inputs = (*_as_autocast(x_ND, table_VD), labels_N, target, chunk_tokens)
    total: Tensor = _ChunkedSum.apply(*inputs)  # type: ignore[no-untyped-call]
    return total / (labels_N != IGNORE).sum()


def fused(
    x_ND: Tensor,
    table_VD: Tensor,
    labels_N: Tensor,
    target: Target = PLAIN,
    *,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Tensor:
    """The same number as `dense`, with its gradients made slice by slice in the forward pass.

    The backward pass may run once: it scales the kept gradients in place.
    """
    if not torch.is_grad_enabled():
        return chunked(x_ND, table_VD, labels_N, target, chunk_tokens=chunk_tokens)
    inputs = (*_as_autocast(x_ND, table_VD), labels_N, target, chunk_tokens)
    mean: Tensor = _FusedMean.apply(*inputs)  # type: ignore[no-untyped-call]
    return mean


class _ChunkedSum(torch.autograd.Function):
    """Sum of cross-entropies. Keeps the inputs and one normaliser per position, never the logits.

    Written out rather than put through `torch.utils.checkpoint`: one buffer of logits instead of three, the table's
    gradient accumulated in place, and no import of the compiler behind the checkpoint.
    """

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, table_VD: Tensor, labels_N: Tensor, target: Target, chunk_tokens: int
    ) -> Tensor:
        total = torch.zeros((), dtype=_score_dtype(x_ND), device=x_ND.device)
        normalisers = []
        for x, labels in zip(torch.split(x_ND, chunk_tokens), torch.split(labels_N, chunk_tokens), strict=True):
            scores_NV = _scores(x, table_VD, target.softcap)
            normalisers.append(scores_NV.logsumexp(dim=-1))
            total += _sum_of_losses(scores_NV, normalisers[-1], labels, target)
        ctx.save_for_backward(x_ND, table_VD, labels_N, torch.cat(normalisers))
        ctx.target, ctx.chunk_tokens = target, chunk_tokens
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x_ND, table_VD, labels_N, normaliser_N = ctx.saved_tensors
        grad_x_ND, grad_table_VD = torch.empty_like(x_ND), torch.zeros_like(table_VD)
        for start in range(0, x_ND.shape[0], ctx.chunk_tokens):
            rows = slice(start, start + ctx.chunk_tokens)
            scores_NV = _scores(x_ND[rows], table_VD, ctx.target.softcap)
            g_NV = _gradient(scores_NV, normaliser_N[rows], labels_N[rows], grad, ctx.target).to(x_ND.dtype)
            torch.mm(g_NV, table_VD, out=grad_x_ND[rows])
            torch.addmm(grad_table_VD, g_NV.T, x_ND[rows], out=grad_table_VD)
        return grad_x_ND, grad_table_VD, None, None, None


class _FusedMean(torch.autograd.Function):
    """Mean of cross-entropies. Keeps the two gradients, which the backward pass only scales."""

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, table_VD: Tensor, labels_N: Tensor, target: Target, chunk_tokens: int
    ) -> Tensor:
        total = torch.zeros((), dtype=_score_dtype(x_ND), device=x_ND.device)
        # Before rounding to 16 bits each entry is divided by the number of labels, as a dense loss would.
        share = (labels_N != IGNORE).sum().to(total.dtype).reciprocal()
        grad_x_ND, grad_table_VD = torch.empty_like(x_ND), torch.zeros_like(table_VD)
        for start in range(0, x_ND.shape[0], chunk_tokens):
            rows = slice(start, start + chunk_tokens)
            scores_NV = _scores(x_ND[rows], table_VD, target.softcap)
            normaliser_N = scores_NV.logsumexp(dim=-1)
            total += _sum_of_losses(scores_NV, normaliser_N, labels_N[rows], target)
            g_NV = _gradient(scores_NV, normaliser_N, labels_N[rows], share, target).to(x_ND.dtype)
            torch.mm(g_NV, table_VD, out=grad_x_ND[rows])
            torch.addmm(grad_table_VD, g_NV.T, x_ND[rows], out=grad_table_VD)
        ctx.save_for_backward(grad_x_ND, grad_table_VD)
        return total * share

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        grad_x_ND, grad_table_VD = ctx.saved_tensors
        return grad_x_ND.mul_(grad), grad_table_VD.mul_(grad), None, None, None


def _sum_of_losses(scores_NV: Tensor, normaliser_N: Tensor, labels_N: Tensor, target: Target) -> Tensor:
    aim_N = scores_NV.gather(1, labels_N.clamp(min=0)[:, None])[:, 0]
    if target.smoothing:
        aim_N = torch.lerp(aim_N, scores_NV[:, : target.vocab].mean(dim=-1), target.smoothing)
    return torch.where(labels_N != IGNORE, normaliser_N - aim_N, 0.0).sum()


def _gradient(scores_NV: Tensor, normaliser_N: Tensor, labels_N: Tensor, weight: Tensor, target: Target) -> Tensor:
    """Gradient of `weight` times the sum of losses by the products x W^T; made in place of the scores."""
    slope_NV = None if target.softcap is None else 1.0 - (scores_NV / target.softcap).square_()
    g_NV = scores_NV.sub_(normaliser_N[:, None]).exp_()
    if target.smoothing:
        real_NV = g_NV[:, : target.vocab]
        real_NV.sub_(target.smoothing / real_NV.shape[1])
    minus_label_N1 = g_NV.new_full((g_NV.shape[0], 1), target.smoothing - 1.0)
    g_NV.scatter_add_(1, labels_N[:, None].clamp(min=0), minus_label_N1)
    g_NV.mul_(torch.where(labels_N != IGNORE, weight, 0.0)[:, None])
    return g_NV if slope_NV is None else g_NV.mul_(slope_NV)


def _scores(x_ND: Tensor, table_VD: Tensor, softcap: float | None) -> Tensor:
    """Logits in the dtype they are scored in, capped."""
    scores_NV = F.linear(x_ND, table_VD).to(_score_dtype(x_ND))
    return scores_NV if softcap is None else softcap * torch.tanh(scores_NV / softcap)


def _score_dtype(x_ND: Tensor) -> torch.dtype:
    return torch.promote_types(x_ND.dtype, torch.float32)


def _as_autocast(x_ND: Tensor, table_VD: Tensor) -> tuple[Tensor, Tensor]:
    """The inputs as autocast would round them for a matrix product; it does not look into autograd functions."""
    device_type = x_ND.device.type
    if x_ND.dtype == torch.float64 or not torch.is_autocast_enabled(device_type):
        return x_ND, table_VD
    dtype = torch.get_autocast_dtype(device_type)
    return x_ND.to(dtype), table_VD.to(dtype)
