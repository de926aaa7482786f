"""Scores: how much a query and a key have to do with each other, before the softmax.

    z_ts = cap(scale * q_t . k_s + b_ts)          dot products (Vaswani et al. 2017, section 3.2.1)
    z_ts = cap(v . tanh(q_t + k_s) + b_ts)        additive (Bahdanau et al. 2015, appendix A.1.2)

with cap(x) = c tanh(x / c) (Gemma 2) or x, and the relative bias b_ts = values[t, clip(s - p, -left, right) + left],
where p is the query's position among the keys. The bias is added after the scale and before the cap; hidden keys are
hidden after the cap.

Shape letters: B batch, T query length, S key length, H query heads, K head dim, R distances.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from t2bench.attention.mask import Mask


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RelativeBias:
    """A bias that depends on how far a key is from the query, and perhaps on the query.

    A table may cover all distances (left = S - 1) or clip those beyond its ends. One object serves
    all layers of a forward pass: what is made of it is kept with it, and so must not outlive its values.

    Attributes:
        values_BHTR: bias of each distance -left .. right, that is R = left + right + 1; B, H and T may be 1. It may
            need a gradient. ALiBi (Press et al. 2021): -slope |distance|; T5 (Raffel et al. 2020): a learned table,
            already spread from buckets to distances; Shaw et al. 2018: scale * q . a^K; Transformer-XL (Dai et al.
            2019): scale * (q + v) . r.
        left: largest distance behind the query that is told apart.
        right: the same ahead of it.
        slopes_H: the slopes where the bias is exactly -slope |distance|, float32 (H,): some kernels compute it from
            them, without a table.
    """

    values_BHTR: Tensor
    left: int
    right: int
    slopes_H: Tensor | None = None
    _built: dict[tuple[object, ...], tuple[Mask, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.values_BHTR.ndim != 4 or self.values_BHTR.shape[-1] != self.left + self.right + 1:
            raise ValueError(
                f"values of {self.left} distances to the left, 0 and {self.right} to the right have the shape (B, H, "
                f"T, {self.left + self.right + 1}), got {tuple(self.values_BHTR.shape)}"
            )

    def keep(self, key: tuple[object, ...], mask: Mask, make: Callable[[], Tensor]) -> Tensor:
        """What `make` returns, made once for each key, mask and mode of autograd and kept as long as the bias."""
        # By its number rather than itself: a compiler would hash a dataclass by its fields. Kept, it keeps its number.
        key = (*key, id(mask), torch.is_grad_enabled())
        if key not in self._built:
            self._built[key] = (mask, make())
        return self._built[key][1]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scores:
    """How scores are made. The default is the scaled dot product.

    Attributes:
        scale: factor on the dot products; None means 1 / sqrt(K), 1.0 the unscaled dot product. Additive scores have
            none.
        softcap: c of the cap, or None for none.
        relative: the bias, or None for none.
        additive_HK: v of additive scores, or None for dot products.
        value_table_RK: what a key at each distance of `relative` adds to its value: a^V of Shaw et al. 2018, eq. 3.
    """

    scale: float | None = None
    softcap: float | None = None
    relative: RelativeBias | None = None
    additive_HK: Tensor | None = None
    value_table_RK: Tensor | None = None

    def __post_init__(self) -> None:
        if self.value_table_RK is not None and (
            self.relative is None or len(self.value_table_RK) != self.relative.values_BHTR.shape[-1]
        ):
            raise ValueError("a table of relative values belongs to a relative bias of the same distances")
        if self.additive_HK is not None and self.scale is not None:
            raise ValueError(f"additive scores have no scale, got {self.scale}")

    def factor(self, head_dim: int) -> float:
        """The scale, resolved."""
        return head_dim**-0.5 if self.scale is None else self.scale

    def of_queries(self, rows: slice) -> Scores:
        """The scores of some of the queries."""
        if self.relative is None or self.relative.values_BHTR.shape[2] == 1:
            return self
        relative = replace(self.relative, values_BHTR=self.relative.values_BHTR[:, :, rows])
        return replace(self, relative=relative)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything here that may need a gradient."""
        values = None if self.relative is None else self.relative.values_BHTR
        return tuple(x for x in (values, self.additive_HK, self.value_table_RK) if x is not None)

    @property
    def are_dot_products(self) -> bool:
        """Whether they are scaled dot products and nothing else."""
        return self.softcap is None and not self.tensors


DOT = Scores()


class Unsupported(ValueError):
    """A back end cannot do what is asked of it; the message says what, and where it can be done."""
