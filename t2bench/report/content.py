"""What a report says, before it is a terminal page, a Markdown file or an HTML file.

All three are made from one `Content`, so that they cannot tell different stories. Texts in it are raw: every exporter
makes them inert its own way (see `t2bench.report.safe`).
"""

from __future__ import annotations

from dataclasses import dataclass

from t2bench.analysis.results import Analysis
from t2bench.records import Run
from t2bench.report import facts, quality, quality_costs, tables, utilisation, words
from t2bench.report import verdict as sentences
from t2bench.report.latency import latency
from t2bench.report.table import Table
from t2bench.report.view import View


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """A report in words and tables, top to bottom.

    Attributes:
        title: suite name and device.
        subject: what was measured: model, tokens, text, threads.
        verdict: sentences, the most important first.
        speed, memory, scaling, ladder: tables of each chapter; empty where there is nothing to show.
        quality: tables of translations; `samples`: translations side by side, for the report files.
        failures: (case or cases, status, reason) of what was not expected.
        refusals: likewise for what was: refusals, exclusions, predicted OOM.
        warnings: plain words, what a reader must know.
        further_warnings: those that marks and lines of the tables already say; for the report files.
        honesty: what stands behind the numbers, one line each.
    """

    title: str
    subject: str
    verdict: tuple[str, ...]
    speed: tuple[Table, ...]
    memory: tuple[Table, ...]
    scaling: tuple[Table, ...]
    ladder: tuple[Table, ...]
    quality: tuple[Table, ...]
    samples: tuple[Table, ...]
    failures: tuple[tuple[str, str, str], ...]
    refusals: tuple[tuple[str, str, str], ...]
    warnings: tuple[str, ...]
    further_warnings: tuple[str, ...]
    honesty: tuple[str, ...]


def build(run: Run, analysis: Analysis) -> Content:
    """The report of a run, from what the analysis concluded."""
    view = View(run=run, analysis=analysis)
    return Content(
        title=facts.title(run),
        subject=facts.subject(run),
        verdict=_verdict(view),
        speed=tuple(table for series in view.series for table in _speed(view, series)),
        memory=tuple(table for series in view.series if (table := tables.memory(view, series)) is not None),
        scaling=tuple(table for series in view.series if (table := tables.scaling(view, series)) is not None),
        ladder=tables.ladder(view),
        quality=(
            *quality.boards(analysis.quality),
            *quality_costs.costs(analysis.quality),
            *quality.buckets(analysis.quality),
        ),
        samples=(*quality.sentence_tests(analysis.quality), *quality_costs.samples(analysis.quality)),
        failures=tables.endings(view, expected=False),
        refusals=tables.endings(view, expected=True),
        warnings=words.warnings(view),
        further_warnings=words.further_warnings(view),
        honesty=(*utilisation.lines(view), *facts.honesty(run, analysis)),
    )


def _verdict(view: View) -> tuple[str, ...]:
    """Speed, then what was translated; a run that timed nothing says nothing about speed."""
    translated = quality.verdict(view.analysis.quality)
    return (*(sentences.verdict(view) if view.series or not translated else ()), *translated)


def _speed(view: View, series: str) -> list[Table]:
    """The series' speed, and its latencies if it generates."""
    found = latency(view, series)
    return [tables.speed(view, series), *([] if found is None else [found])]
