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
    mine, theirs = (view.measured_peak(group, v) for v in (variant, view.reference))
    how = "measured"
    if mine is None or not theirs:
        mine, theirs, how = (*(view.counted(group, v, COUNTED_PEAK) for v in (variant, view.reference)), "counted")
    if mine is not None and theirs:
        made.append(Tile(figure=f"{units.digits(mine / theirs, 2)}x", bounds="", meaning=f"peak memory, {how}"))
    for scaling in view.analysis.timed_scaling:
        if (scaling.series, scaling.variant, scaling.metric) == (series, variant, TIME) and scaling.exponent:
            made.append(_tile(f"L^{units.interval(scaling.exponent)}", "growth of its time per sequence"))
    crossing = words.crossover(view, series, variant)
    if crossing is not None and crossing.length is not None:
        made.append(_tile(units.at_length(crossing.length), f"from here on faster than {view.reference}"))
    return tuple(made)


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
