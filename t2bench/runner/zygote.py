"""The fork server: imports torch once, then forks a fresh worker in milliseconds for every launch.

A worker must be a fresh process (no other variant's leftovers), but importing torch and torch._dynamo (which the first
optimizer pulls in) costs two seconds. This process pays once and is idle afterwards: it runs no operator, starts no
thread pool and never touches CUDA, so what it forks is as clean as a new interpreter.

It is started as `python -m t2bench.runner.zygote FD` with a Unix stream socket. A request is one byte with two file
descriptors attached (the worker's channel and its stderr); the answer is {"pid": N}, and later {"exit": N, "status": S}
with S as in `subprocess` (negative: killed by that signal). When the scheduler goes away, however it ends, the socket
closes, and this process kills every worker's process group and leaves.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys

PR_SET_PDEATHSIG = 1
# What a worker would import: the first optimizer, for one, pulls in torch._dynamo, which takes most of a second.
PRELOAD = (
    "torch",
    "torch._dynamo",
    "torch._subclasses.fake_tensor",
    "torch.utils.flop_counter",
    "t2bench.meters.contention",
    "t2bench.meters.counters",
    "t2bench.meters.steady",
    "t2bench.models.truth",
    "t2bench.workloads.predict",
    "t2bench.runner.worker",
)
FORK = b"F"


def main() -> None:
    """Serve fork requests on the socket whose file descriptor is the first argument."""
    control = socket.socket(fileno=int(sys.argv[1]))
    for module in PRELOAD:
        importlib.import_module(module)
    import torch

    # What is alive now is never garbage: workers need not search it, and do not touch (and so copy) its pages.
    gc.collect()
    gc.freeze()

    wake_read, wake_write = os.pipe()
    for fd in (wake_read, wake_write):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # A terminal's Ctrl-C goes to the whole foreground group; the scheduler decides what it means for the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _send(control, {"ready": os.getpid(), "torch": torch.__version__})

    children: set[int] = set()
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake_read, 4096)
        _reap(control, children)
        if control.fileno() in ready:
            request, fds, _, _ = socket.recv_fds(control, 1, 2)
            if request != FORK or len(fds) != 2:
                break
            pid = os.fork()
            if pid == 0:
                _become_worker(control, fds, (wake_read, wake_write))
            for fd in fds:
                os.close(fd)
            children.add(pid)
            _send(control, {"pid": pid})
    for pid in children:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _reap(control: socket.socket, children: set[int]) -> None:
    for pid in list(children):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            children.discard(pid)
            # A worker's own children must not outlive it: they are in its process group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            _send(control, {"exit": pid, "status": os.waitstatus_to_exitcode(status)})


def _send(control: socket.socket, message: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # the scheduler is gone; the next read of the socket says so and ends us
        control.sendall(json.dumps(message).encode() + b"\n")


def _become_worker(control: socket.socket, fds: list[int], wakeup: tuple[int, int]) -> None:
    """In the forked child: a session of its own, its own stderr, nothing of the server left; then work and leave."""
    os.setsid()
    die_with_parent()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control.close()
    for fd in wakeup:
        os.close(fd)
    os.dup2(fds[1], 2)
    os.dup2(fds[1], 1)  # nothing but messages may reach the scheduler; prints of a variant go to its log
    os.close(fds[1])
    from t2bench.runner import worker

    worker.run(socket.socket(fileno=fds[0]))


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere the closed channel ends it at its next message."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    main()
