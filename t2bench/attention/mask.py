"""Mask: which keys a query may see, as structure rather than as a tensor.

A flag costs nothing and keeps the fast kernels available; a tensor costs memory traffic and, on some back ends, the
fast kernel itself. So the mask stays structured until a back end asks for a tensor, built once and kept.

Shape letters: B batch, T query length, S key length, H query heads, G key/value heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from t2bench.attention.packed import Packed

Built = TypeVar("Built")


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """Which keys each query may see: those that every condition given admits.

    Keys have the positions s = 0 .. S - 1. The queries are the last T of them: query t has position p = t + S - T, so
    that the last query is the last key (bottom-right alignment, as in flash-attention 2.1 and later; `is_causal` of
    torch differs when T != S).

    One mask object serves a whole forward pass (or many steps of the same shape): what is built from it is shared by
    all layers.

    Attributes:
        causal: s <= p.
        key_lengths_B: number of leading keys of each sequence that exist, int64 (B,); None means all S.
        window: s > p - window: so many keys are visible, the query's own included. Needs `causal` or `both_sides`.
        both_sides: with a window, not causal: also s < p + window.
        global_tokens: in spite of the window, the first so many keys are seen from everywhere, and the first so many
            queries see everything (never ahead when causal).
        prefix_lengths_B: in spite of `causal`, so many leading keys of each sequence are seen from everywhere, int64
            (B,).
        documents_BS: number of the document that each key belongs to, int64 (B, S); a query sees its own document only.
        query_positions_T: positions p of the queries, int64 (T,), where they are not the last ones: keys and values in
            a buffer of fixed size.
        packed: the batch is one row in which sequences stand one after the other, and each sees only itself, or its own
            source; the other conditions (`causal` and a window) hold within each.

    Raises:
        ValueError: conditions that contradict each other.
    """

    causal: bool = False
    key_lengths_B: Tensor | None = None
    window: int | None = None
    both_sides: bool = False
    global_tokens: int = 0
    prefix_lengths_B: Tensor | None = None
    documents_BS: Tensor | None = None
    query_positions_T: Tensor | None = None
    packed: Packed | None = None
    _built: dict[tuple[object, ...], Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.window is not None and (self.window < 1 or self.causal == self.both_sides):
            raise ValueError(
                f"a window counts the query's own key (at least 1) and is either causal or on both sides; "
                f"got window {self.window}, causal {self.causal}, both_sides {self.both_sides}"
            )
        if self.window is None and (self.both_sides or self.global_tokens):
            raise ValueError("both_sides and global_tokens belong to a window, and there is none")
        if self.prefix_lengths_B is not None and not self.causal:
            raise ValueError("a prefix is what a causal mask does not hide; this mask is not causal")
        if self.packed is not None and (self._tensors or self.global_tokens):
            raise ValueError("within packed sequences there are only causal masks and windows")

    def reordered(self, rows_B: Tensor) -> Mask:
        """The mask of these rows (int64) of a batch that is not packed."""
        of_rows = {name: getattr(self, name) for name in ("key_lengths_B", "prefix_lengths_B", "documents_BS")}
        changed = {name: x.index_select(0, rows_B) for name, x in of_rows.items() if x is not None}
        return replace(self, **changed) if changed else self

    @property
    def is_plain(self) -> bool:
        """Whether `causal` and a window, perhaps, are the whole of it."""
        return not self._tensors and not self.global_tokens and self.packed is None

    @property
    def has_no_tensors(self) -> bool:
        """Whether it is the same mask for every batch of the same shape."""
        return not self._tensors

    def without_packing(self) -> Mask:
        """The mask within one sequence of a packed batch."""
        return Mask(causal=self.causal, window=self.window, both_sides=self.both_sides)

    def window_at(self, num_keys: int) -> int | None:
        """The window, or None if there is none or it hides nothing of so many keys."""
        return self.window if self.window is not None and self.window < num_keys else None

    def is_flag(self, num_queries: int, num_keys: int) -> bool:
        """Whether the `is_causal` flag of torch, alone, means this mask at (T, S)."""
        return self.causal and num_queries == num_keys and self.is_plain and self.window_at(num_keys) is None

    def visible(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor | None:
        """Bool tensor broadcastable to (B, H, T, S), true where the key is seen; None if every key is seen."""
        if not self.hides(num_queries, num_keys):
            return None
        key = ("visible", num_queries, num_keys, device)
        return self.keep(key, lambda: self._build(num_queries, num_keys, device))

    def hidden(self, num_queries: int, num_keys: int, device: torch.device, repeats: int = 1) -> Tensor | None:
        """The opposite of `visible`, with the query axis repeated `repeats` times: broadcastable to (B, G, R*T, S)."""
        visible_BHTS = self.visible(num_queries, num_keys, device)
        if visible_BHTS is None:
            return None
        tiles = 1 if visible_BHTS.shape[2] == 1 else repeats
        key = ("hidden", num_queries, num_keys, device, repeats)
        return self.keep(key, lambda: ~visible_BHTS.repeat(1, 1, tiles, 1))

    def blind(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor | None:
        """Bool tensor broadcastable to (B, H, T, K), true where a query may see no key; None if that cannot happen.

        Lengths are not read back to the host, so any given lengths count as possibly zero. Other conditions always
        leave a query the key at its own position, if there is one.
        """
        ahead = num_queries > num_keys and self.query_positions_T is None
        if self.key_lengths_B is None and not (ahead and (self.causal or self.window is not None)):
            return None
        visible_BHTS = self.visible(num_queries, num_keys, device)
        assert visible_BHTS is not None
        key = ("blind", num_queries, num_keys, device)
        return self.keep(key, lambda: ~visible_BHTS.any(dim=-1, keepdim=True))

    def positions(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor:
        """Positions p of the queries among the keys, int64 (T,)."""
        if self.query_positions_T is not None:
            return self.query_positions_T.to(device)
        return torch.arange(num_keys - num_queries, num_keys, device=device)

    def hides(self, num_queries: int, num_keys: int) -> bool:
        """Whether any key can be hidden from any query at (T, S)."""
        # A single query without a position stands at the bottom right: all keys are behind it.
        alone = num_queries == 1 and self.query_positions_T is None
        banded = self.window_at(num_keys) is not None
        given = self.key_lengths_B is not None or self.documents_BS is not None
        return given or banded or (self.causal and not alone)

    def keep(self, key: tuple[object, ...], make: Callable[[], Built]) -> Built:
        """What `make` returns, made once for each key and kept as long as the mask."""
        if key not in self._built:
            # A tensor made under inference mode could not be saved for a later backward pass.
            with torch.inference_mode(False):
                self._built[key] = make()
        built: Built = self._built[key]
        return built

    @property
    def _tensors(self) -> tuple[Tensor, ...]:
        given = (self.key_lengths_B, self.prefix_lengths_B, self.documents_BS, self.query_positions_T)
        return tuple(tensor for tensor in given if tensor is not None)

    def _build(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor:
        s_S = torch.arange(num_keys, device=device)
        p_T1 = self.positions(num_queries, num_keys, device)[:, None]
        visible_BHTS = torch.ones(1, 1, 1, num_keys, dtype=torch.bool, device=device)
        if self.causal and not (num_queries == 1 and self.query_positions_T is None):
            past_BHTS = (s_S <= p_T1)[None, None]
            if self.prefix_lengths_B is not None:
                past_BHTS = past_BHTS | (s_S < self.prefix_lengths_B.to(device)[:, None])[:, None, None]
            visible_BHTS = past_BHTS
        if (window := self.window_at(num_keys)) is not None:
            near_TS = s_S > p_T1 - window
            if self.both_sides:
                near_TS &= s_S < p_T1 + window
            if self.global_tokens:
                near_TS |= (s_S < self.global_tokens) | (p_T1 < self.global_tokens)
            visible_BHTS = visible_BHTS & near_TS
        if self.documents_BS is not None:
            if num_queries > num_keys and self.query_positions_T is None:
                raise ValueError(f"each query belongs to the document of its own key: {num_queries} > {num_keys}")
            document_BS = self.documents_BS.to(device)
            own_BT = document_BS[:, p_T1[:, 0]]
            visible_BHTS = visible_BHTS & (own_BT[:, :, None] == document_BS[:, None, :])[:, None]
        if self.key_lengths_B is not None:
            exists_BS = s_S < self.key_lengths_B.to(device)[:, None]
            visible_BHTS = visible_BHTS & exists_BS[:, None, None, :]
        return visible_BHTS
