"""Checking variants without timing them, in worker processes: a crash is a row, and the caller imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from t2bench.runner.launcher import Launcher, Worker, WorkerFailed
from t2bench.spec.plugin import Plugin
from t2bench.spec.suite import Variant

CHECK_TIMEOUT_S = 600.0


class Checker:
    """Workers that check variants one after the other.

    Args:
        launcher: starts them.
        device: `cpu` or `cuda`.
        threads: of each worker.
        plugins: a user's code that they may import.
    """

    def __init__(self, launcher: Launcher, device: str, threads: int, plugins: Sequence[Plugin]) -> None:
        self._launcher = launcher
        self._device = device
        self._setup = {"device": device, "threads": threads, "memory_limit_bytes": None}
        self._plugins = [plugin.to_dict() for plugin in plugins]

    def check(self, variants: Sequence[Variant], *, dtype: str, seed: int) -> Iterator[tuple[Variant, dict[str, Any]]]:
        """Each variant with its proof (`t2bench.parity.proof.Proof` as a mapping), or with `status` and `reason`.

        A worker lives on from one built-in variant to the next; a user's own module has one to itself.
        """
        worker: Worker | None = None
        try:
            for variant in variants:
                if worker is not None and variant.model.factory:
                    worker.close()
                    worker = None
                try:
                    worker = worker or self._start()
                    message = {"op": "prove", "model": variant.model.to_dict(), "dtype": dtype, "seed": seed}
                    answer = worker.ask(message, CHECK_TIMEOUT_S)["proof"]
                except WorkerFailed as error:
                    answer = {"status": error.status, "reason": error.reason}
                if worker is not None and (variant.model.factory or "status" in answer):
                    worker.close()
                    worker = None
                yield variant, answer
        finally:
            if worker is not None:
                worker.close()

    def _start(self) -> Worker:
        worker = self._launcher.start()
        try:
            worker.ask({"op": "configure", **self._setup, "plugins": self._plugins}, CHECK_TIMEOUT_S)
        except WorkerFailed:
            worker.close()
            raise
        return worker
