"""Model FLOPs utilisation: the share of a measured ceiling that a step turns into what the mathematics needs."""

from __future__ import annotations

from dataclasses import dataclass

MFU_LIMIT = 1.05  # above it the FLOP count, the time or the ceiling is wrong


@dataclass(frozen=True, kw_only=True, slots=True)
class Mfu:
    """Model FLOPs utilisation (Chowdhery et al. 2022, PaLM, appendix B), against a measured ceiling.

    Attributes:
        value: model FLOP/s over the ceiling.
        error: why it cannot be true; empty if it can.
    """

    value: float
    error: str = ""


def mfu(model_flops: float, step_time_s: float, ceiling_flops_per_s: float) -> Mfu:
    """Model FLOPs utilisation of a step against the measured ceiling of its dtype."""
    value = model_flops / step_time_s / ceiling_flops_per_s
    if value <= MFU_LIMIT:
        return Mfu(value=value)
    return Mfu(
        value=value,
        error=f"MFU of {value:.0%} against the measured ceiling: the FLOP count, the time or the ceiling is wrong",
    )
