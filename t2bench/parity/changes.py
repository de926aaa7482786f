"""Sizes of oracles, and changes of a spec: what negative controls are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from t2bench.parity.weights import VOCAB
from t2bench.spec.model import ModelSpec

SIZES: dict[str, Any] = {"width": 32, "heads": 4, "ff": 48, "enc_layers": 2, "dec_layers": 2, "vocab": VOCAB}


def position(**changes: Any) -> Callable[[ModelSpec], ModelSpec]:
    """A change of the spec's positions."""
    return lambda spec: replace(spec, position=replace(spec.position, **changes))


def pattern(**changes: Any) -> Callable[[ModelSpec], ModelSpec]:
    """A change of the spec's pattern."""
    return lambda spec: replace(spec, pattern=replace(spec.pattern, **changes))


def axes(**changes: Any) -> Callable[[ModelSpec], ModelSpec]:
    """A change of the spec's own fields."""
    return lambda spec: replace(spec, **changes)
