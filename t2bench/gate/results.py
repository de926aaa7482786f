"""What a gate concludes, as plain values. Computing them is the business of the other files; CI artefacts show them.

The exit code is part of the answer: 0 good, 1 a regression is proven (or a case that was ok no longer is), 2 usage,
3 inconclusive, 4 the baseline is missing, stale or of another fingerprint, 5 a measurement failed. Only 0 is green, and
a gate that judged nothing is never 0.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from t2bench.analysis.results import Interval

SCHEMA = 1
REPORT_FILE = "gate.json"

# L0 completeness, L1 exact counters, L2 paired in one job, L3 stored history of one fingerprint.
Layer = Literal["L0", "L1", "L2", "L3"]
LAYERS: tuple[Layer, ...] = get_args(Layer)
LAYER_WORDS: Mapping[str, str] = {
    "L0": "completeness",
    "L1": "exact counters",
    "L2": "paired, measured in turns",
    "L3": "history of this machine",
}

# pass: shown to be no worse than the tolerance allows. fail: proven worse. inconclusive: neither. warn: worth a look,
# never red. missing: in the baseline, not in the candidate (red). new: only in the candidate. improved: an exact
# counter fell; accept it, or the next rise up to the old value goes unseen. demoted: a counter that is not exact here.
# advisory: judged, but not part of the family that decides.
RowVerdict = Literal["pass", "fail", "inconclusive", "warn", "missing", "new", "improved", "demoted", "advisory"]
ROW_VERDICTS: tuple[RowVerdict, ...] = get_args(RowVerdict)
RED: frozenset[str] = frozenset({"fail", "missing"})

Verdict = Literal["pass", "regression", "inconclusive", "baseline", "failed"]
EXIT_CODES: Mapping[str, int] = {"pass": 0, "regression": 1, "inconclusive": 3, "baseline": 4, "failed": 5}


@dataclass(frozen=True, kw_only=True, slots=True)
class GateRow:
    """One metric of one case, judged by one layer.

    Attributes:
        case: case id, for example `train_step/fp32/L128/vanilla`.
        metric: `step_time_s`, `saved_for_backward_bytes`, ...; `status` in L0.
        layer: which layer judged it.
        verdict: see RowVerdict.
        why: one sentence: what was found, and the cause where one is known.
        unit: of `base` and `new`: `s`, `bytes`, `flops`, `tokens/s`, `1`.
        base: the base's value with a 95 % interval where it was measured; None if there is none.
        new: the candidate's value.
        effect: new / base with a 95 % interval, or, for exact counters, without one; None if no ratio exists.
        tolerance: slowdown that is allowed, as a share (0.03 is 3 %); None for exact and L0 rows.
        detect: guaranteed detectable effect beyond the tolerance, as a share.
        mde: excess over the tolerance that this measurement would have found with 90 % power, as a share.
        p_value: one-sided, of "the slowdown is within the tolerance", before Holm's rule.
        num_launches: replicates behind the effect; 0 for exact rows.
        line: line of the case's variant in the suite file, for annotations; 1 where it is not known.
    """

    case: str
    metric: str
    layer: Layer
    verdict: RowVerdict
    why: str = ""
    unit: str = "1"
    base: Interval | None = None
    new: Interval | None = None
    effect: Interval | None = None
    tolerance: float | None = None
    detect: float | None = None
    mde: float | None = None
    p_value: float | None = None
    num_launches: int = 0
    line: int = 1

    @property
    def red(self) -> bool:
        """Whether this row alone makes the gate red."""
        return self.verdict in RED


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerSummary:
    """One layer in one line.

    Attributes:
        layer: which.
        verdict: of the layer; `skipped` if it was not asked for or could not run (then `words` says why).
        words: what it judged, for people.
        num_rows: rows it judged.
        num_red: rows that fail.
    """

    layer: Layer
    verdict: Literal["pass", "fail", "inconclusive", "warn", "skipped"]
    words: str
    num_rows: int = 0
    num_red: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class GateReport:
    """Everything a gate run says.

    Attributes:
        suite: name of the suite.
        suite_path: its file, as the user named it (relative to the repository where possible), for annotations.
        base: what the candidate was held against, in words: a commit, a variant, another torch, a stored baseline.
        candidate: what was judged, in words.
        verdict: of the whole gate.
        exit_code: the process's exit status.
        headline: the verdict in one sentence.
        layers: one line per layer, in order, skipped ones too.
        rows: all rows, red ones first, then inconclusive, then the rest, each in suite order.
        self_check: what the gate knows about itself: the A/A certificate of `calibrate`, hash-seed agreement, ghosts.
        power: what a pass means, in one sentence: "a slowdown of 8 % would have been caught with 90 % probability".
        warnings: about the run as a whole.
        fingerprint: hashes `hw`, `sw`, `proto` of the machine that measured.
        differences: fields in which the baseline's machine or software differs, in words.
        machine: one line: processor or GPU, cores, torch, Python.
        runs: run directories that the rows come from, base first.
        started: ISO 8601 with offset.
        duration_s: wall seconds.
        version: of t2bench.
    """

    suite: str
    suite_path: str
    base: str
    candidate: str
    verdict: Verdict
    exit_code: int
    headline: str
    layers: tuple[LayerSummary, ...] = ()
    rows: tuple[GateRow, ...] = ()
    self_check: tuple[str, ...] = ()
    power: str = ""
    warnings: tuple[str, ...] = ()
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    differences: tuple[str, ...] = ()
    machine: str = ""
    runs: tuple[str, ...] = ()
    started: str = ""
    duration_s: float = 0.0
    version: str = ""
    schema: int = SCHEMA

    @property
    def red(self) -> tuple[GateRow, ...]:
        """The rows that make the gate red."""
        return tuple(row for row in self.rows if row.red)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary, the inverse of `from_dict`; an infinite detectable effect becomes null."""
        text = json.dumps(dataclasses.asdict(self), default=dict)
        plain: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GateReport:
        """Rebuild a report; unknown keys are ignored (a newer writer of the same schema).

        Raises:
            ValueError: not a gate report, or one of a newer schema.
        """
        try:
            if data["schema"] > SCHEMA:
                raise ValueError(f"gate report of schema {data['schema']}; this t2bench reads up to {SCHEMA}")
            values = _known(cls, data)
            values["layers"] = tuple(LayerSummary(**_known(LayerSummary, entry)) for entry in data["layers"])
            values["rows"] = tuple(_row(entry) for entry in data["rows"])
            for name in ("self_check", "warnings", "differences", "runs"):
                values[name] = tuple(data[name])
            return cls(**values)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a gate report ({error})") from error

    def save(self, directory: Path) -> Path:
        """Write `gate.json` into a directory; its path."""
        from t2bench.records import write_atomically

        path = directory / REPORT_FILE
        write_atomically(path, json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        return path

    @classmethod
    def load(cls, path: Path) -> GateReport:
        """Read `gate.json`, or the one in a directory.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not a gate report.
        """
        file = path / REPORT_FILE if path.is_dir() else path
        return cls.from_dict(json.loads(file.read_text(encoding="utf-8")))


def _row(data: Mapping[str, Any]) -> GateRow:
    values = _known(GateRow, data)
    for name in ("base", "new", "effect"):
        values[name] = None if data[name] is None else Interval(**data[name])
    return GateRow(**values)


def _known(cls: type, data: Mapping[str, Any]) -> dict[str, Any]:
    names = {entry.name for entry in dataclasses.fields(cls)}
    return {key: value for key, value in data.items() if key in names}
