"""What a gate row says, in the words and numbers that every artefact shares."""

from __future__ import annotations

import math

from t2bench.analysis.results import Interval
from t2bench.gate.results import GateReport, GateRow
from t2bench.report import units

VERDICT_WORDS = {
    "pass": "pass",
    "regression": "regression",
    "inconclusive": "inconclusive",
    "baseline": "no usable baseline",
    "failed": "measurement failed",
}
# What people look at first comes first.
ORDER = ("fail", "missing", "inconclusive", "improved", "demoted", "warn", "new", "advisory", "pass")
TITLES = {
    "fail": "Proven worse",
    "missing": "Missing",
    "inconclusive": "Inconclusive",
    "improved": "Less than before",
    "demoted": "Not exact here, so not gated",
    "warn": "Worth a look",
    "new": "New",
    "advisory": "Advisory",
    "pass": "Passed",
}


def exact(row: GateRow) -> bool:
    """Whether the row compares counts, whose every digit matters."""
    return row.layer in ("L0", "L1")


def value(row: GateRow, side: Interval | None) -> str:
    """The base's or candidate's value: all digits of a count, an interval for what was measured."""
    if side is None or not math.isfinite(side.value):
        return units.NA
    if exact(row) and side.value == int(side.value):
        unit = "" if row.unit == "1" else f" {row.unit}"
        return f"{int(side.value):,}{unit}"
    return units.interval(side, row.unit)


def change(row: GateRow) -> str:
    """How much the candidate differs: `+8 bytes (+0.00 %)` for counts, `+4.1 % [+3.0, +5.2]` for what was measured."""
    relative = units.change(row.effect)
    if not exact(row) or row.base is None or row.new is None:
        return relative
    difference = row.new.value - row.base.value
    if difference != int(difference):
        return relative
    unit = "" if row.unit == "1" else f" {row.unit}"
    share = "" if row.base.value == 0 else f" ({100 * difference / row.base.value:+.2g} %)"
    return f"{int(difference):+,}{unit}{share}" if difference else "none"


def finding(row: GateRow) -> str:
    """What was found in one line: the reason, after the change where the reason does not name it."""
    return row.why if exact(row) or row.effect is None else f"{change(row)}: {row.why}"


def headline(report: GateReport) -> str:
    """Verdict and sentence."""
    word = VERDICT_WORDS[report.verdict].upper()
    return f"{word}: {report.headline}" if report.headline else word


def group_of(row: GateRow) -> str:
    """The group a case belongs to: its id without the variant."""
    return row.case.rpartition("/")[0] or row.case
