r"""The report's tables as LaTeX: `\input` them, with `\usepackage{booktabs}`. Nothing else is needed.

Text is reduced to ASCII that every engine sets: a character beyond it is written as its code point.
"""

from __future__ import annotations

from collections.abc import Iterator

from t2bench.analysis.results import Analysis
from t2bench.export.measurements import facts
from t2bench.records import Run
from t2bench.report import safe
from t2bench.report.content import build
from t2bench.report.table import Table

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': "''",
    "-": "-{}",  # no dashes out of hyphens
    # After the \\ that ends a row, these two would be its arguments.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    **{char: f"\\{char}" for char in "{}$&#%_"},
}


def render(run: Run, analysis: Analysis) -> str:
    """A run's tables, one `table` environment each."""
    content = build(run, analysis)
    lines = [f"% {name}: {escape_comment(value)}" for name, value in facts(run).items()]
    for table in (*content.quality, *content.speed, *content.memory, *content.scaling, *content.ladder):
        lines += ["", *_table(table)]
    for heading, endings in (("Failed or unfinished", content.failures), ("Not measured", content.refusals)):
        for which, word, reason in endings:
            lines += ["", rf"\paragraph{{{heading}}} {escape(which)}: {escape(word)}: {escape(reason)}"]
    return "\n".join(lines) + "\n"


def escape(text: object) -> str:
    """Any text as LaTeX text that prints itself."""
    return "".join(_ESCAPES.get(char) or _ascii(char) for char in safe.clean(text, limit=2000))


def escape_comment(text: object) -> str:
    """Any text as the rest of a comment line."""
    return "".join(map(_ascii, safe.clean(text)))


def _ascii(char: str) -> str:
    return char if ord(char) < 128 else f"(U+{ord(char):04X})"


def _table(table: Table) -> Iterator[str]:
    columns = "l" * table.key + "r" * (len(table.columns) - table.key)
    yield r"\begin{table}"
    yield rf"\caption{{{escape(table.title)}}}"
    yield r"\centering\small"
    yield rf"\begin{{tabular}}{{{columns}}}"
    yield r"\toprule"
    yield f"{' & '.join(map(escape, table.columns))} \\\\"
    yield r"\midrule"
    for row in table.rows:
        yield f"{' & '.join(escape(cell.text) for cell in row)} \\\\"
    yield r"\bottomrule"
    yield r"\end{tabular}"
    for note in table.notes:
        yield rf"\par{{\footnotesize {escape(note)}}}"
    yield r"\end{table}"
