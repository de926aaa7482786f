"""Where a run took place: hardware, software, settings, and the fingerprint that says which runs are comparable.

The parent process calls `host` (no torch); the worker calls `configure` first and then `runtime`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t2bench.meters.memory import cgroup_limit_bytes, meminfo_bytes
from t2bench.meters.nvml import open_nvml
from t2bench.records import PROTOCOL, SCHEMA

_SYS_CPU = Path("/sys/devices/system/cpu")

# What a fingerprint is made of. Only what stays the same between two runs on an unchanged machine: no clocks, no load.
HARDWARE = ("cpu", "physical_cores", "logical_cores", "allowed_cores", "ram_bytes", "memory_limit_bytes", "gpus")
SOFTWARE = ("python", "system", "torch", "torch_git", "torch_config", "mkl", "onednn", "cuda", "cudnn", "driver")
SETTINGS = ("threads", "interop_threads", "flush_denormal", "tf32", "matmul_precision", "variables")
_VARIABLES = re.compile(
    r"OMP_\w+|GOMP_\w+|KMP_\w+|MKL_\w+|ONEDNN_\w+|ATEN_CPU_CAPABILITY|LD_PRELOAD|MALLOC_\w+|GLIBC_TUNABLES|PYTORCH_\w*ALLOC_CONF"
)


def host() -> dict[str, Any]:
    """The machine as this process sees it; a value is None where it cannot be read."""
    gpus = open_nvml()
    return {
        "hostname_hash": hashlib.sha256(socket.gethostname().encode()).hexdigest()[:12],
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cpu": _cpu_model(),
        "physical_cores": physical_cores(),
        "logical_cores": os.cpu_count(),
        "allowed_cores": len(allowed_cores()),
        "ram_bytes": meminfo_bytes("MemTotal"),
        "memory_limit_bytes": cgroup_limit_bytes(),
        "governor": _read(_SYS_CPU / "cpu0/cpufreq/scaling_governor"),
        "turbo": _turbo(),
        "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "driver": gpus.driver,
        "nvml": gpus.reason or "available",
        "gpus": [_gpu(gpus.read(uuid)) for uuid in gpus.uuids()],
    }


def _gpu(reading: Any) -> dict[str, Any]:
    fields = ("name", "total_bytes", "power_limit_w", "ecc", "mig")
    return {field: getattr(reading, field) for field in fields}


def runtime() -> dict[str, Any]:
    """Torch and its settings in this process, after `configure`."""
    import torch

    return {
        "torch": torch.__version__,
        "torch_git": torch.version.git_version,
        "torch_config": hashlib.sha256(torch.__config__.show().encode()).hexdigest()[:12],
        **_settings(),
        "mkl": torch.backends.mkl.is_available(),  # type: ignore[no-untyped-call]
        "onednn": torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.version.cuda else None,  # type: ignore[no-untyped-call]
        "devices": [_cuda_device(index) for index in range(torch.cuda.device_count())],
        "variables": {name: os.environ[name] for name in sorted(os.environ) if _VARIABLES.fullmatch(name)},
    }


def configure(
    threads: int, *, flush_denormal: bool = True, tf32: bool = False, matmul_precision: str = "highest"
) -> dict[str, Any]:
    """Fix what torch would otherwise choose by itself. To be called in the worker, before any work.

    Args:
        threads: threads within an operator; between operators there is always one.
        flush_denormal: treat denormal numbers as zero, which some models meet in training (a T5 on random tokens
            trained 2.5 times slower without). Where the CPU cannot, nothing changes.
        tf32: let CUDA round fp32 matrix products to 10 mantissa bits.
        matmul_precision: as for torch.set_float32_matmul_precision; anything but `highest` turns TF32 on.

    Returns:
        What is in force, as `runtime` reports it.
    """
    import torch

    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    torch.set_flush_denormal(flush_denormal)
    torch.set_float32_matmul_precision("high" if tf32 and matmul_precision == "highest" else matmul_precision)
    torch.backends.cudnn.allow_tf32 = tf32
    return _settings()


def _settings() -> dict[str, Any]:
    """What `configure` sets, as in force. Asks the CPU only: a worker that needs no GPU must not wake one."""
    import torch

    return {
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "flush_denormal": _flushes_denormals(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "matmul_precision": torch.get_float32_matmul_precision(),
    }


def default_threads() -> int:
    """Threads for the measured work: the physical cores this process may use, less one for everything else."""
    return max(1, physical_cores() - 1)


def worker_environment(threads: int) -> dict[str, str]:
    """Environment variables for a worker, to be set before it starts; but for threads, what the user has set stays.

    OpenMP threads wait passively: when they spin, one busy neighbour makes a two-thread step 70 times slower, and
    passive waiting costs 12 % on a quiet machine (2 cores, torch 2.13).

    The C library's allocator keeps freed memory. Left to itself, glibc returns every block above a moving threshold of
    at most 32 MiB to the kernel and faults it in again, page by page, in each step. That nearly doubles the time of
    explicit attention at L=2048 (583 against 326 ms a step; flash attention: no difference), and how the threshold
    moves differs from process to process (103 to 129 ms at L=1024): a handicap and a noise of the allocator, which
    would be read as the price of an attention kernel.

    torch.compile compiles in the worker itself: its pool of processes would outlive the compilation, beside what is
    being timed.
    """
    defaults = {
        "OMP_WAIT_POLICY": "passive",
        "GOMP_SPINCOUNT": "0",
        "KMP_BLOCKTIME": "0",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(2**62),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }
    kept = {name: os.environ.get(name, value) for name, value in defaults.items()}
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), **kept}


def fingerprint(host: Mapping[str, Any], runtime: Mapping[str, Any]) -> dict[str, str]:
    """Three hashes of 12 hex digits: runs are comparable when all are equal.

    Returns:
        `hw` the machine, `sw` the software, `proto` the way of measuring (protocol, schema, torch's settings).
    """
    facts = {**host, **runtime}
    return {
        "hw": _hash({name: facts.get(name) for name in HARDWARE}),
        "sw": _hash({name: facts.get(name) for name in SOFTWARE}),
        "proto": _hash({"protocol": PROTOCOL, "schema": SCHEMA, **{name: facts.get(name) for name in SETTINGS}}),
    }


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between two environments ({"host": ..., "torch": ...}), of what the fingerprint is made of.

    Returns:
        One readable line a fact, for example `torch: 2.12.0 -> 2.13.0`.
    """
    old = {**before.get("host", {}), **before.get("torch", {})}
    new = {**after.get("host", {}), **after.get("torch", {})}
    names = (*HARDWARE, *SOFTWARE, *SETTINGS)
    return tuple(f"{name}: {old.get(name)} -> {new.get(name)}" for name in names if old.get(name) != new.get(name))


def allowed_cores() -> set[int]:
    """Logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def physical_cores() -> int:
    """Physical cores among the allowed ones; the logical ones where the topology cannot be read."""
    siblings = set()
    for core in allowed_cores():
        listed = _read(_SYS_CPU / f"cpu{core}/topology/thread_siblings_list")
        siblings.add(listed if listed is not None else str(core))
    return max(1, len(siblings))


def _cpu_model() -> str:
    """The processor's name."""
    text = _read(Path("/proc/cpuinfo")) or ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match.group(1) if match else platform.processor() or platform.machine()


def _turbo() -> bool | None:
    """Whether the processor may exceed its base clock."""
    no_turbo = _read(_SYS_CPU / "intel_pstate/no_turbo")
    if no_turbo is not None:
        return no_turbo == "0"
    boost = _read(_SYS_CPU / "cpufreq/boost")
    return None if boost is None else boost == "1"


def _flushes_denormals() -> bool:
    """Ask the arithmetic itself: torch has a setter only."""
    import torch

    tiny = torch.finfo(torch.float32).tiny
    return bool((torch.full((64,), tiny) * 0.5).max() == 0.0)


def _cuda_device(index: int) -> dict[str, Any]:
    import torch

    found = torch.cuda.get_device_properties(index)
    return {
        "name": found.name,
        "memory_bytes": found.total_memory,
        "multiprocessors": found.multi_processor_count,
        "capability": f"{found.major}.{found.minor}",
        "l2_bytes": found.L2_cache_size,
    }


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _hash(facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
