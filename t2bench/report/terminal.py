"""The report on a terminal: what a newcomer reads after a run, in about a screen and a half at 80 columns.

Without a terminal behind it (a pipe, a log) the same words come as plain lines: no colour, no frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from textwrap import wrap

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from t2bench.analysis.results import Analysis
from t2bench.records import Run
from t2bench.report.content import Content, build
from t2bench.report.safe import clean
from t2bench.report.table import Cell, Table

_STYLES = {"": "", "better": "green", "worse": "red", "even": "", "muted": "dim", "failed": "bold red"}
_GAP = 2
_MAX_NOTES = 12


def show(run: Run, analysis: Analysis, console: Console, report_path: str | PathLike[str] | None = None) -> None:
    """Print the report of a run.

    Args:
        run: the run.
        analysis: its analysis.
        console: where to print; its width, colour and encoding are respected.
        report_path: where the full report is, told at the end.
    """
    content = build(run, analysis)
    _line(console, content.title, "bold")
    if content.subject:
        _wrapped(console, content.subject, style="dim")
    for sentence in content.verdict[:_MAX_NOTES]:
        _wrapped(console, sentence, bullet="- " if len(content.verdict) > 1 else "")
    _more(console, len(content.verdict))
    for table in (*content.ladder[:1], *content.speed, *content.memory, *content.scaling, *content.quality):
        _table(console, table)
    _endings(console, "Not measured, as expected", content.refusals, "dim")
    _endings(console, "Failed or unfinished", content.failures, "bold red")
    _list(console, "Warnings", content.warnings)
    _honesty(console, content, report_path)


def show_tables(tables: Sequence[Table], console: Console) -> None:
    """Print tables under their titles, for commands that have nothing else to say."""
    for table in tables:
        _table(console, table)


def _line(console: Console, text: str, style: str = "") -> None:
    """One line of foreign or own text: never markup, never wider than the encoding allows."""
    shown = clean(text, limit=2000) if not text.startswith(" ") else "  " + clean(text, limit=2000)
    console.print(_encodable(console, shown), style=style, markup=False, highlight=False, soft_wrap=True)


def _encodable(console: Console, text: str) -> Text:
    return Text(text.encode(console.encoding, "replace").decode(console.encoding))


def _wrapped(console: Console, text: str, *, bullet: str = "", style: str = "") -> None:
    indent = " " * len(bullet)
    for part in wrap(clean(text, limit=2000), max(20, console.width), initial_indent=bullet, subsequent_indent=indent):
        console.print(_encodable(console, part), style=style, markup=False, highlight=False, soft_wrap=True)


def _heading(console: Console, text: str) -> None:
    console.print()
    _wrapped(console, text, style="bold")


def _table(console: Console, table: Table) -> None:
    """The table in as many blocks of columns as the width asks for, each beginning with the first column.

    A table that is names and words to its last column is a list: nothing in it is cut off.
    """
    _heading(console, table.title)
    if table.key >= len(table.columns):
        _words(console, table)
    else:
        _blocks_of_columns(console, table)
    for note in table.notes[:_MAX_NOTES]:
        _wrapped(console, note, style="dim")
    _more(console, len(table.notes))


def _words(console: Console, table: Table) -> None:
    _wrapped(console, ": ".join(table.columns), style="bold")
    for row in table.rows:
        _wrapped(console, ": ".join(cell.text for cell in row), bullet="- ", style=_STYLES[row[-1].tone])


def _blocks_of_columns(console: Console, table: Table) -> None:
    cleaned = [[Cell(text=clean(c.text), tone=c.tone) for c in row] for row in table.rows]
    headings = [clean(column) for column in table.columns]
    widths = _widths(headings, cleaned, console.width)
    blocks = list(_blocks(widths, console.width))
    if table.spare and len(blocks) > 1:
        blocks = list(_blocks(widths[: -table.spare], console.width))
    for block in blocks:
        room = [widths[i] for i in block]
        _row(console, [Cell(text=headings[i]) for i in block], room, table.key, "bold")
        for row in cleaned:
            # A row that fills only other blocks is no row of this one.
            if block == blocks[0] or any(row[i].text for i in block[1:]):
                _row(console, [row[i] for i in block], room, table.key)


def _widths(headings: Sequence[str], rows: Sequence[Sequence[Cell]], room: int) -> list[int]:
    """Each column as wide as its widest text, the first at most half the room, the others at most what it leaves."""
    natural = [
        max(cell_len(text) for text in (heading, *(row[i].text for row in rows))) for i, heading in enumerate(headings)
    ]
    first = min(natural[0], max(8, room // 2))
    return [first, *(max(1, min(width, room - first - _GAP)) for width in natural[1:])]


def _blocks(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Columns in as many blocks as the room asks for, each led by the first column."""
    block, used = [0], widths[0]
    for index, width in enumerate(widths[1:], start=1):
        if len(block) > 1 and used + _GAP + width > room:
            yield block
            block, used = [0], widths[0]
        block.append(index)
        used += _GAP + width
    yield block


def _row(console: Console, cells: Sequence[Cell], widths: Sequence[int], key: int, style: str = "") -> None:
    line = Text()
    for index, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        text = _encodable(console, cell.text)
        text.truncate(width, overflow="ellipsis" if console.encoding.lower().startswith("utf") else "crop")
        text.align("left" if index < key else "right", width)
        text.stylize(style or _STYLES[cell.tone])
        line.append(" " * _GAP if index else "").append_text(text)
    line.rstrip()
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _endings(console: Console, title: str, endings: Sequence[tuple[str, str, str]], style: str) -> None:
    if not endings:
        return
    _heading(console, title)
    for which, word, reason in endings[:_MAX_NOTES]:
        _wrapped(console, f"{which}: {word}: {reason}", bullet="- ", style=style)
    _more(console, len(endings))


def _list(console: Console, title: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    _heading(console, title)
    for line in lines[:_MAX_NOTES]:
        _wrapped(console, line, bullet="- ")
    _more(console, len(lines))


def _more(console: Console, count: int) -> None:
    if count > _MAX_NOTES:
        _line(console, f"... and {count - _MAX_NOTES} more in the report file", "dim")


def _honesty(console: Console, content: Content, report_path: str | PathLike[str] | None) -> None:
    console.print()
    for line in content.honesty:
        _wrapped(console, line, style="dim")
    if report_path is not None:
        _line(console, f"report: {report_path}")
