"""Mask: which keys a query may see, as structure rather than as a tensor.

A flag costs nothing and keeps the fast kernels available; a tensor costs memory traffic and, on some back ends, the
fast kernel itself. So the mask stays structured until a back end asks for a tensor, built once and kept.

Shape letters: B batch, T query length, S key length, H query heads, G key/value heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """Which keys each query may see.

    One mask object serves a whole forward pass (or many steps of the same shape): the tensors it builds are shared by
    all layers.

    Attributes:
        causal: query t sees key s only if s <= t + S - T. This is bottom-right alignment (the last query sees every
            key), as in flash-attention 2.1 and later; it differs from `is_causal` of torch when T != S.
        key_lengths_B: number of leading keys of each sequence that exist, int64 (B,); None means all S.
    """

    causal: bool = False
    key_lengths_B: Tensor | None = None
    _built: dict[tuple[object, ...], Tensor] = field(default_factory=dict, init=False, repr=False)

    def is_flag(self, num_queries: int, num_keys: int) -> bool:
        """Whether the `is_causal` flag of torch, alone, means this mask at (T, S)."""
        return self.causal and num_queries == num_keys and self.key_lengths_B is None

    def visible(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor | None:
        """Bool tensor broadcastable to (B, H, T, S), true where the key is seen; None if every key is seen."""
        # A single query stands at the bottom right: it sees all keys.
        causal = self.causal and num_queries > 1
        if not causal and self.key_lengths_B is None:
            return None
        return self._keep(
            ("visible", num_queries, num_keys, device), lambda: self._build(causal, num_queries, num_keys, device)
        )

    def hidden(self, num_queries: int, num_keys: int, device: torch.device, repeats: int = 1) -> Tensor | None:
        """The opposite of `visible`, with the query axis repeated `repeats` times: broadcastable to (B, G, R*T, S)."""
        visible_BHTS = self.visible(num_queries, num_keys, device)
        if visible_BHTS is None:
            return None
        tiles = 1 if visible_BHTS.shape[2] == 1 else repeats
        key = ("hidden", num_queries, num_keys, device, repeats)
        return self._keep(key, lambda: ~visible_BHTS.repeat(1, 1, tiles, 1))

    def blind(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor | None:
        """Bool tensor broadcastable to (B, H, T, K), true where a query may see no key; None if that cannot happen.

        Lengths are not read back to the host, so any given lengths count as possibly zero.
        """
        if self.key_lengths_B is None and not (self.causal and num_queries > num_keys):
            return None
        visible_BHTS = self.visible(num_queries, num_keys, device)
        assert visible_BHTS is not None
        key = ("blind", num_queries, num_keys, device)
        return self._keep(key, lambda: ~visible_BHTS.any(dim=-1, keepdim=True))

    def _keep(self, key: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
        if key not in self._built:
            # A tensor made under inference mode could not be saved for a later backward pass.
            with torch.inference_mode(False):
                self._built[key] = make()
        return self._built[key]

    def _build(self, causal: bool, num_queries: int, num_keys: int, device: torch.device) -> Tensor:
        visible_BHTS = torch.ones(1, 1, 1, num_keys, dtype=torch.bool, device=device)
        if causal:
            square_TS = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
            visible_BHTS = square_TS.tril(num_keys - num_queries)[None, None]
        if self.key_lengths_B is not None:
            exists_BS = torch.arange(num_keys, device=device) < self.key_lengths_B.to(device)[:, None]
            visible_BHTS = visible_BHTS & exists_BS[:, None, None, :]
        return visible_BHTS
