"""Which implementation axes ours uses in the peers' table: the fastest of those that were measured.

Implementation axes change no result, so the choice is a user's to make; the table states it. Everything not listed
here is the default of the class.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from t2bench.spec.model import ModelSpec

# Every rule whose condition holds applies; a later one overrides those before it.
RULES: tuple[tuple[dict[str, Any], dict[str, str]], ...] = (
    ({}, {"attention": "sdpa_flash", "projections": "fused_qkv", "loss": "dense", "cache": "on"}),
    # torch's flash kernel for CPUs has no gradient of a learned bias.
    ({"architecture": "t5", "workload": "train"}, {"attention": "sdpa"}),
    # In 16 bits it takes longer than two matrix products where texts are short, for a single query two to three times.
    ({"device": "cpu", "dtype": "bf16"}, {"attention": "math"}),
    ({"device": "cpu", "dtype": "bf16", "workload": "decode"}, {"cache": "static"}),
    # What the scores of unfused attention cost in memory, the loss saves many times over.
    ({"device": "cpu", "dtype": "bf16", "workload": "train"}, {"loss": "fused"}),
)


def chosen(spec: ModelSpec, cell: Any, device_type: str) -> tuple[ModelSpec, dict[str, str]]:
    """The spec with the axes of a cell, and these axes."""
    axes: dict[str, str] = {}
    for condition, values in RULES:
        facts = {name: getattr(cell, name, device_type) for name in condition}
        if facts == condition:
            axes |= values
    return replace(spec, **axes), axes  # type: ignore[arg-type]
