"""Running a suite: plan, then launch after launch of every group, each finished unit on the disk before the next.

Launches are the outer loop and groups the inner one, so a run that is stopped early has all groups with fewer
replicates rather than some groups with all, and the replicates of a group are spread over the whole run.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from t2bench.meters import environment as env
from t2bench.records import PROTOCOL, Record
from t2bench.runner import directory as run_directory
from t2bench.runner import passes
from t2bench.runner.journal import Journal
from t2bench.runner.launcher import Launcher, WorkerFailed, launcher
from t2bench.runner.observer import Observer
from t2bench.runner.recording import Recorder
from t2bench.runner.turns import Bench, measure_launch
from t2bench.spec.case import Case, Plan
from t2bench.spec.suite import Suite
from t2bench.workloads.text import write_tokens

SETUP_TIMEOUT_S = 120.0
MEMORY_SHARE = 0.8  # of what the device has, when the suite states no limit
OVERHEAD_PER_LAUNCH_S = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How to run, as opposed to what.

    Attributes:
        directory: run directory, taken exactly; None chooses `results/<suite>/<time>` or continues an unfinished run.
        fresh: never continue an earlier run.
        only: the selection that made the plan, for the run's identity.
        data: folder with text files; None for the text that ships with Python.
        threads: threads of each worker; None for all allowed physical cores but one.
        isolation: `fork` or `spawn`.
        max_time_s: stop starting launches after this; overrides the suite's limit.
        argv: the command line, for the record.
    """

    directory: Path | None = None
    fresh: bool = False
    only: str | None = None
    data: Path | None = None
    threads: int | None = None
    isolation: str = "fork"
    max_time_s: float | None = None
    argv: tuple[str, ...] = ()


def default_isolation() -> str:
    """`fork` on Linux; `spawn` where forking after importing torch is not known to be safe."""
    return "fork" if sys.platform == "linux" else "spawn"


def execute(suite: Suite, plan: Plan, options: Options, observer: Observer) -> Path:
    """Run a plan, or the part of it that an earlier, interrupted run left.

    Args:
        suite: the resolved suite.
        plan: its expansion.
        options: how to run.
        observer: told what happens.

    Returns:
        The run directory.

    Raises:
        DirectoryError: the run directory cannot be used.
        RunLocked: another process uses it.
        OSError: the disk is full or gone; what was recorded before is intact.
        WorkerFailed: no worker can be started at all.
        FileNotFoundError: `data` holds no text.
        KeyboardInterrupt: interrupted; workers are gone, the journal is complete up to the last finished unit.
    """
    digest = run_directory.suite_digest(suite, options.only)
    path = run_directory.choose(suite, digest, options.directory, fresh=options.fresh)
    with Journal(path) as journal:
        known = run_directory.read_environment(path)
        if known.get("finished"):
            observer.note(f"{path} is complete already; nothing to measure (--fresh measures again)")
            return path
        if journal.records:
            observer.note(f"continuing {path}: {len(journal.records)} records are there")
        threads = options.threads or env.default_threads()
        with tempfile.TemporaryDirectory(prefix="t2bench-") as scratch:
            start = launcher(options.isolation, env.worker_environment(threads))
            try:
                session = _Session(suite, plan, options, observer, journal, path, digest, known, start, threads)
                session.run(Path(scratch))
            finally:
                start.close()
    return path


class _Session:
    """The state of one execution."""

    def __init__(
        self,
        suite: Suite,
        plan: Plan,
        options: Options,
        observer: Observer,
        journal: Journal,
        path: Path,
        digest: str,
        known: Mapping[str, Any],
        start: Launcher,
        threads: int,
    ) -> None:
        self.suite, self.plan, self.options, self.observer = suite, plan, options, observer
        self.journal, self.path, self.digest, self.known = journal, path, digest, dict(known)
        self.launcher, self.threads = start, threads
        self.began = time.monotonic()
        self.cpu_began = time.process_time()
        self.wall_before = float(known.get("wall_s", 0.0))
        self.inside_s = float(known.get("inside_s", 0.0))
        self.dead = {r.case for r in journal.records if r.status not in ("ok", "not_steady")}
        self.predicted: dict[str, float] = {}
        self.step_estimate_s: dict[str, float] = {}
        for record in journal.records:
            self._learn(record)

    def run(self, scratch: Path) -> None:
        """Everything that is still to be done."""
        self._prepare(scratch)
        self._predict()
        launches = range(self.suite.measure.launches)
        todo = [
            (launch, cases)
            for launch in launches
            for group, cases in self.plan.groups.items()
            if not any((case.id, "time", launch) in self.journal for case in cases)
        ]
        self.observer.estimated(sum(self._group_estimate_s(cases) for _, cases in todo), len(todo))
        limit_s = self.options.max_time_s or self.suite.limits.max_time_s
        for done, (launch, cases) in enumerate(todo):
            if limit_s is not None and time.monotonic() - self.began > limit_s:
                self.observer.note(f"time limit of {limit_s:g} s reached; {len(todo) - done} launches not measured")
                break
            left_s = sum(self._group_estimate_s(c) for _, c in todo[done:])

            def watch(what: str, done: int = done, left_s: float = left_s) -> None:
                self.observer.working(what, done, len(todo), left_s)

            self._measure(launch, cases, watch)
        self._save(finished=True)

    def _prepare(self, scratch: Path) -> None:
        setup = {"device": self.suite.device, "threads": self.threads, "memory_limit_bytes": None}
        runtime, ceilings = self._ask_machine(setup)
        available = passes.GIB * self.suite.limits.memory_gib if self.suite.limits.memory_gib else None
        self.memory_limit_bytes = int(available or MEMORY_SHARE * runtime["available_bytes"])
        setup["memory_limit_bytes"] = self.memory_limit_bytes if self.suite.device == "cpu" else None
        tokens, data = self._write_tokens(scratch)
        self.bench = Bench(
            launcher=self.launcher,
            setup=setup,
            tokens=tokens,
            measure=self.suite.measure,
            limits=self.suite.limits,
            recorder=Recorder(self.known.get("run", f"{self.suite.name}/{self.path.name}")),
            seed=self.suite.seed,
        )
        host = env.host()
        self.known = {
            "run": self.bench.recorder.run,
            "suite": self.suite.resolved,
            "digest": self.digest,
            "protocol": PROTOCOL,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            **self.known,
            "device": self.suite.device,
            "host": host,
            "torch": runtime,
            "ceilings": ceilings,
            "fingerprint": env.fingerprint(host, runtime),
            "memory_limit_bytes": self.memory_limit_bytes,
            "threads": self.threads,
            "isolation": self.launcher.isolation,
            "data": data,
            "python": platform.python_version(),
            "argv": list(self.options.argv),
            "plan": {"groups": {group: [c.id for c in cases] for group, cases in self._all_groups().items()}},
        }
        self._save_suite()
        self._save(finished=False)

    def _ask_machine(self, setup: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        worker = self.launcher.start()
        try:
            worker.ask({"op": "configure", **setup}, SETUP_TIMEOUT_S)
            runtime = worker.ask({"op": "runtime"}, SETUP_TIMEOUT_S)["runtime"]
            if self.suite.device == "cuda" and not runtime["cuda_available"]:
                raise WorkerFailed("error", "device cuda was asked for, but torch sees no CUDA device here")
            dtypes = sorted({case.dtype for case in self.plan.cases})
            ceilings = worker.ask({"op": "ceilings", "dtypes": dtypes}, SETUP_TIMEOUT_S)["ceilings"]
        finally:
            worker.close()
        return runtime, ceilings

    def _all_groups(self) -> dict[str, list[Case]]:
        groups: dict[str, list[Case]] = {}
        for case in [*self.plan.cases, *(refusal.case for refusal in self.plan.refusals)]:
            groups.setdefault(case.group, []).append(case)
        return groups

    def _write_tokens(self, scratch: Path) -> tuple[dict[int, Path], dict[str, Any]]:
        """One token file per vocabulary, so that no worker spends its start on text."""
        cases = [case for case in self.plan.cases if case.workload.kind != "attention"]
        paths: dict[int, Path] = {}
        data: dict[str, Any] = {}
        for vocab in sorted({case.model.vocab for case in cases}):
            needed = max(case.tokens for case in cases if case.model.vocab == vocab)
            paths[vocab] = scratch / f"tokens-{vocab}.npy"
            source = write_tokens(paths[vocab], vocab=vocab, data=self.options.data, min_tokens=4 * needed)
            data[str(vocab)] = {
                "sha256": source.sha256,
                "documents": source.documents,
                "tokens": source.tokens,
                "description": source.description,
            }
        return paths, data

    def _predict(self) -> None:
        for refusal in self.plan.refusals:
            if (refusal.case.id, "plan", 0) not in self.journal:
                self._append([passes.refused(self.bench, refusal)])
        todo = [case for case in self.plan.cases if (case.id, "plan", 0) not in self.journal]
        with passes.Predictor(self.bench, self.known["ceilings"], self.memory_limit_bytes) as predictor:
            for done, case in enumerate(todo):
                self.observer.working(f"predicting {case.id}", done, len(todo), None)
                self._append([predictor.predict(case)])
        self.truth = passes.TruthKeeper(self.bench)
        self._save(finished=False)

    def _measure(self, launch: int, cases: Sequence[Case], watch: Any) -> None:
        """One launch of one group, after the checks and counts that must precede it."""
        for case in cases:
            if not case.ghost and case.id not in self.dead:
                watch(f"checking {case.id}")
                self._check(case, cases)
        alive = [case for case in cases if case.id not in self.dead and self._original(case, cases) not in self.dead]
        if not alive:
            return
        together = passes.fits_together(alive, self.predicted, self.memory_limit_bytes)
        began = time.monotonic()
        records, inside_s = measure_launch(
            self.bench, alive, launch, interleave="token" if together else "launches", watch=watch
        )
        self.inside_s += inside_s
        took_s = time.monotonic() - began
        for case in alive:
            self.step_estimate_s[case.group] = took_s
        self._append([self._verified(record) for record in records])
        self._save(finished=False)

    def _original(self, case: Case, cases: Sequence[Case]) -> str:
        """Id of the case that a ghost doubles; a case's own id otherwise."""
        if not case.ghost:
            return case.id
        return next((c.id for c in cases if not c.ghost and c.variant == self.plan.reference), case.id)

    def _check(self, case: Case, cases: Sequence[Case]) -> None:
        if self.suite.measure.truth and (case.id, "truth", 0) not in self.journal:
            self._append([self.truth.check(case)])
        if case.id in self.dead or (case.id, "counters", 0) in self.journal:
            return
        counted, loss = passes.count(self.bench, case)
        reference = next((c for c in cases if c.variant == self.plan.reference), None)
        known = self._checksum(reference.id) if reference is not None and reference.id != case.id else None
        if loss is not None and counted.status == "ok" and reference is not None and known is not None:
            problem = passes.disagreement(case, loss, reference, known)
            if problem:
                counted = replace(counted, status="wrong_numerics", reason=problem)
        unit = [counted]
        if counted.status == "ok":
            unit.append(passes.weigh(self.bench, case))
        self._append(unit)

    def _checksum(self, case_id: str) -> float | None:
        for record in self.journal.records:
            if record.case == case_id and record.pass_ == "counters":
                value = record.observed.get("checksum")
                return None if value is None else float(value)
        return None

    def _verified(self, record: Record) -> Record:
        """A timed launch must have computed what the counters pass verified: nobody times a no-op."""
        case = next(c for c in self.plan.cases if c.id == record.case)
        expected = self._checksum(case.id if not case.ghost else f"{case.group}/{self.plan.reference}")
        seen = record.observed.get("checksum")
        if record.status != "ok" or expected is None or seen is None:
            return record
        problem = passes.disagreement(case, float(seen), case, expected)
        return replace(record, status="wrong_numerics", reason=f"timed launch: {problem}") if problem else record

    def _append(self, unit: Sequence[Record]) -> None:
        self.journal.append(unit)
        for record in unit:
            self._learn(record)
            self.observer.recorded(record)

    def _learn(self, record: Record) -> None:
        if record.status not in ("ok", "not_steady"):
            self.dead.add(record.case)
        if record.pass_ == "plan" and record.metrics:
            self.predicted[record.case] = record.metrics["tracked_peak_bytes"].value or 0.0
            self.step_estimate_s[record.case] = record.metrics["step_time_s"].value or 0.0

    def _group_estimate_s(self, cases: Sequence[Case]) -> float:
        """Seconds one launch of a group will take: as measured last time, else from the predicted step times."""
        alive = [case for case in cases if case.id not in self.dead]
        if alive and alive[0].group in self.step_estimate_s:
            return self.step_estimate_s[alive[0].group]
        measure = self.suite.measure
        total = 0.0
        for case in alive:
            step_s = self.step_estimate_s.get(case.id, 0.0)
            turn_s = max(step_s, measure.min_sample_s) + step_s
            total += max(measure.warmup_s, measure.warmup_calls * step_s) + measure.rounds * turn_s
            total += OVERHEAD_PER_LAUNCH_S
        return total

    def _save_suite(self) -> None:
        from t2bench.spec.loader import dump_suite

        run_directory.write_atomically(self.path / "suite.yaml", dump_suite(self.suite))

    def _save(self, *, finished: bool) -> None:
        wall_s = time.monotonic() - self.began
        self.known |= {
            "wall_s": self.wall_before + wall_s,
            "inside_s": self.inside_s,
            "scheduler_cpu_share": (time.process_time() - self.cpu_began) / max(wall_s, 1e-9),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z") if finished else None,
        }
        run_directory.write_environment(self.path, self.known)
        if finished:
            _point_latest(self.path)


def _point_latest(path: Path) -> None:
    """`latest` beside the run points to it; a file system without links simply has none."""
    link = path.parent / "latest"
    if link.is_symlink() or not link.exists():
        temporary = path.parent / f".latest-{os.getpid()}"
        try:
            temporary.symlink_to(path.name)
            os.replace(temporary, link)
        except OSError:
            temporary.unlink(missing_ok=True)
