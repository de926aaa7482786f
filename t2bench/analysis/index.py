"""A run's records, indexed by what was planned: the one place that knows how records name things."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from t2bench.analysis.launches import MEASURED, RATE, STEP_TIME, LaunchSamples, launches_of, rates_of, tokens_of
from t2bench.records import Record, Run
from t2bench.spec.case import GHOST_SUFFIX, LEARNING
from t2bench.spec.model import AXIS_KINDS, ModelSpec

_LENGTH = re.compile(r"(?:^|/)L(\d+)(?=/|$)")


def series_of(group: str) -> tuple[str, int | None]:
    """(series, length) of a group id: `train_step/fp32/L4096` is length 4096 of the series `train_step/fp32`."""
    found = _LENGTH.search(group)
    if found is None:
        return group, None
    return (group[: found.start()] + group[found.end() :]).strip("/"), int(found.group(1))


@dataclass(frozen=True)
class Index:
    """A run by case.

    Attributes:
        run: the run.
    """

    run: Run
    _samples: dict[tuple[str, str], tuple[LaunchSamples, ...]] = field(default_factory=dict, repr=False)

    @cached_property
    def records(self) -> Mapping[str, tuple[Record, ...]]:
        """Case id -> its records; where a resumed run wrote one twice, the later one."""
        found: dict[str, dict[tuple[str, str, int], Record]] = {}
        for record in self.run.records:
            found.setdefault(record.case, {})[record.key] = record
        return {case: tuple(records.values()) for case, records in found.items()}

    @cached_property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Group -> case ids in planned order; cases that were recorded but not planned come last."""
        planned = _mapping(_mapping(self.run.environment.get("plan")).get("groups"))
        found: dict[str, dict[str, None]] = {group: dict.fromkeys(cases) for group, cases in planned.items()}
        for case, records in self.records.items():
            found.setdefault(records[0].group, {}).setdefault(case)
        return {group: tuple(cases) for group, cases in found.items()}

    def variant(self, group: str, case: str) -> str:
        """A case's variant, also when nothing was recorded of it."""
        records = self.records.get(case)
        return records[0].variant if records else case.removeprefix(f"{group}/")

    def is_ghost(self, group: str, case: str) -> bool:
        """Whether the case is the reference measured a second time."""
        records = self.records.get(case)
        if records and "ghost" in records[0].axes:
            return bool(records[0].axes["ghost"])
        return self.variant(group, case).endswith(GHOST_SUFFIX)

    @cached_property
    def reference(self) -> str:
        """The variant that effects are measured against: as the suite says, else the one that a ghost doubles.

        A run without suite and without ghost has the first variant of its records.
        """
        named = self.run.suite.get("reference")
        if named:
            return str(named)
        for group, cases in self.groups.items():
            for case in cases:
                if self.is_ghost(group, case):
                    return self.variant(group, case).removesuffix(GHOST_SUFFIX)
        first = [self.variant(group, case) for group, cases in self.groups.items() for case in cases]
        return first[0] if first else ""

    def variants(self, group: str) -> dict[str, str]:
        """Variant -> case id of a group, in planned order, ghosts included."""
        return {self.variant(group, case): case for case in self.groups[group]}

    @cached_property
    def models(self) -> Mapping[str, ModelSpec]:
        """Variant -> its model spec, as the resolved suite holds it; without those that a newer version described."""
        found: dict[str, ModelSpec] = {}
        for entry in self.run.suite.get("variants") or ():
            if entry.get("name") and entry.get("model") is not None:
                try:
                    found[entry["name"]] = ModelSpec.from_dict(entry["model"])
                except (TypeError, ValueError):
                    continue  # fields or values that this version does not know: its axes are unknown, not wrong
        return found

    def delta(self, variant: str, other: str) -> dict[str, tuple[Any, Any]]:
        """Axes in which a variant differs from another: name -> (other's, its own); empty if either is unknown."""
        if variant not in self.models or other not in self.models:
            return {}
        return self.models[variant].delta(self.models[other])

    def implementation_only(self, variant: str, other: str) -> bool:
        """Whether two variants compute the same function."""
        if variant not in self.models or other not in self.models:
            return False
        return all(AXIS_KINDS[axis] == "implementation" for axis in self.delta(variant, other))

    def launches(self, case: str, metric: str) -> tuple[LaunchSamples, ...]:
        """The case's timed launches that hold `metric`."""
        key = (case, metric)
        if key not in self._samples:
            records = self.records.get(case, ())
            tokens = tokens_of(records) if metric == RATE else None
            if tokens is None:
                self._samples[key] = launches_of(records, metric)
            else:
                self._samples[key] = rates_of(self.launches(case, STEP_TIME), tokens)
        return self._samples[key]

    def time_records(self, case: str) -> list[Record]:
        """The case's records of the time pass that hold data, by launch."""
        found = [r for r in self.records.get(case, ()) if r.pass_ == "time" and r.status in MEASURED]
        return sorted(found, key=lambda record: record.launch)

    @cached_property
    def uncounted(self) -> Mapping[str, tuple[str, ...]]:
        """Case id -> operators that ran without a FLOP formula; cases without any are absent."""
        return {
            case: tuple(map(str, record.observed["uncounted"]))
            for case, records in self.records.items()
            for record in records
            if record.pass_ == "counters" and record.observed.get("uncounted")
        }

    def values(self, case: str, pass_: str, statuses: Iterable[str] = MEASURED) -> dict[str, list[float]]:
        """Metric -> one value per record of a pass; what could not be measured is left out.

        Executed FLOPs are left out, predicted ones too, where an operator has no formula: a sum that lacks a term.
        """
        found: dict[str, list[float]] = {}
        for record in self.records.get(case, ()):
            if record.pass_ == pass_ and record.status in statuses:
                for name, metric in record.metrics.items():
                    if metric.value is not None and not (name == "executed_flops" and case in self.uncounted):
                        found.setdefault(name, []).append(metric.value)
        return found

    def single_values(self, pass_: str, statuses: Iterable[str] = MEASURED) -> dict[str, dict[str, float]]:
        """Case id -> metric -> value of a pass (the median, where it ran more than once); cases without are absent."""
        found = {case: self.values(case, pass_, statuses) for case in self.records}
        return {
            case: {name: float(np.median(values)) for name, values in metrics.items()}
            for case, metrics in found.items()
            if metrics
        }

    def unit(self, case: str, metric: str) -> str:
        """Unit of a case's metric; `1` if it has none."""
        units = (record.metrics[metric].unit for record in self.records.get(case, ()) if metric in record.metrics)
        return next(units, "1")

    @property
    def planned_launches(self) -> int:
        """Launches that the suite asks for; 1 where it does not say."""
        return int(_mapping(self.run.suite.get("measure")).get("launches") or 1)

    @property
    def planned_seeds(self) -> int:
        """Trainings of a quality case that the suite asks for."""
        return int(_mapping(self.run.suite.get("quality")).get("seeds") or self.planned_launches)

    def is_quality(self, group: str) -> bool:
        """Whether the group's cases are judged by what they write, not timed."""
        records = (record for case in self.groups[group] for record in self.records.get(case, ()))
        if any(record.pass_ == "quality" for record in records):
            return True
        return group.partition("/")[0].partition("+")[0] in LEARNING

    def batch(self, case: str) -> int:
        """Sequences per step."""
        return int(self.records[case][0].axes.get("batch", 1))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
