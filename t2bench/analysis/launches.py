"""What the records of the time pass say, as arrays: one `LaunchSamples` per case, launch and metric."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2bench.analysis.stats import Floats
from t2bench.records import Record

# Statuses whose samples are kept: the run was measured, with a blemish that is reported.
MEASURED = ("ok", "not_steady", "throttled")
STEP_TIME = "step_time_s"
RATE = "tokens_per_s"
# Turns are only judged by their clean samples while at least this share of them is clean.
CLEAN_SHARE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class LaunchSamples:
    """The samples of one metric in one launch of one case, in time order.

    Attributes:
        values: positive, finite samples; others (null in the journal) are left out here and in the other columns.
        turns: (round, how often this round came before) of each sample: what pairs samples of different variants.
        clean: False where the sample was contended.
        starts_s: start offsets; empty if they were not recorded.
        in_turns: variants took turns, so that equal rounds are neighbours in time; False where one variant's rounds
            all came before the next one's, for want of memory.
    """

    launch: int
    values: Floats
    turns: tuple[tuple[int, int], ...]
    clean: NDArray[np.bool_]
    starts_s: Floats
    in_turns: bool = True

    @property
    def enough_clean(self) -> bool:
        """Whether the clean samples alone may speak for the launch."""
        return bool(self.clean.any()) and float(self.clean.mean()) >= CLEAN_SHARE

    @property
    def used(self) -> Floats:
        """The samples behind the launch median: the clean ones, or all where clean ones are too few."""
        return self.values[self.clean] if self.enough_clean else self.values

    @property
    def median(self) -> float:
        """The launch's value."""
        return float(np.median(self.used))


def launches_of(records: Iterable[Record], metric: str) -> tuple[LaunchSamples, ...]:
    """The launches of one case's time records that hold samples of `metric`, by launch number.

    A metric that was not sampled but has a value counts as one sample. A launch recorded twice (after a resume) keeps
    the later record.
    """
    found: dict[int, LaunchSamples] = {}
    for record in records:
        if record.pass_ != "time" or record.status not in MEASURED or metric not in record.metrics:
            continue
        entry = record.metrics[metric]
        samples = entry.samples if entry.samples else (entry.value,)
        launch = _launch(record, samples)
        if launch.values.size:
            found[record.launch] = launch
    return tuple(found[number] for number in sorted(found))


def tokens_of(records: Iterable[Record]) -> int | None:
    """Tokens of one step of a case; None if no time record holds both the rate and the time that it came from."""
    for record in records:
        rate, step = record.metrics.get(RATE), record.metrics.get(STEP_TIME)
        if record.pass_ == "time" and rate and step and rate.value and step.value:
            return round(rate.value * step.value)
    return None


def rates_of(launches: Iterable[LaunchSamples], tokens: int) -> tuple[LaunchSamples, ...]:
    """Tokens per second of each launch: those of its step time, so that the two say the same."""
    return tuple(
        LaunchSamples(
            launch=launch.launch,
            values=np.array([tokens / launch.median]),
            turns=((0, 0),),
            clean=np.ones(1, dtype=np.bool_),
            starts_s=np.array([], dtype=np.float64),
            in_turns=launch.in_turns,
        )
        for launch in launches
    )


def _launch(record: Record, samples: Sequence[float | None]) -> LaunchSamples:
    turns = record.turns
    rounds = _column(turns, "round", len(samples), list(range(len(samples))))
    contended = _column(turns, "contended", len(samples), [False] * len(samples))
    starts = _column(turns, "start_s", len(samples), [])
    kept = [i for i, v in enumerate(samples) if v is not None and math.isfinite(v) and v > 0]
    seen: dict[int, int] = {}
    keys: list[tuple[int, int]] = []
    for round_ in rounds:
        keys.append((round_, seen.get(round_, 0)))
        seen[round_] = seen.get(round_, 0) + 1
    return LaunchSamples(
        launch=record.launch,
        values=np.array([samples[i] for i in kept], dtype=np.float64),
        turns=tuple(keys[i] for i in kept),
        clean=np.array([not contended[i] for i in kept], dtype=np.bool_),
        starts_s=np.array([starts[i] for i in kept] if starts else [], dtype=np.float64),
        in_turns=record.observed.get("interleave") != "launches",
    )


def _column(turns: Mapping[str, Sequence[Any]], name: str, size: int, default: list[Any]) -> list[Any]:
    """A column of `turns` if it is there and parallel to the samples."""
    column = turns.get(name, ())
    return list(column) if len(column) == size else default
