"""Running a suite: plan, then launch after launch of every group, each finished unit on the disk before the next.

Launches are the outer loop and groups the inner one, so a run that is stopped early has all groups with fewer
replicates rather than some groups with all, and the replicates of a group are spread over the whole run.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from t2bench.meters import environment as env
from t2bench.runner import directory as run_directory
from t2bench.runner import passes
from t2bench.runner.estimate import Estimator
from t2bench.runner.groups import Groups
from t2bench.runner.journal import Journal
from t2bench.runner.launcher import Launcher, LauncherGone, launcher
from t2bench.runner.machine import Machine, look_at
from t2bench.runner.observer import Observer
from t2bench.runner.options import OptionError, Options
from t2bench.runner.recording import Recorder
from t2bench.runner.state import RunState
from t2bench.runner.texts import Texts, read_texts
from t2bench.runner.trainee import Checkpoints
from t2bench.runner.turns import Bench
from t2bench.spec.case import Case, Plan
from t2bench.spec.suite import Suite
from t2bench.workloads.text import write_tokens

BATCHES_OF_TEXT = 8  # enough that a workload's batches do not overlap much


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
        LauncherGone: what starts workers died twice; what was recorded before is intact.
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
            launches = len({(r.group, r.launch) for r in journal.records if r.pass_ in ("time", "quality")})
            total = sum(num_launches(suite, cases) for cases in plan.groups.values())
            observer.note(f"continuing {path}: {launches} of {total} launches are done")
        with tempfile.TemporaryDirectory(prefix="t2bench-") as scratch:
            # Missing or unsound text is said before anything slow begins.
            tokens, data = write_token_files(plan, options.data, Path(scratch))
            texts = read_texts(plan, options.data, Path(scratch))
            data |= {"corpora": texts.record} if texts.record else {}
            # Launches share compiled code, and runs do not: each run pays once for what it compiles.
            inductor = {"TORCHINDUCTOR_CACHE_DIR": str(Path(scratch) / "inductor")}
            started = partial(launcher, options.isolation, {**env.worker_environment(threads), **inductor})
            with contextlib.closing(started()) as start:
                machine = look_at(start, suite, plan, threads, options.plugins)
                state = RunState(path, journal, observer, known)
                state.describe(suite, plan, options, machine, digest, data, isolation=start.isolation)
                measure_all = partial(_measure_all, suite, plan, options, machine, tokens, texts, state)
                try:
                    measure_all(start)
                except LauncherGone as gone:  # once: a machine that kills it again needs its user
                    observer.note(f"{gone}; another goes on from what is recorded")
                    with contextlib.closing(started()) as another:
                        measure_all(another)
    if options.directory is None:
        run_directory.point_latest(path)
    return path


def _measure_all(
    suite: Suite,
    plan: Plan,
    options: Options,
    machine: Machine,
    tokens: dict[int, Path],
    texts: Texts,
    state: RunState,
    start: Launcher,
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
        for launch in range(max(num_launches(suite, cases) for cases in plan.groups.values()) if plan.groups else 0)
        for cases in plan.groups.values()
        if launch < num_launches(suite, cases)
        and not any((case.id, pass_, launch) in state.journal for case in cases for pass_ in ("time", "quality"))
    ]
    state.observer.estimated(sum(estimator.launch_s(cases) for _, cases in todo), len(todo))
    limit_s = options.max_time_s or suite.limits.max_time_s
    groups = Groups(plan.reference, bench, machine.memory_limit_bytes, estimator, texts, state)
    for done, (launch, cases) in enumerate(todo):
        if limit_s is not None and state.wall_s > limit_s:
            state.observer.note(f"time limit of {limit_s:g} s reached; {len(todo) - done} launches not measured")
            state.save(stopped="time limit")
            return
        left_s = sum(estimator.launch_s(later) for _, later in todo[done:])
        groups.measure(launch, cases, (done, len(todo), left_s))
    Checkpoints(state.path).clear()
    state.save(finished=True)


def _predict(plan: Plan, bench: Bench, machine: Machine, state: RunState) -> None:
    for refusal in plan.refusals:
        if (refusal.case.id, "plan", 0) not in state.journal:
            state.append([passes.refused(bench, refusal)])
    todo = [case for case in plan.cases if (case.id, "plan", 0) not in state.journal]
    with passes.Predictor(bench, machine.ceilings, machine.memory_limit_bytes) as predictor:
        for done, case in enumerate(todo):
            state.observer.working(f"predicting {case.id}", done, len(todo), None)
            state.append([predictor.predict(case)])


def num_launches(suite: Suite, cases: Sequence[Case]) -> int:
    """Launches of a group."""
    return cases[0].launches or suite.measure.launches


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
        if case.workload.reads_text:
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
