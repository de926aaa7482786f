"""The report as Markdown, for a pull request or a notebook: the terminal's content, below 60 KB by design."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from t2bench.analysis.results import Analysis
from t2bench.records import Run
from t2bench.report import facts, safe
from t2bench.report.content import build
from t2bench.report.safe import markdown as inert
from t2bench.report.table import Table

LIMIT_BYTES = 60_000  # comments on code hosts end at 64 KiB
_MAX_ROWS = 60
_MAX_LINES = 30


def render(run: Run, analysis: Analysis) -> str:
    """The report as Markdown text, never longer than `LIMIT_BYTES` in UTF-8.

    Chapters come in order of weight; where they do not all fit, the last ones are named instead of shown.
    """
    content = build(run, analysis)
    chapters: list[tuple[str, list[str]]] = [("Verdict", _list(content.verdict))]
    chapters += [("Failed or unfinished", _endings(content.failures))] if content.failures else []
    measured = (*content.ladder, *content.speed, *content.memory, *content.scaling)
    for table in (*measured, *content.quality, *content.samples):
        chapters.append((table.title, list(_table(table))))
    chapters += [("Not measured, as expected", _endings(content.refusals))] if content.refusals else []
    warnings = (*content.warnings, *content.further_warnings)
    chapters += [("Warnings", _list(warnings))] if warnings else []
    chapters.append(("Behind the numbers", _list(content.honesty)))
    command = facts.command(run)
    chapters += [("Reproduce", ["```console", safe.code(safe.clean(command, limit=2000)), "```"])] if command else []
    return _fitted(f"# {inert(content.title)}\n\n{inert(content.subject)}", chapters)


def of_tables(tables: Sequence[Table]) -> str:
    """Tables under their titles as Markdown, with the same limit."""
    chapters = [(table.title, list(_table(table))) for table in tables]
    return _fitted("# t2bench compare", chapters)


def _fitted(title: str, chapters: Sequence[tuple[str, list[str]]]) -> str:
    text, left_out = f"{title}\n", []
    for heading, lines in chapters:
        chapter = "\n".join(["", f"## {inert(heading)}", "", *lines, ""])
        if len((text + chapter).encode("utf-8", "replace")) > LIMIT_BYTES - 1000:
            left_out.append(heading)
        else:
            text += chapter
    if left_out:
        text += f"\n{len(left_out)} chapters did not fit here; report.html has them.\n"
    return text


def _list(lines: Sequence[str]) -> list[str]:
    shown = [f"- {inert(line)}" for line in lines[:_MAX_LINES]]
    return [*shown, *_more(len(lines) - _MAX_LINES, "lines")]


def _endings(endings: Sequence[tuple[str, str, str]]) -> list[str]:
    shown = [f"- {inert(which)}: **{inert(word)}**: {inert(reason)}" for which, word, reason in endings[:_MAX_LINES]]
    return [*shown, *_more(len(endings) - _MAX_LINES, "lines")]


def _table(table: Table) -> Iterator[str]:
    yield _row(table.columns)
    yield _row(["---" if index < table.key and index else "---:" for index in range(len(table.columns))], raw=True)
    for row in table.rows[:_MAX_ROWS]:
        yield _row([cell.text for cell in row])
    yield ""
    yield from _more(len(table.rows) - _MAX_ROWS, "rows")
    for note in table.notes[:_MAX_LINES]:
        yield f"- {inert(note)}"
    yield from _more(len(table.notes) - _MAX_LINES, "notes")


def _row(cells: Sequence[str], *, raw: bool = False) -> str:
    return f"| {' | '.join(cells if raw else [inert(cell) for cell in cells])} |"


def _more(count: int, what: str) -> list[str]:
    return ["", f"... and {count} more {what} in report.html"] if count > 0 else []
