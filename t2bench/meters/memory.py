"""Memory as the machine sees it: resident set of the process on a CPU, allocator and driver on a GPU; and its limits.

These are measurements, not counts: allocators round, keep and fragment, libraries take scratch space. `None` (shown as
n/a) is written for what cannot be read, never 0.
"""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from t2bench.meters.nvml import open_nvml
from t2bench.records import Metric
from t2bench.spec.case import Unsupported

if TYPE_CHECKING:
    import torch

_PROC = Path("/proc")
# glibc's malloc.h: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_MMAP_MAX
_GIVE_BACK = ((-3, 128 * 1024), (-1, 128 * 1024), (-4, 65536))
_OOM_WORDS = re.compile(
    r"out of memory|not enough memory|can't allocate memory|cannot allocate memory|bad_alloc|DefaultCPUAllocator"
    r"|CUBLAS_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)


class MemoryMeter:
    """Peak memory of what happens inside the block. Enter it before the model is built.

    Metrics after the block (see `metrics`):
        baseline_bytes: CPU: resident bytes at the start. CUDA: allocated bytes at the start.
        process_peak_bytes: CPU: peak resident bytes above the baseline. CUDA: bytes NVML attributes to the process at
            the end (the allocator gives nothing back meanwhile): what the card must have.
        peak_allocated_bytes: CUDA only: what the model needed.
        peak_reserved_bytes: CUDA only: what the allocator took to provide it.

    Args:
        device: kind of device, `cpu` or `cuda` (or `cuda:1`).
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._baseline: int | None = None
        self._resettable = False
        self.metrics: dict[str, Metric] = {}

    def __enter__(self) -> MemoryMeter:
        if self._device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            self._baseline = torch.cuda.memory_allocated(self._device)
        else:
            self._resettable = _reset_peak_rss()
            self._baseline = _status_bytes("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        values: dict[str, int | None] = {"baseline_bytes": self._baseline}
        if self._device.startswith("cuda"):
            values |= _cuda_peaks(self._device)
        else:
            peak = _peak_rss(resettable=self._resettable)
            known = peak is not None and self._baseline is not None
            values["process_peak_bytes"] = max(0, peak - self._baseline) if known else None  # type: ignore[operator]
        self.metrics = {name: Metric(value=value, unit="bytes") for name, value in values.items()}


def _reset_peak_rss() -> bool:
    """Set the kernel's high-water mark of resident memory back to the present; False where that is impossible."""
    try:
        (_PROC / "self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak_rss(*, resettable: bool) -> int | None:
    """Peak resident bytes since the reset; without a reset, since the process began (only right in a fresh process)."""
    peak = _status_bytes("VmHWM")
    if peak is not None and resettable:
        return peak
    try:
        import resource
    except ImportError:
        return None
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(rss) * (1 if os.uname().sysname == "Darwin" else 1024)


def _status_bytes(field: str) -> int | None:
    """A field of /proc/self/status given in kB."""
    try:
        status = (_PROC / "self/status").read_text()
    except OSError:
        return None
    match = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


def _cuda_peaks(device: str) -> dict[str, int | None]:
    import torch

    torch.cuda.synchronize(device)
    return {
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(device),
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(device),
        "process_peak_bytes": open_nvml().read(cuda_uuid(torch.device(device))).process_bytes,
    }


def cuda_uuid(device: torch.device) -> str:
    """UUID of a CUDA device, the name by which NVML knows it too."""
    import torch

    return str(torch.cuda.get_device_properties(device).uuid)


def give_back_freed_memory() -> bool:
    """Let the C library return freed blocks of 128 KiB and more to the kernel at once, so that resident memory follows
    what is alive. Timed workers do the opposite (see `t2bench.meters.environment.worker_environment`).

    Returns:
        Whether the allocator took the settings; False without glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(parameter, value) for parameter, value in _GIVE_BACK)


def limit_address_space(allowance_bytes: int) -> int | None:
    """Let this process map at most `allowance_bytes` more than it does now, so that it fails instead of the machine.

    What counts is address space, not resident memory: thread stacks and the arenas of the C library count in full, so
    call this when torch has started its threads. Only for CPU workers: CUDA reserves far more than it uses.

    Returns:
        The limit that was set (bytes), or None where it cannot be (no /proc, no RLIMIT_AS).
    """
    try:
        import resource
    except ImportError:
        return None
    now = _status_bytes("VmSize")
    if now is None:
        return None
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = now + allowance_bytes
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    return limit


def classify_error(error: BaseException) -> tuple[str, str]:
    """Status and message of an exception that ended a case.

    Returns:
        (`oom`, message) for every way in which an allocation fails: torch reports a failed allocation on the CPU as a
        plain RuntimeError. Otherwise (`error`, message).
    """
    if isinstance(error, Unsupported):
        return "unsupported", str(error)
    message = f"{type(error).__name__}: {error}".strip().removesuffix(":")
    first_line = message.splitlines()[0]
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "oom", first_line
    if isinstance(error, (RuntimeError, OSError)) and _OOM_WORDS.search(message):
        return "oom", first_line
    return "error", first_line


def available_bytes(device: str) -> int | None:
    """Bytes that a process could use now: free memory of the (first) GPU; on a CPU the tighter of RAM and cgroup."""
    if device.startswith("cuda"):
        gpus = open_nvml()
        known = gpus.uuids()
        return gpus.read(known[0]).free_bytes if known else None
    candidates = [meminfo_bytes("MemAvailable"), _cgroup_free_bytes()]
    given = [value for value in candidates if value is not None]
    return min(given) if given else None


def meminfo_bytes(field: str) -> int | None:
    """A field of /proc/meminfo."""
    try:
        meminfo = (_PROC / "meminfo").read_text()
    except OSError:
        return None
    match = re.search(rf"^{field}:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


def cgroup_limit_bytes(root: Path = Path("/sys/fs/cgroup"), proc: Path = _PROC) -> int | None:
    """The tightest memory limit of the control groups this process is in; None without one."""
    limits = [limit for limit, _ in _cgroup_levels(root, proc)]
    return min(limits) if limits else None


def _cgroup_free_bytes(root: Path = Path("/sys/fs/cgroup"), proc: Path = _PROC) -> int | None:
    """What the tightest control group still allows, page cache that can be dropped not counted as used."""
    free = [max(0, limit - used) for limit, used in _cgroup_levels(root, proc)]
    return min(free) if free else None


def _cgroup_levels(root: Path, proc: Path) -> list[tuple[int, int]]:
    """(limit, used) bytes of this process' group and of every group above it that has a limit."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            base, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = base / path.lstrip("/")
        # inside a container the path may be that of the host: then only the mount's own root is visible
        for level in (group, *group.parents):
            if level == base.parent:
                break
            usage = _cgroup_usage(level, *names)
            if usage is not None:
                found.append(usage)
    return found


def _cgroup_usage(level: Path, limit_name: str, used_name: str, droppable: str) -> tuple[int, int] | None:
    try:
        limit = (level / limit_name).read_text().strip()
        used = int((level / used_name).read_text())
        stat = (level / "memory.stat").read_text()
    except OSError:
        return None
    if limit == "max" or int(limit) >= 2**60:  # version 1 writes a huge number for no limit
        return None
    match = re.search(rf"^{droppable} (\d+)$", stat, re.MULTILINE)
    return int(limit), used - (int(match.group(1)) if match else 0)
