"""The peers' table: from the times of all launches to ratios, intervals and verdicts.

A ratio is peer / ours: above 1 we are faster, or need less memory. We hold our own in a cell if against every peer the
ratio of times is at least 1 and its 95 % interval ends above 0.97, and no peer has a lower memory peak.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from t2bench.analysis.effects import timed_log_ratio
from t2bench.analysis.launches import LaunchSamples
from t2bench.analysis.results import Interval
from t2bench.analysis.stats import exp_interval

OURS = "t2bench"
AT_LEAST, ABOVE = 1.0, 0.97


@dataclass(frozen=True, kw_only=True)
class Row:
    """One peer in one cell.

    Attributes:
        ratio: peer / ours, times.
        memory: peer / ours, peak bytes; None where it was not counted.
        ours_s: our median time.
    """

    cell: str
    peer: str
    ratio: Interval
    memory: float | None
    ours_s: float
    num_launches: int

    @property
    def verdict(self) -> str:
        """In words."""
        if self.ratio.low is None:
            return "one launch"
        if self.ratio.value >= AT_LEAST and self.ratio.low > ABOVE:
            return "faster" if self.ratio.low > 1.0 else "as fast"
        return "slower" if self.ratio.high is not None and self.ratio.high < 1.0 else "not shown"


def rows_of(cell: str, launches: dict[str, Any]) -> list[Row]:
    """One row for each peer."""
    first = launches[min(launches, key=int)]
    found = []
    for peer in first:
        if peer == OURS:
            continue
        theirs, ours = _samples(launches, peer), _samples(launches, OURS)
        effect = timed_log_ratio(theirs, ours)
        assert effect is not None
        peaks = [first[name].get("peak_bytes") for name in (peer, OURS)]
        found.append(
            Row(
                cell=cell,
                peer=peer,
                ratio=exp_interval(effect.estimate.interval()),
                memory=peaks[0] / peaks[1] if peaks[0] and peaks[1] else None,
                ours_s=float(np.median([launch.median for launch in ours])),
                num_launches=len(ours),
            )
        )
    return found


def _samples(launches: dict[str, Any], party: str) -> list[LaunchSamples]:
    found = []
    for number in sorted(launches, key=int):
        values = np.array(launches[number][party]["wall_s"])
        found.append(
            LaunchSamples(
                launch=int(number),
                values=values,
                turns=tuple((index, 0) for index in range(len(values))),
                clean=np.ones(len(values), dtype=np.bool_),
                starts_s=np.array([]),
            )
        )
    return found


def summary(cell: str, parties: dict[str, Any]) -> str:
    """One launch in a line: our time and each peer's ratio."""
    ours = np.array(parties[OURS]["wall_s"])
    ratios = [
        f"{name} {np.median(np.array(value['wall_s']) / ours):.3f}" for name, value in parties.items() if name != OURS
    ]
    return f"{cell}: {1e3 * np.median(ours):.1f} ms; {', '.join(ratios)}"


def document(results: dict[str, Any]) -> str:
    """The whole page, markdown."""
    rows = [row for cell, launches in results["cells"].items() for row in rows_of(cell, launches)]
    settings, environment = results["settings"], results.get("environment", {})
    host, runtime = environment.get("host", {}), environment.get("runtime", {})
    slow = [row for row in rows if row.verdict not in ("faster", "as fast")]
    heavy = [row for row in rows if row.memory is not None and row.memory < 1.0]
    quick = ["", "*This is a quick run: a glance, not a result.*"] if settings["quick"] else []
    lines = [
        "# Peers: the same architecture from other libraries",
        "",
        "Written by `python tests/benchmarks/peers.py --document docs/peers.md` (`make peers`) from its results.",
        *quick,
        "",
        f"{host.get('cpu', 'unknown CPU')}, {results['device']}, one thread; torch {runtime.get('torch', '?')}. "
        f"{settings['launches']} launches (fresh processes) of {settings['rounds']} rounds, in which all parties of a "
        "cell take turns in balanced random order. Same weights, data, loss (cross-entropy over all positions), fused "
        "AdamW, allocator settings and flush-to-zero for all; dropout 0. Width 256, 4 heads, 1024 hidden features, "
        "4 + 4 or 8 layers, vocabulary 8192. Before anything is timed, outputs of all parties agree.",
        "",
        "A ratio is peer / ours: **above 1 we are faster, or need less memory**. `faster`: its 95 % interval "
        "(Student's t over launches) is above 1. "
        f"`as fast`: the ratio is at least {AT_LEAST:g} and the interval ends above "
        f"{ABOVE:g}. `slower`: the interval is below 1. `not shown`: none of these. Memory is the exact peak of live "
        "tensors (`t2bench.meters.counters`), eager only; torch's encoder has a fast path for inference, a single "
        "operator whose inside is not seen, so that its peak is a lower bound.",
        "",
        f"{len(rows) - len(slow)} of {len(rows)} comparisons are `faster` or `as fast`; in "
        f"{sum(row.memory is not None for row in rows) - len(heavy)} of {sum(row.memory is not None for row in rows)} "
        "ours needs no more memory.",
        "",
    ]
    for title, workload in (("Forward", "forward"), ("Train step", "train"), ("Greedy decoding", "decode")):
        lines += _table(title, [row for row in rows if row.cell.split("/")[1] == workload])
    return "\n".join([*lines, *_axes(results["cells"])]) + "\n"


def _table(title: str, rows: list[Row]) -> list[str]:
    if not rows:
        return []
    lines = [
        f"## {title}",
        "",
        "| architecture | mode | dtype | B x L | ours | peer | time peer / ours | verdict | memory peer / ours |",
        "|---|---|---|---|---:|---|---|---|---:|",
    ]
    for row in rows:
        architecture, _, mode, dtype, shape = row.cell.split("/")
        interval = f"{row.ratio.value:.3f}"
        if row.ratio.low is not None:
            interval += f" [{row.ratio.low:.3f}, {row.ratio.high:.3f}]"
        memory = "" if row.memory is None else f"{row.memory:.3f}"
        lines.append(
            f"| {architecture} | {mode} | {dtype} | {shape.replace('x', ' x ')} | {1e3 * row.ours_s:.1f} ms "
            f"| {row.peer} | {interval} | {row.verdict} | {memory} |"
        )
    return [*lines, ""]


def _axes(cells: dict[str, Any]) -> list[str]:
    """Which implementation axes ours had, cells of equal axes together."""
    groups: dict[str, list[str]] = {}
    for cell, launches in cells.items():
        axes = launches[min(launches, key=int)][OURS]["axes"]
        groups.setdefault(", ".join(f"{name} {value}" for name, value in axes.items()), []).append(cell)
    lines = [
        "## Implementation axes of ours",
        "",
        "They change no result; these are the fastest that were measured.",
        "",
    ]
    return lines + [f"- {axes}: {', '.join(f'`{cell}`' for cell in found)}" for axes, found in groups.items()]
