"""The plots of a report, drawn by matplotlib into inert SVG: everything against length, for one series each.

Every function returns None where there is nothing to draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from t2bench.analysis.results import Effect, Interval
from t2bench.report import canvas, figures, units
from t2bench.report.canvas import INK, MUTED, Plot
from t2bench.report.safe import label
from t2bench.report.view import COUNTED_PEAK, TIME, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = (6.4, 4.1)
_DODGE = 0.035  # of the length, between variants at the same length
_MIN_LENGTHS = 2


def time(view: View, series: str, name: str) -> Plot | None:
    """Seconds for one sequence against length, both logarithmic, with intervals, fits and memory walls."""
    lines = {v: view.per_sequence(series, v) for v in view.variants}
    values = [p.value for points in lines.values() for _, p in points]
    if not values or len(view.series[series]) < _MIN_LENGTHS:
        return None
    with canvas.settings():
        drawing = canvas.figure(*_SIZE)
        axes = canvas.beside(drawing, view.variants)
        canvas.length_axis(axes, list(view.series[series]))
        canvas.log_axis(axes, values, lambda value: units.quantity(value, "s", 1))
        axes.set_ylabel("time for one sequence")
        for index, (variant, points) in enumerate(lines.items()):
            _points(axes, points, index, joined=not _fit(axes, view, series, variant, index))
        _walls(axes, view, series)
        canvas.name_lines(axes, [(v, i, p[-1][1].value) for i, (v, p) in enumerate(lines.items()) if p])
        caption = (
            "Median of launch medians with its 95 % interval. Solid: fit a + bL + cL^2; dotted: the fit was refused, "
            "points are only joined. A cross at the top edge: out of memory at that length."
        )
        return canvas.finish(drawing, name=name, title=f"Time and length: {series}", caption=caption)


def _points(axes: Axes, points: list[tuple[int, Interval]], index: int, *, joined: bool) -> None:
    colour, marker = canvas.look(index)
    for length, value in points:
        if value.low is not None and value.high is not None:
            axes.plot([length, length], [value.low, value.high], color=colour, linewidth=1.4)
    axes.plot(
        [length for length, _ in points],
        [value.value for _, value in points],
        color=colour,
        marker=marker,
        linestyle=":" if joined else "none",
        linewidth=1.3,
    )


def _fit(axes: Axes, view: View, series: str, variant: str, index: int) -> bool:
    """Draw the fitted polynomial over the measured range; False where the fit was refused."""
    scaling = [s for s in view.analysis.timed_scaling if (s.series, s.variant, s.metric) == (series, variant, TIME)]
    if not scaling or scaling[0].coefficients is None:
        return False
    a, b, c = (coefficient.value for coefficient in scaling[0].coefficients)
    low, high = min(scaling[0].lengths), max(scaling[0].lengths)
    grid = [low * (high / low) ** (step / 40) for step in range(41)]
    axes.plot(grid, [a + b * x + c * x * x for x in grid], color=canvas.look(index)[0], linewidth=1.5, alpha=0.85)
    return True


def _walls(axes: Axes, view: View, series: str) -> None:
    """A cross at the top edge wherever a variant ran, or would run, out of memory."""
    for length, group in view.series[series].items():
        walls = [i for i, v in enumerate(view.variants) if (o := view.outcome(group, v)) and o.status == "oom"]
        for place, index in enumerate(walls):
            at: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
            height = 0.985 - 0.06 * place
            colour = canvas.look(index)[0]
            axes.plot([length], [height], marker="x", color=colour, markersize=8, markeredgewidth=2.2, **at)
            axes.text(length / 1.1, height, "oom", ha="right", va="center", color=INK, fontsize=8.5, **at)


def memory(view: View, series: str, name: str) -> Plot | None:
    """Peak memory against length: counted or predicted as lines, measured as markers."""
    counted, measured = _memory_lines(view, series)
    values = [y for points in (*counted.values(), *measured.values()) for _, y in points if y > 0]
    if not values or len(view.series[series]) < _MIN_LENGTHS:
        return None
    with canvas.settings():
        drawing = canvas.figure(*_SIZE)
        axes = canvas.beside(drawing, view.variants)
        canvas.length_axis(axes, list(view.series[series]))
        canvas.binary_axis(axes, values)
        axes.set_ylabel("peak memory of a step")
        for index, variant in enumerate(view.variants):
            colour, marker = canvas.look(index)
            axes.plot(*_columns(counted[variant]), color=colour, linewidth=1.5)
            axes.plot(*_columns(measured[variant]), color=colour, marker=marker, linestyle="none")
        _walls(axes, view, series)
        last = {v: (counted[v] or measured[v]) for v in view.variants}
        canvas.name_lines(axes, [(v, i, last[v][-1][1]) for i, v in enumerate(view.variants) if last[v]])
        caption = (
            "Lines: counted by the tracker, or predicted where the case was not run. Markers: measured in a process of "
            "its own. A cross at the top edge: out of memory."
        )
        return canvas.finish(drawing, name=name, title=f"Memory and length: {series}", caption=caption)


Points = list[tuple[int, float]]


def _memory_lines(view: View, series: str) -> tuple[dict[str, Points], dict[str, Points]]:
    counted: dict[str, Points] = {}
    measured: dict[str, Points] = {}
    for variant in view.variants:
        groups = view.series[series].items()
        counted[variant] = [(n, y) for n, g in groups if (y := view.counted(g, variant, COUNTED_PEAK))]
        measured[variant] = [(n, y) for n, g in groups if (y := view.measured_peak(g, variant))]
    return counted, measured


def _columns(points: Points) -> tuple[list[int], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def effects(view: View, series: str, name: str) -> Plot | None:
    """Speed-up over the reference against length, with intervals; the reference against itself as a grey band."""
    lines = {v: _gains(view, series, v) for v in view.others}
    null = [point for ghost in view.ghosts for point in _gains(view, series, ghost)]
    shown = [x for points in lines.values() for _, gain in points for x in _bounds(gain)]
    if not shown:
        return None
    if len(view.series[series]) < _MIN_LENGTHS:
        return figures.forest(view, series, name)
    with canvas.settings():
        drawing = canvas.figure(*_SIZE)
        axes = canvas.beside(drawing, view.variants)
        canvas.length_axis(axes, list(view.series[series]))
        canvas.log_axis(axes, [*shown, 1.0, *(x for _, gain in null for x in _bounds(gain))], lambda v: f"{v:g}x")
        axes.set_ylabel(f"speed-up over {label(view.reference, limit=20)}")
        axes.axhline(1.0, color=INK, linewidth=1.0)
        _null_band(axes, null)
        for place, (variant, points) in enumerate(lines.items()):
            shift = 1 + _DODGE * (place - (len(lines) - 1) / 2)
            moved = [(length * shift, gain) for length, gain in points]
            _points(axes, moved, view.variants.index(variant), joined=True)  # type: ignore[arg-type]
        ends = [(v, view.variants.index(v), p[-1][1].value) for v, p in lines.items() if p]
        canvas.name_lines(axes, [*ends, (view.reference, 0, 1.0)])
        caption = (
            "Above 1 is faster than the reference in the same rounds; bars are 95 % intervals over launches. Grey: the "
            "reference measured against itself, the null of this run; inside it nothing is shown."
        )
        return canvas.finish(drawing, name=name, title=f"Speed-up and length: {series}", caption=caption)


def _gains(view: View, series: str, variant: str) -> list[tuple[int, Interval]]:
    found: list[tuple[int, Interval]] = []
    for length, group in view.series[series].items():
        effect: Effect | None = view.effect(group, variant)
        if effect is not None and effect.ratio.value > 0:
            found.append((length, units.speed_up(effect)))
    return found


def _bounds(value: Interval) -> list[float]:
    return [x for x in (value.low, value.value, value.high) if x is not None]


def _null_band(axes: Axes, null: list[tuple[int, Interval]]) -> None:
    for length, gain in null:
        low, high = _bounds(gain)[0], _bounds(gain)[-1]
        axes.fill_between([length / 1.16, length * 1.16], low, high, color=MUTED, alpha=0.3, linewidth=0)
        axes.plot([length / 1.16, length * 1.16], [gain.value, gain.value], color=MUTED, linewidth=1.2)
