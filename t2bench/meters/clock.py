"""Clocks: how long one turn takes, and each phase of it.

A turn runs the step a number of times back to back and reads the average. The garbage collector runs before it and is
off inside. A step marks the end of each of its phases through a callback; on a GPU each mark records an event on the
stream and all are read after a single synchronisation at the end, so that marking costs nothing the device waits for.

No profiler, counter or memory history may be active during a turn.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch

Mark = Callable[[str], None]
Step = Callable[[Mark], Any]
CachePolicy = Literal["as_is", "cold"]

# What the L2 cache holds when a sample begins. Whole-model steps are measured as training meets it: whatever the step
# before left there. `cold` suits single operators, which a warm cache flatters.
CACHE_POLICY: CachePolicy = "as_is"

EVENT_RESOLUTION_S = 0.5e-6  # of a CUDA event pair, as documented for cudaEventElapsedTime
SAMPLE_RESOLUTIONS = 1000  # a sample is at least this many times as long as the clock's resolution
MAX_CALLS = 1_000_000
_HEAD_START_CYCLES = (
    1_000_000  # the device spins this long (about 0.5 ms), so that the host has issued the step by then
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """One turn, read.

    Attributes:
        step_time_s: seconds per step by the clock that counts (CPU: wall; CUDA: device).
        phase_times_s: phase -> seconds per step; the phases add up to the step.
        wall_s: wall-clock seconds of the whole turn, synchronisation included.
        issue_s: seconds until the host had issued the whole turn; None on a CPU, where issuing is doing.
        start_s: when the turn began, in seconds after the clock's origin.
        calls: steps in the turn.
    """

    step_time_s: float
    phase_times_s: dict[str, float]
    wall_s: float
    issue_s: float | None
    start_s: float
    calls: int

    @property
    def host_bound(self) -> bool:
        """The device waited for the host: the number says more about Python than about the GPU."""
        if self.issue_s is None:
            return False
        device_s = self.step_time_s * self.calls
        return self.wall_s > 1.1 * device_s or self.issue_s >= device_s


class Clock(Protocol):
    """What a worker needs of a clock."""

    resolution_s: float

    def turn(self, step: Step, calls: int, phases: Sequence[str]) -> Timing:
        """Run `step` `calls` times; it must mark exactly `phases`, in order, in each call.

        Raises:
            ValueError: the step marked something else.
        """
        ...


class _Marks:
    """The marks of one turn: what `read()` returns at each, in order."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self.readings: list[Any] = []
        self.names: list[str] = []
        self._read = read

    def __call__(self, phase: str) -> None:
        self.readings.append(self._read())
        self.names.append(phase)

    def check(self, phases: Sequence[str], calls: int) -> None:
        if self.names != list(phases) * calls:
            first = self.names[: len(phases) + 1]
            raise ValueError(f"the step must mark {list(phases)} once per call, in order; it marked {first}")


class CpuClock:
    """Wall clock for work on the CPU: `time.perf_counter_ns`.

    Args:
        origin_s: the `time.perf_counter()` value that `start_s` counts from; the processes of a machine share that
            clock. By default the moment of construction.
    """

    def __init__(self, origin_s: float | None = None) -> None:
        self.origin_s = time.perf_counter() if origin_s is None else origin_s
        self.resolution_s = max(time.get_clock_info("perf_counter").resolution, 1e-7)

    def turn(self, step: Step, calls: int, phases: Sequence[str]) -> Timing:
        """See Clock."""
        mark = _Marks(time.perf_counter_ns)
        with _quiet_collector():
            begin = time.perf_counter_ns()
            for _ in range(calls):
                step(mark)
            end = time.perf_counter_ns()
        mark.check(phases, calls)
        spans = [(b - a) * 1e-9 for a, b in zip([begin, *mark.readings], mark.readings, strict=False)]
        return Timing(
            # to the last mark: what follows it is the return from Python calls
            step_time_s=sum(spans) / calls,
            phase_times_s=_average(spans, phases, calls),
            wall_s=(end - begin) * 1e-9,
            issue_s=None,
            start_s=begin * 1e-9 - self.origin_s,
            calls=calls,
        )


class CudaClock:
    """Device clock: CUDA events on the current stream, one synchronisation per turn; also wall and issue time.

    Args:
        device: the CUDA device.
        cache: `as_is`, or `cold`: before every call, and outside the measured span, a buffer of twice the L2 cache is
            written and the device spins for a moment, so that the host runs ahead and the start event is not followed
            by idling.
        origin_s: as for CpuClock.
    """

    def __init__(
        self, device: torch.device, *, cache: CachePolicy = CACHE_POLICY, origin_s: float | None = None
    ) -> None:
        import torch

        self.origin_s = time.perf_counter() if origin_s is None else origin_s
        self.resolution_s = EVENT_RESOLUTION_S
        self.cache = cache
        self._cuda = torch.cuda
        self._device = device
        self._flush: torch.Tensor | None = None
        if cache == "cold":
            l2_bytes = torch.cuda.get_device_properties(device).L2_cache_size
            self._flush = torch.empty(2 * l2_bytes, dtype=torch.int8, device=device)

    def turn(self, step: Step, calls: int, phases: Sequence[str]) -> Timing:
        """See Clock."""
        mark = _Marks(self._record)
        starts = []
        with _quiet_collector():
            self._cuda.synchronize(self._device)
            begin = time.perf_counter_ns()
            for index in range(calls):
                if self._flush is not None:
                    self._cool_down()
                if self._flush is not None or index == 0:
                    starts.append(self._record())
                step(mark)
            issued = time.perf_counter_ns()
            self._cuda.synchronize(self._device)
            end = time.perf_counter_ns()
        mark.check(phases, calls)
        spans = [1e-3 * a.elapsed_time(b) for a, b in _pairs(starts, mark.readings, len(phases))]
        return Timing(
            step_time_s=sum(spans) / calls,
            phase_times_s=_average(spans, phases, calls),
            wall_s=(end - begin) * 1e-9,
            issue_s=(issued - begin) * 1e-9,
            start_s=begin * 1e-9 - self.origin_s,
            calls=calls,
        )

    def _record(self) -> torch.cuda.Event:
        event: torch.cuda.Event = self._cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _cool_down(self) -> None:
        assert self._flush is not None
        self._flush.zero_()
        self._cuda._sleep(_HEAD_START_CYCLES)  # type: ignore[no-untyped-call]


class FakeClock:
    """A clock for tests: every step is run, but takes the time its script says.

    Args:
        durations_s: seconds per step of successive turns; the last one repeats.
    """

    def __init__(self, durations_s: Sequence[float]) -> None:
        self.resolution_s = 1e-9
        self._durations_s = list(durations_s)
        self._now_s = 0.0
        self.turns: list[int] = []  # calls of each turn, as asked

    def turn(self, step: Step, calls: int, phases: Sequence[str]) -> Timing:
        """See Clock; the phases share the step's time equally."""
        mark = _Marks(lambda: None)
        for _ in range(calls):
            step(mark)
        mark.check(phases, calls)
        step_time_s = self._durations_s[min(len(self.turns), len(self._durations_s) - 1)]
        self.turns.append(calls)
        start_s, self._now_s = self._now_s, self._now_s + step_time_s * calls
        return Timing(
            step_time_s=step_time_s,
            phase_times_s={phase: step_time_s / len(phases) for phase in phases},
            wall_s=step_time_s * calls,
            issue_s=None,
            start_s=start_s,
            calls=calls,
        )


def make_clock(device: str, *, cache: CachePolicy = CACHE_POLICY, origin_s: float | None = None) -> Clock:
    """The clock for a kind of device, `cpu` or `cuda` (or `cuda:1`)."""
    if not device.startswith("cuda"):
        return CpuClock(origin_s)
    import torch

    return CudaClock(torch.device(device), cache=cache, origin_s=origin_s)


def calibrate_calls(clock: Clock, step: Step, phases: Sequence[str], *, min_sample_s: float) -> int:
    """Steps per turn so that a sample lasts `min_sample_s` and SAMPLE_RESOLUTIONS times the clock's resolution.

    Returns:
        1 for a step that is long enough by itself, as a model's usually is.
    """
    needed_s = max(min_sample_s, SAMPLE_RESOLUTIONS * clock.resolution_s)
    calls = 1
    while calls < MAX_CALLS:
        timing = clock.turn(step, calls, phases)
        if timing.step_time_s * calls >= needed_s:
            break
        # at least doubled, at most tenfold: the first, slow calls must not end the search early
        growth = needed_s / max(timing.step_time_s * calls, clock.resolution_s)
        calls = min(MAX_CALLS, max(2 * calls, min(10 * calls, round(1.1 * growth * calls))))
    return calls


def settle() -> None:
    """Call once when everything is built: what is alive now need not be searched for garbage before every turn.

    Without it a collection takes 0.1 s in a process that has imported torch; with it, next to nothing.
    """
    gc.collect()
    gc.freeze()


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """Collect garbage now and not inside."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _pairs(starts: list[Any], ends: list[Any], num_phases: int) -> Iterator[tuple[Any, Any]]:
    """The events around each phase: a phase starts where the one before ended, or at its call's own start event."""
    for index, end in enumerate(ends):
        call, phase = divmod(index, num_phases)
        own_start = phase == 0 and call < len(starts)
        yield (starts[call] if own_start else ends[index - 1]), end


def _average(spans: list[float], phases: Sequence[str], calls: int) -> dict[str, float]:
    """Seconds per step of each phase, from the spans of all calls in time order."""
    return {phase: sum(spans[index :: len(phases)]) / calls for index, phase in enumerate(phases)}
