"""Positions inside the scores: what a key's distance from the query adds to z_ts. D(t, s) = s - p_t, p_t the position.

    alibi    - m_h |D|,  m_h = 2^(-8h/H), h = 1 .. H; where H is no power of two, those of the next lower one, then
             every other one of the next higher one                               Press et al. 2021 (arXiv 2108.12409)
    t5_bias  b[bucket(D), h]: one bucket for each small distance, then logarithmic ones, one for all from max_distance
             on; half of them for keys ahead where queries look ahead. One table b for all layers of a stack
                                                                             Raffel et al. 2020 (arXiv 1910.10683), 2.1
    shaw     scale q_t . a^K[clip(D)], and a^V[clip(D)] is added to the value; two tables in each layer, shared by its
             heads                                                    Shaw et al. 2018 (arXiv 1803.02155), eq. 3 and 4
    txl      (q_t + u) . k_s + (q_t + v) . W_r R(-D) in place of q_t . k_s, R the sinusoids; u, v and W_r in each layer
                                                                          Dai et al. 2019 (arXiv 1901.02860), 3.3

Distances ahead of the query matter where it may look ahead: in encoders, and in decoders with a prefix. There ALiBi is
symmetric.

Shape letters: B batch, T query length, S key length, D width, H heads, G key/value heads, K head dim, R distances, N
buckets.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from t2bench.attention.scores import RelativeBias
from t2bench.models.linear import Linear
from t2bench.spec.axes import PositionSpec
from t2bench.spec.model import ModelSpec


def alibi_slopes(heads: int) -> Tensor:
    """Slopes m_h, float64 (H,)."""
    power = 1 << (heads.bit_length() - 1)

    def of_power(count: int) -> list[float]:
        return [2.0 ** (-8.0 * h / count) for h in range(1, count + 1)]

    slopes = of_power(power) + of_power(2 * power)[0::2][: heads - power]
    return torch.tensor(slopes, dtype=torch.float64, device="cpu")


def t5_buckets(distance_R: Tensor, position: PositionSpec, *, both_sides: bool) -> Tensor:
    """Bucket of each distance s - p, int64.

    In float32, as in T5's own code: the limits between buckets fall where its rounding puts them.
    """
    count = position.buckets // 2 if both_sides else position.buckets
    ahead_R = torch.where(distance_R > 0, count, 0) if both_sides else torch.zeros_like(distance_R)
    size_R = distance_R.abs() if both_sides else (-distance_R).clamp(min=0)
    exact = count // 2
    share_R = torch.log(size_R.float().clamp(min=1.0) / exact) / math.log(position.max_distance / exact)
    far_R = (exact + (share_R * (count - exact)).long()).clamp(max=count - 1)
    return ahead_R + torch.where(size_R < exact, size_R, far_R)


class StackBias(nn.Module):
    """Biases that all layers of a stack share: ALiBi's slopes or T5's table.

    Args:
        spec: the variant.
        both_sides: queries may look ahead.
    """

    def __init__(self, spec: ModelSpec, *, both_sides: bool) -> None:
        super().__init__()
        self.position = spec.position
        self.heads = spec.heads
        self.both_sides = both_sides
        learned = spec.position.kind == "t5_bias"
        self.table_NH = nn.Parameter(torch.empty(spec.position.buckets, spec.heads)) if learned else None
        self._kept: dict[tuple[object, ...], Tensor] = {}

    def forward(self, num_keys: int, capacity: int, like: Tensor) -> RelativeBias:
        """The bias of every distance among so many keys.

        Args:
            num_keys: keys S.
            capacity: keys that a table kept for later passes should serve, at least S.
            like: its dtype and device are the bias's.
        """
        if self.table_NH is None:
            return self._alibi(num_keys, capacity, like)
        reach = min(num_keys - 1, self.position.max_distance)
        bucket_R = self._keep(("buckets", like.device), self._buckets, like)
        ahead = reach if self.both_sides else 0
        middle = self.position.max_distance
        values_RH = self.table_NH[bucket_R[middle - reach : middle + ahead + 1]]
        return RelativeBias(values_BHTR=values_RH.T[None, :, None], left=reach, right=ahead)

    @property
    def kept(self) -> tuple[Tensor, ...]:
        """The tables that passes so far have made: slopes times distances, slopes, or buckets."""
        return tuple(self._kept.values())

    def _alibi(self, num_keys: int, capacity: int, like: Tensor) -> RelativeBias:
        key = (capacity, like.dtype, like.device)
        values_BHTR = self._keep(key, lambda: self._slopes_times_distances(capacity), like)
        slopes_H = self._keep(("slopes", like.device), lambda: alibi_slopes(self.heads).float(), like)
        ahead = num_keys - 1 if self.both_sides else 0
        values_BHTR = values_BHTR[..., capacity - num_keys : capacity + ahead]
        return RelativeBias(values_BHTR=values_BHTR, left=num_keys - 1, right=ahead, slopes_H=slopes_H)

    def _slopes_times_distances(self, capacity: int) -> Tensor:
        last = capacity - 1 if self.both_sides else 0
        distance_R = torch.arange(1 - capacity, last + 1, dtype=torch.float64, device="cpu").abs()
        return (-alibi_slopes(self.heads)[:, None] * distance_R)[None, :, None]

    def _buckets(self) -> Tensor:
        reach = self.position.max_distance
        return t5_buckets(torch.arange(-reach, reach + 1, device="cpu"), self.position, both_sides=self.both_sides)

    def _keep(self, key: tuple[object, ...], make: Callable[[], Tensor], like: Tensor) -> Tensor:
        if key not in self._kept:
            # What is made under inference mode could not be saved for a later backward pass.
            with torch.inference_mode(False):
                made = make()
                dtype = like.dtype if made.dtype == torch.float64 else made.dtype
                self._kept[key] = made.to(like.device, dtype)
        return self._kept[key]


class ShawTables(nn.Module):
    """One layer's relative keys and values (Shaw et al. 2018).

    Args:
        spec: the variant.
        both_sides: queries may look ahead; otherwise no distance ahead has a row.
    """

    def __init__(self, spec: ModelSpec, *, both_sides: bool) -> None:
        super().__init__()
        self.left = spec.position.max_distance
        self.right = self.left if both_sides else 0
        shape = (self.left + self.right + 1, spec.dim_per_head)
        self.key_RK = nn.Parameter(torch.empty(shape))
        self.value_RK = nn.Parameter(torch.empty(shape))

    def forward(self, q_BHTK: Tensor, scale: float) -> RelativeBias:
        """The bias scale q . a^K for each distance."""
        return RelativeBias(values_BHTR=(q_BHTK * scale) @ self.key_RK.T, left=self.left, right=self.right)


class TxlTerms(nn.Module):
    """One layer's terms of Transformer-XL: u (content), v (position) and W_r.

    Args:
        spec: the variant. With grouped heads, W_r makes one vector for each key/value head, as W_k does.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.kv_heads, self.head_dim = spec.num_kv_heads, spec.dim_per_head
        self.r = Linear(spec.width, self.kv_heads * self.head_dim, bias=False)
        self.u_HK = nn.Parameter(torch.empty(spec.heads, self.head_dim))
        self.v_HK = nn.Parameter(torch.empty(spec.heads, self.head_dim))

    def project(self, distances_RD: Tensor) -> Tensor:
        """W_r R of each distance, (G, K, R)."""
        r_RO: Tensor = self.r(distances_RD)
        return r_RO.view(-1, self.kv_heads, self.head_dim).permute(1, 2, 0)

    def forward(self, q_BHTK: Tensor, r_GKR: Tensor, scale: float) -> tuple[Tensor, RelativeBias]:
        """Content queries q + u, and the bias scale (q + v) . r for each distance from R - 1 down to 0."""
        batch, heads, num_queries, _ = q_BHTK.shape
        q_BGNK = ((q_BHTK + self.v_HK[:, None]) * scale).reshape(batch, self.kv_heads, -1, self.head_dim)
        values_BHTR = (q_BGNK @ r_GKR).view(batch, heads, num_queries, -1)
        bias = RelativeBias(values_BHTR=values_BHTR, left=r_GKR.shape[-1] - 1, right=0)
        return q_BHTK + self.u_HK[:, None], bias


def looks_ahead(spec: ModelSpec, *, causal: bool) -> bool:
    """Whether some query of such a stack may see tokens that come after it."""
    return not causal or spec.pattern.kind == "prefix"
