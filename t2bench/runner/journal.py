"""The journal: records appended to `records.jsonl` so that a kill at any moment loses nothing that was finished.

Records that belong together (all variants of one launch took turns, so half of them is worthless) are one *unit*. A
unit is written with one call and fsynced; each line says which part of the unit it is. Opening a journal cuts off a
torn or incomplete unit at its end, which by construction was never reported as finished, and nothing else.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from t2bench.records import Record, RecordError, decode, encode, unit_of


class RunLocked(Exception):
    """Another process writes to this run directory; the message names it."""


class File(Protocol):
    """What the journal needs of a file; tests put a failing one in its place."""

    def write(self, data: bytes) -> None:
        """Write all of `data` at the end."""

    def sync(self) -> None:
        """Return when the data is on the disk."""

    def close(self) -> None:
        """Close."""


class _DiskFile:
    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def sync(self) -> None:
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class Journal:
    """Append-only store of one run's records, locked against a second writer.

    Args:
        directory: the run directory; created if missing.
        file: where to write; the default is `records.jsonl` in it.

    Raises:
        RunLocked: another process holds it.
    """

    def __init__(self, directory: Path, file: File | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "records.jsonl"
        self._lock = _lock(directory / ".lock")
        try:
            self.records: list[Record] = _recover(self.path)
            self._keys = {record.key for record in self.records}
            self._file: File = file or _DiskFile(self.path)
            _sync_directory(directory)
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        os.close(self._lock)

    def __contains__(self, key: tuple[str, str, int]) -> bool:
        return key in self._keys

    def append(self, unit: Sequence[Record]) -> None:
        """Write one unit; when this returns, all of it is on the disk.

        Raises:
            OSError: the disk is full or gone. Nothing before this unit is affected.
            ValueError: a record is already there.
        """
        for record in unit:
            if record.key in self._keys:
                raise ValueError(f"{record.key} is already recorded")
        lines = [encode(record, part=(index, len(unit))) for index, record in enumerate(unit)]
        self._file.write(b"".join(lines))
        self._file.sync()
        self.records.extend(unit)
        self._keys.update(record.key for record in unit)


def _recover(path: Path) -> list[Record]:
    """Intact records up to the end of the last complete unit; cuts the file there.

    A damaged line before that end stays in the file, for a person to look at, and is skipped.
    """
    if not path.exists():
        return []
    intact: list[tuple[int, Record]] = []
    parts_seen = offset = kept_bytes = 0
    for line in path.read_bytes().splitlines(keepends=True):
        offset += len(line)
        try:
            record = decode(line)
        except RecordError:
            parts_seen = 0
            continue
        if not line.endswith(b"\n"):
            continue
        index, count = unit_of(line)
        intact.append((offset, record))
        parts_seen = index + 1 if index in (0, parts_seen) else 0
        if parts_seen == count:
            parts_seen, kept_bytes = 0, offset
    if kept_bytes < offset:
        os.truncate(path, kept_bytes)
    return [record for end, record in intact if end <= kept_bytes]


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(fd, 200, 0).decode("ascii", "replace").strip() or "another process"
        os.close(fd)
        raise RunLocked(f"{path.parent}: in use by {holder}") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
    return fd


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
