"""The plots of translations: learning curves against updates, time and tokens, and quality against its price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from t2bench.analysis.quality_results import Board, Curve
from t2bench.report import canvas, units
from t2bench.report.canvas import MUTED, Plot
from t2bench.report.quality import named
from t2bench.report.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = (6.4, 4.1)
_MAX_GROUPS = 2
_MAX_VARIANTS = 10
_AXES = (("step", "updates", "count"), ("time_s", "training time", "s"), ("tokens", "tokens trained on", "count"))
Points = Sequence[Mapping[str, float]]


def plots(view: View) -> tuple[Plot, ...]:
    """Everything drawn about the quality of the first groups."""
    quality = view.analysis.quality
    if quality is None:
        return ()
    made: list[Plot | None] = []
    for place, board in enumerate([board for board in quality.boards if board.primary][:_MAX_GROUPS]):
        found = [curve for curve in quality.curves if curve.group == board.scope.group]
        made += [_curves(view, board, found, *axis, name=f"curves{place}{axis[0]}") for axis in _AXES]
        time = {cost.variant: spread.interval.value for cost in quality.costs if cost.group == board.scope.group
                and (spread := cost.spreads.get("train_time_s")) is not None}  # fmt: skip
        made.append(_price(view, board, time, "training time", "s", name=f"price{place}time"))
        memory = {v: y for v in view.variants if (y := view.measured_peak(board.scope.group, v))}
        word = "measured peak memory"
        if not memory:
            memory = {v: y for v in view.variants if (y := view.counted(board.scope.group, v, "tracked_peak_bytes"))}
            word = "peak memory of a step, counted or predicted"
        made.append(_price(view, board, memory, word, "bytes", name=f"price{place}memory"))
    return tuple(plot for plot in made if plot is not None)


def _curves(
    view: View, board: Board, found: Sequence[Curve], key: str, words: str, unit: str, *, name: str
) -> Plot | None:
    """Validation BLEU against one measure of effort: every seed thin, the mean over seeds thick."""
    lines: dict[str, list[tuple[bool, Points]]] = {}
    for variant in view.variants[:_MAX_VARIANTS]:
        for curve in found:
            points = [p for p in curve.points if key in p and "val_bleu" in p]
            if curve.variant == variant and len(points) > 1:
                lines.setdefault(variant, []).append((curve.finished, points))
    if not lines:
        return None
    with canvas.settings():
        drawing = canvas.figure(*_SIZE)
        axes = canvas.beside(drawing, list(lines))
        largest = max(p[key] for seeds in lines.values() for _, points in seeds for p in points)
        scale, shown = units.scale(largest, unit)
        ends = []
        for variant, seeds in lines.items():
            place = view.variants.index(variant)
            ends.append((variant, place, _line(axes, seeds, key, scale, place)))
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"{words} ({shown})" if shown else words)
        axes.set_ylabel("validation BLEU")
        canvas.name_lines(axes, ends)
        caption = (
            "Thin: one training each, dotted if it broke down. Thick: the mean over the others, as far as all of them "
            "go. Time is that of training, without the validations."
        )
        title = f"Learning against {words}: {named(board.scope).partition('; ')[2]}"
        return canvas.finish(drawing, name=name, title=title, caption=caption)


def _line(axes: Axes, seeds: Sequence[tuple[bool, Points]], key: str, scale: float, place: int) -> float:
    """Draw one variant's trainings and their mean; the mean's last value."""
    colour, marker = canvas.look(place)
    for finished, points in seeds:
        style = "-" if finished else ":"
        x, y = [p[key] / scale for p in points], [p["val_bleu"] for p in points]
        axes.plot(x, y, color=colour, linewidth=0.7, alpha=0.5, linestyle=style)
    whole = [points for finished, points in seeds if finished] or [points for _, points in seeds]
    together = list(zip(*whole, strict=False))
    x = [fmean(p[key] for p in at) / scale for at in together]
    y = [fmean(p["val_bleu"] for p in at) for at in together]
    axes.plot(x, y, color=colour, linewidth=2.2)
    axes.plot(x[-1:], y[-1:], color=colour, marker=marker, linestyle="none")
    return y[-1]


def _price(view: View, board: Board, prices: Mapping[str, float], words: str, unit: str, *, name: str) -> Plot | None:
    """Test BLEU with its interval against what it took: up and to the left is better."""
    spreads = {arm.variant: arm.spreads["bleu"].interval for arm in board.arms if "bleu" in arm.spreads}
    shown = [v for v in view.variants if v in spreads and v in prices]
    if len(shown) < 2:
        return None
    with canvas.settings():
        drawing = canvas.figure(*_SIZE)
        axes = canvas.beside(drawing, shown)
        scale, unit_shown = units.scale(max(prices[v] for v in shown), unit)
        for variant in shown:
            colour, marker = canvas.look(view.variants.index(variant))
            value, x = spreads[variant], prices[variant] / scale
            if value.low is not None and value.high is not None:
                axes.plot([x, x], [value.low, value.high], color=colour, linewidth=1.4)
            axes.plot([x], [value.value], color=colour, marker=marker, linestyle="none")
        axes.margins(x=0.12)
        _floor(axes, board)
        axes.set_xlabel(f"{words} ({unit_shown})" if unit_shown else words)
        axes.set_ylabel("test BLEU")
        canvas.name_lines(axes, [(v, view.variants.index(v), spreads[v].value) for v in shown])
        caption = f"Mean over seeds with its 95 % interval, on {named(board.scope)}. Up and to the left is better."
        return canvas.finish(drawing, name=name, title=f"Quality and {words.partition(',')[0]}", caption=caption)


def _floor(axes: Axes, board: Board) -> None:
    """The highest floor as a line, where it lies within the picture."""
    floor = board.floor
    low, high = axes.get_ylim()
    if floor is not None and low <= floor.bleu <= high:
        axes.axhline(floor.bleu, color=MUTED, linewidth=1.0, linestyle=":")
