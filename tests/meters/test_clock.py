"""Clocks, without asserting how long anything took."""

import gc

import pytest

from t2bench.meters import clock as clocks
from t2bench.meters.clock import CpuClock, FakeClock, Timing, calibrate_calls, make_clock

PHASES = ("forward", "backward")


class Step:
    """Marks its phases and keeps a log."""

    def __init__(self, marks: tuple[str, ...] = PHASES) -> None:
        self.marks = marks
        self.calls = 0
        self.collector_on: list[bool] = []

    def __call__(self, mark: clocks.Mark) -> None:
        self.calls += 1
        self.collector_on.append(gc.isenabled())
        for name in self.marks:
            mark(name)


class Script:
    """Replaces perf_counter_ns: each reading takes the next value."""

    def __init__(self, readings: list[int]) -> None:
        self._readings = iter(readings)

    def __call__(self) -> int:
        return next(self._readings)


def test_cpu_clock_averages_calls_and_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    s = 1_000_000_000
    # begin, then (forward, backward) of two calls, then end
    monkeypatch.setattr(clocks.time, "perf_counter_ns", Script([10 * s, 11 * s, 14 * s, 17 * s, 18 * s, 20 * s]))

    timing = CpuClock(origin_s=4.0).turn(Step(), 2, PHASES)

    assert timing.phase_times_s == pytest.approx({"forward": (1 + 3) / 2, "backward": (3 + 1) / 2})
    assert timing.step_time_s == pytest.approx(4.0)
    assert timing.wall_s == pytest.approx(10.0)
    assert timing.start_s == pytest.approx(6.0)
    assert timing.issue_s is None
    assert not timing.host_bound


def test_collector_is_off_inside_only() -> None:
    step = Step()
    CpuClock().turn(step, 3, PHASES)
    assert step.calls == 3
    assert step.collector_on == [False] * 3
    assert gc.isenabled()


def test_collector_returns_after_a_failing_step() -> None:
    def fails(mark: clocks.Mark) -> None:
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        CpuClock().turn(fails, 1, PHASES)
    assert gc.isenabled()


@pytest.mark.parametrize("marks", [("forward",), ("backward", "forward"), ("forward", "backward", "optimizer"), ()])
def test_a_step_must_mark_its_phases(marks: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="must mark"):
        CpuClock().turn(Step(marks), 2, PHASES)


def test_fake_clock_follows_its_script() -> None:
    clock, step = FakeClock([2.0, 1.0]), Step()
    timings = [clock.turn(step, calls, PHASES) for calls in (1, 2, 1)]
    assert [t.step_time_s for t in timings] == [2.0, 1.0, 1.0]
    assert [t.start_s for t in timings] == [0.0, 2.0, 4.0]
    assert step.calls == 4


@pytest.mark.parametrize(("step_s", "expected"), [(0.02, 1), (0.01, 1), (0.004, 3)])
def test_calls_fill_the_sample(step_s: float, expected: int) -> None:
    calls = calibrate_calls(FakeClock([step_s]), Step(), PHASES, min_sample_s=0.01)
    assert calls >= expected
    assert calls * step_s >= 0.01
    assert calls <= 2 * expected


def test_a_sample_is_a_thousand_resolutions_long() -> None:
    clock = FakeClock([1e-6])
    clock.resolution_s = 1e-5
    assert calibrate_calls(clock, Step(), PHASES, min_sample_s=1e-6) * 1e-6 >= 1e-2


def test_a_slow_first_call_does_not_end_the_search() -> None:
    clock = FakeClock([0.005, 0.0001])
    calls = calibrate_calls(clock, Step(), PHASES, min_sample_s=0.01)
    assert calls * 0.0001 >= 0.01


def test_host_bound() -> None:
    def timing(device_s: float, wall_s: float, issue_s: float) -> Timing:
        return Timing(step_time_s=device_s / 2, phase_times_s={}, wall_s=wall_s, issue_s=issue_s, start_s=0.0, calls=2)

    assert not timing(1.0, 1.05, 0.3).host_bound
    assert timing(1.0, 1.2, 0.3).host_bound
    assert timing(1.0, 1.05, 1.0).host_bound


def test_make_clock_chooses_by_device() -> None:
    assert isinstance(make_clock("cpu"), CpuClock)
    assert clocks.CACHE_POLICY == "as_is"
