"""Memory readings, limits and the words in which allocations fail."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from t2bench.meters import memory
from t2bench.meters.memory import MemoryMeter, classify_error

MB = 1_000_000
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")


def child(code: str) -> str:
    """Run in a fresh process and return what it printed."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@linux
def test_the_meter_sees_what_was_used_and_freed() -> None:
    with MemoryMeter("cpu") as before:
        pass
    with MemoryMeter("cpu") as meter:
        block = bytearray(200 * MB)
        block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
        del block
    with MemoryMeter("cpu") as after:
        pass
    peaks = [m.metrics["process_peak_bytes"].value or 0 for m in (before, meter, after)]
    assert 198 * MB <= peaks[1] < 260 * MB  # the kernel counts pages in batches
    assert max(peaks[0], peaks[2]) < 20 * MB  # the high-water mark was reset
    assert set(meter.metrics) == {"baseline_bytes", "process_peak_bytes"}
    assert meter.metrics["process_peak_bytes"].unit == "bytes"


def test_what_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    with MemoryMeter("cpu") as meter:
        pass
    assert meter.metrics["process_peak_bytes"].value is None
    assert meter.metrics["baseline_bytes"].value is None
    assert memory.available_bytes("cpu") is None
    assert memory.limit_address_space(1 << 40) is None


def test_without_a_reset_the_peak_of_the_process_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text("VmHWM:\t     900 kB\nVmRSS:\t     300 kB\n")
    monkeypatch.setattr(memory, "_PROC", tmp_path)  # clear_refs cannot be opened below a file
    monkeypatch.setattr(memory, "_reset_peak_rss", lambda: False)
    with MemoryMeter("cpu") as meter:
        pass
    import resource

    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert meter.metrics["process_peak_bytes"].value == rss - 300 * 1024


_ALLOCATE = """
import torch
from t2bench.meters.memory import classify_error, limit_address_space
torch.ones(10) @ torch.ones(10)
assert limit_address_space(500_000_000) is not None
torch.ones(50_000_000)  # 200 MB fit
try:
    torch.ones(500_000_000)  # 2 GB do not
except Exception as error:
    print(*classify_error(error))
"""


@linux
def test_the_limit_makes_torch_fail_and_that_is_out_of_memory() -> None:
    status, _, reason = child(_ALLOCATE).partition(" ")
    assert status == "oom"
    assert re.search(r"2000000000", reason)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: ..."),
        RuntimeError("[enforce fail] . DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA error: out of memory"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_every_failed_allocation_is_out_of_memory(error: BaseException) -> None:
    assert classify_error(error)[0] == "oom"


@pytest.mark.parametrize(
    "error", [RuntimeError("No available kernel"), ValueError("out of memory is not what this is"), KeyError("x")]
)
def test_other_errors_are_errors(error: BaseException) -> None:
    status, message = classify_error(error)
    assert status == "error"
    assert message.startswith(type(error).__name__)


def test_the_message_is_one_line() -> None:
    assert classify_error(RuntimeError("first\nsecond"))[1] == "RuntimeError: first"
    assert classify_error(MemoryError())[1] == "MemoryError"


def group(root: Path, limit: str, current: int, inactive: int, *, version: int = 2) -> None:
    """Write the files of one control group."""
    root.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    (root / names[0]).write_text(limit + "\n")
    (root / names[1]).write_text(f"{current}\n")
    (root / "memory.stat").write_text(f"anon 5\n{names[2]} {inactive}\nother 7\n")


def process(root: Path, text: str) -> Path:
    """A /proc whose process is in the given control groups."""
    (root / "self").mkdir(parents=True)
    (root / "self/cgroup").write_text(text)
    return root


def test_the_tightest_group_counts(tmp_path: Path) -> None:
    proc = process(tmp_path / "proc", "0::/a/b\n")
    group(tmp_path / "cg/a", "1000", 700, 100)
    group(tmp_path / "cg/a/b", "5000", 600, 0)
    assert memory.cgroup_limit_bytes(tmp_path / "cg", proc) == 1000
    assert memory._cgroup_free_bytes(tmp_path / "cg", proc) == 400


def test_version_one_and_no_limit(tmp_path: Path) -> None:
    proc = process(tmp_path / "proc", "4:cpu,memory:/x\n1:name=systemd:/\n0::/\n")
    group(tmp_path / "cg/memory/x", "2000", 500, 100, version=1)
    group(tmp_path / "cg/memory", str(2**63 - 4096), 500, 100, version=1)
    assert memory.cgroup_limit_bytes(tmp_path / "cg", proc) == 2000
    assert memory._cgroup_free_bytes(tmp_path / "cg", proc) == 1600

    group(tmp_path / "cg/memory/x", str(2**63 - 4096), 500, 100, version=1)
    assert memory.cgroup_limit_bytes(tmp_path / "cg", proc) is None


def test_in_a_container_the_mounts_root_is_the_group(tmp_path: Path) -> None:
    proc = process(tmp_path / "proc", "0::/docker/0123\n")
    group(tmp_path / "cg", "3000", 1000, 0)
    assert memory.cgroup_limit_bytes(tmp_path / "cg", proc) == 3000


@linux
def test_available_is_positive_and_not_more_than_the_machine_has() -> None:
    total = memory.meminfo_bytes("MemTotal")
    available = memory.available_bytes("cpu")
    assert total is not None
    assert available is not None
    assert 0 < available <= total


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_meter_on_a_gpu() -> None:
    with MemoryMeter("cuda") as meter:
        block = torch.empty(200 * MB, dtype=torch.int8, device="cuda")
        del block
    baseline, allocated, reserved = (
        meter.metrics[name].value for name in ("baseline_bytes", "peak_allocated_bytes", "peak_reserved_bytes")
    )
    assert baseline is not None
    assert allocated is not None
    assert reserved is not None
    assert 200 * MB <= allocated - baseline < 210 * MB
    assert reserved >= allocated
    process_bytes = meter.metrics["process_peak_bytes"].value
    assert process_bytes is None or process_bytes > reserved


@linux
def test_freed_blocks_go_back_to_the_kernel_when_asked_to() -> None:
    code = """
import os, re, sys, torch
from t2bench.meters.memory import give_back_freed_memory
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) * 1024
give_back = sys.argv[1] == "yes" and give_back_freed_memory()
blocks = [torch.ones(250_000) for _ in range(100)]  # 100 MB, kept between by a last small one
last = torch.ones(1000)
before = resident()
del blocks
print(sys.argv[1] == "no" or give_back, before - resident())
"""
    freed = {}
    for answer in ("yes", "no"):
        environment = {**os.environ, "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62)}
        done = subprocess.run(
            [sys.executable, "-c", code, answer], capture_output=True, text=True, check=True, env=environment
        )
        taken, freed[answer] = done.stdout.split()
        if taken == "False":
            pytest.skip("the C library has no mallopt")
    assert int(freed["no"]) < 10 * MB
    # what a process allocated before the change stays in its heap; what it allocates after goes back
    assert int(freed["yes"]) > 90 * MB
