"""Measuring for a gate: exact counts under two hash seeds, and pairs of launches in which two code bases take turns.

Everything goes into a run directory like any other run's. The base's side of a case bears its variant's name with
`@base` behind it, so that both sides are variants of one group.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from t2bench.meters import environment as env
from t2bench.records import PROTOCOL, Record, write_atomically
from t2bench.runner import directory as run_directory
from t2bench.runner import passes
from t2bench.runner.codebase import CodeBase
from t2bench.runner.execute import write_token_files
from t2bench.runner.journal import Journal
from t2bench.runner.launcher import Launcher, launcher
from t2bench.runner.machine import GIB, MEMORY_SHARE, SETUP_TIMEOUT_S
from t2bench.runner.observer import Observer
from t2bench.runner.options import default_isolation
from t2bench.runner.recording import Recorder
from t2bench.runner.turns import Bench, Side, measure_launch
from t2bench.spec.case import Case, Plan
from t2bench.spec.loader import dump_suite
from t2bench.spec.plugin import Plugin
from t2bench.spec.suite import Suite

BASE_SUFFIX = "@base"
HASH_SEEDS = ("1", "2")
# What a gate runs for real on a CPU; a larger step is counted on fake tensors alone, which is exact as well. The limits
# are fixed numbers, so that every machine counts the same cases in the same way.
REAL_STEP_FLOPS = 2e10
REAL_STEP_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class GateOptions:
    """How to measure for a gate.

    Attributes:
        path: run directory, new or empty.
        threads: threads of each worker; None for all allowed physical cores but one.
        data: folder with text files; None for the text that ships with Python.
        isolation: `fork` or `spawn`.
        plants: case id -> a known defect of our side, for self-tests.
        swapped: case id -> attention back end that runs instead of the declared one, for self-tests.
        argv: the command line, for the record.
        plugins: a user's code that workers may import.
    """

    path: Path
    threads: int | None = None
    data: Path | None = None
    isolation: str = field(default_factory=default_isolation)
    plants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    swapped: Mapping[str, str] = field(default_factory=dict)
    argv: tuple[str, ...] = ()
    plugins: tuple[Plugin, ...] = ()


def base_of(case: Case, payload: Mapping[str, Any]) -> Case:
    """The base's side of a case: its label, and what of the base's own model the runner must know."""
    try:
        theirs = Case.from_dict(payload)
    except (TypeError, ValueError):  # its code describes models otherwise than ours; ours names the case as well
        theirs = case
    return replace(theirs, variant=case.variant + BASE_SUFFIX, ghost=False)


class GateJob:
    """One gate run's measurements, as a context: on leaving, all workers are gone and the run directory is complete.

    Args:
        suite: the candidate's suite, resolved.
        plan: its expansion; ghosts are left out.
        base: the base's code; None if it is ours.
        base_cases: case id of the candidate -> the base's case that it is paired with, as that code describes it.
        options: how to measure.
        observer: told what happens.

    Raises:
        OptionError: `data` holds no usable text.
        DirectoryError: the run directory cannot be used.
        WorkerFailed: no worker can be started.
    """

    def __init__(
        self,
        suite: Suite,
        plan: Plan,
        base: CodeBase | None,
        base_cases: Mapping[str, Mapping[str, Any]],
        options: GateOptions,
        observer: Observer,
    ) -> None:
        self.suite, self.options, self.observer = suite, options, observer
        self.cases = tuple(case for case in plan.cases if not case.ghost)
        self.refusals = plan.refusals
        self.base = base
        self.bases = {case.id: base_of(case, base_cases[case.id]) for case in self.cases if case.id in base_cases}
        self._payloads = base_cases
        self._threads = options.threads or env.default_threads()
        self._peaks: dict[str, float] = {}
        self._launchers: dict[str | None, tuple[Launcher, Launcher]] = {}
        self.records: list[Record] = []
        self.environment: dict[str, Any] = {}

    def __enter__(self) -> GateJob:
        path = self.options.path
        if path.exists() and any(path.iterdir()):
            raise run_directory.DirectoryError(f"{path}: not empty; choose a new directory")
        with contextlib.ExitStack() as stack:
            self._stack = stack
            self._journal = self._stack.enter_context(Journal(path))
            scratch = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="t2bench-")))
            plan = Plan(cases=self.cases, refusals=(), reference=self.suite.reference)
            self._tokens, data = write_token_files(plan, self.options.data, scratch)
            self._describe(self._workers(HASH_SEEDS[0])[0], data)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:  # workers end also where the disk is full
            self._save(finished=kind is None)

    def _workers(self, hash_seed: str | None = None) -> tuple[Launcher, Launcher]:
        """Launchers of our side and of the base's, started on first need and kept: an idle fork server costs nothing.

        Args:
            hash_seed: of Python's hashes in the workers; None for a seed of chance.
        """
        if hash_seed not in self._launchers:
            seeded = {} if hash_seed is None else {"PYTHONHASHSEED": hash_seed}
            environment = {**env.worker_environment(self._threads), **seeded}
            ours = launcher(self.options.isolation, environment)
            self._stack.callback(ours.close)
            theirs = ours
            if self.base is not None:
                theirs = launcher(self.options.isolation, environment, self.base)
                self._stack.callback(theirs.close)
            self._launchers[hash_seed] = (ours, theirs)
        return self._launchers[hash_seed]

    def _describe(self, ours: Launcher, data: Mapping[str, Any]) -> None:
        worker = ours.start()
        self._setup = {
            "device": self.suite.device,
            "threads": self._threads,
            "memory_limit_bytes": None,
            "plugins": [plugin.to_dict() for plugin in self.options.plugins],
        }
        try:
            worker.ask({"op": "configure", **self._setup}, SETUP_TIMEOUT_S)
            answer = worker.ask({"op": "runtime"}, SETUP_TIMEOUT_S)
        finally:
            worker.close()
        stated, available = self.suite.limits.memory_gib, answer["available_bytes"]
        self._limit_bytes = int(GIB * stated if stated is not None else MEMORY_SHARE * (available or 0))
        host, path = env.host(), self.options.path
        groups: dict[str, list[str]] = {}
        for case in [*self.cases, *self.bases.values(), *(refusal.case for refusal in self.refusals)]:
            groups.setdefault(case.group, []).append(case.id)
        self.environment = {
            "run": f"{path.parent.name}/{path.name}",
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "suite": self.suite.resolved,
            "protocol": PROTOCOL,
            "device": self.suite.device,
            "host": host,
            "torch": answer["runtime"],
            "fingerprint": env.fingerprint(host, answer["runtime"]),
            "isolation": self.options.isolation,
            "data": dict(data),
            "argv": list(self.options.argv),
            "base": None if self.base is None else self.base.words,
            "plan": {"groups": groups},
        }
        self._began = time.monotonic()
        write_atomically(path / "suite.yaml", dump_suite(self.suite))
        self._save(finished=False)

    def _save(self, *, finished: bool) -> None:
        ended = time.strftime("%Y-%m-%dT%H:%M:%S%z") if finished else None
        self.environment |= {"wall_s": time.monotonic() - self._began, "finished": ended}
        run_directory.write_environment(self.options.path, self.environment)

    def _bench(self, ours: Launcher, theirs: Launcher, *, rounds: int | None = None) -> Bench:
        sides: dict[str, Side] = {}
        for case in self.cases:
            plant = self.options.plants.get(case.id, {})
            if case.id in self.options.swapped:
                model = {**case.to_dict()["model"], "attention": self.options.swapped[case.id]}
                sides[case.id] = Side(case={**case.to_dict(), "model": model}, plant=plant)
            elif plant:
                sides[case.id] = Side(plant=plant)
        for name, case in self.bases.items():
            sides[case.id] = Side(launcher=theirs, case=self._payloads[name])
        measure = self.suite.measure
        if rounds is not None:
            room = max(1, measure.max_rounds // measure.rounds)
            measure = replace(measure, rounds=rounds, max_rounds=room * rounds)
        return Bench(
            launcher=ours,
            setup=self._setup,
            tokens=self._tokens,
            measure=measure,
            limits=self.suite.limits,
            recorder=Recorder(str(self.environment["run"])),
            seed=self.suite.seed,
            sides=sides,
        )

    def _append(self, *unit: Record) -> None:
        self._journal.append(unit)
        for record in unit:
            self.records.append(record)
            self.observer.recorded(record)

    def count(self) -> None:
        """Predict and count every case of both sides, once per hash seed; check the candidate's truth once."""
        for number, seed in enumerate(HASH_SEEDS):
            ours, theirs = self._workers(seed)
            bench = self._bench(ours, theirs)
            if number == 0:
                for refusal in self.refusals:
                    self._append(passes.refused(bench, refusal))
            self._count_side(bench, self.cases, number)
            self._count_side(replace(bench, launcher=theirs), tuple(self.bases.values()), number)

    def _count_side(self, bench: Bench, cases: Sequence[Case], number: int) -> None:
        rates = {str(case.dtype): {"flops_per_s": 1.0, "bytes_per_s": 1.0} for case in cases}
        truth = passes.TruthKeeper(bench)
        with passes.Predictor(bench, rates, 1 << 62) as predictor:
            for done, case in enumerate(cases):
                self.observer.working(f"counting {case.id} (hash seed {HASH_SEEDS[number]})", done, len(cases), None)
                predicted = replace(predictor.predict(case), launch=number)
                self._append(predicted)
                if predicted.status != "ok":
                    continue
                values = {name: metric.value or 0.0 for name, metric in predicted.metrics.items()}
                self._peaks[case.id] = values["tracked_peak_bytes"]
                if not self._is_small(values):
                    continue
                if number == 0 and case in self.cases and self.suite.measure.truth:
                    checked = truth.check(case)
                    self._append(checked)
                    if checked.status != "ok":
                        continue
                self._append(replace(passes.count(bench, case), launch=number))

    def _is_small(self, predicted: Mapping[str, float]) -> bool:
        if self.suite.device != "cpu":
            return predicted["tracked_peak_bytes"] <= self._limit_bytes
        return predicted["executed_flops"] <= REAL_STEP_FLOPS and predicted["tracked_peak_bytes"] <= REAL_STEP_BYTES

    def pairs(self, names: Sequence[str], launches: Sequence[int], *, rounds: int, memory: bool) -> None:
        """Measure pairs of launches: candidate and base warm side by side, taking turns.

        Args:
            names: case ids of the candidate, all with a base.
            launches: numbers of the launches; a launch is measured for all cases before the next begins.
            rounds: turns of each side.
            memory: weigh both sides too, each in a process of its own.
        """
        ours_by_id = {case.id: case for case in self.cases}
        bench = self._bench(*self._workers(), rounds=rounds)
        for number, launch in enumerate(launches):
            for done, name in enumerate(names):
                pair = [ours_by_id[name], self.bases[name]]
                place = (number * len(names) + done, len(launches) * len(names), None)
                together = passes.fits_together(pair, self._peaks, self._limit_bytes)
                mode = "token" if together else "launches"
                watch = lambda what, place=place: self.observer.working(what, *place)  # noqa: E731
                records, _ = measure_launch(bench, pair, launch, interleave=mode, watch=watch)
                if memory:
                    # Who is weighed first changes from launch to launch.
                    order = pair if launch % 2 else pair[::-1]
                    records += [replace(passes.weigh(bench, case), launch=launch) for case in order]
                self._append(*records)
