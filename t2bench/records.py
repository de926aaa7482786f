"""Records: what a case's launch left behind, one JSON line each, and the run directory that holds them.

A run directory holds `suite.yaml` (resolved), `environment.json`, `records.jsonl`, `report.md`, `report.html`.
`records.jsonl` is append-only: one line a record, each with a checksum and fsynced before the next begins, so a kill at
any moment loses at most the record being written. Everything else (frames, tables, reports) is derived from it.

No torch here: anyone can read a run on a laptop without it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import pandas

SCHEMA = 1
PROTOCOL = 1  # the way of measuring; numbers of different protocols are not comparable

# Everything else that is measured or counted is a cost: time, bytes, FLOPs, joules, parameters.
HIGHER_IS_BETTER = frozenset(
    {
        *("tokens_per_s", "mfu", "max_context_tokens"),
        *("bleu", "chrf", "chrfpp", "exact_match", "val_bleu", "val_chrf"),
        *("train_tokens_per_s", "train_tokens_per_cpu_s", "decode_sentences_per_s"),
    }
)

Status = Literal[
    "ok",
    "oom",
    "timeout",
    "crashed",
    "unsupported",
    "wrong_numerics",
    "wrong_backend",
    "not_steady",
    "throttled",
    "diverged",
    "skipped",
    "error",
]
STATUSES: tuple[str, ...] = get_args(Status)

# plan: predicted without running. truth: checks before speed. counters, memory, time: one launch each. quality: one
# training with a seed of its own (the launch is the place of the seed), and the translations judged after it.
Pass = Literal["plan", "truth", "counters", "memory", "time", "quality"]


class RecordError(Exception):
    """A run directory or record file cannot be used; the message says which, where and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One measured or counted quantity.

    Attributes:
        value: the summary (for samples: their median); None if it could not be measured.
        unit: `s`, `bytes`, `flops`, `tokens/s`, `1`, ...; the metric's name ends in it where it can (`step_time_s`).
        samples: raw values in time order, all of them, when the metric was sampled.
    """

    value: float | None
    unit: str
    samples: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What one pass of one case's launch left behind.

    Attributes:
        run: run id.
        case: case id.
        group: group id.
        variant: variant name.
        workload: workload label.
        axes: the matrix point (length, batch, dtype, device, seed, ghost, extras).
        pass_: `plan`, `truth`, `counters`, `memory`, `time` or `quality` (JSON key `pass`).
        launch: 0, 1, ...: the statistical replicate; a launch number is shared by all variants of a group that took
            turns with each other.
        status: see STATUSES.
        reason: why the status is not ok, for a person; empty if ok.
        metrics: name -> Metric.
        turns: parallel to the samples of the sampled metrics: round, position in the round, start offset in seconds,
            and health flags, for example {"round": [0, 1], "position": [2, 0], "start_s": [...], "contended": [...]}.
        observed: facts seen while running: attention back end and kernel names, threads, flush_denormal,
            interleave mode, warm-up series, checksum.
    """

    run: str
    case: str
    group: str
    variant: str
    workload: str
    axes: Mapping[str, Any]
    pass_: Pass
    launch: int
    status: Status
    reason: str = ""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    turns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    observed: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes a record unique within a run: (case, pass, launch)."""
        return (self.case, self.pass_, self.launch)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary; NaN and infinities become null."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        data["pass"] = data.pop("pass_")
        data["metrics"] = {
            name: {k: v for k, v in dataclasses.asdict(metric).items() if not (k == "samples" and v is None)}
            for name, metric in self.metrics.items()
        }
        cleaned: dict[str, Any] = _finite(data)
        return cleaned

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Record:
        """Rebuild a record from `to_dict`; unknown keys are ignored (a newer writer of the same schema)."""
        values = dict(data)
        values["pass_"] = values.pop("pass")
        values["metrics"] = {
            name: Metric(
                value=m["value"],
                unit=m["unit"],
                samples=None if m.get("samples") is None else tuple(m["samples"]),
            )
            for name, m in values.get("metrics", {}).items()
        }
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in values.items() if k in known})


def _finite(value: Any) -> Any:
    """JSON has no NaN: null stands for what could not be measured."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


def encode(record: Record, part: tuple[int, int] = (0, 1)) -> bytes:
    """One journal line: the record as JSON with a trailing `crc` of everything before it.

    Args:
        record: the record.
        part: (index, count): which part of how many records written together this is.
    """
    data = {**record.to_dict(), "unit": list(part)}
    body = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return f'{body[:-1]},"crc":"{_checksum(body)}"}}\n'.encode("ascii")


def decode(line: bytes) -> Record:
    """The record of one journal line.

    Raises:
        RecordError: torn, altered, foreign or newer than this program.
    """
    try:
        text = line.decode("ascii").rstrip("\r\n")
        body, _, tail = text.rpartition(',"crc":"')
        data = json.loads(body + "}")
        intact = tail == f'{_checksum(body + "}")}"}}'
    except (UnicodeDecodeError, ValueError) as error:
        raise RecordError("not a complete record") from error
    if not isinstance(data, dict) or not intact:
        raise RecordError("checksum does not match")
    if data.get("schema", 0) > SCHEMA:
        raise RecordError(f"schema {data['schema']} is newer than this t2bench reads ({SCHEMA}); update t2bench")
    try:
        return Record.from_dict(data)
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"not a t2bench record ({error})") from error


def unit_of(line: bytes) -> tuple[int, int]:
    """(index, count) of a journal line that `decode` accepted: its place among the records written together."""
    index, count = json.loads(line).get("unit", (0, 1))
    return int(index), int(count)


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode("ascii")).hexdigest()[:16]


def read_lines(path: Path) -> Iterator[tuple[int, Record | RecordError]]:
    """Every line of a journal with its number: a record, or why the line cannot be used."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield number, decode(line)
            except RecordError as error:
                yield number, error


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A run directory, read.

    Attributes:
        path: the directory.
        suite: the resolved suite, as plain data.
        environment: hardware, software, protocol and the fingerprint hashes.
        records: all readable records in the order they were written.
        damage: (line number, reason) of lines that could not be read.
    """

    path: Path
    suite: Mapping[str, Any]
    environment: Mapping[str, Any]
    records: tuple[Record, ...]
    damage: tuple[tuple[int, str], ...] = ()

    @property
    def id(self) -> str:
        """The run's id: suite name and start time."""
        return str(self.environment.get("run", self.path.name))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Run:
        """Read a run directory.

        Raises:
            RecordError: not a run directory, or its environment.json is not what a run leaves behind.
        """
        root = Path(path)
        journal = root / "records.jsonl"
        if not journal.is_file():
            raise RecordError(f"{root}: not a run directory (it has no records.jsonl)")
        records: list[Record] = []
        damage: list[tuple[int, str]] = []
        for number, entry in read_lines(journal):
            if isinstance(entry, RecordError):
                damage.append((number, str(entry)))
            else:
                records.append(entry)
        environment = _read_json(root / "environment.json")
        _check_shapes(root / "environment.json", environment)
        return cls(
            path=root,
            suite=environment.get("suite") or {},
            environment=environment,
            records=tuple(records),
            damage=tuple(damage),
        )

    def frame(self) -> pandas.DataFrame:
        """One row per record and metric (and per sample: see `samples`), matrix axes as columns.

        Columns: run, case, group, variant, workload, pass, launch, status, reason, the axes, metric, value, unit.
        A record without metrics keeps one row with an empty metric, so that no failure disappears.
        """
        import pandas

        rows: list[dict[str, Any]] = []
        for record in self.records:
            base = _columns(record)
            for name, metric in record.metrics.items():
                rows.append({**base, "metric": name, "value": metric.value, "unit": metric.unit})
            if not record.metrics:
                rows.append({**base, "metric": "", "value": None, "unit": ""})
        return pandas.DataFrame(rows)

    def samples(self) -> pandas.DataFrame:
        """One row per raw sample, in time order, with its round, position and health flags."""
        import pandas

        rows: list[dict[str, Any]] = []
        for record in self.records:
            base = _columns(record)
            for name, metric in record.metrics.items():
                for index, value in enumerate(metric.samples or ()):
                    flags = {key: column[index] for key, column in record.turns.items() if index < len(column)}
                    rows.append({**base, "metric": name, "sample": index, "value": value, "unit": metric.unit, **flags})
        return pandas.DataFrame(rows)


def write_atomically(path: Path, text: str) -> None:
    """Write a whole text file in one step: a reader sees the old file or the new one, never half of it.

    Raises:
        OSError: it cannot be written (disk full, read-only); the old file is untouched.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files for their owner only; these are as readable as the journal beside them.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _columns(record: Record) -> dict[str, Any]:
    return {
        "run": record.run,
        "case": record.case,
        "group": record.group,
        "variant": record.variant,
        "workload": record.workload,
        "pass": record.pass_,
        "launch": record.launch,
        "status": record.status,
        "reason": record.reason,
        **record.axes,
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read ({error}); without the file, the records alone are read") from error
    if not isinstance(data, dict):
        raise RecordError(f"{path}: expected a JSON object")
    return data


def _check_shapes(path: Path, environment: Mapping[str, Any]) -> None:
    """Refuse an environment whose suite or plan nobody could read; what is absent or null is fine.

    Raises:
        RecordError: naming file and key.
    """

    def part(holder: Mapping[str, Any], where: str, kind: type, words: str) -> Any:
        value = holder.get(where.rpartition(".")[2])
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise RecordError(f"{path}: {where}: expected {words}, got {json.dumps(value)[:60]}")
        return kind() if value is None else value

    def texts(holder: Mapping[str, Any], where: str) -> None:
        if not all(isinstance(text, str) for text in part(holder, where, list, "a list of strings")):
            raise RecordError(f"{path}: {where}: expected a list of strings")

    suite = part(environment, "suite", dict, "an object")
    part(suite, "suite.reference", str, "a string")
    texts(suite, "suite.ladder")
    part(suite, "suite.limits", dict, "an object")
    part(part(suite, "suite.measure", dict, "an object"), "suite.measure.launches", int, "a whole number")
    for place, variant in enumerate(part(suite, "suite.variants", list, "a list of objects")):
        if not isinstance(variant, dict):
            raise RecordError(f"{path}: suite.variants.{place}: expected an object, got {json.dumps(variant)[:60]}")
        part(variant, f"suite.variants.{place}.name", str, "a string")
        part(variant, f"suite.variants.{place}.model", dict, "an object")
    groups = part(part(environment, "plan", dict, "an object"), "plan.groups", dict, "an object")
    for group in groups:
        if not isinstance(groups[group], list) or not all(isinstance(case, str) for case in groups[group]):
            raise RecordError(f"{path}: plan.groups.{group}: expected a list of case ids")
