"""What a gate judges and how strictly: the suite's `gate:` section laid over the defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from t2bench.records import HIGHER_IS_BETTER
from t2bench.spec.gate import EXACT_METRICS, Gate, Margin

# Judged unless the suite says otherwise. Memory of a process varies by what allocators and libraries do at start-up,
# an allocator's peak on a GPU hardly does.
DEFAULT_MARGINS: Mapping[str, Margin] = MappingProxyType(
    {
        "step_time_s": Margin(tolerance=0.03, detect=0.05),
        "process_peak_bytes": Margin(tolerance=0.05, detect=0.05),
        "peak_allocated_bytes": Margin(tolerance=0.01, detect=0.02),
    }
)
MEMORY_METRICS = frozenset({"process_peak_bytes", "peak_allocated_bytes", "peak_reserved_bytes"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """A resolved gate.

    Attributes:
        exact: counters that may not rise (L1).
        margins: metric -> margin of the paired tests (L2).
        launches: of one look.
        rounds: turns of each side in a launch.
        alpha: the family's chance of a false alarm.
        named: metrics of `margins` that the suite asks for by name and that decide: green only if they were measured.
    """

    exact: tuple[str, ...]
    margins: Mapping[str, Margin]
    launches: int
    rounds: int
    alpha: float
    named: tuple[str, ...] = ()

    @property
    def weighs(self) -> bool:
        """Whether any margin is about memory of a process, which takes launches of its own."""
        return bool(MEMORY_METRICS & self.margins.keys())


def policy_of(gate: Gate) -> Policy:
    """The suite's gate with the defaults filled in.

    Raises:
        ValueError: a measured metric is called exact, or a counter is given a margin; the message names it.
    """
    exact, margins = list(EXACT_METRICS), dict(DEFAULT_MARGINS)
    for name, use in gate.metrics.items():
        if use == "off":
            exact = [kept for kept in exact if kept != name]
            margins.pop(name, None)
        elif use == "exact" and name not in EXACT_METRICS:
            raise ValueError(f"gate.metrics.{name}: it is measured, so it has noise; give it a tolerance")
        elif isinstance(use, Margin):
            if name in EXACT_METRICS:
                raise ValueError(f"gate.metrics.{name}: it is counted, so it is exact or off")
            margins[name] = use
    named = tuple(name for name, use in gate.metrics.items() if isinstance(use, Margin) and not use.advisory)
    return Policy(
        exact=tuple(exact),
        margins=margins,
        launches=gate.launches,
        rounds=gate.rounds,
        alpha=gate.alpha,
        named=named,
    )


def only_exact(policy: Policy) -> Policy:
    """The policy without paired tests."""
    return replace(policy, margins={})


def thresholds(margin: Margin) -> tuple[float, float]:
    """(tolerance, tolerance + detect) on the scale on which launches are averaged: logarithms, unless absolute."""
    allowed, caught = margin.tolerance, margin.tolerance + margin.detect
    return (allowed, caught) if margin.absolute else (math.log1p(allowed), math.log1p(caught))


def worse_by(metric: str, margin: Margin, new: float, base: float) -> float:
    """The change for the worse on that scale."""
    change = new - base if margin.absolute else math.log(new / base)
    return -change if metric in HIGHER_IS_BETTER else change
