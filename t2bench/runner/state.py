"""What a run has on the disk and what was learnt from it: its journal, its two small files, and who has ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t2bench.meters import environment as env
from t2bench.records import PROTOCOL, Record, write_atomically
from t2bench.runner import directory as run_directory
from t2bench.runner.journal import Journal
from t2bench.runner.machine import Machine
from t2bench.runner.observer import Observer
from t2bench.runner.options import Options
from t2bench.spec.case import Plan
from t2bench.spec.loader import dump_suite
from t2bench.spec.suite import Suite

# A record of any other status ends its case: it is not tried again in this run. Another seed need not diverge.
ENDED = ("ok", "not_steady", "diverged")


class RunState:
    """What a run has on disk and what was learnt from it."""

    def __init__(self, path: Path, journal: Journal, observer: Observer, known: dict[str, Any]) -> None:
        self.path, self.journal, self.observer = path, journal, observer
        self.environment = {"run": f"{path.parent.name}/{path.name}", **known}
        self.began, self.cpu_began = time.monotonic(), time.process_time()
        self.wall_before_s = float(known.get("wall_s", 0.0))
        self.inside_s = float(known.get("inside_s", 0.0))
        self.ended = {record.case for record in journal.records if record.status not in ENDED}
        self.checksums: dict[str, float] = {}
        for record in journal.records:
            self._learn(record)

    @property
    def run(self) -> str:
        """The run's id."""
        return str(self.environment["run"])

    def describe(
        self,
        suite: Suite,
        plan: Plan,
        options: Options,
        machine: Machine,
        digest: str,
        data: dict[str, Any],
        *,
        isolation: str,
    ) -> None:
        """Write `suite.yaml` and `environment.json`."""
        host = env.host()
        fingerprint = env.fingerprint(host, machine.runtime)
        self._check_same({"fingerprint": fingerprint, "data": data}, host, machine.runtime)
        self.environment = {
            "started": _now(),
            **self.environment,
            "suite": suite.resolved,
            "digest": digest,
            "protocol": PROTOCOL,
            "device": suite.device,
            "host": host,
            "torch": machine.runtime,
            "ceilings": machine.ceilings,
            "fingerprint": fingerprint,
            "memory_limit_bytes": machine.memory_limit_bytes,
            "isolation": isolation,
            "data": data,
            "argv": list(options.argv),
            "plugins": [plugin.to_dict() for plugin in options.plugins],
            "plan": {"groups": _case_ids_by_group(plan)},
        }
        write_atomically(self.path / "suite.yaml", dump_suite(suite))
        self.save()

    def _check_same(self, now: dict[str, Any], host: dict[str, Any], runtime: dict[str, Any]) -> None:
        """A continued run must go on as it began: one machine, one software, one text."""
        before = {name: self.environment.get(name) for name in now}
        if not self.journal.records or before == now:
            return
        changes = env.differences(self.environment, {"host": host, "torch": runtime})
        what = "; ".join(changes) or "the text has changed"
        raise run_directory.DirectoryError(f"{self.path}: began under other conditions ({what}); --fresh starts anew")

    def append(self, unit: Sequence[Record]) -> None:
        """Put one unit on the disk."""
        self.journal.append(unit)
        for record in unit:
            self._learn(record)
            self.observer.recorded(record)

    def _learn(self, record: Record) -> None:
        if record.status not in ENDED:
            self.ended.add(record.case)
        checksum = record.observed.get("checksum")
        if record.pass_ == "counters" and checksum is not None:
            self.checksums[record.case] = float(checksum)

    @property
    def wall_s(self) -> float:
        """Seconds since this execution began."""
        return time.monotonic() - self.began

    def save(self, *, finished: bool = False, stopped: str | None = None) -> None:
        """Replace `environment.json`."""
        self.environment |= {
            "wall_s": self.wall_before_s + self.wall_s,
            "inside_s": self.inside_s,
            "scheduler_cpu_share": (time.process_time() - self.cpu_began) / max(self.wall_s, 1e-9),
            "finished": _now() if finished else None,
            "stopped": stopped,
        }
        run_directory.write_environment(self.path, self.environment)


def _case_ids_by_group(plan: Plan) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for case in [*plan.cases, *(refusal.case for refusal in plan.refusals)]:
        groups.setdefault(case.group, []).append(case.id)
    return groups


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
