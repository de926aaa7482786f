"""What a suite says about being a gate: which metrics decide, and how much worse each may get."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from t2bench.spec.axes import STRICT

# A change of any size is a fact, since nothing random is in it: integers that the program's code alone decides.
EXACT_METRICS = (
    "num_params",
    "model_flops",
    "executed_flops",
    "saved_for_backward_bytes",
    "tracked_peak_bytes",
    "bytes_touched",
    "ops",
    "graph_breaks",
    "recompiles",
    "num_kernels",
)
# Sampled in launches, so that a change has to be told from noise.
PAIRED_METRICS = (
    "step_time_s",
    "forward_time_s",
    "backward_time_s",
    "optimizer_time_s",
    "tokens_per_s",
    "ttft_s",
    "tpot_s",
    "process_peak_bytes",
    "peak_allocated_bytes",
    "peak_reserved_bytes",
    "energy_j_per_token",
    "energy_j_per_step",
    "bleu",
    "chrf",
)
GATE_METRICS = (*EXACT_METRICS, *PAIRED_METRICS)
Use = Literal["exact", "off"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Margin:
    """How much worse a measured metric may get.

    Attributes:
        tolerance: change for the worse that is allowed: a share (0.03 or 3%).
        detect: what lies this much beyond the tolerance must be found; a measurement that could not is inconclusive.
        absolute: both are in the metric's own unit (0.5 BLEU) instead of shares.
        advisory: reported, never red, and outside the family that shares the false-alarm rate.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    tolerance: float = 0.03
    detect: float = 0.05
    absolute: bool = False
    advisory: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """How a gate judges a suite.

    Attributes:
        launches: pairs of fresh processes at the first look; a second look, where one is needed, adds as many.
        rounds: turns of each side in a launch.
        alpha: chance that a gate run, all its paired tests together, cries wolf: a share (0.01 or 1%).
        metrics: metric -> `exact`, `off`, or the margin of a measured one; what is not named keeps its default.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    launches: int = 8
    rounds: int = 15
    alpha: float = 0.01
    metrics: Mapping[str, Margin | Use] = field(default_factory=dict)


def gate_of(given: Mapping[str, Any]) -> Gate:
    """A gate from checked plain data."""
    metrics = {
        name: entry if isinstance(entry, str) else Margin(**{k: v for k, v in entry.items() if v is not None})
        for name, entry in given.get("metrics", {}).items()
    }
    return Gate(**{**given, "metrics": metrics})


def plain_gate(gate: Gate) -> dict[str, Any]:
    """The inverse of `gate_of`."""
    return asdict(gate)


def share_of(text: Any) -> Any:
    """`3%` as 0.03; anything else as it is, for the shape check to judge."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text) if isinstance(text, str) else None
    return float(found.group(1)) / 100.0 if found else text
