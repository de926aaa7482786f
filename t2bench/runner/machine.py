"""What the scheduler must know of the machine before it plans: asked of a worker, since the parent imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from t2bench.runner.launcher import Launcher, WorkerFailed
from t2bench.spec.case import Plan
from t2bench.spec.plugin import Plugin
from t2bench.spec.suite import Suite

SETUP_TIMEOUT_S = 120.0
MEMORY_SHARE = 0.8  # of what the device has, when the suite states no limit
GIB = 1 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The machine as a worker sees it.

    Attributes:
        setup: the message that configures every later worker.
        runtime: torch and its settings.
        ceilings: measured limits of the device (see `t2bench.meters.ceilings.Ceilings`).
        memory_limit_bytes: what a case may need.
    """

    setup: dict[str, Any]
    runtime: dict[str, Any]
    ceilings: dict[str, Any]
    memory_limit_bytes: int


def look_at(launcher: Launcher, suite: Suite, plan: Plan, threads: int, plugins: Sequence[Plugin] = ()) -> Machine:
    """Configure one worker and ask it; `plugins` is the code that later workers may import.

    Raises:
        WorkerFailed: it does not start, or the suite's device is not there.
    """
    setup: dict[str, Any] = {
        "device": suite.device,
        "threads": threads,
        "memory_limit_bytes": None,
        "plugins": [plugin.to_dict() for plugin in plugins],
    }
    worker = launcher.start()
    try:
        worker.ask({"op": "configure", **setup}, SETUP_TIMEOUT_S)
        answer = worker.ask({"op": "runtime"}, SETUP_TIMEOUT_S)
        dtypes = sorted({case.dtype for case in plan.cases})
        ceilings = worker.ask({"op": "ceilings", "dtypes": dtypes}, SETUP_TIMEOUT_S)["ceilings"]
    finally:
        worker.close()
    stated_gib, available = suite.limits.memory_gib, answer["available_bytes"]
    if stated_gib is None and available is None:
        raise WorkerFailed("error", "cannot tell how much memory there is; state limits.memory_gib in the suite")
    limit = GIB * stated_gib if stated_gib is not None else MEMORY_SHARE * available
    if suite.device == "cpu":
        setup["memory_limit_bytes"] = int(limit)
    return Machine(setup=setup, runtime=answer["runtime"], ceilings=ceilings, memory_limit_bytes=int(limit))
