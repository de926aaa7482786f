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

from t2bench.records import Record, RecordError, decode, encode, unit_of, write_atomically


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

    Attributes:
        records: what is there, in order.
        set_aside: lines that were found damaged and moved to `damaged.jsonl`.

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
            self.records, self.set_aside = _recover(self.path)
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


def _recover(path: Path) -> tuple[list[Record], int]:
    """Records of the complete units, and how many lines of others were set aside.

    What an interrupted write left at the end is cut off: it was never reported as finished. A unit that was damaged
    later is moved to `damaged.jsonl`, for a person to look at: with half of a unit nothing can be done.
    """
    if not path.exists():
        return [], 0
    lines = path.read_bytes().splitlines(keepends=True)
    records, whole = _complete_units(lines)
    torn_from = max(whole, default=-1) + 1
    damaged = [line for number, line in enumerate(lines[:torn_from]) if number not in whole]
    if damaged:
        with path.with_name("damaged.jsonl").open("ab") as file:
            file.writelines(damaged)
            file.flush()
            os.fsync(file.fileno())
        write_atomically(path, b"".join(lines[number] for number in sorted(whole)).decode("ascii"))
    elif torn_from < len(lines):
        os.truncate(path, sum(map(len, lines[:torn_from])))
    return records, len(damaged)


def _complete_units(lines: Sequence[bytes]) -> tuple[list[Record], set[int]]:
    """Records of all complete units, and the numbers of their lines."""
    records: list[Record] = []
    whole: set[int] = set()
    pending: list[Record] = []
    for number, line in enumerate(lines):
        try:
            record = decode(line) if line.endswith(b"\n") else None
        except RecordError:
            record = None
        index, count = (0, 0) if record is None else unit_of(line)
        pending = [*pending, record] if record is not None and index == len(pending) else []
        if record is not None and not pending and index == 0:
            pending = [record]
        if pending and len(pending) == count:
            records += pending
            whole |= set(range(number - count + 1, number + 1))
            pending = []
    return records, whole


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
