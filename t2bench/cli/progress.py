"""Progress of a run for people, on stderr: a live line on a terminal, one line per step elsewhere."""

from __future__ import annotations

import re
import time
from collections import Counter

from rich.console import Console
from rich.status import Status
from rich.text import Text

from t2bench.records import Record

MINUTE_S = 60.0
LOG_EVERY_S = 60.0


class Progress:
    """An Observer that prints.

    Args:
        console: where; a terminal gets one live line, a log gets lines that stay: one for each timed group, and
            for what takes longer, as a training does, one every `LOG_EVERY_S`.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._said = ""
        self._failures: Counter[str] = Counter()
        self._began = self._spoke = time.monotonic()

    def note(self, text: str) -> None:
        """A line that stays."""
        self._console.print(Text(text), soft_wrap=True)

    def estimated(self, total_s: float, launches: int) -> None:
        """Say how long it will take before it does."""
        if launches:
            self.note(f"{launches} {'launch' if launches == 1 else 'launches'} to measure, about {duration(total_s)}")

    def working(self, what: str, done: int, total: int, left_s: float | None) -> None:
        """Show what is going on."""
        left = "" if left_s is None else f", about {duration(left_s)} left"
        if self._console.is_terminal:
            if self._status is None:
                self._status = self._console.status(Text(""))
                self._status.start()
            self._status.update(Text(f"[{done + 1}/{total}{left}] {what}"))
            return
        line = f"[{done + 1}/{total}{left}] {what.split(' ', 1)[0]}"
        new = what.startswith("timing") and line != self._said
        if new or time.monotonic() - self._spoke >= LOG_EVERY_S:
            self._said, self._spoke = line, time.monotonic()
            self._console.print(Text(f"[{done + 1}/{total}{left}] {what}"), soft_wrap=True)

    def recorded(self, record: Record) -> None:
        """Failures are said at once, a reason that comes back (but for its numbers) once; the rest is in the report."""
        if record.status in ("ok", "skipped", "unsupported"):
            return
        kind = f"{record.status}: {re.sub(r'[0-9]+', '#', record.reason)}"
        self._failures[kind] += 1
        if self._failures[kind] == 1:
            self.note(f"{record.status}: {record.case}: {record.reason}")
        elif self._failures[kind] == 2:
            self.note(f"{record.status}: {record.case} too; more of these are not said here, the report has them all")

    def close(self) -> None:
        """Take the live line away."""
        if self._status is not None:
            self._status.stop()
            self._status = None


def duration(seconds: float) -> str:
    """Seconds in the words of a person who waits."""
    if seconds < 1.5 * MINUTE_S:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * MINUTE_S:
        return f"{round(seconds / MINUTE_S)} min"
    return f"{seconds / 3600:.1f} h"
