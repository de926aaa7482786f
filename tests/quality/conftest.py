from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

PARALLEL = {
    "train.en": ["a man sleeps .", "two dogs run ."],
    "train.de": ["ein Mann schläft .", "zwei Hunde rennen ."],
    "val.en": ["a dog sleeps ."],
    "val.de": ["ein Hund schläft ."],
    "test.en": ["two men run ."],
    "test.de": ["zwei Männer rennen ."],
}


def lines_of(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a small sound corpus with some files changed (bytes) or left out (None)."""

    def write(changes: Mapping[str, bytes | None] | None = None, name: str = "corpus") -> Path:
        root = tmp_path / name
        root.mkdir()
        files: dict[str, bytes | None] = {file: lines_of(lines) for file, lines in PARALLEL.items()}
        for file, data in (files | dict(changes or {})).items():
            if data is not None:
                (root / file).write_bytes(data)
        return root

    return write


@pytest.fixture
def real() -> Callable[[str], Path]:
    """The folder of a real corpus below T2BENCH_DATA."""

    def find(name: str) -> Path:
        data = os.environ.get("T2BENCH_DATA")
        if not data or not (Path(data) / name).is_dir():
            pytest.skip(f"T2BENCH_DATA names no folder with {name}")
        return Path(data) / name

    return find
