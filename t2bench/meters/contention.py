"""Did others disturb a turn? What the kernel noted about this process while it ran, readable without privileges.

The signal is the time that threads which wanted to run spent waiting on a run queue. It is near zero on a quiet machine
however the measured work behaves, so a disturbed sample can be told from a slow one. Such samples are marked, not
removed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# A turn is contended when its threads waited for a core more than this share of the turn (averaged over threads).
WAIT_SHARE = 0.05

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")
_TICKS_PER_S = 100  # USER_HZ, fixed by the kernel's interface


@dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """What happened between two readings. None: this machine does not tell.

    Attributes:
        wait_s: run-queue wait, summed over the threads of this process.
        voluntary_switches: times a thread gave up the core.
        involuntary_switches: times a thread was taken off it.
        major_faults: page faults that read from disk.
        steal_s: time a hypervisor gave to other guests, summed over all cores of the machine (in 10 ms steps).
        throttled_s: time the control group was held back for having used up its CPU quota.
    """

    wait_s: float | None
    voluntary_switches: int | None
    involuntary_switches: int | None
    major_faults: int | None
    steal_s: float | None
    throttled_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Contention:
    """Counters at one moment; `before.until(after)` gives what happened between.

    Attributes:
        wait_ns: thread id -> run-queue wait so far; None where the kernel does not tell.
        voluntary: switches so far, over all threads.
        involuntary: likewise.
        major_faults: so far.
        steal_s: so far, whole machine.
        throttled_s: so far, this control group.
    """

    wait_ns: Mapping[str, int] | None
    voluntary: int | None
    involuntary: int | None
    major_faults: int | None
    steal_s: float | None
    throttled_s: float | None

    @classmethod
    def read(cls) -> Contention:
        """Read all counters now (about 0.1 ms and 20 microseconds a thread)."""
        voluntary, involuntary, faults = _usage()
        return cls(
            wait_ns=_waits(),
            voluntary=voluntary,
            involuntary=involuntary,
            major_faults=faults,
            steal_s=_steal_s(),
            throttled_s=_throttled_s(),
        )

    def until(self, later: Contention) -> Delta:
        """What happened from this reading to `later`. A thread that ended meanwhile takes its wait with it."""
        wait_s = None
        if self.wait_ns is not None and later.wait_ns is not None:
            wait_s = 1e-9 * sum(wait - self.wait_ns.get(thread, 0) for thread, wait in later.wait_ns.items())
        return Delta(
            wait_s=wait_s,
            voluntary_switches=_minus(later.voluntary, self.voluntary),
            involuntary_switches=_minus(later.involuntary, self.involuntary),
            major_faults=_minus(later.major_faults, self.major_faults),
            steal_s=None if later.steal_s is None or self.steal_s is None else later.steal_s - self.steal_s,
            throttled_s=(
                None if later.throttled_s is None or self.throttled_s is None else later.throttled_s - self.throttled_s
            ),
        )


def contended(delta: Delta, wall_s: float, threads: int) -> bool | None:
    """Whether a turn of `wall_s` seconds on `threads` threads was disturbed by others.

    Returns:
        True if threads waited for a core more than WAIT_SHARE of the time or the control group was throttled for as
        long; None where the machine does not tell.
    """
    if delta.wait_s is None:
        return None
    throttled = delta.throttled_s is not None and delta.throttled_s > WAIT_SHARE * wall_s
    return throttled or delta.wait_s > WAIT_SHARE * wall_s * threads


def _minus(later: int | None, earlier: int | None) -> int | None:
    return None if later is None or earlier is None else later - earlier


def _waits(proc: Path = _PROC) -> dict[str, int] | None:
    """Run-queue wait of every thread of this process: the second number in its schedstat, nanoseconds."""
    waits = {}
    try:
        threads = [entry.name for entry in (proc / "self/task").iterdir()]
    except OSError:
        return None
    for thread in threads:
        try:
            waits[thread] = int((proc / "self/task" / thread / "schedstat").read_text().split()[1])
        except (OSError, IndexError):  # the thread has just ended
            continue
    return waits or None


def _usage() -> tuple[int | None, int | None, int | None]:
    try:
        import resource
    except ImportError:
        return None, None, None
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_nvcsw, usage.ru_nivcsw, usage.ru_majflt


def _steal_s(proc: Path = _PROC) -> float | None:
    """Field `steal` of the first line of /proc/stat."""
    try:
        fields = (proc / "stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return None
    return int(fields[8]) / _TICKS_PER_S if len(fields) > 8 else None


def _throttled_s(root: Path = _CGROUP, proc: Path = _PROC) -> float | None:
    """Throttled time of this process' control group, version 2 (microseconds) or 1 (nanoseconds)."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        for group in (base / path.lstrip("/"), base):  # in a container only the mount's root may be visible
            try:
                stat = (group / "cpu.stat").read_text()
            except OSError:
                continue
            if match := re.search(r"^throttled_usec (\d+)$", stat, re.MULTILINE):
                return int(match.group(1)) * 1e-6
            if match := re.search(r"^throttled_time (\d+)$", stat, re.MULTILINE):
                return int(match.group(1)) * 1e-9
    return None
