"""How much of the device the cases use: model FLOPs over time over the ceiling that this run measured."""

from __future__ import annotations

from collections.abc import Mapping

from t2bench.analysis.utilisation import Mfu, mfu
from t2bench.report import units
from t2bench.report.view import TIME, View

CONVENTION = (
    "MFU: model FLOPs over median step time over the FLOP/s of a square matrix product in the same dtype, measured "
    "when the run began; what is recomputed, masked or skipped counts as the model convention has it."
)


def ceiling(view: View, dtype: str) -> float | None:
    """FLOP/s of a matrix product in that dtype, as measured when the run began; None where it was not."""
    found = view.run.environment.get("ceilings")
    of_dtype = found.get(dtype) if isinstance(found, Mapping) else None
    value = of_dtype.get("flops_per_s") if isinstance(of_dtype, Mapping) else None
    return float(value) if isinstance(value, (int, float)) and value > 0 else None


def utilisation(view: View, group: str, variant: str) -> Mfu | None:
    """The case's utilisation; None where time, FLOPs or ceiling are not known."""
    estimate, flops = view.estimate(group, variant, TIME), view.counted(group, variant, "model_flops")
    limit = ceiling(view, view.dtype(group, variant))
    if estimate is None or not flops or limit is None or not estimate.interval.value > 0:
        return None
    return mfu(flops, estimate.interval.value, limit)


def lines(view: View) -> tuple[str, ...]:
    """The ceilings and, for each, the span of utilisation over its cases, one line a dtype."""
    spans: dict[str, list[Mfu]] = {}
    for outcome in view.analysis.outcomes:
        found = utilisation(view, outcome.group, outcome.variant)
        if found is not None and outcome.variant not in view.ghosts:
            spans.setdefault(view.dtype(outcome.group, outcome.variant), []).append(found)
    return tuple(_line(view, dtype, found) for dtype, found in spans.items())


def _line(view: View, dtype: str, found: list[Mfu]) -> str:
    limit = units.quantity(ceiling(view, dtype), "flops")
    wrong = next((one.error for one in found if one.error), "")
    low, high = (units.percent(pick(one.value for one in found)) for pick in (min, max))
    span = low if low == high else f"{low} to {high}"
    told = f"not told: {wrong}" if wrong else span
    return f"MFU in {dtype}: {told} of a matrix product's {limit}/s, measured when the run began"
