"""Which device a run is for. The parent process never imports torch, so it asks a worker where it must."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from t2bench.runner.launcher import SpawnLauncher, WorkerFailed
from t2bench.runner.observer import Observer
from t2bench.spec.loader import load_suite
from t2bench.spec.plugin import Plugin
from t2bench.spec.plugins import permitted
from t2bench.spec.suite import Suite

DEVICES = ("auto", "cpu", "cuda")
# Without one of these there is no NVIDIA driver to talk to (Linux; Windows Subsystem for Linux).
DRIVER_NODES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
ASK_TIMEOUT_S = 120.0


def choose_device(asked: str, observer: Observer) -> str:
    """`cpu` or `cuda` for what the user asked; `auto` takes CUDA where torch can use it, and says what it took.

    Raises:
        WorkerFailed: `cuda` was asked for and torch cannot use it.
        ValueError: no such device.
    """
    if asked not in DEVICES:
        raise ValueError(f"no device '{asked}'; there are {', '.join(DEVICES)}")
    if asked == "cpu":
        return "cpu"
    reason = "no NVIDIA driver on this machine"
    if any(node.exists() for node in DRIVER_NODES):
        if _torch_sees_cuda():
            return "cuda"
        reason = "an NVIDIA driver is there, but this torch cannot use it"
    if asked == "cuda":
        raise WorkerFailed("error", f"device cuda was asked for: {reason}")
    observer.note(f"device: cpu ({reason})")
    return "cpu"


def suite_for_device(
    suite: str | os.PathLike[str], device: str, observer: Observer, *, overrides: Sequence[str], allow_code: bool
) -> tuple[Suite, tuple[Plugin, ...]]:
    """A suite for the device that is asked for, and the code that it may run.

    Raises:
        SuiteErrors: the suite is wrong, or its code may not run.
        WorkerFailed, ValueError: as in `choose_device`.
    """
    # A wrong suite, or one whose code may not run, is said before anything slow begins.
    permitted(load_suite(suite, device="cpu", overrides=overrides), allow_code=allow_code)
    loaded = load_suite(suite, device=choose_device(device, observer), overrides=overrides)
    return loaded, permitted(loaded, allow_code=allow_code)


def _torch_sees_cuda() -> bool:
    launcher = SpawnLauncher({})
    worker = launcher.start()
    try:
        return bool(worker.ask({"op": "cuda_available"}, ASK_TIMEOUT_S)["available"])
    except WorkerFailed:
        return False
    finally:
        worker.close()
        launcher.close()
