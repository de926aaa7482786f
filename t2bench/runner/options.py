"""How to run a suite, as opposed to what."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from t2bench.spec.plugin import Plugin


class OptionError(Exception):
    """An option cannot be honoured; the message says which and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How to run, as opposed to what.

    Attributes:
        directory: run directory, taken exactly; None chooses `results/<suite>/<time>` or continues an unfinished run.
        fresh: never continue an earlier run.
        only: the selection that made the plan, for the run's identity.
        data: the user's folder of documents and corpora; None for the text that ships with Python and the usual place.
        threads: threads of each worker; None for all allowed physical cores but one.
        isolation: `fork` or `spawn`.
        max_time_s: stop starting launches after this; overrides the suite's limit.
        argv: the command line, for the record.
        plugins: a user's code that workers may import.
    """

    directory: Path | None = None
    fresh: bool = False
    only: str | None = None
    data: Path | None = None
    threads: int | None = None
    isolation: str = "fork"
    max_time_s: float | None = None
    argv: tuple[str, ...] = ()
    plugins: tuple[Plugin, ...] = ()


def default_isolation() -> str:
    """`fork` on Linux; `spawn` where forking after importing torch is not known to be safe."""
    return "fork" if sys.platform == "linux" else "spawn"
