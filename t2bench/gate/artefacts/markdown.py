"""The gate's verdict as Markdown: a job summary below 1 MiB and a comment body below 64 KiB.

Code hosts refuse what is larger, so both are cut by design: what fails comes first and is cut last. The comment begins
with a hidden marker, by which a workflow finds and replaces its earlier comment. We write files and hold no tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from t2bench.gate.artefacts import words
from t2bench.gate.results import LAYER_WORDS, REPORT_FILE, GateReport, GateRow
from t2bench.report import units
from t2bench.report.safe import clean
from t2bench.report.safe import markdown as inert

SUMMARY_BYTES = 1_000_000  # uploads end at 1 MiB
COMMENT_BYTES = 60_000  # comments end at 65536 characters
_RESERVE = 400  # for the lines that say what was left out
_COLUMNS = ("case", "metric", "base", "new", "change", "allowed", "could have seen", "why")
_OPEN = ("fail", "missing", "inconclusive")  # shown openly; the rest folds away


def marker(report: GateReport) -> str:
    """The hidden first line of a comment: one per suite, so that two gates keep two comments."""
    return f"<!-- t2bench-gate:{re.sub(r'[^A-Za-z0-9_.]+', '-', report.suite)[:80].replace('--', '-')} -->"


def summary(report: GateReport) -> str:
    """The whole verdict, for a job's summary page."""
    return _render(report, [], SUMMARY_BYTES)


def comment(report: GateReport) -> str:
    """The same for a pull request."""
    return _render(report, [marker(report)], COMMENT_BYTES)


class _Page:
    """Lines up to a limit in bytes."""

    def __init__(self, limit: int) -> None:
        self.lines: list[str] = []
        self._left = limit - _RESERVE

    def add(self, *lines: str) -> None:
        """Append lines together, or none of them if they do not fit."""
        self.block(lines, (), ())

    def block(self, head: Sequence[str], body: Iterable[str], foot: Sequence[str]) -> int:
        """Append head, as many lines of the body as fit, and foot; how many lines of the body those are."""
        shown: list[str] = []
        left = self._left - sum(map(_size, (*head, *foot)))
        for line in body:
            if _size(line) > left:
                break
            left -= _size(line)
            shown.append(line)
        if left >= 0:
            self._left = left
            self.lines += [*head, *shown, *foot]
        return len(shown)


def _size(line: str) -> int:
    return len(line.encode("utf-8", "replace")) + 1


def _render(report: GateReport, first: Sequence[str], limit: int) -> str:
    page = _Page(limit)
    page.add(*first, f"## t2bench gate: {inert(report.suite)}", "")
    page.add(f"**{inert(words.headline(report))}**", "")
    if report.power:
        page.add(f"Power: {inert(report.power)}.", "")
    page.add(f"{inert(report.candidate)} against {inert(report.base)}.", "")
    for layer in report.layers:
        page.add(f"- {layer.layer} **{layer.verdict}**: {inert(clean(layer.words or LAYER_WORDS[layer.layer]))}")
    page.add("")
    left_out = 0
    for verdict in _OPEN:
        left_out += _section(page, verdict, _rows(report, verdict), folded=False)
    left_out += _lines(page, "Warnings", (*report.warnings, *report.differences))
    for verdict in words.ORDER:
        if verdict not in _OPEN:
            left_out += _section(page, verdict, _rows(report, verdict), folded=True)
    left_out += _lines(page, "What the gate knows about itself", report.self_check)
    page.add(f"<sub>{inert(_footer(report))}</sub>")
    # The reserve is for this line.
    more = [f"{left_out} more lines did not fit here; {REPORT_FILE} has them.", ""] if left_out else []
    return "\n".join([*page.lines, *more, ""])


def _rows(report: GateReport, verdict: str) -> list[GateRow]:
    return [row for row in report.rows if row.verdict == verdict]


def _section(page: _Page, verdict: str, rows: Sequence[GateRow], *, folded: bool) -> int:
    """One table; the number of rows that did not fit."""
    if not rows:
        return 0
    title = f"{words.TITLES[verdict]}: {len(rows)}"
    head = [f"<details><summary>{inert(title)}</summary>", ""] if folded else [f"### {inert(title)}", ""]
    foot = ["", "</details>", ""] if folded else [""]
    table = [f"| {' | '.join(_COLUMNS)} |", f"|{' --- |' * len(_COLUMNS)}"]
    return len(rows) - page.block([*head, *table], map(_row, rows), foot)


def _row(row: GateRow) -> str:
    cells = (
        row.case,
        row.metric,
        words.value(row, row.base),
        words.value(row, row.new),
        words.change(row),
        "none" if row.layer == "L1" else units.percent(row.tolerance),
        "any" if row.layer == "L1" else units.percent(row.mde),
        row.why,
    )
    return f"| {' | '.join(inert(cell) for cell in cells)} |"


def _lines(page: _Page, title: str, texts: Sequence[str]) -> int:
    """A list; the number of lines that did not fit."""
    if not texts:
        return 0
    body = (f"- {inert(text)}" for text in texts)
    return len(texts) - page.block([f"### {title}", ""], body, [""])


def _footer(report: GateReport) -> str:
    prints = ", ".join(f"{name} {value}" for name, value in report.fingerprint.items())
    parts = (report.machine, prints, f"{report.duration_s:.0f} s", f"t2bench {report.version}", report.started)
    return "; ".join(part for part in parts if part)
