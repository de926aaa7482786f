"""Cache: what a decoder keeps from one decoding step to the next, so that no token is computed twice.

    growing  keys and values of all tokens so far, or of those that a window can still see, joined to the new ones
    static   buffers for a fixed number of tokens, written in place; where the next token goes is a tensor, so that a
             compiled or captured step never changes

Keys are kept as attention sees them, normed and rotated. Keys and values of the source are computed once. A cache holds
one text a row, starting at position 0, and serves one batch.

Shape letters: B batch, T new tokens, S keys, G key/value heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from t2bench.spec.model import ModelSpec

if TYPE_CHECKING:
    from t2bench.models.transformer import Source


class LayerCache(Protocol):
    """Keys and values of one layer.

    Attributes:
        cross: keys and values of the source, each (B, G, S, K), once the first step has made them.
    """

    cross: tuple[Tensor, Tensor] | None

    def update(self, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """Take the new tokens' keys and values; return those that the new queries may see, (B, G, S, K) each."""
        ...


class Cache(Protocol):
    """State of one batch that is being decoded.

    Attributes:
        layers: one for each layer of the decoder.
        length: tokens taken so far; 0 before the first step. A static cache keeps it on the device as well.
        source: the encoded source of an encoder-decoder, after the first step.
        limit: tokens that it can hold; None: no limit.
    """

    layers: Sequence[LayerCache]
    length: int
    source: Source | None
    limit: int | None

    def positions(self, num_new: int) -> Tensor | None:
        """Absolute positions (T,) of the next tokens as a tensor, int64; None where `length` says it all."""
        ...

    def advance(self, num_new: int) -> None:
        """All layers have taken `num_new` tokens."""
        ...


class GrowingLayer:
    """Keys and values of the tokens so far.

    Args:
        window: tokens that a query sees, itself included; None for all. Older ones are dropped.
    """

    def __init__(self, window: int | None) -> None:
        self.cross: tuple[Tensor, Tensor] | None = None
        self._window = window
        self._kept: tuple[Tensor, Tensor] | None = None

    def update(self, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """See LayerCache."""
        seen = (k_BGTK, v_BGTK)
        if self._kept is not None:
            seen = (torch.cat((self._kept[0], k_BGTK), dim=2), torch.cat((self._kept[1], v_BGTK), dim=2))
        # The next query itself takes one place of the window.
        self._kept = seen
        if self._window is not None:
            first = max(0, seen[0].shape[2] - (self._window - 1))
            self._kept = (seen[0][:, :, first:], seen[1][:, :, first:])
        return seen


class GrowingCache:
    """A cache that grows with the text.

    Args:
        spec: the variant.
    """

    limit: int | None = None

    def __init__(self, spec: ModelSpec) -> None:
        pattern = spec.pattern
        trims = pattern.kind == "window" and not pattern.global_tokens
        windows = [pattern.window if trims and pattern.applies(i) else None for i in range(spec.num_dec_layers)]
        self.layers: Sequence[LayerCache] = tuple(GrowingLayer(window) for window in windows)
        self.length = 0
        self.source: Source | None = None

    def positions(self, num_new: int) -> Tensor | None:
        """See Cache."""
        return None

    def advance(self, num_new: int) -> None:
        """See Cache."""
        self.length += num_new


def make(spec: ModelSpec) -> Cache | None:
    """The cache that the spec asks for; None for `off`: everything is computed again for each token."""
    return None if spec.cache == "off" else GrowingCache(spec)
