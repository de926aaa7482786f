"""What the counting pass says about each case: its state, and the counters that two hash seeds agree on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from t2bench.records import Record

BAD_ORDER = ("plan", "truth", "counters")


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """One case, counted.

    Attributes:
        status: a record status; `ok` only if every pass was.
        reason: why not.
        backends: the attention back ends that really ran; empty where the case is too large to run here.
        real: counted on real tensors; False for fake ones, which give the same numbers but another number of operators.
        values: counter -> integer, those that both hash seeds agree on.
        unstable: counter -> the two values that disagree.
        definition: the case as plain data.
    """

    status: str
    reason: str = ""
    backends: tuple[str, ...] = ()
    real: bool = True
    values: Mapping[str, float] = field(default_factory=dict)
    unstable: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    definition: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "status": self.status,
            "reason": self.reason,
            "backends": list(self.backends),
            "real": self.real,
            "values": {name: _number(value) for name, value in self.values.items()},
            "unstable": {name: list(pair) for name, pair in self.unstable.items()},
            "definition": dict(self.definition),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Counted:
        """The inverse of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: not such data.
        """
        return cls(
            status=str(data["status"]),
            reason=str(data["reason"]),
            backends=tuple(map(str, data["backends"])),
            real=bool(data["real"]),
            values={str(name): float(value) for name, value in data["values"].items()},
            unstable={str(name): (float(a), float(b)) for name, (a, b) in data["unstable"].items()},
            definition=dict(data["definition"]),
        )


def _number(value: float) -> float | int:
    """Counts are integers, and a file shows them as such."""
    return int(value) if float(value).is_integer() else value


def counted_cases(
    records: Iterable[Record], definitions: Mapping[str, Mapping[str, Any]], seeds: int
) -> dict[str, Counted]:
    """Case id -> what was counted.

    Args:
        records: of the counting pass; the launch is the number of the hash seed.
        definitions: case id -> the case as plain data; only these are returned.
        seeds: how many hash seeds there were.
    """
    by_case: dict[str, list[Record]] = {}
    for record in records:
        by_case.setdefault(record.case, []).append(record)
    return {case: _counted(by_case.get(case, ()), definition, seeds) for case, definition in definitions.items()}


def _counted(records: Sequence[Record], definition: Mapping[str, Any], seeds: int) -> Counted:
    bad = min(
        (record for record in records if record.status != "ok" and record.pass_ in BAD_ORDER),
        key=lambda record: (record.launch, BAD_ORDER.index(record.pass_)),
        default=None,
    )
    ran = [record for record in records if record.pass_ == "counters"]
    rounds = [_values(records, number) for number in range(seeds)]
    names = list(dict.fromkeys(name for values in rounds for name in values))
    complete = [name for name in names if all(name in values for values in rounds)]
    unstable = {
        name: (min(seen), max(seen)) for name in complete if len(seen := {values[name] for values in rounds}) > 1
    }
    status, reason = "ok", ""
    if bad is not None:
        status, reason = bad.status, bad.reason
    elif not all(rounds):
        status, reason = "error", "it was not counted"
    return Counted(
        status=status,
        reason=reason,
        backends=tuple(sorted({str(name) for record in ran for name in record.observed.get("backends", ())})),
        real=bool(ran),
        values={name: rounds[0][name] for name in complete if name not in unstable},
        unstable=unstable,
        definition=definition,
    )


def _values(records: Iterable[Record], number: int) -> dict[str, float]:
    """Counters of one hash seed: predicted ones, replaced by real ones where the step was run."""
    found: dict[str, float] = {}
    for record in sorted(records, key=lambda one: one.pass_ == "counters"):
        if record.launch != number or record.pass_ not in ("plan", "counters"):
            continue
        found |= {name: metric.value for name, metric in record.metrics.items() if metric.value is not None}
        if record.observed.get("uncounted"):
            found.pop("executed_flops", None)  # a sum that lacks a term
        if "ops" in record.observed:
            found["ops"] = float(record.observed["ops"])
    return found
