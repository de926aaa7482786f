"""Run-queue waits: compared, never timed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from t2bench.meters import contention
from t2bench.meters.contention import Contention, Delta, contended

linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")


def delta(wait_s: float | None, throttled_s: float | None = None) -> Delta:
    return Delta(
        wait_s=wait_s,
        voluntary_switches=0,
        involuntary_switches=0,
        major_faults=0,
        steal_s=0.0,
        throttled_s=throttled_s,
    )


@pytest.mark.parametrize(
    ("seen", "threads", "expected"),
    [
        (delta(0.0), 1, False),
        (delta(0.05), 1, False),
        (delta(0.051), 1, True),
        (delta(0.09), 2, False),
        (delta(0.11), 2, True),
        (delta(0.0, 0.2), 1, True),
        (delta(0.0, 0.01), 1, False),
        (delta(None), 1, None),
    ],
)
def test_threshold_is_five_percent_of_the_turn(seen: Delta, threads: int, expected: bool | None) -> None:
    assert contended(seen, 1.0, threads) is expected


def reading(wait_ns: dict[str, int] | None, **other: object) -> Contention:
    values = {"voluntary": 1, "involuntary": 2, "major_faults": 3, "steal_s": 4.0, "throttled_s": None, **other}
    return Contention(wait_ns=wait_ns, **values)  # type: ignore[arg-type]


def test_waits_add_up_over_threads_old_and_new() -> None:
    before = reading({"1": 10_000_000, "2": 5_000_000, "gone": 7})
    after = reading({"1": 30_000_000, "2": 5_000_000, "new": 1_000_000}, voluntary=5, steal_s=4.5)
    seen = before.until(after)
    assert seen.wait_s == pytest.approx(0.021)
    assert seen.voluntary_switches == 4
    assert seen.steal_s == pytest.approx(0.5)
    assert seen.throttled_s is None


def test_without_proc_nothing_is_claimed(tmp_path: Path) -> None:
    assert contention._waits(tmp_path) is None
    assert contention._steal_s(tmp_path) is None
    assert contention._throttled_s(tmp_path, tmp_path) is None
    assert reading(None).until(reading({"1": 5})).wait_s is None


@pytest.mark.parametrize(
    ("cgroup", "where", "stat"),
    [
        ("0::/job\n", "job", "usage_usec 9\nthrottled_usec 2500000\n"),
        ("0::/elsewhere\n", "", "throttled_usec 2500000\n"),
        ("3:cpu,cpuacct:/job\n", "cpu/job", "nr_throttled 3\nthrottled_time 2500000000\n"),
    ],
)
def test_throttling_by_the_control_group(tmp_path: Path, cgroup: str, where: str, stat: str) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(cgroup)
    (tmp_path / "cg" / where).mkdir(parents=True)
    (tmp_path / "cg" / where / "cpu.stat").write_text(stat)
    assert contention._throttled_s(tmp_path / "cg", tmp_path / "proc") == pytest.approx(2.5)


# One core for everybody: whoever works there beside another must wait, however fast the machine is.
_WORK = """
import os, sys
from t2bench.meters.contention import Contention
os.sched_setaffinity(0, {int(sys.argv[1])})
begin = os.times()
before = Contention.read()
while os.times().user - begin.user < 0.3:
    sum(range(10000))
print(before.until(Contention.read()).wait_s)
"""
_HOG = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint('up', flush=True)\nwhile True: pass"


@linux
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_a_neighbour_on_the_core_shows() -> None:
    core = str(min(os.sched_getaffinity(0)))

    def wait_s() -> float:
        done = subprocess.run([sys.executable, "-c", _WORK, core], capture_output=True, text=True, check=True)
        return float(done.stdout)

    alone = wait_s()
    hogs = [subprocess.Popen([sys.executable, "-c", _HOG, core], stdout=subprocess.PIPE) for _ in range(3)]
    try:
        for hog in hogs:
            assert hog.stdout is not None
            assert hog.stdout.readline() == b"up\n"
        beside = wait_s()
    finally:
        for hog in hogs:
            hog.kill()
            hog.communicate()
    # three neighbours leave a quarter of the core: 0.3 s of work wait for about 0.9 s
    assert beside > 0.4
    assert beside > alone
