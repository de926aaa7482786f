"""Cache: what a decoder keeps from one decoding step to the next, so that no token is computed twice.

    growing  keys and values of all tokens so far, or of those that a window can still see. They stand in buffers with
             room to spare, so that a step writes its own tokens and copies nothing: room for `limit` tokens where that
             is known, else twice as much whenever it runs out
    static   buffers for `limit` tokens in every layer, whatever its window. Where the next token goes is a tensor, and
             what is not filled yet is masked, so that a compiled or captured step never changes

Keys are kept as attention sees them, normed and rotated, for the G key/value heads only. Keys and values of the source
are computed once. A cache holds one text a row, starting at position 0, and serves one batch. The tokens of the first
pass see each other without a look at the buffers. Rows can change places, be repeated and be dropped (`reorder`): beam
search goes on with some of its hypotheses, and texts that have ended need no more work.

Shape letters: B batch, T new tokens, S keys, C capacity, G key/value heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from t2bench.spec.model import ModelSpec

if TYPE_CHECKING:
    from t2bench.models.transformer import Source

KeysValues = tuple[Tensor, Tensor]


class LayerCache(Protocol):
    """Keys and values of one layer.

    Attributes:
        cross: keys and values of the source, each (B, G, S, K), once the first step has made them.
        distances: Transformer-XL's projected distances (G, K, R), the longest first, once a step has made them.
    """

    cross: KeysValues | None
    distances: Tensor | None

    def update(self, k_BGTK: Tensor, v_BGTK: Tensor) -> KeysValues:
        """Take the new tokens' keys and values; return those that the new queries may see, (B, G, S, K) each."""
        ...

    def reorder(self, rows_B: Tensor, *, same_source: bool) -> None:
        """As `Cache.reorder`."""
        ...


class Cache(Protocol):
    """State of one batch that is being decoded.

    Attributes:
        layers: one for each layer of the decoder.
        length: tokens taken so far; a static cache has it on the device, in `positions`, and here it stays 0.
        source: the encoded source of an encoder-decoder, after the first step.
        limit: tokens that it can hold; None: no limit.
    """

    @property
    def layers(self) -> Sequence[LayerCache]: ...  # noqa: D102

    length: int
    source: Source | None
    limit: int | None

    def positions(self, num_new: int) -> Tensor | None:
        """Absolute positions (T,) of the next tokens as a tensor, int64; None where `length` says it all."""
        ...

    def advance(self, num_new: int) -> None:
        """All layers have taken `num_new` tokens."""
        ...

    def reorder(self, rows_B: Tensor, *, same_source: bool = False) -> None:
        """Row i becomes what row `rows_B[i]` was.

        Args:
            rows_B: int64, on the cache's device; more or fewer than before, if need be.
            same_source: as many rows as before, and each has the source that it had: that part stays as it is.
        """
        ...


class GrowingLayer:
    """Keys and values of the tokens so far, in buffers with room to spare.

    Args:
        window: tokens that a query sees, itself included; None for all. Older ones are dropped.
        reserve: tokens to make room for at once.
        dtype: of the buffers; None: that of the keys. Under autocast a norm leaves them wider than attention needs.
    """

    def __init__(self, window: int | None = None, reserve: int = 0, dtype: torch.dtype | None = None) -> None:
        self.cross: KeysValues | None = None
        self.distances: Tensor | None = None
        self._window = window
        self._dtype = dtype
        self._reserve = reserve if window is None else min(reserve, 2 * window)
        self._buffers: KeysValues | None = None
        self._begin = self._end = 0  # what is kept, as places in the buffers

    def update(self, k_BGTK: Tensor, v_BGTK: Tensor) -> KeysValues:
        """See LayerCache."""
        new = (k_BGTK, v_BGTK)
        num_new = k_BGTK.shape[2]
        if self._buffers is None:
            self._begin = self._end = 0
            kept = self._kept_of(num_new)
            tail = (k_BGTK[:, :, num_new - kept :], v_BGTK[:, :, num_new - kept :])
            self._move(tail, max(self._reserve, kept))
            return new
        if self._end + num_new > self._buffers[0].shape[2]:
            size = self._end - self._begin + num_new
            self._move(self._seen(self._buffers), max(2 * size, self._reserve))
        assert self._buffers is not None
        for buffer_BGCK, x_BGTK in zip(self._buffers, new, strict=True):
            buffer_BGCK[:, :, self._end : self._end + num_new] = x_BGTK
        self._end += num_new
        seen = self._seen(self._buffers)
        self._begin = self._end - self._kept_of(self._end - self._begin)
        return seen

    def reorder(self, rows_B: Tensor, *, same_source: bool) -> None:
        """See Cache."""
        if not same_source and self.cross is not None:
            self.cross = _selected(self.cross, rows_B)
        if self._buffers is None:
            return
        kept, capacity = _selected(self._seen(self._buffers), rows_B), self._buffers[0].shape[2]
        if len(rows_B) != len(self._buffers[0]):
            self._move(kept, capacity)
            return
        for buffer_BGCK, x_BGSK in zip(self._buffers, kept, strict=True):
            buffer_BGCK[:, :, self._begin : self._end] = x_BGSK

    def _kept_of(self, size: int) -> int:
        """How many of so many tokens a later query can see: it takes one place of the window itself."""
        return size if self._window is None else min(size, self._window - 1)

    def _seen(self, buffers: KeysValues) -> KeysValues:
        span = slice(self._begin, self._end)
        return buffers[0][:, :, span], buffers[1][:, :, span]

    def _move(self, kept: KeysValues, capacity: int) -> None:
        """To the front of new buffers."""
        batch, heads, size, head_dim = kept[0].shape
        made = []
        for x_BGSK in kept:
            buffer_BGCK = x_BGSK.new_empty(batch, heads, capacity, head_dim, dtype=self._dtype)
            buffer_BGCK[:, :, :size] = x_BGSK
            made.append(buffer_BGCK)
        self._buffers = (made[0], made[1])
        self._begin, self._end = 0, size


class GrowingCache:
    """A cache that grows with the text.

    Args:
        spec: the variant.
        limit: tokens that will come, if known: room is made for them at once.
        dtype: of the buffers; None: that of the keys.
    """

    def __init__(self, spec: ModelSpec, limit: int = 0, dtype: torch.dtype | None = None) -> None:
        self.limit: int | None = None
        self.layers = tuple(GrowingLayer(window, limit, dtype) for window in kept_windows(spec))
        self.length = 0
        self.source: Source | None = None

    def positions(self, num_new: int) -> Tensor | None:
        """See Cache."""
        return None

    def advance(self, num_new: int) -> None:
        """See Cache."""
        self.length += num_new

    def reorder(self, rows_B: Tensor, *, same_source: bool = False) -> None:
        """See Cache."""
        if not same_source and self.source is not None:
            self.source = self.source.reordered(rows_B)
        for layer in self.layers:
            layer.reorder(rows_B, same_source=same_source)


class StaticLayer:
    """Keys and values in buffers of fixed size.

    Args:
        shape: (B, G, C, K).
        cross_shape: the same of the source's keys and values; None without a source.
        owner: knows where the next tokens go.
        like: its dtype and device are the buffers'.
    """

    def __init__(
        self, shape: tuple[int, ...], cross_shape: tuple[int, ...] | None, owner: StaticCache, like: Tensor
    ) -> None:
        # Zeros: a masked place has weight 0, and 0 times whatever memory held before might be no number.
        self.buffers: KeysValues = (like.new_zeros(shape), like.new_zeros(shape))
        self.cross_buffers: KeysValues | None = None
        self.distances: Tensor | None = None
        if cross_shape is not None:
            self.cross_buffers = (like.new_zeros(cross_shape), like.new_zeros(cross_shape))
        self._owner = owner

    @property
    def cross(self) -> KeysValues | None:
        """See LayerCache."""
        return self.cross_buffers if self._owner.begun else None

    @cross.setter
    def cross(self, made: KeysValues | None) -> None:
        assert self.cross_buffers is not None
        assert made is not None
        for buffer_BGSK, x_BGSK in zip(self.cross_buffers, made, strict=True):
            buffer_BGSK.copy_(x_BGSK)

    def update(self, k_BGTK: Tensor, v_BGTK: Tensor) -> KeysValues:
        """See LayerCache."""
        num_new = k_BGTK.shape[2]
        positions_T = self._owner.positions(num_new)
        for buffer_BGCK, x_BGTK in zip(self.buffers, (k_BGTK, v_BGTK), strict=True):
            if positions_T is None:
                buffer_BGCK[:, :, :num_new] = x_BGTK
            else:
                buffer_BGCK.index_copy_(2, positions_T, x_BGTK.to(buffer_BGCK.dtype))
        return (k_BGTK, v_BGTK) if positions_T is None else self.buffers

    def reorder(self, rows_B: Tensor, *, same_source: bool) -> None:
        """See Cache."""
        self.buffers = _in_place(self.buffers, rows_B)
        if not same_source and self.cross_buffers is not None:
            self.cross_buffers = _in_place(self.cross_buffers, rows_B)


class StaticCache:
    """A cache of fixed size, which can be used for one batch after the other.

    Args:
        spec: the variant.
        batch: rows B.
        limit: tokens that it can hold.
        source_length: tokens of the source; 0 without one.
        like: its dtype and device are the cache's.
    """

    length = 0  # no number of the host changes from token to token: a compiled step would be compiled again

    def __init__(self, spec: ModelSpec, *, batch: int, limit: int, source_length: int, like: Tensor) -> None:
        heads, head_dim = spec.num_kv_heads, spec.dim_per_head
        self.limit: int | None = limit
        self.source: Source | None = None
        self.begun = False
        self._next_1 = torch.zeros(1, dtype=torch.int64, device=like.device)
        shape = (batch, heads, limit, head_dim)
        cross = (batch, heads, source_length, head_dim) if source_length else None
        self.layers = tuple(StaticLayer(shape, cross, self, like) for _ in range(spec.num_dec_layers))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that keeps its place in memory."""
        pairs = [pair for layer in self.layers for pair in (layer.buffers, layer.cross_buffers or ())]
        return (self._next_1, *(tensor for pair in pairs for tensor in pair))

    def reset(self) -> None:
        """Forget the batch: the next tokens are the first."""
        self.begun = False
        self.source = None
        for layer in self.layers:
            layer.distances = None
        self._next_1.zero_()

    def positions(self, num_new: int) -> Tensor | None:
        """See Cache; None for the first tokens, which stand at 0, 1, ..."""
        if not self.begun:
            return None
        if num_new == 1:
            return self._next_1
        return self._next_1 + torch.arange(num_new, device=self._next_1.device)

    def advance(self, num_new: int) -> None:
        """See Cache."""
        self._next_1.add_(num_new)
        self.begun = True

    def reorder(self, rows_B: Tensor, *, same_source: bool = False) -> None:
        """See Cache; with as many rows as before, the buffers keep their place in memory."""
        if not same_source and self.source is not None:
            self.source = self.source.reordered(rows_B)
        for layer in self.layers:
            layer.reorder(rows_B, same_source=same_source)


def _selected(pair: KeysValues, rows_B: Tensor) -> KeysValues:
    return pair[0].index_select(0, rows_B), pair[1].index_select(0, rows_B)


def _in_place(buffers: KeysValues, rows_B: Tensor) -> KeysValues:
    """The rows given in the same buffers, if these have as many."""
    selected = _selected(buffers, rows_B)
    if len(rows_B) != len(buffers[0]):
        return selected
    for buffer_BGCK, x_BGCK in zip(buffers, selected, strict=True):
        buffer_BGCK.copy_(x_BGCK)
    return buffers


def kept_windows(spec: ModelSpec) -> list[int | None]:
    """For each layer of the decoder how many tokens a growing cache must keep, the newest included; None for all."""
    pattern = spec.pattern
    trims = pattern.kind == "window" and not pattern.global_tokens
    return [pattern.window if trims and pattern.applies(index) else None for index in range(spec.num_dec_layers)]
