"""Stored baselines: one JSON file per suite and machine, a history that is only ever appended to, and an anchor.

    results/baselines/<suite>/<hardware hash>.json    what is held against later runs
    results/baselines/<suite>/history.jsonl           who accepted what, when and why

A file carries a checksum: a damaged or hand-edited one is refused, never half used. The anchor is the state that
`baseline pin` marked: however many small steps are accepted later, their sum is shown against it.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from t2bench.gate.counted import Counted
from t2bench.records import PROTOCOL, Record, RecordError, decode, encode, write_atomically

SCHEMA = 1
ROOT = Path("results/baselines")
HISTORY = "history.jsonl"


class BaselineError(Exception):
    """There is no usable baseline; the message says which, why and what to do."""


class NoBaselineError(BaselineError):
    """The suite has no baseline of any machine yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """What later runs are held against.

    Attributes:
        suite: name of the suite.
        fingerprint: hashes `hw`, `sw`, `proto` of the machine that made it.
        torch: release of torch, without a local build's suffix.
        device: `cpu` or `cuda`.
        machine: for people.
        facts: host and torch as `environment.json` has them, for readable differences.
        cases: case id -> what was counted.
        accepted: who, when, why, commit.
        times: case id -> metric -> one value per launch; empty if nothing was timed.
        samples: records of the time pass, compressed.
        calibration: what `t2bench calibrate` found on this machine; empty if it never ran.
        anchor: a pinned earlier state: accepted, and case id -> counter -> value; empty if none.
    """

    suite: str
    fingerprint: Mapping[str, str]
    torch: str
    device: str
    machine: str
    facts: Mapping[str, Any]
    cases: Mapping[str, Counted]
    accepted: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    samples: str = ""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    anchor: Mapping[str, Any] = field(default_factory=dict)

    def records(self) -> list[Record]:
        """The raw samples behind `times`."""
        return unpack(self.samples)

    def counts_hold_for(self, environment: Mapping[str, Any]) -> str:
        """Why the counters say nothing about a run with this environment; empty if they do.

        Counters on a CPU depend on the code, on torch and on how we count, never on the processor; on a GPU the
        kernels, and so the counters, depend on the GPU too.
        """
        torch = torch_release(environment)
        if self.device != environment.get("device"):
            return f"it was counted on {self.device}, this run is on {environment.get('device')}"
        if self.torch != torch:
            return f"it was counted with torch {self.torch}, this run has torch {torch}"
        hardware = _fingerprint(environment).get("hw")
        if self.device != "cpu" and self.fingerprint.get("hw") != hardware:
            return f"it was counted on another machine ({self.machine}), and on a GPU counters depend on it"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the checksum."""
        return {
            "schema": SCHEMA,
            "protocol": PROTOCOL,
            "suite": self.suite,
            "fingerprint": dict(self.fingerprint),
            "torch": self.torch,
            "device": self.device,
            "machine": self.machine,
            "accepted": dict(self.accepted),
            "cases": {case: counted.to_dict() for case, counted in self.cases.items()},
            "times": {case: {name: list(v) for name, v in values.items()} for case, values in self.times.items()},
            "calibration": dict(self.calibration),
            "anchor": dict(self.anchor),
            "facts": dict(self.facts),
            "samples": self.samples,
        }


def torch_release(environment: Mapping[str, Any]) -> str:
    """`2.13.0` of `2.13.0+cpu`."""
    return str((environment.get("torch") or {}).get("torch", "unknown")).partition("+")[0]


def machine_words(environment: Mapping[str, Any]) -> str:
    """The machine in one line."""
    host = environment.get("host") or {}
    gpus = ", ".join(str(gpu.get("name")) for gpu in host.get("gpus") or ())
    name = gpus if environment.get("device") == "cuda" and gpus else str(host.get("cpu", "unknown processor"))
    return f"{name}, {host.get('allowed_cores', '?')} cores, torch {torch_release(environment)}"


def baseline_of(
    suite: str, environment: Mapping[str, Any], cases: Mapping[str, Counted], records: Iterable[Record] = ()
) -> Baseline:
    """A baseline from what a gate run measured, not accepted yet."""
    timed = [record for record in records if record.pass_ == "time" and record.status == "ok" and record.case in cases]
    times: dict[str, dict[str, list[float]]] = {}
    for record in timed:
        for name, metric in record.metrics.items():
            if metric.value is not None and metric.value > 0:
                times.setdefault(record.case, {}).setdefault(name, []).append(metric.value)
    return Baseline(
        suite=suite,
        fingerprint=_fingerprint(environment),
        torch=torch_release(environment),
        device=str(environment.get("device")),
        machine=machine_words(environment),
        facts={name: environment.get(name) for name in ("host", "torch")},
        cases=cases,
        times=times,
        samples=pack(timed),
    )


def path_of(root: Path, suite: str, hardware: str) -> Path:
    """Where a suite's baseline of one machine is."""
    return root / suite / f"{hardware}.json"


def read(path: Path) -> Baseline:
    """Read one baseline.

    Raises:
        BaselineError: it is not there, damaged, altered, or newer than this program.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BaselineError(f"{path}: no baseline; `t2bench baseline accept` makes one") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BaselineError(f"{path}: cannot be read ({error}); restore it, or accept a new one") from error
    if not isinstance(data, dict) or data.pop("checksum", None) != _checksum(data):
        raise BaselineError(f"{path}: damaged or edited: its checksum does not match; restore it, or accept a new one")
    if data.get("schema") != SCHEMA:
        raise BaselineError(f"{path}: schema {data.get('schema')}, this t2bench reads {SCHEMA}")
    if data.get("protocol") != PROTOCOL:
        words = f"stale: counted by protocol {data.get('protocol')}, this is {PROTOCOL}"
        raise BaselineError(f"{path}: {words}; accept a new one")
    try:
        cases = {case: Counted.from_dict(entry) for case, entry in data["cases"].items()}
        names = ("suite", "fingerprint", "torch", "device", "machine", "facts", "accepted", "times", "samples")
        return Baseline(
            cases=cases, calibration=data["calibration"], anchor=data["anchor"], **{name: data[name] for name in names}
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BaselineError(f"{path}: not a baseline of t2bench ({error})") from error


def check(root: Path, suite: str) -> None:
    """Say before anything is measured that there is no baseline, or a damaged one.

    Raises:
        NoBaselineError: there is none.
        BaselineError: one cannot be used.
    """
    paths = sorted((root / suite).glob("*.json"))
    for path in paths:
        read(path)
    if not paths:
        raise NoBaselineError(
            f"{root / suite}: no baseline of suite {suite}; `t2bench baseline accept {suite}` makes one"
        )


def find(root: Path, suite: str, environment: Mapping[str, Any]) -> tuple[Baseline, Path]:
    """The baseline that speaks for this machine: its own, or one of another machine whose counters hold here.

    To be called after `check`.

    Raises:
        BaselineError: there is none that does; or one is damaged (it might have been the one).
    """
    own = path_of(root, suite, _fingerprint(environment).get("hw", "unknown"))
    if own.is_file():
        found = read(own)
        if not (why := found.counts_hold_for(environment)):
            return found, own
        raise BaselineError(f"{own}: stale: {why}; accept a new one, or gate against a commit with --base")
    reasons, holding = [], []
    for path in sorted((root / suite).glob("*.json")):
        found = read(path)
        why = found.counts_hold_for(environment)
        if not why:
            holding.append((found, path))
        reasons.append(f"{path}: {why}")
    if holding:  # an older one may still allow what was since brought down
        return max(holding, key=lambda one: _moment(one[0].accepted.get("when", "")))
    raise BaselineError("no baseline of this machine, and none that holds here: " + "; ".join(reasons))


def write(root: Path, baseline: Baseline, *, action: str, why: str, commit: str | None) -> Path:
    """Accept a baseline: write its file and append to the history; its path.

    Args:
        root: `results/baselines`.
        baseline: what to store; an anchor and a calibration of the one before are kept.
        action: `accept`, `pin` or `calibrate`.
        why: the person's reason.
        commit: of the code, if known.

    Raises:
        OSError: it cannot be written; the old one is untouched.
    """
    path = path_of(root, baseline.suite, baseline.fingerprint["hw"])
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        before = read(path)
    except BaselineError:
        before = None
    entry = {"who": _who(), "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "why": why, "commit": commit or "unknown"}
    if action == "accept":
        baseline = replace(baseline, accepted=entry)
        if before is not None:
            calibration = before.calibration if before.fingerprint == baseline.fingerprint else {}
            baseline = replace(baseline, anchor=before.anchor, calibration=calibration)
    data = baseline.to_dict()
    digest = _checksum(data)
    line: dict[str, str | None] = {"action": action, **entry, "hw": baseline.fingerprint["hw"], "checksum": digest}
    line["previous"] = None if before is None else _checksum(before.to_dict())
    write_atomically(path, json.dumps({**data, "checksum": digest}, indent=1) + "\n")
    with (path.parent / HISTORY).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return path


def pinned(baseline: Baseline) -> Baseline:
    """The baseline with its own present state as the anchor."""
    values = {case: dict(counted.values) for case, counted in baseline.cases.items() if counted.status == "ok"}
    return replace(baseline, anchor={"accepted": dict(baseline.accepted), "cases": values})


def pack(records: Iterable[Record]) -> str:
    """Records as compressed text; empty for none."""
    lines = b"".join(encode(record) for record in records)
    return base64.b64encode(zlib.compress(lines, 9)).decode("ascii") if lines else ""


def unpack(text: str) -> list[Record]:
    """The inverse of `pack`.

    Raises:
        BaselineError: it is damaged.
    """
    try:
        lines = zlib.decompress(base64.b64decode(text, validate=True)).splitlines() if text else []
        return [decode(line) for line in lines]
    except (ValueError, zlib.error, RecordError) as error:
        raise BaselineError(f"the samples of the baseline are damaged ({error})") from error


def _checksum(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def _fingerprint(environment: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in (environment.get("fingerprint") or {}).items()}


def _moment(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 time; 0 for none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def _who() -> str:
    """The user's name; containers often have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
