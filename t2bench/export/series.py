"""Metrics over sequence length, as experiment trackers show them: one curve per variant, the step is the length."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from t2bench.analysis.index import series_of
from t2bench.analysis.results import Analysis
from t2bench.export.measurements import Measurement, measurements
from t2bench.records import Run
from t2bench.report import safe


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One variant of one series.

    Attributes:
        name: series and variant, inert, unique, and safe as a relative path of one level.
        series: group id without the length.
        variant: the variant's name, inert.
        points: length -> its measurements, ascending.
    """

    name: str
    series: str
    variant: str
    points: dict[int, list[Measurement]]


def curves(run: Run, analysis: Analysis) -> Iterator[Curve]:
    """The run's curves in the order of its cases; ghosts are left out."""
    found: dict[tuple[str, str], dict[int, list[Measurement]]] = {}
    for item in measurements(run, analysis):
        points = found.setdefault((series_of(item.group)[0], item.variant), {})
        points.setdefault(item.length, []).append(item)
    taken: set[str] = set()
    for (series, variant), points in found.items():
        stem = file_name(f"{series}_{variant}")
        name, copy = stem, 2
        while name in taken:
            name, copy = f"{stem}-{copy}", copy + 1
        taken.add(name)
        ordered = dict(sorted(points.items()))
        yield Curve(name=name, series=safe.clean(series), variant=safe.clean(variant), points=ordered)


def file_name(text: object) -> str:
    """A text as a file name of one level that stays where it is put: no separators, no leading dot."""
    kept = re.sub(r"[^A-Za-z0-9._+=@-]+", "-", safe.clean(text, limit=120)).strip(".-")
    return kept or "run"
