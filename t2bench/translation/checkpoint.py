"""Checkpoint: one file that is either whole or not there, holding tensors and plain values only."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

FORMAT = 1


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint. Whatever happens meanwhile, the path holds the old one or the new one, whole.

    Args:
        path: of the file; its folder exists.
        state: tensors, numbers, strings, None, and lists and dictionaries of them.

    Raises:
        OSError: the disk is full, or not to be written to.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            try:
                torch.save({"format": FORMAT, **state}, file)
            except RuntimeError as error:  # what torch makes of a failed write, which is the error before it
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """Read what `write` wrote, onto the host.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or of another version.
    """
    with path.open("rb") as file:
        try:
            _check_sums(file)
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch has no error of its own for a bad file: all kinds come out of its parts
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{path}: damaged checkpoint: {reason[:200]}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path}: no checkpoint of this version of t2bench")
    return state


def _check_sums(file: IO[bytes]) -> None:
    """Compare every part with its checksum, which torch writes and does not read, and go back to the beginning."""
    with zipfile.ZipFile(file) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of its part {damaged} is wrong")
    file.seek(0)
