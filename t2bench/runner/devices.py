"""Which device a run is for. The parent process never imports torch, so it asks a worker where it must."""

from __future__ import annotations

from pathlib import Path

from t2bench.runner.launcher import SpawnLauncher, WorkerFailed
from t2bench.runner.observer import Observer

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
