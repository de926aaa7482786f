"""The `fa2`, `fa3` and `fa4` back ends: the flash-attention packages of Dao et al., where they are installed.

    fa2   flash_attn               Dao 2023           Ampere and later
    fa3   flash_attn_interface     Shah et al. 2024   Hopper
    fa4   flash_attn.cute                             Hopper and Blackwell

They want the layout (B, T, H, K), which is how a projection leaves it. (torch's own `activate_flash_attention_impl`
makes the same packages serve `scaled_dot_product_attention`; it needs them installed too.)

Shape letters: B batch, T query length, S key length, H query heads, G key/value heads, K head dim.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import torch
from torch import Tensor

from t2bench.attention import varlen, witness
from t2bench.attention.mask import Mask
from t2bench.attention.scores import DOT, Scores, Unsupported

# Back end -> modules that have its functions (the first that is installed), and the devices that it is compiled for.
MODULES = {
    "fa2": ("flash_attn",),
    "fa3": ("flash_attn_interface", "flash_attn_3.flash_attn_interface"),
    "fa4": ("flash_attn.cute",),
}
CAPABILITIES = {"fa2": (8, 12), "fa3": (9, 9), "fa4": (9, 12)}
FA2 = "fa2"


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
    """Attention by a flash-attention package; arguments and result as in `t2bench.attention.dispatch.attend`.

    Raises:
        ValueError: what the kernels cannot express: a bias without slopes, a bias or dropout except in fa2, masks with
            more than causality, a window and documents.
        RuntimeError: not installed, or no kernel for this device.
    """
    options = _options(scores, mask, k_BGSK.shape[2], backend, dropout_p)
    options["softmax_scale"] = scores.factor(q_BHTK.shape[-1])
    module = _module(backend, q_BHTK.device)
    given = (q_BHTK, k_BGSK, v_BGSK)
    mark = functools.partial(witness.marked, backend, inputs=given, hidden=False)
    lengths = [(q_BHTK.shape[2], k_BGSK.shape[2])] * q_BHTK.shape[0]
    if mask.is_plain:
        inputs = [x.transpose(1, 2) for x in given]
        run = functools.partial(module.flash_attn_func, *inputs, **options)
        return _first(mark(run=run, flops=lambda: flops(q_BHTK, v_BGSK, mask, lengths))).transpose(1, 2)
    found = varlen.extent(mask, q_BHTK.shape[0], q_BHTK.shape[2], k_BGSK.shape[2], q_BHTK.device)
    run = functools.partial(
        module.flash_attn_varlen_func,
        *(varlen.tokens_first(x) for x in given),
        cu_seqlens_q=found.query_offsets,
        cu_seqlens_k=found.key_offsets,
        max_seqlen_q=found.max_queries,
        max_seqlen_k=found.max_keys,
        **options,
    )
    o_NHK = _first(mark(run=run, flops=lambda: flops(q_BHTK, v_BGSK, mask, found.lengths())))
    return varlen.tokens_back(o_NHK, q_BHTK.shape[0])


def flops(q_BHTK: Tensor, v_BGSK: Tensor, mask: Mask, lengths: list[tuple[int, int]]) -> int:
    """Operations of the forward kernel, which visits what a window leaves, and half of a causal square.

    Args:
        q_BHTK: queries.
        v_BGSK: values.
        mask: causality and window within each sequence.
        lengths: queries and keys of each sequence.
    """
    halves = 0
    for queries, keys in lengths:
        window = mask.window_at(keys)
        if window is None:
            halves += queries * keys * (1 if mask.causal and queries == keys else 2)
            continue
        reach = 2 * window - 1 if mask.both_sides else window
        # The corners, where a window is not yet full.
        missing = window * (window - 1) * (2 if mask.both_sides else 1)
        halves += 2 * queries * reach - missing if queries == keys else 2 * queries * min(keys, reach)
    return q_BHTK.shape[1] * halves * (q_BHTK.shape[-1] + v_BGSK.shape[-1])


def _options(scores: Scores, mask: Mask, num_keys: int, backend: str, dropout_p: float) -> dict[str, Any]:
    """Keyword arguments for causality, window, cap, slopes and dropout."""
    relative = scores.relative
    if scores.additive_HK is not None or scores.value_table_RK is not None:
        raise Unsupported(f"{backend} computes dot products and plain values")
    if relative is not None and (backend != FA2 or relative.slopes_H is None):
        raise Unsupported(f"{backend} takes no bias tensor; only fa2 has ALiBi, from its slopes")
    if relative is not None and scores.softcap is not None:
        raise Unsupported("fa2 adds the bias after the cap, not before it")
    if dropout_p > 0.0 and backend != FA2:
        raise Unsupported(f"{backend} has no dropout")
    sides: tuple[int | None, int | None] = varlen.window_sides(mask, num_keys)
    if backend == "fa4":
        sides = (None if sides[0] == -1 else sides[0], None if sides[1] == -1 else sides[1])
    options: dict[str, Any] = {"causal": mask.causal, "window_size": sides}
    if scores.softcap is not None:
        options["softcap"] = scores.softcap
    if relative is not None:
        options["alibi_slopes"] = relative.slopes_H
    if dropout_p > 0.0:
        options["dropout_p"] = dropout_p
    return options


def _module(backend: str, device: torch.device) -> Any:
    """The package's module.

    Raises:
        RuntimeError: not installed, or no kernel for this device.
    """
    if device.type != "cuda":
        raise Unsupported(f"{backend} has CUDA kernels only, the queries are on {device}")
    capability = torch.cuda.get_device_capability(device)
    lowest, highest = CAPABILITIES[backend]
    if not lowest <= capability[0] <= highest:
        name = torch.cuda.get_device_name(device)
        raise Unsupported(f"{backend} has no kernel for {name} (compute capability {capability[0]}.{capability[1]})")
    return _imported(backend)


@functools.cache
def _imported(backend: str) -> Any:
    failures = []
    for name in MODULES[backend]:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            failures.append(str(error))
    raise Unsupported(f"{backend} is not installed: {'; '.join(failures)}")


def _first(result: Any) -> Tensor:
    """The output, without the log-sum-exp that some versions return with it."""
    o: Tensor = result[0] if isinstance(result, tuple) else result
    return o
