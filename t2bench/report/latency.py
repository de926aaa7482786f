"""The table of a series that generates: how long the first new token takes, how long each further one, what is kept."""

from __future__ import annotations

from t2bench.report import units
from t2bench.report.table import Cell, Table
from t2bench.report.view import View

FIRST, FURTHER, KEPT = "ttft_s", "tpot_s", "kv_cache_bytes"


def latency(view: View, series: str) -> Table | None:
    """Rows are variants at each length; None where nothing was generated."""
    rows: list[tuple[Cell, ...]] = []
    for length, group in view.series[series].items():
        for variant in view.variants:
            if view.estimate(group, variant, FIRST) is None:
                continue
            kept = view.predicted(group, variant, KEPT)
            rows.append(
                (
                    Cell(text=variant),
                    Cell(text=str(length), order=length),
                    _seconds(view, group, variant, FIRST),
                    _seconds(view, group, variant, FURTHER),
                    Cell(text=units.quantity(kept, "bytes"), order=kept),
                )
            )
    if not rows:
        return None
    note = (
        "TTFT: time to the first new token. TPOT: time of each token after it, averaged. KV cache: what is kept of the "
        "tokens before when the last one has been read, for all sequences of the batch."
    )
    columns = ("variant", "L", "TTFT", "TPOT", "KV cache")
    return Table(title=f"Latency: {series}", columns=columns, rows=tuple(rows), notes=(note,))


def _seconds(view: View, group: str, variant: str, metric: str) -> Cell:
    estimate = view.estimate(group, variant, metric)
    if estimate is None:
        return Cell(text=units.NA, tone="muted")
    return Cell(text=units.interval(estimate.interval, estimate.unit), order=estimate.interval.value)
