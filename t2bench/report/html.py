"""The report as one self-contained HTML file: no network, no inline style, one small script under a hash.

The page stays inert even if an escape were forgotten: its content security policy allows exactly our own style sheet
and our own script, by their SHA-256, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from t2bench.analysis.results import Analysis
from t2bench.records import Run
from t2bench.report import canvas, cases, facts, figures, headline, plots, quality_plots, safe
from t2bench.report.canvas import Plot
from t2bench.report.content import build
from t2bench.report.view import View

Draw = Callable[[View, str, str], Plot | None]

_PAGE = Path(__file__).parent / "page"
_MAX_SERIES = 4  # with plots over length; every series has its tables
_MAX_DETAILED = 2  # with phases and raw samples as well
_MAX_ROWS = 250  # of the long tables, so that the page stays light


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """The plots, by chapter."""

    speed: tuple[Plot, ...]
    memory: tuple[Plot, ...]
    scaling: tuple[Plot, ...]
    ladder: tuple[Plot, ...]
    phases: tuple[Plot, ...]
    samples: tuple[Plot, ...]
    quality: tuple[Plot, ...]


def render(run: Run, analysis: Analysis) -> str:
    """The whole page.

    Args:
        run: the run.
        analysis: its analysis.
    """
    view, content = View(run=run, analysis=analysis), build(run, analysis)
    style = (_PAGE / "report.css").read_text(encoding="ascii")
    script = (_PAGE / "report.js").read_text(encoding="ascii")
    environment = Environment(
        loader=FileSystemLoader(_PAGE), autoescape=True, undefined=StrictUndefined, finalize=_shown, trim_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        content=content,
        plain_title=Markup(escape(safe.clean(content.title))),
        policy=Markup(policy(style, script)),
        style=Markup(style),
        script=Markup(script),
        pictures=_pictures(view),
        tiles=headline.tiles(view),
        overview=cases.overview(view),
        samples=cases.samples(view),
        max_rows=_MAX_ROWS,
        facts=facts.rows(run),
        key=tuple(_key(view)),
        subtitle=facts.subtitle(run),
        command=_block(facts.command(run)),
        suite=_block(facts.suite_yaml(run)),
        numbers=_counts(analysis),
        not_drawn=max(0, len(view.series) - _MAX_SERIES),
    )


def policy(style: str, script: str) -> str:
    """The content security policy of a page with exactly this style sheet and this script."""
    allowed = f"style-src {_digest(style)}; script-src {_digest(script)}; img-src data:"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('ascii')).digest()).decode()}'"


def _shown(value: object) -> object:
    """What every `{{ expression }}` passes through: foreign text is cleaned and escaped, then powers are raised."""
    if isinstance(value, Markup):
        return value
    text = str(escape(safe.clean(value, limit=2000)))
    return Markup(re.sub(r"L\^([\d.]*\d)", r"L<sup>\1</sup>", text))


def _block(text: str) -> Markup:
    """Text for a <pre>: lines kept, controls dropped."""
    return Markup(escape(safe.lines(text)))


def _pictures(view: View) -> Pictures:
    series = list(view.series)

    def drawn(draw: Draw, name: str, most: int = _MAX_SERIES) -> tuple[Plot, ...]:
        made = [draw(view, each, f"{name}{index}") for index, each in enumerate(series[:most])]
        return tuple(plot for plot in made if plot is not None)

    groups = dict.fromkeys(rung.group for rung in view.analysis.ladder)
    ladders = [[r for r in view.analysis.ladder if r.group == group] for group in groups]
    ladders.sort(key=lambda rungs: -len(rungs))
    longest = [rungs for rungs in ladders if len(rungs) == len(ladders[0])][-1:]
    steps = [figures.ladder(view, rungs, "ladder") for rungs in longest]
    return Pictures(
        speed=drawn(plots.effects, "effects"),
        memory=drawn(plots.memory, "memory"),
        scaling=drawn(plots.time, "time"),
        ladder=tuple(plot for plot in steps if plot is not None),
        phases=drawn(figures.phases, "phases", _MAX_DETAILED),
        samples=drawn(figures.samples, "samples", _MAX_DETAILED),
        quality=quality_plots.plots(view),
    )


def _key(view: View) -> Iterator[tuple[str, str, int]]:
    """(name, role, place among the variants) for the key of markers; marker shapes are drawn by the template."""
    for index, variant in enumerate(view.variants):
        yield variant, "reference" if variant == view.reference else "", index % len(canvas.MARKERS)


def _counts(analysis: Analysis) -> str:
    total, good = len(analysis.outcomes), sum(o.status == "ok" for o in analysis.outcomes)
    refused = sum(o.expected and o.status != "ok" for o in analysis.outcomes)
    failed = total - good - refused
    refusals = f"{refused} not run or out of memory as expected"
    return f"{good} of {total} cases measured, {refusals}, {failed} failed or unfinished"
