"""Drawing conventions that all plots share: figure, colours, markers, axes in plain units, labels beside the lines."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from t2bench.report import svg, units
from t2bench.report.safe import clean, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, PAPER, MUTED, RULE = "#000000", "#ffffff", "#767676", "#d9d9d9"
# Okabe & Ito's colours, told apart with any colour vision; their yellow is darkened, since it is invisible on white.
# Each variant also has a marker of its own. The reference is drawn in ink.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8f7a00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")

_NAME = 24  # characters of a name beside its line

_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "t2bench",
    "text.parse_math": False,
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
    "lines.markersize": 6,
    "errorbar.capsize": 2.5,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """A finished drawing.

    Attributes:
        title: heading, raw text.
        caption: how to read it, raw text.
        svg: an inert `<svg>` element.
    """

    title: str
    caption: str
    svg: str


@contextmanager
def settings() -> Iterator[None]:
    """Our drawing defaults, whatever the user's matplotlibrc says; nothing global is left changed."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        # Text stays text: the reader's browser has the glyphs that the measuring font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def figure(width: float, height: float) -> Figure:
    """A figure of its own, in inches, known to no global state."""
    from matplotlib.figure import Figure as NewFigure

    return NewFigure(figsize=(width, height), frameon=False)


def finish(drawing: Figure, *, name: str, title: str, caption: str) -> Plot:
    """Save the figure as an inert SVG."""
    for axes in drawing.axes:
        axes.set_facecolor("none")
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    drawing.savefig(buffer, format="svg", metadata=nothing)
    title, caption = clean(title), clean(caption, limit=1000)
    return Plot(
        title=title, caption=caption, svg=svg.finish(buffer.getvalue(), name=name, title=title, description=caption)
    )


def look(index: int) -> tuple[str, str]:
    """(colour, marker) of the variant at that place; 0 is the reference."""
    colour = INK if index == 0 else COLOURS[(index - 1) % len(COLOURS)]
    return colour, MARKERS[index % len(MARKERS)]


def length_axis(axes: Axes, lengths: Sequence[int]) -> None:
    """A log axis with exactly the measured lengths as ticks."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator

    axes.set_xscale("log", base=2)
    step = max(1, math.ceil(len(lengths) / 9))
    shown = list(lengths)[::step]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_major_formatter(FixedFormatter([str(length) for length in shown]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(min(lengths) / 1.25, max(lengths) * 1.25)
    axes.set_xlabel("length L (tokens)")


def log_axis(axes: Axes, values: Sequence[float], show: Callable[[float], str]) -> None:
    """A log axis over the values, ticks at 1, 2, 5 x 10^k, thinned to about eight, in words such as `20 ms`."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    low, high = min(values), max(values)
    axes.set_yscale("log")
    axes.set_ylim(low / 1.35, high * 1.6)
    axes.yaxis.set_minor_locator(NullLocator())
    ticks = _ticks(low / 1.35, high * 1.6)
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FixedFormatter([show(tick) for tick in ticks]))


def ratio_axis(axes: Axes, values: Sequence[float]) -> None:
    """A horizontal log axis over ratios, ticks such as `0.5x`, at most six of them."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    low, high = min(values) / 1.05, max(values) * 1.05
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_minor_locator(NullLocator())
    ticks = _ticks(low, high)
    ticks = ticks[:: math.ceil(len(ticks) / 6)]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{tick:g}x" for tick in ticks]))


def _ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= 8:
            return ticks
    return ticks[:: math.ceil(len(ticks) / 8)]


def binary_axis(axes: Axes, values: Sequence[float]) -> None:
    """A log axis over bytes, ticks at powers of two."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    low, high = min(values) / 1.35, max(values) * 1.6
    axes.set_yscale("log", base=2)
    axes.set_ylim(low, high)
    axes.yaxis.set_minor_locator(NullLocator())
    powers = range(math.floor(math.log2(low)), math.floor(math.log2(high)) + 1)
    steps = (1.0,) if len(powers) > 4 else (1.0, 1.25, 1.5, 1.75) if len(powers) < 3 else (1.0, 1.5)
    ticks = [step * 2.0**power for power in powers for step in steps if low <= step * 2.0**power <= high]
    ticks = ticks[:: max(1, math.ceil(len(ticks) / 8))]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FixedFormatter([_round_bytes(tick) for tick in ticks]))


def _round_bytes(tick: float) -> str:
    step, name = units.scale(tick, "bytes")
    return f"{tick / step:g} {name}"


def beside(drawing: Figure, names: Sequence[str]) -> Axes:
    """The axes of a plot over length, leaving room at the right for the longest of these names."""
    longest = max((len(label(name, limit=_NAME)) for name in names), default=0)
    inches: float = drawing.get_figwidth()
    right = max(1.3, 0.42 + 0.073 * longest) / inches
    return drawing.add_axes((0.125, 0.125, 0.875 - right, 0.845))


def name_lines(axes: Axes, ends: Sequence[tuple[str, int, float]]) -> None:
    """Name each line at the right edge with its marker, pushed apart where ends meet: nothing covers the data.

    Args:
        axes: finished axes (limits set).
        ends: (name, place among the variants, last value).
    """
    if not ends:
        return
    place = math.log if axes.get_yscale() == "log" else float
    low, high = (place(limit) for limit in axes.get_ylim())
    placed = sorted(((place(value) - low) / (high - low), name, index) for name, index, value in ends)
    gap = min(0.066, 1.0 / len(placed))
    heights = _spread([height for height, _, _ in placed], gap)
    for height, (_, name, index) in zip(heights, placed, strict=True):
        colour, marker = look(index)
        at: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
        axes.plot([1.025], [height], marker=marker, color=colour, markersize=6, linestyle="none", **at)
        axes.text(1.05, height, label(name, limit=_NAME), va="center", ha="left", color=INK, **at)


def _spread(heights: list[float], gap: float) -> list[float]:
    """Ascending heights moved as little as needed to stand `gap` apart within [0, 1]."""
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + gap)
    ceiling = 1.0
    for index in reversed(range(len(heights))):
        heights[index] = min(heights[index], ceiling)
        ceiling = heights[index] - gap
    return heights
