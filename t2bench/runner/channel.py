"""Messages between the scheduler and a worker: one JSON object a line over a Unix socket.

Receiving blocks in `poll` until a message, the end of the stream or the deadline: nothing here spins, so the scheduler
uses no processor while a worker measures.
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Mapping
from typing import Any

CHUNK_BYTES = 1 << 16


class ChannelClosed(Exception):
    """The other side is gone, possibly in the middle of a message."""


class DeadlinePassed(Exception):
    """No complete message arrived in time."""


class Channel:
    """One end of a socket that carries JSON lines."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def fileno(self) -> int:
        """The socket's file descriptor."""
        return self._sock.fileno()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message.

        Raises:
            ChannelClosed: nobody listens any more.
        """
        try:
            self._sock.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            raise ChannelClosed from error

    def receive(self, timeout_s: float | None = None) -> dict[str, Any]:
        """The next message.

        Raises:
            ChannelClosed: end of stream, or a line that is not a JSON object (a truncated reply).
            DeadlinePassed: nothing complete within `timeout_s` seconds.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            wait_ms = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000.0
            if not self._poll.poll(wait_ms):
                raise DeadlinePassed
            try:
                chunk = self._sock.recv(CHUNK_BYTES)
            except OSError as error:
                raise ChannelClosed from error
            if not chunk:
                raise ChannelClosed
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        try:
            message = json.loads(line)
        except ValueError as error:
            raise ChannelClosed from error
        if not isinstance(message, dict):
            raise ChannelClosed
        return message

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
