"""Annotations of GitHub Actions: workflow commands on stdout that mark lines of the suite file.

A step shows ten errors and ten warnings, and drops the rest without a word. So there are at most nine, and one that
sums up and is always there.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from t2bench.gate.artefacts import words
from t2bench.gate.results import GateReport, GateRow
from t2bench.report import safe

MAX_ROWS = 9
_LEVELS = {"fail": "error", "missing": "error", "inconclusive": "warning"}


def workflow_commands(report: GateReport) -> list[str]:
    """Workflow commands, the worst first, the sum last."""
    rows = sorted(
        (row for row in report.rows if row.verdict in _LEVELS), key=lambda row: words.ORDER.index(row.verdict)
    )
    lines = [
        _command(_LEVELS[row.verdict], report, row.line, _title(row), f"{row.case}: {words.finding(row)}")
        for row in rows[:MAX_ROWS]
    ]
    level = "notice" if report.exit_code == 0 else "error" if report.verdict != "inconclusive" else "warning"
    rest = f" {len(rows) - MAX_ROWS} more rows are in the job summary." if len(rows) > MAX_ROWS else ""
    return [*lines, _command(level, report, 1, f"t2bench gate: {report.suite}", words.headline(report) + rest)]


def _title(row: GateRow) -> str:
    return f"{row.metric}: {row.verdict}"


def _command(level: str, report: GateReport, line: int, title: str, message: str) -> str:
    place = [f"file={_property(report.suite_path)}", f"line={int(line)}"] if _in_repository(report.suite_path) else []
    properties = ",".join([*place, f"title={_property(title)}"])
    return f"::{level} {properties}::{_data(message)}"


def _in_repository(path: str) -> bool:
    """Whether the path can be a file of the checkout; a built-in suite is a bare name."""
    parts = PurePosixPath(path)
    return parts.suffix in (".yaml", ".yml") and not parts.is_absolute() and ".." not in parts.parts


def _data(text: str) -> str:
    """Message text as the runner unescapes it."""
    kept = safe.clean(text, limit=2000)
    # A runner would also take a `::command::` inside a line that something else wraps.
    kept = re.sub(r":(?=:)", ": ", kept)
    return kept.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """A property's value: as data, and without what separates properties."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
