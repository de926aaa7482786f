"""What is wrong with a suite, said so that the user can put it right: place, path, fault, nearest valid value."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_VALUE = 40
MOST_CHOICES = 24


@dataclass(frozen=True, slots=True)
class Mark:
    """Where something was written: a file (line and column count from 1), or an argument (line 0)."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class SpecError:
    """One fault.

    Attributes:
        mark: where it was written.
        where: path inside the suite, for example `matrix.length[2]`; empty for the whole.
        message: what is wrong and what would be right.
    """

    mark: Mark
    where: str
    message: str

    def __str__(self) -> str:
        # "--set matrix.length=x" already names the path.
        named = [f"--set {self.where}=", f"--set {self.where.removeprefix('model.')}="]
        repeated = not self.mark.line and self.mark.source.startswith(tuple(named))
        where = "" if repeated or not self.where else f"{printable(self.where)}: "
        return f"{printable(str(self.mark))}: {where}{printable(self.message)}"


class SuiteErrors(Exception):
    """A suite cannot be used. `errors` holds every fault found, in file order; `str()` has one line for each."""

    def __init__(self, errors: Sequence[SpecError]) -> None:
        self.errors = tuple(sorted(dict.fromkeys(errors), key=lambda e: (e.mark.source, e.mark.line, e.mark.column)))
        super().__init__("\n".join(str(error) for error in self.errors))


def printable(text: str) -> str:
    """The text on one line, with control and other invisible characters escaped (a suite file may hold anything)."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def show(value: Any) -> str:
    """A value as a user would recognise it, short and on one line."""
    if isinstance(value, dict):
        return "a mapping"
    text = "a list" if _nested(value) else printable(json.dumps(value, ensure_ascii=False))
    if isinstance(value, (list, tuple)) and len(text) > LONGEST_VALUE:
        return f"a list of {len(value)}"
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + '..."'


def _nested(value: Any) -> bool:
    """Whether it is a list that holds more than plain values."""
    return isinstance(value, (list, tuple)) and any(isinstance(inner, (list, tuple, dict)) for inner in value)


def did_you_mean(word: Any, choices: Iterable[str]) -> str:
    """`, did you mean x?` for the choice nearest to `word` (a slip away, its abbreviation, or alike), or nothing."""
    if not isinstance(word, str):
        return ""
    by_folded = {choice.casefold(): choice for choice in choices}
    folded = word[:100].casefold()
    near = [choice for choice in by_folded if _one_slip(folded, choice)]
    near += [choice for choice in by_folded if _abbreviates(choice, folded)]
    near += difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    return f", did you mean {by_folded[near[0]]}?" if near else ""


def _one_slip(word: str, choice: str) -> bool:
    """Whether at most one letter is missing, too many, another, or swapped with its neighbour."""
    short, long = sorted((word, choice), key=len)
    if len(short) == len(long):
        other = [i for i in range(len(word)) if word[i] != choice[i]]
        first, last = (other[0], other[-1] + 1) if other else (0, 0)
        return len(other) <= 1 or (last - first == 2 and word[first:last] == choice[first:last][::-1])
    return any(long[:i] + long[i + 1 :] == short for i in range(len(long)))


def _abbreviates(choice: str, word: str) -> bool:
    """Whether the choice is made of the beginnings of the word's parts, each in its turn: encdec of encoder_decoder."""
    parts = re.findall(r"[a-z0-9]+", word)
    rest = choice
    for part in parts:
        common = next((i for i in range(len(part)) if part[i] != rest[i : i + 1]), len(part))
        if not common:
            return False
        rest = rest[common:]
    return len(parts) > 1 and not rest


def counted(number: int, thing: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def listing(choices: Iterable[str]) -> str:
    """`a, b, c`, cut short where it would fill the screen."""
    found = list(choices)
    return ", ".join(found[:MOST_CHOICES]) + (f", ... ({len(found)} in all)" if len(found) > MOST_CHOICES else "")
