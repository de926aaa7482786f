"""The fork server dies with its workers: that is told from a worker that fails by itself."""

import os
import signal
import sys

import psutil
import pytest

from t2bench.meters.environment import worker_environment
from t2bench.runner.launcher import ForkLauncher, LauncherGone, WorkerFailed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process control is tested on Linux")


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
