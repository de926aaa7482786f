"""The few figures that a page shows large: the fastest variant against the reference, in the first series."""

from __future__ import annotations

from dataclasses import dataclass

from t2bench.report import units, words
from t2bench.report.view import COUNTED_PEAK, TIME, View


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """One large figure.

    Attributes:
        figure: for example `2.31x`.
        bounds: its interval, for example `[2.27, 2.36]`; may be empty.
        meaning: what it is, in a few words.
    """

    figure: str
    bounds: str
    meaning: str


def tiles(view: View) -> tuple[Tile, ...]:
    """Speed-up, memory, growth and crossover of the variant that is fastest at the largest common length."""
    found = _fastest(view)
    if found is None:
        return ()
    series, length, variant = found
    group = view.series[series][length]
    effect = view.effect(group, variant)
    made = []
    if effect is not None:
        word = "speed of" if effect.verdict != "not distinguishable" else "speed (not distinguishable) of"
        made.append(_tile(units.times(units.speed_up(effect)), f"{word} {view.reference}: {variant}, L={length}"))
    made.extend(_memory(view, group, variant))
    for scaling in view.analysis.timed_scaling:
        if (scaling.series, scaling.variant, scaling.metric) == (series, variant, TIME) and scaling.exponent:
            made.append(_tile(f"L^{units.interval(scaling.exponent)}", "growth of its time per sequence"))
    crossing = words.crossover(view, series, variant)
    if crossing is not None and crossing.length is not None:
        made.append(_tile(units.at_length(crossing.length), f"from here on faster than {view.reference}"))
    return tuple(made)


def _memory(view: View, group: str, variant: str) -> list[Tile]:
    counted = _share(view.counted(group, variant, COUNTED_PEAK), view.counted(group, view.reference, COUNTED_PEAK))
    measured = _share(view.measured_peak(group, variant), view.measured_peak(group, view.reference))
    if not counted and not measured:
        return []
    bounds = f"counted {counted}" if measured and counted else ""
    meaning = f"peak memory of {view.reference}, {'measured' if measured else 'counted'}"
    return [Tile(figure=measured or counted, bounds=bounds, meaning=meaning)]


def _share(mine: float | None, theirs: float | None) -> str:
    return f"{units.digits(mine / theirs, 2)}x" if mine is not None and theirs else ""


def _fastest(view: View) -> tuple[str, int, str] | None:
    for series in view.series:
        found = []
        for variant in view.others:
            length = view.largest_common(series, variant)
            effect = view.effect(view.series[series][length], variant) if length is not None else None
            if length is not None and effect is not None:
                found.append((effect.ratio.value, series, length, variant))
        if found:
            return min(found)[1:]
    return None


def _tile(text: str, meaning: str) -> Tile:
    figure, _, bounds = text.partition(" [")
    return Tile(figure=figure, bounds=f"[{bounds}" if bounds else "", meaning=meaning)
