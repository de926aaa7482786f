"""Starting workers, talking to them, and making sure that they end.

Two ways to start one: `ForkLauncher` asks the fork server (`t2bench.runner.zygote`), which takes milliseconds;
`SpawnLauncher` starts a new interpreter each time, for systems where forking a process that imported torch is not safe.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from t2bench.runner.channel import Channel, ChannelClosed, DeadlinePassed
from t2bench.runner.codebase import CodeBase
from t2bench.runner.zygote import FORK

START_TIMEOUT_S = 120.0
EXIT_TIMEOUT_S = 5.0
STDERR_TAIL_BYTES = 2000
# -P: what happens to lie in the current folder must not be imported unhashed, by a user's code or instead of a library.
MODULE = ("-P", "-m")
SERVER_GONE = "the fork server, which starts the measured processes, has died"


class WorkerFailed(Exception):
    """A worker could not answer.

    Attributes:
        status: a record status: `timeout`, `crashed`, or what the worker said itself (`oom`, `error`, ...).
        reason: one line for the record.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


class LauncherGone(Exception):
    """What starts workers has died, and its workers with it: no variant's fault, so no row of any case.

    The run ends, or goes on with another launcher from what is recorded.
    """


class Process(Protocol):
    """How a launcher watches one process it started."""

    pid: int

    @property
    def orphaned(self) -> bool:
        """Whether its launcher is gone, so that nobody knows how it ended."""

    def wait(self, timeout_s: float) -> int | None:
        """Exit status (negative: signal), or None if it still runs after `timeout_s` seconds."""


class Worker:
    """One measured process, seen from the scheduler."""

    def __init__(self, process: Process, channel: Channel, log: IO[bytes]) -> None:
        self.process = process
        self._channel = channel
        self._log = log
        self._busy = False

    @property
    def pid(self) -> int:
        """Process id; also its process group's."""
        return self.process.pid

    def ask(self, message: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a request and block for its answer.

        Raises:
            WorkerFailed: it died, did not answer in time (it and its process group are killed), or reports a failure.
            LauncherGone: it died with what had started it.
        """
        self._busy = True  # until the answer is here: an interrupted scheduler must not wait for it
        try:
            self._channel.send(message)
            answer = self._channel.receive(timeout_s)
            self._busy = False
        except DeadlinePassed:
            self.kill()
            op = message.get("op", "?")
            raise WorkerFailed("timeout", f"no answer to '{op}' within {timeout_s:g} s; killed") from None
        except ChannelClosed:
            raise self._post_mortem() from None
        if not answer.pop("ok", False):
            raise WorkerFailed(str(answer.get("status", "error")), str(answer.get("reason", "no reason given")))
        return answer

    def _post_mortem(self) -> WorkerFailed | LauncherGone:
        status = self.process.wait(EXIT_TIMEOUT_S)
        if status is None:
            self.kill()
            if self.process.orphaned:
                return LauncherGone(SERVER_GONE)
            return WorkerFailed("crashed", "closed its channel without leaving; killed")
        said = self.stderr_tail().splitlines()
        last = f": {said[-1].strip()[:200]}" if said else ""
        if status < 0:
            return WorkerFailed("crashed", f"killed by {_signal_name(-status)}{last}")
        return WorkerFailed("crashed", f"left with exit status {status} before it answered{last}")

    def stderr_tail(self) -> str:
        """The last words on the worker's stderr."""
        self._log.flush()
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - STDERR_TAIL_BYTES))
        return self._log.read().decode("utf-8", "replace")

    def kill(self) -> None:
        """Kill the whole process group and wait until it is gone."""
        for kill in (os.killpg, os.kill):  # the process itself too: it may not have made its group yet
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)
        self.process.wait(EXIT_TIMEOUT_S)

    def close(self) -> None:
        """End the worker: its channel's end tells an idle one to leave; any other is killed."""
        self._channel.close()
        if self._busy or self.process.wait(EXIT_TIMEOUT_S) is None:
            self.kill()
        self._log.close()


class Launcher(Protocol):
    """A way to start fresh workers."""

    isolation: str

    def start(self) -> Worker:
        """A fresh worker process.

        Raises:
            LauncherGone: none can be started any more.
        """

    def close(self) -> None:
        """End every worker that still runs."""


class ForkLauncher:
    """Forks workers off a server process that has imported torch once.

    Args:
        environment: variables for the server and its workers (thread counts and wait policy are read at start-up).
        code: whose workers they are; None for this t2bench.
    """

    isolation = "fork"

    def __init__(self, environment: Mapping[str, str], code: CodeBase | None = None) -> None:
        ours, theirs = socket.socketpair()
        self._exits: dict[int, int] = {}
        self.gone = False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with its process)
        with theirs:
            self._server = subprocess.Popen(
                [code.python if code else sys.executable, *MODULE, "t2bench.runner.zygote", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=code.environment(environment) if code else _child_environment(environment),
                cwd=code.root if code else None,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
            )
        self._control = ours
        self._channel = Channel(ours)
        try:
            self._channel.receive(START_TIMEOUT_S)
        except (ChannelClosed, DeadlinePassed):
            self._log.seek(0)
            said = self._log.read().decode("utf-8", "replace").strip().splitlines()
            self.close()
            raise WorkerFailed(
                "error", "the fork server did not start: " + (said[-1] if said else "no message")
            ) from None
        except BaseException:  # interrupted: left alone it would import torch to the end, when its user is long back
            self._server.kill()
            self.close()
            raise

    def start(self) -> Worker:
        """Fork a fresh worker.

        Raises:
            LauncherGone: the server has died, or does not answer.
        """
        ours, theirs = socket.socketpair()
        log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with its process)
        with theirs:
            try:
                socket.send_fds(self._control, [FORK], [theirs.fileno(), log.fileno()])
                pid = self._await_pid()
            except (OSError, ChannelClosed, DeadlinePassed):
                log.close()
                ours.close()
                raise LauncherGone(SERVER_GONE) from None
        return Worker(_Forked(pid, self), Channel(ours), log)

    def _await_pid(self) -> int:
        while True:
            message = self._channel.receive(START_TIMEOUT_S)
            if "pid" in message:
                return int(message["pid"])
            self._note_exit(message)

    def _note_exit(self, message: Mapping[str, Any]) -> None:
        self._exits[int(message["exit"])] = int(message["status"])

    def exit_status(self, pid: int, timeout_s: float) -> int | None:
        """Exit status of a forked worker, or None if it still runs after `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        while pid not in self._exits:
            try:
                self._note_exit(self._channel.receive(max(0.0, deadline - time.monotonic())))
            except ChannelClosed:
                self.gone = True
                return None
            except DeadlinePassed:
                return None
        return self._exits[pid]

    def close(self) -> None:
        """End the server, which takes its workers along."""
        self._channel.close()
        try:
            self._server.wait(EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._log.close()


class _Forked:
    def __init__(self, pid: int, launcher: ForkLauncher) -> None:
        self.pid = pid
        self._launcher = launcher

    def wait(self, timeout_s: float) -> int | None:
        return self._launcher.exit_status(self.pid, timeout_s)

    @property
    def orphaned(self) -> bool:
        return self._launcher.gone


class SpawnLauncher:
    """Starts a new interpreter for every worker.

    Args:
        environment: variables for the workers.
        code: whose workers they are; None for this t2bench.
    """

    isolation = "spawn"

    def __init__(self, environment: Mapping[str, str], code: CodeBase | None = None) -> None:
        self._environment = code.environment(environment) if code else _child_environment(environment)
        self._code = code
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> Worker:
        """Start a fresh interpreter."""
        ours, theirs = socket.socketpair()
        log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with its process)
        with theirs:
            process = subprocess.Popen(
                [
                    self._code.python if self._code else sys.executable,
                    *MODULE,
                    "t2bench.runner.worker",
                    str(theirs.fileno()),
                ],
                pass_fds=[theirs.fileno()],
                env=self._environment,
                cwd=self._code.root if self._code else None,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._running = [p for p in self._running if p.poll() is None] + [process]
        return Worker(_Spawned(process), Channel(ours), log)

    def close(self) -> None:
        """Kill every worker that still runs."""
        for process in self._running:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class _Spawned:
    orphaned = False  # it is this process's own child

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self._process = process

    def wait(self, timeout_s: float) -> int | None:
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None


def launcher(isolation: str, environment: Mapping[str, str], code: CodeBase | None = None) -> Launcher:
    """The launcher for `isolation`: `fork` or `spawn`; `code` says whose workers it starts, ours if None."""
    return ForkLauncher(environment, code) if isolation == "fork" else SpawnLauncher(environment, code)


def _child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with `extra`, and with the checkout importable where t2bench is not installed."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
    return {**os.environ, **extra, "PYTHONPATH": path}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
