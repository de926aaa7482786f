"""Shared: what the self-attentions of all layers have in common in one pass, so that no layer makes it again.

Shape letters: B batch, T new tokens, S keys, H heads, R distances, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from t2bench.attention.mask import Mask
from t2bench.attention.scores import RelativeBias
from t2bench.models.position import Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """One pass through a stack.

    Attributes:
        mask: what layers with the spec's pattern see.
        full_mask: what the other layers see; the same object if all layers are alike.
        rotation: RoPE's tables for the queries, or None.
        key_rotation: RoPE's tables for the keys; the same object unless keys begin before the queries.
        relative: the bias of ALiBi or T5, or None.
        distances_RD: Transformer-XL's sinusoids of the distances R - 1 down to 0, R at least the number of keys.
        num_keys: keys S that the queries may see, those of earlier passes included.
    """

    mask: Mask
    full_mask: Mask
    rotation: Rotation | None = None
    key_rotation: Rotation | None = None
    relative: RelativeBias | None = None
    distances_RD: Tensor | None = None
    num_keys: int = 0
