"""The `sdpa` and `sdpa_*` back ends: torch's scaled_dot_product_attention, left alone or held to one kernel.

Left alone, SDPA picks a kernel by itself and changes its mind without a word (dropout, a mask, a bias that needs a
gradient or a 3-D tensor is enough). That is `sdpa`, whose records say what ran. Each other name admits exactly one
kernel, and torch raises where that kernel cannot run.

Shape letters: B batch, T query length, S key length, H query heads, G key/value heads, K head dim.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from t2bench.attention import relative
from t2bench.attention.mask import Mask
from t2bench.attention.scores import DOT, Scores, Unsupported

KERNELS: dict[str, SDPBackend] = {
    "sdpa_math": SDPBackend.MATH,
    "sdpa_flash": SDPBackend.FLASH_ATTENTION,
    "sdpa_efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa_cudnn": SDPBackend.CUDNN_ATTENTION,
}

AUTO = "sdpa"
NAMES = frozenset({AUTO, *KERNELS})

# The memory-efficient kernel wants as many key/value heads as query heads; the others group queries by themselves.
_NO_GQA = frozenset({"sdpa_efficient"})


def attention(
    q_BHTK: Tensor,
    k_BGSK: Tensor,
    v_BGSK: Tensor,
    mask: Mask,
    *,
    backend: str,
    scores: Scores = DOT,
    dropout_p: float = 0.0,
) -> Tensor:
    """Attention by SDPA; arguments and result as in `t2bench.attention.dispatch.attend`.

    Raises:
        ValueError: scores that are no dot product with a bias.
        RuntimeError: the kernel cannot do this (from torch: "No available kernel").
    """
    heads, kv_heads = q_BHTK.shape[1], k_BGSK.shape[1]
    num_queries, num_keys = q_BHTK.shape[2], k_BGSK.shape[2]
    if heads != kv_heads and backend in _NO_GQA:
        k_BGSK = k_BGSK.repeat_interleave(heads // kv_heads, dim=1)
        v_BGSK = v_BGSK.repeat_interleave(heads // kv_heads, dim=1)
    if scores.softcap is not None or scores.additive_HK is not None or scores.value_table_RK is not None:
        raise Unsupported(f"{backend} computes scaled dot products with a bias, and nothing else")
    is_causal = mask.is_flag(num_queries, num_keys) and scores.relative is None
    admitted_BHTS = None if is_causal else _admitted(q_BHTK, num_keys, mask, scores)
    with nullcontext() if backend == AUTO else sdpa_kernel([KERNELS[backend]]):
        return F.scaled_dot_product_attention(
            q_BHTK,
            k_BGSK,
            v_BGSK,
            attn_mask=admitted_BHTS,
            dropout_p=dropout_p,
            is_causal=is_causal,
            scale=scores.factor(q_BHTK.shape[-1]),
            enable_gqa=k_BGSK.shape[1] != heads,
        )


def _admitted(q_BHTK: Tensor, num_keys: int, mask: Mask, scores: Scores) -> Tensor | None:
    """What SDPA takes as a mask: which keys are visible, or the bias, minus infinity where they are not."""
    num_queries = q_BHTK.shape[2]
    visible_BHTS = mask.visible(num_queries, num_keys, q_BHTK.device)
    if scores.relative is None:
        return visible_BHTS
    bias = scores.relative

    def make() -> Tensor:
        bias_BHTS = relative.bias(bias, mask, num_queries, num_keys).to(q_BHTK.dtype)
        return bias_BHTS if visible_BHTS is None else bias_BHTS.masked_fill(~visible_BHTS, -torch.inf)

    if bias.values_BHTR.shape[2] > 1:
        return make()
    return bias.keep(("admitted", num_queries, num_keys, q_BHTK.dtype), mask, make)


def of_nested(
    q_nested: Tensor, k_nested: Tensor, v_nested: Tensor, *, backend: str, causal: bool, scale: float, dropout_p: float
) -> Tensor:
    """Attention of jagged nested tensors (sequences, H, tokens of each, K), by SDPA.

    Raises:
        RuntimeError: the kernel cannot do this; on CPUs there is only `sdpa_math`, and that without a causal mask.
    """
    with nullcontext() if backend == AUTO else sdpa_kernel([KERNELS[backend]]):
        return F.scaled_dot_product_attention(
            q_nested, k_nested, v_nested, dropout_p=dropout_p, is_causal=causal, scale=scale
        )
