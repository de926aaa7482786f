"""View: what the tokens of one pass are, where they stand, and what they may see.

Shape letters: B batch, T length, S key length, N tokens of a packed batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from t2bench.attention.mask import Mask
from t2bench.attention.packed import Packed
from t2bench.models.cache import Cache
from t2bench.models.packing import positions
from t2bench.models.position import Span
from t2bench.spec.model import ModelSpec


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
        lengths: of the sequences of a packed batch; empty if it is not.
    """

    span: Span
    key_span: Span
    num_keys: int
    capacity: int
    mask: Mask
    full_mask: Mask
    lengths: tuple[int, ...] = ()

    def reordered(self, rows_B: Tensor) -> View:
        """The view of these rows (int64) of the batch."""
        full_mask = self.full_mask.reordered(rows_B)
        mask = full_mask if self.mask is self.full_mask else self.mask.reordered(rows_B)
        return replace(self, mask=mask, full_mask=full_mask)

    def mask_of_source(self, source: View) -> Mask:
        """What these tokens see of a source that was read in the view given."""
        if not source.lengths:
            # The mask of the encoder's layers without a pattern: what it has built serves the decoder as well.
            return source.full_mask
        nested = source.full_mask.packed is not None and source.full_mask.packed.nested
        return Mask(packed=Packed(query_lengths=self.lengths, key_lengths=source.lengths, nested=nested))


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
    """The view of a pass over `length` tokens a row; see `Transformer.forward` for the arguments.

    Lengths of a packed batch become numbers of the host: they are best there, where reading them waits for nothing.
    """
    lengths: tuple[int, ...] = ()
    packed = None
    span = key_span = Span(length)
    num_keys = num_remembered + length
    if spec.padding != "mask" and lengths_B is not None:
        lengths, lengths_B = tuple(lengths_B.tolist()), None
        packed = Packed(query_lengths=lengths, key_lengths=lengths, nested=spec.padding == "nested")
        num_keys = max(lengths)
        span = key_span = Span(length, positions_T=positions(lengths, device), limit=num_keys)
    elif cache is not None:
        positions_T, limit = cache.positions(length), cache.limit or 0
        span = key_span = Span(length, cache.length, positions_T, limit)
        num_keys = cache.length + length if positions_T is None else limit
    elif num_remembered:
        span, key_span = Span(length, start=num_remembered), Span(num_keys)
    full_mask = Mask(
        causal=causal,
        # Padding stands on the right, where no earlier query looks: causality alone keeps it out, no mask tensor.
        key_lengths_B=None if causal else lengths_B,
        query_positions_T=span.positions_T if packed is None else None,
        packed=packed,
    )
    longest = max(num_keys, cache.limit or 0) if cache is not None else num_keys
    return View(
        span=span,
        key_span=key_span,
        num_keys=num_keys,
        capacity=1 << (longest - 1).bit_length(),
        mask=_with_pattern(spec, full_mask, prefix_lengths_B, documents_BT),
        full_mask=full_mask,
        lengths=lengths,
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
        return replace(full_mask, documents_BS=documents_BT)
    return full_mask
