"""docs/exports.md names every format, and only formats, commands and extras that there are."""

import re
import tomllib
from pathlib import Path

from t2bench.cli.main import COMMANDS
from t2bench.export.registry import EXPORTERS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/exports.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_format_has_its_row():
    rows = re.findall(r"^\| ((?:`[\w-]+`(?:, )?)+) \|", TEXT, flags=re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([\w-]+)`", row)]
    assert sorted(named) == sorted(EXPORTERS)


def test_extras_and_commands_exist():
    for exporter in EXPORTERS.values():
        if exporter.extra:
            requirements = PROJECT["optional-dependencies"][exporter.extra]
            assert any(re.match(rf"{exporter.library}(-skinny)?\b", entry) for entry in requirements)
    assert set(re.findall(r"t2bench\[(\w+)\]", TEXT)) == {e.extra for e in EXPORTERS.values() if e.extra}
    assert set(re.findall(r"^t2bench (\w+)", TEXT, flags=re.MULTILINE)) <= COMMANDS.keys()


def test_the_plug_in_is_installed_by_the_package():
    assert PROJECT["entry-points"]["pytest11"] == {"t2bench": "t2bench.pytest_plugin"}
