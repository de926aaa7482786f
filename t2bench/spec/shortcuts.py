"""Short forms of changes to a suite, the same on the command line and in Python."""

from __future__ import annotations

from collections.abc import Sequence

QUICK = ("measure.launches=2", "measure.rounds=4", "measure.warmup_s=0.2")


def all_overrides(overrides: Sequence[str], seed: int | None, *, quick: bool) -> list[str]:
    """`key=value` changes and their short forms as one list; what the user set by hand wins over `quick`."""
    changes = [*(QUICK if quick else ()), *overrides]
    return changes if seed is None else [*changes, f"seed={seed}"]
