"""A pytest plug-in: a fixture that measures one case of a suite inside a test.

    def test_flash_saves_memory(t2bench_case):
        flash = t2bench_case("suites/ci.yaml", "train_step/fp32/L128/vanilla+flash")
        assert flash["saved_for_backward_bytes"] < 20_000_000

A case that does not end ok fails the test; one that is refused by its suite skips it. Where pytest-benchmark is active,
the test is one of its benchmarks: its rounds are the case's launch medians, so `--benchmark-json`,
`--benchmark-compare` and the rest work on them, and `extra_info` holds every other metric and all raw samples.

Loaded in every pytest session of an environment that has t2bench, so nothing is imported here before a test asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from t2bench.analysis.results import Interval
    from t2bench.records import Run

FIXTURE = "t2bench_case"
_PYTEST_BENCHMARK = ("benchmark", "pytest_benchmark.plugin")  # found by itself, and by -p
_CLOCK = pytest.StashKey["_Replay"]()


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What was measured.

    Attributes:
        case: its id.
        run: the run, with all records; `run.path` is its directory.
        intervals: metric -> value with its 95 % interval; counts have no bounds.
    """

    case: str
    run: Run
    intervals: Mapping[str, Interval]

    def __getitem__(self, metric: str) -> float:
        if metric not in self.intervals:
            raise KeyError(f"{self.case} has no {metric}; it has {', '.join(self.intervals)}")
        return self.intervals[metric].value


class _Replay:
    """The clock that pytest-benchmark reads: a pair of readings is as far apart as a launch's median."""

    __name__ = "launch_medians"

    def __init__(self) -> None:
        self._readings: Iterator[float] = iter(())

    def play(self, seconds: Sequence[float]) -> None:
        self._readings = (reading for value in seconds for reading in (0.0, value))

    def __call__(self) -> float:
        return next(self._readings)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Make a test that uses the fixture a benchmark, so that pytest-benchmark's options hold for it."""
    names: list[str] = getattr(item, "fixturenames", [])
    if FIXTURE not in names or not any(map(item.config.pluginmanager.hasplugin, _PYTEST_BENCHMARK)):
        return
    if "benchmark" in names:
        raise pytest.UsageError(f"{item.nodeid}: a test uses {FIXTURE} or benchmark, not both")
    clock = item.stash[_CLOCK] = _Replay()
    before = item.get_closest_marker("benchmark")
    item.add_marker(pytest.mark.benchmark(**{**(before.kwargs if before else {}), "timer": clock}), append=False)
    # Of a test that fails or is skipped before anything was measured, that is no news.
    item.add_marker(pytest.mark.filterwarnings("ignore:Benchmark fixture was not used"))
    names.append("benchmark")


@pytest.fixture
def t2bench_case(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., CaseResult]:
    """Measures a case: `t2bench_case(suite, case, device="cpu", overrides=("measure.rounds=5",))`.

    `suite` is a file (relative to the test's folder, else to pytest's root) or the name of a built-in suite; `case` is
    an id as `t2bench plan SUITE` lists them; `allow_code=True` lets the suite's plugins run. The first case of a test
    is what pytest-benchmark is told. Workers of pytest-xdist measure one at a time; what else they run meanwhile is in
    the numbers, so gate on counts there.
    """
    calls = 0

    def measure(suite: str, case: str, **options: Any) -> CaseResult:
        nonlocal calls
        directory = tmp_path / f"t2bench-{calls}"
        calls += 1
        with _alone(request):
            result = _measure(_suite_path(request, suite), case, directory, **options)
        if calls == 1 and _CLOCK in request.node.stash:
            _tell_pytest_benchmark(request, result)
        return result

    return measure


def _suite_path(request: pytest.FixtureRequest, suite: str) -> str:
    for folder in (request.path.parent, request.config.rootpath):
        if (folder / suite).is_file():
            return str(folder / suite)
    return suite


def _measure(
    suite: str,
    case: str,
    directory: Path,
    *,
    device: str = "auto",
    overrides: Sequence[str] = (),
    allow_code: bool = False,
) -> CaseResult:
    import glob

    from t2bench import api
    from t2bench.analysis.analyse import analyse
    from t2bench.export.measurements import measurements
    from t2bench.runner.launcher import LauncherGone, WorkerFailed
    from t2bench.spec.errors import SuiteErrors

    run, wrong = None, ""
    try:
        run = api.run(
            suite,
            device=device,
            only=glob.escape(case),
            overrides=overrides,
            directory=directory,
            allow_code=allow_code,
        )
    except (SuiteErrors, LauncherGone) as error:
        wrong = str(error)
    except WorkerFailed as error:
        wrong = error.reason
    if run is None:
        pytest.fail(f"t2bench: {wrong}", pytrace=False)
    analysis = analyse(run)
    ending = next((outcome for outcome in analysis.outcomes if outcome.case == case), None)
    if ending is None:
        pytest.fail(
            f"t2bench: {suite} has no case {case}; it matched {[o.case for o in analysis.outcomes]}", pytrace=False
        )
    said = f"t2bench: {case}: {ending.status}: {ending.reason}"
    if ending.status != "ok" and ending.expected:
        pytest.skip(said)
    if ending.status != "ok":
        pytest.fail(said, pytrace=False)
    found = {item.metric: item.interval for item in measurements(run, analysis, ghosts=True) if item.case == case}
    return CaseResult(case, run, found)


def _tell_pytest_benchmark(request: pytest.FixtureRequest, result: CaseResult) -> None:
    from t2bench.analysis.analyse import analyse
    from t2bench.analysis.index import Index
    from t2bench.export.measurements import measurements
    from t2bench.export.pytest_benchmark import STEP_TIME, details

    items = [item for item in measurements(result.run, analyse(result.run), ghosts=True) if item.case == result.case]
    medians = next(item.values for item in items if item.metric == STEP_TIME)
    benchmark: Any = request.getfixturevalue("benchmark")
    request.node.stash[_CLOCK].play(medians)
    benchmark.extra_info["t2bench"] = details(Index(result.run), items)
    benchmark.pedantic(lambda: None, rounds=len(medians), iterations=1, warmup_rounds=0)


def _alone(request: pytest.FixtureRequest) -> AbstractContextManager[None]:
    """Under pytest-xdist, no two workers measure at once."""
    if not hasattr(request.config, "workerinput"):
        return nullcontext()
    base: Path = request.getfixturevalue("tmp_path_factory").getbasetemp().parent
    return _locked(base / "t2bench.lock")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
