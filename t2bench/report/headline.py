"""The few figures that a page shows large: of the fastest variant, or of the whole ladder, in the first series."""

from __future__ import annotations

from dataclasses import dataclass

from t2bench.analysis.results import Effect
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
    """Speed-up, memory, growth and crossover of the variant that the run is about, and the first memory wall."""
    walls = [
        Tile(
            figure=f"L={wall.length}",
            bounds="predicted" if wall.reason.startswith("predicted") else "",
            meaning=f"{words.listed(wall.variants, 2)} out of memory from here on",
        )
        for wall in words.walls(view)[:1]
    ]
    found = _subject(view)
    if found is None:
        return tuple(walls)
    series, effect, length = found
    variant, reference = effect.variant, effect.reference
    unsure = "not judged" if effect.doubt else effect.verdict if effect.verdict == "not distinguishable" else ""
    word = f"speed ({unsure}) of" if unsure else "speed of"
    made = [_tile(units.times(units.speed_up(effect)), f"{word} {reference}: {variant}, {view.at(series, length)[3:]}")]
    made.extend(_memory(view, effect))
    for scaling in view.analysis.timed_scaling:
        if (scaling.series, scaling.variant, scaling.metric) == (series, variant, TIME) and scaling.exponent:
            made.append(_tile(f"L^{units.interval(scaling.exponent)}", "growth of its time per sequence, on average"))
    crossing = words.crossover(view, series, variant)
    if crossing is not None and crossing.length is not None:
        made.append(_tile(units.at_length(crossing.length), f"from here on faster than {reference}"))
    return (*made, *walls)


def _memory(view: View, effect: Effect) -> list[Tile]:
    mine, theirs = effect.variant, effect.reference
    counted = words.ratio(
        view.counted(effect.group, mine, COUNTED_PEAK), view.counted(effect.group, theirs, COUNTED_PEAK)
    )
    measured = words.ratio(view.measured_peak(effect.group, mine), view.measured_peak(effect.group, theirs))
    if not counted and not measured:
        return []
    bounds = f"counted {counted}" if measured and counted else ""
    meaning = f"peak memory of {theirs}, {'measured' if measured else 'counted'}"
    return [Tile(figure=measured or counted, bounds=bounds, meaning=meaning)]


def _subject(view: View) -> tuple[str, Effect, int] | None:
    """(series, effect, length): the whole ladder where the verdict tells one, else the fastest at its last length."""
    for series, groups in view.series.items():
        rungs = view.rungs(series) if view.broad(series) else []
        if rungs:
            total = rungs[-1].cumulative
            return series, total, next(n for n, group in groups.items() if group == total.group)
        found = [
            (effect, length)
            for variant in view.others
            if (length := view.largest_common(series, variant)) is not None
            and (effect := view.effect(groups[length], variant)) is not None
        ]
        if found:
            return series, *min(found, key=lambda pair: (bool(pair[0].doubt), pair[0].ratio.value))
    return None


def _tile(text: str, meaning: str) -> Tile:
    figure, _, bounds = text.partition(" [")
    return Tile(figure=figure, bounds=f"[{bounds}" if bounds else "", meaning=meaning)
