"""The run directory: where a run lives, which one to continue, and its two small files beside the journal."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t2bench.records import PROTOCOL, write_atomically
from t2bench.spec.suite import Suite

RESULTS = Path("results")
OURS = frozenset(
    {
        *("suite.yaml", "environment.json", "records.jsonl", "damaged.jsonl", "report.md", "report.html", "latest"),
        *(".lock", "checkpoints", "translations"),
    }
)
TEMPORARY = (".suite.yaml.", ".environment.json.", ".records.jsonl.", ".report.")


class DirectoryError(Exception):
    """The run directory cannot be used; the message says why and what to do."""


def suite_digest(suite: Suite, how: Mapping[str, Any]) -> str:
    """Identity of what a run measures and how: a run may be continued under an equal digest only."""
    text = json.dumps([suite.resolved, suite.device, dict(how), PROTOCOL], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def choose(suite: Suite, digest: str, directory: Path | None, *, fresh: bool) -> Path:
    """The directory to run in: the newest unfinished run of the same suite, or a new one.

    Args:
        suite: the resolved suite.
        digest: `suite_digest` of it.
        directory: the user's choice, taken exactly; None for `results/<suite>/<time>`.
        fresh: never continue an earlier run.

    Raises:
        DirectoryError: the chosen directory holds something else, or a run when `fresh` asks for none.
    """
    if directory is not None:
        _check_chosen(directory, digest, fresh=fresh)
        return directory
    parent = RESULTS / suite.name
    if not fresh and parent.is_dir():
        for candidate in sorted((p for p in parent.iterdir() if p.is_dir() and not p.is_symlink()), reverse=True):
            known = read_environment(candidate)
            if known.get("digest") == digest and not known.get("finished"):
                return candidate
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
    number = 1
    while (path := parent / (stamp if number == 1 else f"{stamp}.{number}")).exists():
        number += 1
    return path


def _check_chosen(directory: Path, digest: str, *, fresh: bool) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise DirectoryError(f"{directory}: not a directory")
    foreign = [p.name for p in directory.iterdir() if p.name not in OURS and not p.name.startswith(TEMPORARY)]
    if foreign:
        raise DirectoryError(f"{directory}: holds other files ({foreign[0]}, ...); choose an empty or new directory")
    journal = directory / "records.jsonl"
    if not journal.exists() or not journal.stat().st_size:
        return  # empty, or a run that was ended before it measured anything
    if fresh:
        raise DirectoryError(
            f"{directory}: holds a run already; --fresh needs a new directory (nothing is overwritten)"
        )
    if read_environment(directory).get("digest") != digest:
        raise DirectoryError(f"{directory}: holds a run of another suite, selection or setting; choose a new directory")


def read_environment(directory: Path) -> dict[str, Any]:
    """`environment.json` of a run directory; empty if there is none or it is not one of ours."""
    try:
        data = json.loads((directory / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def write_environment(directory: Path, environment: Mapping[str, Any]) -> None:
    """Replace `environment.json` at once: readers see the old or the new one, never half of it."""
    write_atomically(directory / "environment.json", json.dumps(environment, indent=1, default=str) + "\n")


def point_latest(path: Path) -> None:
    """Let `latest` beside the run point to it; on a file system without links there is none."""
    link = path.parent / "latest"
    if link.exists() and not link.is_symlink():
        return
    temporary = path.parent / f".latest-{os.getpid()}"
    try:
        temporary.symlink_to(path.name)
        os.replace(temporary, link)
    except OSError:
        temporary.unlink(missing_ok=True)
