"""Workers are real processes here: killed, crashed, hung and orphaned on purpose."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from t2bench.meters.environment import worker_environment
from t2bench.runner.channel import Channel
from t2bench.runner.launcher import ForkLauncher, LauncherGone, SpawnLauncher, WorkerFailed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process control is tested on Linux")

CONFIGURE = {"op": "configure", "device": "cpu", "threads": 1, "memory_limit_bytes": None}


@pytest.fixture(scope="module", params=["fork", "spawn"])
def launcher(request):
    kind = {"fork": ForkLauncher, "spawn": SpawnLauncher}[request.param]
    made = kind(worker_environment(1))
    yield made
    made.close()


@pytest.fixture
def worker(launcher):
    made = launcher.start()
    made.ask(CONFIGURE, 120)
    yield made
    made.close()
    assert gone(made.pid)


def gone(pid: int, within_s: float = 10.0) -> bool:
    """Whether a process ends (a zombie nobody has reaped yet counts as ended)."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def test_a_worker_answers_with_its_own_settings(worker):
    answer = worker.ask({"op": "runtime"}, 60)
    assert answer["runtime"]["threads"] == 1
    assert answer["runtime"]["variables"]["OMP_WAIT_POLICY"] == "passive"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_killed_worker_is_a_crash_with_the_signals_name(worker, number):
    os.kill(worker.pid, number)
    with pytest.raises(WorkerFailed) as failure:
        worker.ask({"op": "runtime"}, 60)
    assert failure.value.status == "crashed"
    assert number.name in failure.value.reason


def test_a_hung_worker_is_killed_with_its_whole_group(worker):
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(WorkerFailed) as failure:
        worker.ask({"op": "runtime"}, 0.3)
    assert failure.value.status == "timeout"
    assert gone(worker.pid)


def test_an_error_in_a_worker_comes_back_as_its_reason(worker):
    with pytest.raises(WorkerFailed) as failure:
        worker.ask({"op": "no_such_operation"}, 60)
    assert failure.value.status == "error"
    assert "no_such_operation" in failure.value.reason


def test_each_worker_is_a_session_of_its_own(worker):
    assert os.getsid(worker.pid) == worker.pid != os.getsid(0)


def test_a_server_that_cannot_start_is_one_clear_failure(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WorkerFailed, match="did not start"):
        ForkLauncher({})


def test_kill_9_of_the_scheduler_leaves_no_process_behind(tmp_path):
    code = textwrap.dedent(
        """
        import time
        from t2bench.runner.launcher import ForkLauncher
        launcher = ForkLauncher({})
        workers = [launcher.start() for _ in range(2)]
        print(*[launcher._server.pid, *[w.pid for w in workers]], flush=True)
        time.sleep(60)
        """
    )
    scheduler = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    pids = [int(pid) for pid in scheduler.stdout.readline().split()]
    assert len(pids) == 3
    assert all(psutil.pid_exists(pid) for pid in pids)
    scheduler.kill()
    scheduler.wait()
    assert all(gone(pid) for pid in pids)


def test_a_dead_fork_server_is_no_fault_of_its_workers():
    launcher = ForkLauncher(worker_environment(1))
    try:
        victim, worker = launcher.start(), launcher.start()
        os.kill(victim.pid, signal.SIGKILL)
        with pytest.raises(WorkerFailed, match="SIGKILL"):
            victim.ask({"op": "runtime"}, 60)
        server = psutil.Process(worker.pid).parent()
        server.kill()
        server.wait(60)  # it holds all of torch, and takes its time to die
        with pytest.raises(LauncherGone, match="fork server"):
            worker.ask({"op": "runtime"}, 60)
        with pytest.raises(LauncherGone):
            launcher.start()
        victim.close()
        worker.close()
    finally:
        launcher.close()


def test_an_interrupt_while_the_server_starts_leaves_no_process(monkeypatch):
    popen = subprocess.Popen
    servers = []

    def started(*arguments, **named):
        servers.append(popen(["sleep", "600"]))
        return servers[0]

    def interrupted(self, timeout_s):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(Channel, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ForkLauncher({})
    monkeypatch.undo()
    try:
        assert servers[0].poll() is not None
    finally:
        servers[0].kill()
        servers[0].wait()
