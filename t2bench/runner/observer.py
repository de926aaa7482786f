"""What a run tells whoever watches it. The scheduler reports facts; how they look is the watcher's business."""

from __future__ import annotations

from typing import Protocol

from t2bench.records import Record


class Observer(Protocol):
    """Receives the events of a run, in order, on the scheduler's thread."""

    def note(self, text: str) -> None:
        """Something a person should know: device chosen, run resumed, directory."""

    def estimated(self, total_s: float, launches: int) -> None:
        """The plan is made: predicted seconds for all that is still to be measured, in that many group launches."""

    def working(self, what: str, done: int, total: int, left_s: float | None) -> None:
        """A step begins: `done` of `total` are finished, about `left_s` seconds remain."""

    def recorded(self, record: Record) -> None:
        """A record is on the disk."""

    def close(self) -> None:
        """Nothing more will come."""


class Silent:
    """Watches nothing."""

    def note(self, text: str) -> None:
        """Ignore."""

    def estimated(self, total_s: float, launches: int) -> None:
        """Ignore."""

    def working(self, what: str, done: int, total: int, left_s: float | None) -> None:
        """Ignore."""

    def recorded(self, record: Record) -> None:
        """Ignore."""

    def close(self) -> None:
        """Nothing to do."""
