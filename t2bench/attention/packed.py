"""Packed: sequences one after the other along one axis, without padding between them.

    tokens   a a a a b b c c c      (1, H, N, K)
    attention of each sequence with itself, or with its own source

Shape letters: B batch, T query length, S key length, N packed tokens, H query heads, G key/value heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from t2bench.attention.scores import Scores

if TYPE_CHECKING:
    from t2bench.attention.mask import Mask

Attend = Callable[[Tensor, Tensor, Tensor, "Mask", Scores], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Packed:
    """Where each sequence of a packed batch begins and ends. Lengths are numbers of the host: nothing waits for them.

    Attributes:
        query_lengths: tokens of each sequence of queries.
        key_lengths: tokens of each sequence of keys: the same in self-attention, those of the source in
            cross-attention.
        nested: attention is given torch's jagged nested tensors instead of the packed ones; `sdpa` and `sdpa_*` only.

    Raises:
        ValueError: another number of sequences on either side, or an empty one.
    """

    query_lengths: tuple[int, ...]
    key_lengths: tuple[int, ...]
    nested: bool = False
    _offsets: dict[tuple[str, torch.device], Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.query_lengths) != len(self.key_lengths) or min(*self.query_lengths, *self.key_lengths, 1) < 1:
            raise ValueError(
                "a packed batch has as many sequences of queries as of keys, each of at least one token; "
                f"got {self.query_lengths} and {self.key_lengths}"
            )

    def query_offsets(self, device: torch.device) -> Tensor:
        """Where each sequence of queries begins, and the end of the last: int32 (sequences + 1,), made once."""
        return self._kept("query", self.query_lengths, device)

    def key_offsets(self, device: torch.device) -> Tensor:
        """The same of keys."""
        return self._kept("key", self.key_lengths, device)

    def _kept(self, side: str, lengths: tuple[int, ...], device: torch.device) -> Tensor:
        if (side, device) not in self._offsets:
            with torch.inference_mode(False):
                offsets = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
                self._offsets[side, device] = offsets.to(device)
        return self._offsets[side, device]


def one_by_one(
    q_BHNK: Tensor, k_BGNK: Tensor, v_BGNK: Tensor, mask: Mask, packed: Packed, scores: Scores, attend: Attend
) -> Tensor:
    """Each sequence by itself, on views: for back ends that know no packed batches. Nothing is computed in vain."""
    q_parts = torch.split(q_BHNK, list(packed.query_lengths), dim=2)
    k_parts, v_parts = (torch.split(x_BGNK, list(packed.key_lengths), dim=2) for x_BGNK in (k_BGNK, v_BGNK))
    inner = mask.keep(("each",), mask.without_packing)
    ends = accumulate(packed.query_lengths)
    outputs = [
        attend(q, k, v, inner, scores.of_queries(slice(end - q.shape[2], end)))
        for q, k, v, end in zip(q_parts, k_parts, v_parts, ends, strict=True)
    ]
    return torch.cat(outputs, dim=2)


def as_nested(
    q_BHNK: Tensor, k_BGNK: Tensor, v_BGNK: Tensor, packed: Packed, attend: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Tensor:
    """Attention of jagged nested tensors, (sequences, H, tokens of each, K), made of the packed ones without a copy."""
    device = q_BHNK.device

    def nested(x_BHNK: Tensor, offsets: Tensor) -> Tensor:
        x_NHK = x_BHNK[0].transpose(0, 1).contiguous()
        jagged: Tensor = torch.nested.nested_tensor_from_jagged(x_NHK, offsets.long())
        return jagged.transpose(1, 2)

    q_offsets, k_offsets = packed.query_offsets(device), packed.key_offsets(device)
    o_nested = attend(nested(q_BHNK, q_offsets), nested(k_BGNK, k_offsets), nested(v_BGNK, k_offsets))
    o_NHK: Tensor = o_nested.transpose(1, 2).values()
    return o_NHK.transpose(0, 1)[None]
