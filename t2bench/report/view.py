"""A run and its analysis, indexed the way reports read them: by series, length and variant."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

from t2bench.analysis.results import Analysis, Effect, Estimate, Interval, Outcome, Rung
from t2bench.records import Record, Run

TIME = "step_time_s"
RATE = "tokens_per_s"
PHASES = ("forward_time_s", "loss_time_s", "backward_time_s", "optimizer_time_s")
SAVED = "saved_for_backward_bytes"
COUNTED_PEAK = "tracked_peak_bytes"
# The first of these that a case has is what "measured" means in a memory table.
MEASURED_PEAKS = ("peak_allocated_bytes", "process_peak_bytes")

_LENGTH = re.compile(r"(?:^|/)L(\d+)(?=/|$)")


def split_group(group: str) -> tuple[str, int]:
    """(series, length) of a group id: `train_step/fp32/L4096` is length 4096 of `train_step/fp32`."""
    found = _LENGTH.search(group)
    if found is None:
        return group, 0
    return (group[: found.start()] + group[found.end() :]).strip("/"), int(found.group(1))


def scaled(value: Interval, factor: float) -> Interval:
    """The interval times a positive factor."""
    low = None if value.low is None else value.low * factor
    high = None if value.high is None else value.high * factor
    return Interval(value=value.value * factor, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class View:
    """A run and its analysis, indexed.

    Attributes:
        run: the run.
        analysis: its analysis.
    """

    run: Run
    analysis: Analysis
    _outcomes: dict[tuple[str, str], Outcome] = field(init=False, repr=False, default_factory=dict)
    _estimates: dict[tuple[str, str, str], Estimate] = field(init=False, repr=False, default_factory=dict)
    _effects: dict[tuple[str, str, str], Effect] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._outcomes.update({(o.group, o.variant): o for o in self.analysis.outcomes})
        self._estimates.update({(e.group, e.variant, e.metric): e for e in self.analysis.estimates})
        self._effects.update({(e.group, e.variant, e.metric): e for e in self.analysis.effects})

    @property
    def reference(self) -> str:
        """The variant that effects are measured against."""
        return self.analysis.reference

    @cached_property
    def ghosts(self) -> tuple[str, ...]:
        """The reference's second names."""
        named = {e.variant for e in self.analysis.effects if e.ghost}
        named |= {r.variant for r in self.run.records if r.axes.get("ghost")}
        named |= {o.variant for o in self.analysis.outcomes if o.variant.endswith("@ghost")}
        return tuple(sorted(named))

    @cached_property
    def variants(self) -> tuple[str, ...]:
        """All variants but the ghosts: the reference first, then in suite order."""
        listed = [str(v.get("name")) for v in self.run.suite.get("variants") or () if isinstance(v, dict)]
        seen = {o.variant for o in self.analysis.outcomes} | {e.variant for e in self.analysis.estimates}
        order = [self.reference, *listed, *(o.variant for o in self.analysis.outcomes), *sorted(seen)]
        return tuple(v for v in dict.fromkeys(order) if v in seen and v not in self.ghosts)

    @cached_property
    def others(self) -> tuple[str, ...]:
        """All variants but the ghosts and the reference."""
        return tuple(v for v in self.variants if v != self.reference)

    @cached_property
    def series(self) -> dict[str, dict[int, str]]:
        """The series that are timed: those whose translations are judged have tables of their own."""
        judged = self.analysis.quality.groups if self.analysis.quality else ()
        return {name: groups for name, groups in self.every_series.items() if not set(groups.values()) & set(judged)}

    @cached_property
    def every_series(self) -> dict[str, dict[int, str]]:
        """Series -> length -> group id, lengths ascending, series in the order they were planned."""
        found: dict[str, dict[int, str]] = {}
        for outcome in self.analysis.outcomes:
            name, length = split_group(outcome.group)
            found.setdefault(name, {})[length] = outcome.group
        return {name: dict(sorted(groups.items())) for name, groups in found.items()}

    def outcome(self, group: str, variant: str) -> Outcome | None:
        """How that case ended; None if it is not part of the run."""
        return self._outcomes.get((group, variant))

    def estimate(self, group: str, variant: str, metric: str = TIME) -> Estimate | None:
        """That case's own value."""
        return self._estimates.get((group, variant, metric))

    def effect(self, group: str, variant: str, metric: str = TIME) -> Effect | None:
        """That variant against the reference."""
        return self._effects.get((group, variant, metric))

    def case(self, group: str, variant: str) -> str:
        """The case id."""
        outcome = self.outcome(group, variant)
        return outcome.case if outcome else f"{group}/{variant}"

    def counted(self, group: str, variant: str, metric: str) -> float | None:
        """A counted value, or the predicted one where the case never got to be counted."""
        case = self.case(group, variant)
        value = self.analysis.counted.get(case, {}).get(metric)
        return self.predicted(group, variant, metric) if value is None else value

    def predicted(self, group: str, variant: str, metric: str) -> float | None:
        """A value predicted before the run."""
        return self.analysis.predicted.get(self.case(group, variant), {}).get(metric)

    def measured_peak(self, group: str, variant: str) -> float | None:
        """The measured peak of memory in bytes."""
        values = self.analysis.measured_memory.get(self.case(group, variant), {})
        return next((values[name] for name in MEASURED_PEAKS if values.get(name) is not None), None)

    @cached_property
    def measured_peak_name(self) -> str:
        """Which metric `measured_peak` is in this run; empty if none was measured."""
        names = {name for values in self.analysis.measured_memory.values() for name in values}
        return next((name for name in MEASURED_PEAKS if name in names), "")

    def per_sequence(self, series: str, variant: str) -> list[tuple[int, Interval]]:
        """(length, seconds for one sequence) wherever that variant was timed."""
        found = []
        for length, group in self.series[series].items():
            estimate = self.estimate(group, variant)
            if estimate is not None:
                found.append((length, scaled(estimate.interval, 1 / self.batch(group, variant))))
        return found

    def batch(self, group: str, variant: str) -> int:
        """Sequences in a step of that case."""
        return int(self._batches.get(self.case(group, variant), 1)) or 1

    @cached_property
    def _batches(self) -> dict[str, int]:
        return {r.case: r.axes["batch"] for r in self.run.records if isinstance(r.axes.get("batch"), int)}

    def dtype(self, group: str, variant: str) -> str:
        """The dtype of that case; empty if no record tells it."""
        return self._dtypes.get(self.case(group, variant), "")

    @cached_property
    def _dtypes(self) -> dict[str, str]:
        return {r.case: str(r.axes["dtype"]) for r in self.run.records if "dtype" in r.axes}

    def broad(self, series: str) -> bool:
        """Whether variants, not lengths, are what the series has many of: its tables then have variants as rows."""
        lengths = len(self.series[series])
        return lengths == 1 or len(self.variants) > lengths

    def of(self, series: str) -> str:
        """` (train_step/fp32)` where the run has several series, else nothing: there is no other to mean."""
        return f" ({series})" if len(self.series) > 1 else ""

    def at(self, series: str, length: int) -> str:
        """`at L=1024`, with the series where there are several."""
        return f"at L={length}{self.of(series)}"

    def rungs(self, series: str) -> list[Rung]:
        """The steps of the ladder in the series' group with the most of them, the largest length of these."""
        found: dict[str, list[Rung]] = {group: [] for group in self.series[series].values()}
        for rung in self.analysis.ladder:
            if rung.effect.metric == TIME and rung.group in found:
                found[rung.group].append(rung)
        return max(reversed(found.values()), key=len, default=[])

    def largest_common(self, series: str, variant: str) -> int | None:
        """The largest length at which variant and reference were compared."""
        lengths = [length for length, group in self.series[series].items() if self.effect(group, variant)]
        return max(lengths, default=None)

    @cached_property
    def timed(self) -> dict[str, tuple[Record, ...]]:
        """Case id -> its records of the time pass, in launch order."""
        found: dict[str, list[Record]] = {}
        for record in self.run.records:
            if record.pass_ == "time":
                found.setdefault(record.case, []).append(record)
        return {case: tuple(sorted(records, key=lambda r: r.launch)) for case, records in found.items()}
