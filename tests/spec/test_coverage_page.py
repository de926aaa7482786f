"""docs/coverage.md tells the truth: every row is there, and every name in it leads to something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from t2bench.cli.listing import METRICS
from t2bench.cli.main import COMMANDS
from t2bench.parity.document import choices
from t2bench.spec.axes import NESTED
from t2bench.spec.case import WORKLOADS
from t2bench.spec.layers import suite_names
from t2bench.spec.model import AXIS_KINDS
from t2bench.spec.presets import preset_names

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "coverage.md").read_text().splitlines()
    if re.match(r"\| \d", line)
]
LETTERED = {"51a", "51b", "76a", "76b"}


def exists(kind: str, name: str) -> bool:
    if kind in ("test", "file"):
        return (ROOT / name).is_file()
    if kind == "axis":
        axis, _, value = name.partition(": ")
        holder, _, field = axis.rpartition(".")
        known = axis in AXIS_KINDS or (holder in NESTED and field in NESTED[holder].__dataclass_fields__)
        return known and (not value or value in choices(axis))
    named = {"preset": preset_names(), "workload": WORKLOADS, "suite": suite_names(), "command": COMMANDS}
    return name in {**named, "metric": METRICS}[kind]


def test_every_row_is_there_once_with_a_verdict_and_a_reason() -> None:
    numbers = [row[0] for row in ROWS]
    assert len(numbers) == len(set(numbers))
    assert set(numbers) == {str(number) for number in range(1, 94)} | LETTERED
    for number, what, covered, where in ROWS:
        assert covered in ("yes", "part", "no"), number
        assert what, number
        assert where, number


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_name_leads_somewhere(row: list[str]) -> None:
    names = re.findall(r"(\w+) `([^`]+)`", row[3])
    assert len(names) == row[3].count("`") // 2
    assert [name for kind, name in names if not exists(kind, name)] == []
    if row[2] == "yes" and row[0] not in ("84",):
        assert names
