"""View: what the tokens of one pass are, where they stand, and what they may see.

Shape letters: B batch, T length, S key length, N tokens of a packed batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from t2bench.attention.mask import Mask
from t2bench.models.cache import Cache
from t2bench.models.packing import Packing
from t2bench.models.position import Span
from t2bench.spec.model import ModelSpec

DOCUMENTS_EACH = 1 << 32  # more documents than a packed sequence can have


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One pass through a stack.

    Attributes:
        span: positions of the tokens, which are the queries.
        key_span: positions of the keys that this pass makes: those of the tokens and of what is remembered.
        num_keys: keys S that the queries may see, those in a cache included.
        capacity: keys that tables should serve: a power of two, so that a text that grows token by token seldom needs
            another table.
        mask: what layers with the spec's pattern see.
        full_mask: what the other layers see.
        packing: how a packed batch is made up; None if it is not.
    """

    span: Span
    key_span: Span
    num_keys: int
    capacity: int
    mask: Mask
    full_mask: Mask
    packing: Packing | None = None


def make_view(
    spec: ModelSpec,
    length: int,
    device: torch.device,
    *,
    causal: bool,
    lengths_B: Tensor | None = None,
    prefix_lengths_B: Tensor | None = None,
    documents_BT: Tensor | None = None,
    num_remembered: int = 0,
    cache: Cache | None = None,
) -> View:
    """The view of a pass over `length` tokens a row; see `Transformer.forward` for the arguments."""
    packing = None
    span = key_span = Span(length)
    num_keys = num_remembered + length
    if spec.padding != "mask" and lengths_B is not None:
        packing = Packing.of(lengths_B, length, device)
        span = key_span = Span(length, positions_T=packing.position_N, limit=length)
        lengths_B = None
    elif cache is not None:
        positions_T, limit = cache.positions(length), cache.limit or 0
        span = key_span = Span(length, cache.length, positions_T, limit)
        num_keys = cache.length + length if positions_T is None else limit
    elif num_remembered:
        span, key_span = Span(length, start=num_remembered), Span(num_keys)
    # Padding stands on the right, where no earlier query looks: causality alone keeps it out, no mask tensor.
    full_mask = Mask(
        causal=causal,
        key_lengths_B=None if causal else lengths_B,
        documents_BS=None if packing is None else packing.sequence_1N,
        query_positions_T=span.positions_T if packing is None else None,
    )
    mask = _with_pattern(spec, full_mask, prefix_lengths_B, documents_BT)
    longest = max(num_keys, cache.limit or 0) if cache is not None else num_keys
    return View(
        span=span,
        key_span=key_span,
        num_keys=num_keys,
        capacity=1 << (longest - 1).bit_length(),
        mask=mask,
        full_mask=full_mask,
        packing=packing,
    )


def _with_pattern(
    spec: ModelSpec, full_mask: Mask, prefix_lengths_B: Tensor | None, documents_BT: Tensor | None
) -> Mask:
    """What the spec's pattern leaves of a mask."""
    pattern = spec.pattern
    if pattern.kind == "window":
        return replace(
            full_mask,
            window=pattern.window,
            both_sides=not full_mask.causal,
            global_tokens=pattern.global_tokens,
        )
    if pattern.kind == "prefix" and prefix_lengths_B is not None:
        return replace(full_mask, prefix_lengths_B=prefix_lengths_B)
    if pattern.kind == "document" and documents_BT is not None:
        packed_BS = full_mask.documents_BS
        if packed_BS is not None:
            documents_BT = documents_BT + DOCUMENTS_EACH * packed_BS
        return replace(full_mask, documents_BS=documents_BT)
    return full_mask
