"""Loss: mean cross-entropy of the next token, from hidden states.

    dense    all logits (N x V) at once
    chunked  a slice of positions at a time; its logits are thrown away and made again in the backward pass, so that
             no more than one slice is ever held (a third more work in the output layer, N/chunk times less memory)

Logits are scored in float32 at least, whatever the model's dtype: a sum over V terms needs it.

Shape letters: B batch, T length, N positions, D width, V vocabulary (padded).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

IGNORE = -100
CHUNK_TOKENS = 512


def dense(x_ND: Tensor, table_VD: Tensor, labels_N: Tensor) -> Tensor:
    """Mean cross-entropy over the labels that are not IGNORE; scalar, float32 (float64 for a float64 model)."""
    return F.cross_entropy(_logits(x_ND, table_VD), labels_N, ignore_index=IGNORE)


def chunked(x_ND: Tensor, table_VD: Tensor, labels_N: Tensor, *, chunk_tokens: int = CHUNK_TOKENS) -> Tensor:
    """The same number as `dense`, holding the logits of `chunk_tokens` positions at a time."""
    total = torch.zeros((), dtype=_score_dtype(x_ND), device=x_ND.device)
    for x_chunk_ND, labels in zip(torch.split(x_ND, chunk_tokens), torch.split(labels_N, chunk_tokens), strict=True):
        if torch.is_grad_enabled():
            part = checkpoint(_sum, x_chunk_ND, table_VD, labels, use_reentrant=False, preserve_rng_state=False)
        else:
            part = _sum(x_chunk_ND, table_VD, labels)
        total = total + part
    return total / (labels_N != IGNORE).sum()


def _sum(x_ND: Tensor, table_VD: Tensor, labels_N: Tensor) -> Tensor:
    return F.cross_entropy(_logits(x_ND, table_VD), labels_N, ignore_index=IGNORE, reduction="sum")


def _logits(x_ND: Tensor, table_VD: Tensor) -> Tensor:
    return F.linear(x_ND, table_VD).to(_score_dtype(x_ND))


def _score_dtype(x_ND: Tensor) -> torch.dtype:
    return torch.promote_types(x_ND.dtype, torch.float32)
