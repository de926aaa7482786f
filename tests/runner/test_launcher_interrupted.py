"""Ctrl-C while the fork server still imports torch."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from t2bench.runner import launcher
from t2bench.runner.channel import Channel


def test_an_interrupt_while_the_server_starts_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen
    servers: list[subprocess.Popen[bytes]] = []

    def started(*arguments: Any, **named: Any) -> subprocess.Popen[bytes]:
        servers.append(popen(["sleep", "600"]))
        return servers[0]

    def interrupted(self: Channel, timeout_s: float) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(Channel, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launcher.ForkLauncher({})
    monkeypatch.undo()
    try:
        assert servers[0].poll() is not None
    finally:
        servers[0].kill()
        servers[0].wait()
