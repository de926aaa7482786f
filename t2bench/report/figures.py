"""The plots that look into a group: what each rung of a ladder buys, where a step's time goes, every raw sample."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from t2bench.analysis.results import Rung
from t2bench.records import Record
from t2bench.report import canvas, units
from t2bench.report.canvas import INK, MUTED, PAPER, RULE, Plot
from t2bench.report.safe import label
from t2bench.report.view import PHASES, TIME, View, split_group

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Paul Tol's muted colours: phases are not variants and must not look like them.
_PHASE_COLOURS = ("#88ccee", "#ddcc77", "#44aa99", "#aa4499")
_MAX_STRIPS = 4
_MAX_MARKS = 800  # per plot


def ladder(view: View, rungs: Sequence[Rung], name: str) -> Plot | None:
    """A waterfall: each rung's bar runs from the previous rung's total speed-up to its own."""
    if not rungs:
        return None
    with canvas.settings():
        height = 0.72 + 0.42 * (len(rungs) + 1)
        drawing = canvas.figure(8.2, height)
        axes = drawing.add_axes((0.33, 0.5 / height, 0.43, 1 - 0.78 / height))
        totals = [1.0, *(1 / rung.cumulative.ratio.value for rung in rungs)]
        # Wide intervals are cut at the frame: they must not squeeze the bars until none can be seen.
        low, high = min(totals), max(totals)
        canvas.ratio_axis(axes, (low / max(1.08, high / low), high * max(1.08, high / low)))
        for place, (rung, before, after) in enumerate(zip(rungs, totals, totals[1:], strict=False), start=1):
            colour = "#009e73" if after >= before else "#d55e00"
            axes.barh(place, after - before, left=before, height=0.6, color=colour, alpha=0.85)
            gain = units.speed_up(rung.cumulative)
            if gain.low is not None and gain.high is not None:
                axes.plot([gain.low, gain.high], [place, place], color=INK, linewidth=1.4)
            step = units.times(units.speed_up(rung.effect))
            _beside(axes, place, step + (" ~" if rung.effect.verdict == "not distinguishable" else ""))
        _beside(axes, 0, "this step alone", color=MUTED)
        _ladder_axes(axes, rungs)
        caption = (
            "Each bar is what one step changes, from the total before it to the total after it; the line is the 95 % "
            "interval of the total, cut at the frame. ~ marks steps that are not proven. Steps interact: another order "
            "may share the gains differently."
        )
        return canvas.finish(drawing, name=name, title=f"Ladder: {rungs[0].group}", caption=caption)


def _beside(axes: Axes, row: float, text: str, color: str = INK) -> None:
    axes.text(1.03, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=9, color=color)


def _ladder_axes(axes: Axes, rungs: Sequence[Rung]) -> None:
    names = [label(rungs[0].previous, limit=24)]
    for rung in rungs:
        changed = label(", ".join(rung.axes), limit=18) if rung.axes else ""
        names.append(label(rung.variant, limit=24) + (f"  ({changed})" if changed else ""))
    axes.plot([1.0], [0], marker="o", color=INK)
    axes.axvline(1.0, color=INK, linewidth=1.0)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"total speed-up over {label(rungs[0].previous)}")


def forest(view: View, series: str, name: str) -> Plot | None:
    """Speed-ups at the one length of a series: a row per variant, the null as a grey band over all rows."""
    ((length, group),) = view.series[series].items()
    rows = [(v, units.speed_up(effect)) for v in view.others if (effect := view.effect(group, v))]
    null = [units.speed_up(effect) for v in view.ghosts if (effect := view.effect(group, v))]
    if not rows:
        return None
    with canvas.settings():
        height = 0.75 + 0.3 * len(rows)
        drawing = canvas.figure(6.4, height)
        axes = drawing.add_axes((0.3, 0.52 / height, 0.67, 1 - 0.62 / height))
        axes.axvline(1.0, color=INK, linewidth=1.0)
        for gain in null:
            axes.axvspan(gain.low or gain.value, gain.high or gain.value, color=MUTED, alpha=0.3, linewidth=0)
        for row, (variant, gain) in enumerate(rows):
            colour, marker = canvas.look(view.variants.index(variant))
            if gain.low is not None and gain.high is not None:
                axes.plot([gain.low, gain.high], [row, row], color=colour, linewidth=1.8)
            axes.plot([gain.value], [row], marker=marker, color=colour, linestyle="none")
        ends = [x for gain in (*null, *(gain for _, gain in rows)) for x in (gain.low, gain.value, gain.high) if x]
        canvas.ratio_axis(axes, [*ends, 1.0])
        axes.set_yticks(range(len(rows)), [label(variant, limit=26) for variant, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"speed-up over {label(view.reference, limit=26)}")
        caption = (
            "Right of 1 is faster than the reference in the same rounds; bars are 95 % intervals over launches. Grey: "
            "the reference measured against itself, the null of this run; inside it nothing is shown."
        )
        return canvas.finish(drawing, name=name, title=f"Speed-up at L={length}: {series}", caption=caption)


def phases(view: View, series: str, name: str) -> Plot | None:
    """Where a step's time goes at the largest length that all measured variants share."""
    group = _shared_group(view, series)
    if group is None:
        return None
    variants = [v for v in view.variants if view.estimate(group, v, PHASES[0])]
    with canvas.settings():
        height = 0.95 + 0.38 * len(variants)
        drawing = canvas.figure(8.2, height)
        axes = drawing.add_axes((0.22, 0.48 / height, 0.74, 1 - 0.88 / height))
        scale, unit = 1.0, "s"
        totals = [sum(e.interval.value for p in PHASES if (e := view.estimate(group, v, p))) for v in variants]
        scale, unit = units.scale(max(totals), "s")
        for row, variant in enumerate(variants):
            _bar(axes, view, group, variant, row, scale, max(totals))
        axes.set_yticks(range(len(variants)), [label(v) for v in variants])
        axes.set_ylim(len(variants) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"time of one step ({unit})")
        drawing.legend(handles=_phase_keys(), loc="upper left", ncols=len(PHASES), frameon=False, fontsize=9)
        caption = "Median time of each phase of a step; phases are timed in the same windows as the step."
        return canvas.finish(drawing, name=name, title=f"Where the time goes: {group}", caption=caption)


def _bar(axes: Axes, view: View, group: str, variant: str, row: int, scale: float, widest: float) -> None:
    left = 0.0
    for phase, colour in zip(PHASES, _PHASE_COLOURS, strict=True):
        estimate = view.estimate(group, variant, phase)
        if estimate is None:
            continue
        seconds = estimate.interval.value
        axes.barh(row, seconds / scale, left=left / scale, height=0.62, color=colour)
        if seconds > 0.08 * widest:
            # Dark on these colours in any theme: the fill does not change with the page.
            text = units.digits(seconds / scale, 2)
            axes.text((left + seconds / 2) / scale, row, text, ha="center", va="center", fontsize=8.5, color="#111111")
        left += seconds


def _phase_keys() -> list[object]:
    from matplotlib.patches import Patch

    names = [phase.removesuffix("_time_s") for phase in PHASES]
    return [Patch(color=colour, label=name) for colour, name in zip(_PHASE_COLOURS, names, strict=True)]


def _shared_group(view: View, series: str) -> str | None:
    """The group of the largest length at which most variants have phases."""
    counts = {g: sum(view.estimate(g, v, PHASES[0]) is not None for v in view.variants) for g in _groups(view, series)}
    best = max(counts.values(), default=0)
    return (
        max((g for g, n in counts.items() if n == best), key=lambda g: split_group(g)[1], default=None)
        if best
        else None
    )


def _groups(view: View, series: str) -> list[str]:
    return list(view.series[series].values())


def samples(view: View, series: str, name: str) -> Plot | None:
    """Every timed window in time order: a strip per group, a lane per variant, relative to the variant's own median."""
    groups = [g for g in _groups(view, series) if any(view.timed.get(view.case(g, v)) for v in view.variants)]
    groups = groups[-_MAX_STRIPS:]
    lanes = (*view.variants, *view.ghosts)
    if not groups:
        return None
    with canvas.settings():
        strip = 0.5 + 0.36 * len(lanes)
        height = strip * len(groups) + 0.45
        drawing = canvas.figure(8.2, height)
        edge = _edge(view, groups, lanes)
        for place, group in enumerate(groups):
            bottom = (height - strip * (place + 1)) / height
            axes = drawing.add_axes((0.2, bottom, 0.77, (strip - 0.34) / height))
            _strip(axes, view, group, lanes, edge, max(10, _MAX_MARKS // (len(groups) * len(lanes))))
        drawing.text(0.2, 0.1 / height, "turns in time order, launch after launch", color=MUTED, va="bottom")
        caption = (
            "Each mark is one timed window, in time order; its height in the lane is its deviation from that variant's "
            f"own median (lane edge: {edge:.0%}, beyond it marks stay at the edge). Hollow: contended. Lines part the "
            "launches. The longest lengths are shown; where there are very many windows, evenly chosen ones."
        )
        return canvas.finish(drawing, name=name, title=f"Raw samples: {series}", caption=caption)


def _values(records: Sequence[Record]) -> list[float]:
    return [v for r in records if TIME in r.metrics for v in r.metrics[TIME].samples or () if v is not None]


def _edge(view: View, groups: Sequence[str], lanes: Sequence[str]) -> float:
    """The deviation that a lane's edge stands for: the smallest round one that holds nine marks in ten."""
    deviations = []
    for group in groups:
        for variant in lanes:
            values = _values(view.timed.get(view.case(group, variant), ()))
            deviations += [abs(value / median(values) - 1) for value in values]
    within = sorted(deviations)[int(0.9 * len(deviations))] if deviations else 0.0
    return next((edge for edge in (0.02, 0.05, 0.1, 0.2, 0.5) if within <= edge), 1.0)


def _strip(axes: Axes, view: View, group: str, lanes: Sequence[str], edge: float, most: int) -> None:
    launches = 1
    for lane, variant in enumerate(lanes):
        records = view.timed.get(view.case(group, variant), ())
        launches = max(launches, len(records))
        look = (MUTED, "o") if variant in view.ghosts else canvas.look(view.variants.index(variant))
        _lane(axes, records, lane, look, edge, most)
    for launch in range(1, launches):
        axes.axvline(launch, color=MUTED, linewidth=0.7)
    for border in range(len(lanes) + 1):
        axes.axhline(border - 0.5, color=RULE, linewidth=0.6)
    axes.set_yticks(range(len(lanes)), [label(v, limit=22) for v in lanes], fontsize=8.5)
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    axes.set_xlim(-0.02, launches + 0.02)
    axes.set_xticks([])
    axes.tick_params(left=False)
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.text(0, 1.02, label(group, limit=60), transform=axes.transAxes, va="bottom", fontsize=9, fontweight="bold")


def _lane(axes: Axes, records: Sequence[Record], lane: int, look: tuple[str, str], edge: float, most: int) -> None:
    values = _values(records)
    if not values:
        return
    middle = median(values)
    thin = -(-len(values) // most)
    marks: dict[bool, tuple[list[float], list[float]]] = {False: ([], []), True: ([], [])}
    for launch, record in enumerate(records):
        series = record.metrics[TIME].samples or () if TIME in record.metrics else ()
        contended = record.turns.get("contended", ())
        for turn in range(0, len(series), thin):
            if series[turn] is None:
                continue
            hollow = bool(contended[turn]) if turn < len(contended) else False
            deviation = (series[turn] / middle - 1) / edge * 0.46
            marks[hollow][0].append(launch + (turn + 0.5) / len(series))
            marks[hollow][1].append(lane - max(-0.46, min(0.46, deviation)))
    for hollow, (x, y) in marks.items():
        face = PAPER if hollow else look[0]
        axes.plot(x, y, linestyle="none", marker="o", markersize=3.2, color=look[0], markerfacecolor=face)
