"""Warm-up until steady: a pure state machine, fed with the duration of each call.

The rule: windows of w = 5 calls, and warm-up ends when the medians of the last two windows differ by less than 2 %,
after at least `warmup_calls` calls and `warmup_s` seconds. Slow steps need fewer: a window need not be longer than
`warmup_s`, so w = ceil(warmup_s / step), and since the median of fewer calls is noisier they may differ by 5 %. A step
that is longer than `warmup_s` by itself therefore needs two calls. After `warmup_max_s` warm-up ends anyway, and the
result says that it was not steady.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from t2bench.meters.clock import Clock, Step, settle

WINDOW_CALLS = 5
TOLERANCE = 0.02
SHORT_WINDOW_TOLERANCE = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmUpResult:
    """How warm-up ended.

    Attributes:
        series_s: seconds of every warm-up call, in time order: the first call is in it.
        steady: whether the rule was met before time ran out.
        drift: relative difference of the last two windows' medians; None if there were not two windows.
    """

    series_s: tuple[float, ...]
    steady: bool
    drift: float | None


def warm_up(
    clock: Clock, step: Step, phases: Sequence[str], *, min_calls: int, min_s: float, max_s: float
) -> WarmUpResult:
    """Run `step` until the rule says that it is steady, or until `max_s`; arguments as for WarmUp."""
    settle()
    progress = WarmUp(min_calls=min_calls, min_s=min_s, max_s=max_s)
    while not progress.done:
        progress.feed(clock.turn(step, 1, phases).wall_s)
    return progress.result()


class WarmUp:
    """Decides when warm-up ends.

    Example:
        >>> warm_up = WarmUp(min_calls=3, min_s=0.5, max_s=20.0)
        >>> while not warm_up.done:
        ...     warm_up.feed(0.7)
        >>> warm_up.result().steady, len(warm_up.result().series_s)
        (True, 2)

    Args:
        min_calls: calls, at least, unless one call takes longer than `min_s`.
        min_s: seconds, at least.
        max_s: give up after this many seconds.
    """

    def __init__(self, *, min_calls: int, min_s: float, max_s: float) -> None:
        self._min_calls = min_calls
        self._min_s = min_s
        self._max_s = max_s
        self._series_s: list[float] = []
        self._total_s = 0.0

    def feed(self, duration_s: float) -> None:
        """One more call took `duration_s`."""
        self._series_s.append(duration_s)
        self._total_s += duration_s

    @property
    def done(self) -> bool:
        """Whether warm-up is over, steady or not."""
        return self._steady or self._total_s >= self._max_s

    def result(self) -> WarmUpResult:
        """The series and whether it became steady."""
        return WarmUpResult(series_s=tuple(self._series_s), steady=self._steady, drift=self._drift)

    @property
    def _window(self) -> int:
        """Calls per window, from the latest duration: the first calls may be slow for reasons of their own."""
        latest_s = max(self._series_s[-1], 1e-9)
        return min(WINDOW_CALLS, max(1, math.ceil(self._min_s / latest_s)))

    @property
    def _drift(self) -> float | None:
        if not self._series_s:
            return None
        window = self._window
        if len(self._series_s) < 2 * window:
            return None
        last = median(self._series_s[-window:])
        before = median(self._series_s[-2 * window : -window])
        return abs(last - before) / before if before > 0.0 else 0.0

    @property
    def _steady(self) -> bool:
        drift = self._drift
        if drift is None:
            return False
        window = self._window
        enough_calls = len(self._series_s) >= (2 if window == 1 else self._min_calls)
        tolerance = TOLERANCE if window == WINDOW_CALLS else SHORT_WINDOW_TOLERANCE
        return enough_calls and self._total_s >= self._min_s and drift < tolerance
