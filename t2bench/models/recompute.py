"""Activation checkpointing: activations of a layer are made again in the backward pass instead of kept (Chen et al.
2016, arXiv 1604.06174).

    full       keep each layer's input, make everything else again: one more forward pass
    selective  keep also what linear layers and fused attention return, the costly part; make norms, activations,
               rotations and unfused attention again (Korthikanti et al. 2022, arXiv 2205.05198, section 5)

The products inside unfused attention are never kept: its scores are biased, capped and masked in place, so that what
was kept would no longer be what the product returned, and gradients would be wrong without a word.

Shape letters: B batch, T length, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from t2bench.models.shared import Shared
from t2bench.spec.axes import Checkpoint

# By name: which of them exist depends on the build of torch.
_PRODUCTS = ("mm", "addmm")
_FUSED = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)
_KEPT = frozenset(
    getattr(torch.ops.aten, name).default for name in (*_PRODUCTS, *_FUSED) if hasattr(torch.ops.aten, name)
)


def run(kind: Checkpoint, layer: Callable[..., Tensor], *args: Any) -> Tensor:
    """layer(*args), keeping for the backward pass what `kind` says; the arguments are those of `Layer.forward`."""
    if kind == "off" or not torch.is_grad_enabled():
        return layer(*args)
    layer = partial(_with_own_bias, layer)
    options: dict[str, Any] = {"context_fn": _contexts} if kind == "selective" else {}
    out_BTD: Tensor = checkpoint(layer, *args, use_reentrant=False, **options)
    return out_BTD


@contextmanager
def watched(watch: Callable[[Any], None]) -> Iterator[None]:
    """Call `watch` with every result that a `selective` layer keeps inside the `with` block.

    Autograd does not save these, so that its hooks do not see them. `watch` is given what torch keeps the result in, an
    object whose `val` is the tensor and which lives as long as the result is kept.
    """
    _watchers.append(watch)
    try:
        yield
    finally:
        _watchers.remove(watch)


_watchers: list[Callable[[Any], None]] = []


def _contexts() -> tuple[Any, Any]:
    """What torch enters in the forward pass, and when it makes the layer again."""
    forward, again = create_selective_checkpoint_contexts(_keeps)  # type: ignore[no-untyped-call]
    return (_announced(forward) if _watchers else forward), again


@contextmanager
def _announced(forward: Any) -> Iterator[None]:
    with forward:
        yield
    kept = [leaf for leaf in tree_leaves(forward.storage) if isinstance(getattr(leaf, "val", None), Tensor)]
    if not kept:
        raise RuntimeError(f"torch {torch.__version__} does not say what selective checkpointing keeps")
    for holder in kept:
        for watch in _watchers:
            watch(holder)


def _with_own_bias(layer: Callable[..., Tensor], x_BTD: Tensor, shared: Shared, *args: Any) -> Tensor:
    """The layer with a bias that it lays out itself: what one layer keeps for the others, its repetition would miss."""
    relative = shared.relative
    if relative is not None and relative.values_BHTR.requires_grad:
        shared = replace(shared, relative=replace(relative))
    return layer(x_BTD, shared, *args)


def _keeps(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """Whether the result of one operator is kept."""
    return CheckpointPolicy.MUST_SAVE if operator in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE
