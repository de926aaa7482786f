"""Running a suite: plan, then launch after launch of every group, each finished unit on the disk before the next.

Launches are the outer loop and groups the inner one, so a run that is stopped early has all groups with fewer
replicates rather than some groups with all, and the replicates of a group are spread over the whole run.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from t2bench.meters import environment as env
from t2bench.records import PROTOCOL, Record, write_atomically
from t2bench.runner import directory as run_directory
from t2bench.runner import passes
from t2bench.runner.estimate import Estimator
from t2bench.runner.journal import Journal
from t2bench.runner.launcher import Launcher, launcher
from t2bench.runner.machine import Machine, look_at
from t2bench.runner.observer import Observer
from t2bench.runner.recording import Recorder
from t2bench.runner.turns import Bench, measure_launch
from t2bench.spec.case import Case, Plan
from t2bench.spec.loader import dump_suite
from t2bench.spec.plugin import Plugin
from t2bench.spec.suite import Suite
from t2bench.workloads.text import write_tokens

ENDED = ("ok", "not_steady")  # a record of any other status ends its case: it is not tried again in this run
BATCHES_OF_TEXT = 8  # enough that a workload's batches do not overlap much


class OptionError(Exception):
    """An option cannot be honoured; the message says which and why."""


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
        plugins: a user's code that workers may import.
    """

    directory: Path | None = None
    fresh: bool = False
    only: str | None = None
    data: Path | None = None
    threads: int | None = None
    isolation: str = "fork"
    max_time_s: float | None = None
    argv: tuple[str, ...] = ()
    plugins: tuple[Plugin, ...] = ()


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
        OptionError: `data` holds no usable text, or a number is out of range.
        OSError: the disk is full or gone; what was recorded before is intact.
        WorkerFailed: no worker can be started at all.
        KeyboardInterrupt: interrupted; workers are gone, the journal is complete up to the last finished unit.
    """
    threads = _checked_threads(options)
    how: dict[str, Any] = {
        "only": options.only,
        "threads": threads,
        "data": None if options.data is None else str(options.data),
    }
    if options.plugins:
        how["plugins"] = [plugin.to_dict() for plugin in options.plugins]
    digest = run_directory.suite_digest(suite, how)
    path = run_directory.choose(suite, digest, options.directory, fresh=options.fresh)
    with Journal(path) as journal:
        known = run_directory.read_environment(path)
        if known.get("finished"):
            observer.note(f"{path} is complete already; nothing to measure (--fresh measures again)")
            return path
        if journal.set_aside:
            observer.note(f"{path}: {journal.set_aside} damaged lines moved to damaged.jsonl; they are measured again")
        if journal.records:
            launches = len({(r.group, r.launch) for r in journal.records if r.pass_ == "time"})
            total = suite.measure.launches * len(plan.groups)
            observer.note(f"continuing {path}: {launches} of {total} launches are done")
        with tempfile.TemporaryDirectory(prefix="t2bench-") as scratch:
            # Launches share compiled code, and runs do not: each run pays once for what it compiles.
            inductor = {"TORCHINDUCTOR_CACHE_DIR": str(Path(scratch) / "inductor")}
            start = launcher(options.isolation, {**env.worker_environment(threads), **inductor})
            try:
                machine = look_at(start, suite, plan, threads, options.plugins)
                tokens, data = write_token_files(plan, options.data, Path(scratch))
                state = _RunState(path, journal, observer, known)
                state.describe(suite, plan, options, machine, digest, data, isolation=start.isolation)
                _measure_all(suite, plan, options, start, machine, tokens, state)
            finally:
                start.close()
    if options.directory is None:
        run_directory.point_latest(path)
    return path


class _RunState:
    """What a run has on disk and what was learnt from it."""

    def __init__(self, path: Path, journal: Journal, observer: Observer, known: dict[str, Any]) -> None:
        self.path, self.journal, self.observer = path, journal, observer
        self.environment = {"run": f"{path.parent.name}/{path.name}", **known}
        self.began, self.cpu_began = time.monotonic(), time.process_time()
        self.wall_before_s = float(known.get("wall_s", 0.0))
        self.inside_s = float(known.get("inside_s", 0.0))
        self.ended = {record.case for record in journal.records if record.status not in ENDED}
        self.checksums: dict[str, float] = {}
        for record in journal.records:
            self._learn(record)

    @property
    def run(self) -> str:
        """The run's id."""
        return str(self.environment["run"])

    def describe(
        self,
        suite: Suite,
        plan: Plan,
        options: Options,
        machine: Machine,
        digest: str,
        data: dict[str, Any],
        *,
        isolation: str,
    ) -> None:
        """Write `suite.yaml` and `environment.json`."""
        host = env.host()
        fingerprint = env.fingerprint(host, machine.runtime)
        self._check_same({"fingerprint": fingerprint, "data": data}, host, machine.runtime)
        self.environment = {
            "started": _now(),
            **self.environment,
            "suite": suite.resolved,
            "digest": digest,
            "protocol": PROTOCOL,
            "device": suite.device,
            "host": host,
            "torch": machine.runtime,
            "ceilings": machine.ceilings,
            "fingerprint": fingerprint,
            "memory_limit_bytes": machine.memory_limit_bytes,
            "isolation": isolation,
            "data": data,
            "argv": list(options.argv),
            "plugins": [plugin.to_dict() for plugin in options.plugins],
            "plan": {"groups": _case_ids_by_group(plan)},
        }
        write_atomically(self.path / "suite.yaml", dump_suite(suite))
        self.save()

    def _check_same(self, now: dict[str, Any], host: dict[str, Any], runtime: dict[str, Any]) -> None:
        """A continued run must go on as it began: one machine, one software, one text."""
        before = {name: self.environment.get(name) for name in now}
        if not self.journal.records or before == now:
            return
        changes = env.differences(self.environment, {"host": host, "torch": runtime})
        what = "; ".join(changes) or "the text has changed"
        raise run_directory.DirectoryError(f"{self.path}: began under other conditions ({what}); --fresh starts anew")

    def append(self, unit: Sequence[Record]) -> None:
        """Put one unit on the disk."""
        self.journal.append(unit)
        for record in unit:
            self._learn(record)
            self.observer.recorded(record)

    def _learn(self, record: Record) -> None:
        if record.status not in ENDED:
            self.ended.add(record.case)
        checksum = record.observed.get("checksum")
        if record.pass_ == "counters" and checksum is not None:
            self.checksums[record.case] = float(checksum)

    @property
    def wall_s(self) -> float:
        """Seconds since this execution began."""
        return time.monotonic() - self.began

    def save(self, *, finished: bool = False, stopped: str | None = None) -> None:
        """Replace `environment.json`."""
        self.environment |= {
            "wall_s": self.wall_before_s + self.wall_s,
            "inside_s": self.inside_s,
            "scheduler_cpu_share": (time.process_time() - self.cpu_began) / max(self.wall_s, 1e-9),
            "finished": _now() if finished else None,
            "stopped": stopped,
        }
        run_directory.write_environment(self.path, self.environment)


def _measure_all(
    suite: Suite,
    plan: Plan,
    options: Options,
    start: Launcher,
    machine: Machine,
    tokens: dict[int, Path],
    state: _RunState,
) -> None:
    bench = Bench(
        launcher=start,
        setup=machine.setup,
        tokens=tokens,
        measure=suite.measure,
        limits=suite.limits,
        recorder=Recorder(state.run),
        seed=suite.seed,
    )
    estimator = Estimator(suite.measure)
    _predict(plan, bench, machine, state)
    for record in state.journal.records:
        estimator.learn(record)
    state.save()
    todo = [
        (launch, cases)
        for launch in range(suite.measure.launches)
        for cases in plan.groups.values()
        if not any((case.id, "time", launch) in state.journal for case in cases)
    ]
    state.observer.estimated(sum(estimator.launch_s(cases) for _, cases in todo), len(todo))
    limit_s = options.max_time_s or suite.limits.max_time_s
    groups = _Groups(plan.reference, bench, machine.memory_limit_bytes, estimator, state)
    for done, (launch, cases) in enumerate(todo):
        if limit_s is not None and state.wall_s > limit_s:
            state.observer.note(f"time limit of {limit_s:g} s reached; {len(todo) - done} launches not measured")
            state.save(stopped="time limit")
            return
        left_s = sum(estimator.launch_s(later) for _, later in todo[done:])
        groups.measure(launch, cases, (done, len(todo), left_s))
    state.save(finished=True)


def _predict(plan: Plan, bench: Bench, machine: Machine, state: _RunState) -> None:
    for refusal in plan.refusals:
        if (refusal.case.id, "plan", 0) not in state.journal:
            state.append([passes.refused(bench, refusal)])
    todo = [case for case in plan.cases if (case.id, "plan", 0) not in state.journal]
    with passes.Predictor(bench, machine.ceilings, machine.memory_limit_bytes) as predictor:
        for done, case in enumerate(todo):
            state.observer.working(f"predicting {case.id}", done, len(todo), None)
            state.append([predictor.predict(case)])


class _Groups:
    """Measures launches of groups: checks first, then turns, then the records."""

    def __init__(
        self, reference: str, bench: Bench, memory_limit_bytes: int, estimator: Estimator, state: _RunState
    ) -> None:
        self._reference, self._bench, self._limit_bytes = reference, bench, memory_limit_bytes
        self._estimator, self._state = estimator, state
        self._truth = passes.TruthKeeper(bench)

    def measure(self, launch: int, cases: Sequence[Case], progress: tuple[int, int, float]) -> None:
        """One launch of one group; what it recorded is on the disk afterwards."""
        state, done_total_left = self._state, progress

        def watch(what: str) -> None:
            state.observer.working(what, *done_total_left)

        original = {case.id: self._doubled(case, cases) for case in cases}
        for case in sorted(cases, key=lambda one: one.variant != self._reference):  # the others are compared with it
            if not case.ghost and case.id not in state.ended:
                watch(f"checking {case.id}")
                self._check(case, cases)
        alive = [case for case in cases if not {case.id, original[case.id]} & state.ended]
        if not alive:
            return
        together = passes.fits_together(alive, self._estimator.predicted_peak_bytes, self._limit_bytes)
        began = time.monotonic()
        records, inside_s = measure_launch(
            self._bench, alive, launch, interleave="token" if together else "launches", watch=watch
        )
        self._estimator.took(alive[0].group, time.monotonic() - began)
        state.inside_s += inside_s
        by_id = {case.id: case for case in alive}
        state.append([self._verified(record, by_id[record.case], original[record.case]) for record in records])
        state.save()

    def _doubled(self, case: Case, cases: Sequence[Case]) -> str:
        """Id of the case that a ghost doubles; any other case's own id."""
        originals = (c.id for c in cases if case.ghost and not c.ghost and c.variant == self._reference)
        return next(originals, case.id)

    def _check(self, case: Case, cases: Sequence[Case]) -> None:
        state = self._state
        if self._bench.measure.truth and (case.id, "truth", 0) not in state.journal:
            state.append([self._truth.check(case)])
        if case.id in state.ended or (case.id, "counters", 0) in state.journal:
            return
        counted = passes.count(self._bench, case)
        if counted.status == "ok":
            counted = self._agreeing(counted, case, cases)
        unit = [counted, passes.weigh(self._bench, case)] if counted.status == "ok" else [counted]
        state.append(unit)
        for record in unit:
            self._estimator.learn(record)

    def _agreeing(self, counted: Record, case: Case, cases: Sequence[Case]) -> Record:
        """The counters record, marked if the case should compute what the reference does and does not."""
        reference = next((c for c in cases if c.variant == self._reference and not c.ghost), None)
        if reference is None or reference.id == case.id or reference.id not in self._state.checksums:
            return counted
        problem = passes.disagreement(
            case, float(counted.observed["checksum"]), reference, self._state.checksums[reference.id]
        )
        return replace(counted, status="wrong_numerics", reason=problem) if problem else counted

    def _verified(self, record: Record, case: Case, original: str) -> Record:
        """A timed launch must have computed what the counters pass verified: nobody times a no-op."""
        expected, seen = self._state.checksums.get(original), record.observed.get("checksum")
        if record.status != "ok" or expected is None or seen is None:
            return record
        problem = passes.disagreement(case, float(seen), case, expected)
        return replace(record, status="wrong_numerics", reason=f"timed launch: {problem}") if problem else record


def _checked_threads(options: Options) -> int:
    """Threads per worker; raises OptionError for numbers that make no sense."""
    cores = len(env.allowed_cores())
    if options.threads is not None and not 1 <= options.threads <= cores:
        raise OptionError(f"threads: {options.threads} is not between 1 and the {cores} cores this process may use")
    if options.max_time_s is not None and not options.max_time_s > 0.0:
        raise OptionError(f"max time: {options.max_time_s} is not a positive number of seconds")
    return options.threads or env.default_threads()


def write_token_files(plan: Plan, data: Path | None, scratch: Path) -> tuple[dict[int, Path], dict[str, Any]]:
    """One token file per vocabulary, so that no worker spends its start on text; and where the text came from."""
    paths: dict[int, Path] = {}
    sources: dict[str, Any] = {}
    needed: dict[int, int] = {}
    for case in plan.cases:
        if case.workload.kind != "attention":
            needed[case.model.vocab] = max(needed.get(case.model.vocab, 0), BATCHES_OF_TEXT * case.tokens)
    for vocab, min_tokens in needed.items():
        paths[vocab] = scratch / f"tokens-{vocab}.npy"
        try:
            source = write_tokens(paths[vocab], vocab=vocab, data=data, min_tokens=min_tokens)
        except (ValueError, FileNotFoundError) as error:
            raise OptionError(str(error)) from error
        sources[str(vocab)] = {
            "sha256": source.sha256,
            "documents": source.documents,
            "tokens": source.tokens,
            "description": source.description,
        }
    return paths, sources


def _case_ids_by_group(plan: Plan) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for case in [*plan.cases, *(refusal.case for refusal in plan.refusals)]:
        groups.setdefault(case.group, []).append(case.id)
    return groups


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
