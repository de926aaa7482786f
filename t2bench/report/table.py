"""A table before it is rendered: cells are texts with just enough meaning for sorting and emphasis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tone = Literal["", "better", "worse", "even", "muted", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        text: what it says, raw.
        order: what it sorts by, if that is not its text.
        tone: emphasis that colours may add and words already carry.
    """

    text: str
    order: float | None = None
    tone: Tone = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table: the first column names the row, the others hold numbers.

    Attributes:
        title: heading.
        columns: column headings.
        rows: cells, as many as columns.
        notes: lines printed under it: conventions, marks, reasons.
        spare: number of trailing columns that a narrow page leaves out rather than breaks for.
        key: number of leading columns that name the row; the others are right-aligned.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    key: int = 1
    spare: int = 0
