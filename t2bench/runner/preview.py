"""What a run would do, found out without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from t2bench.meters import environment as env
from t2bench.records import Record
from t2bench.runner import passes
from t2bench.runner.estimate import Estimator
from t2bench.runner.execute import num_launches
from t2bench.runner.launcher import launcher
from t2bench.runner.machine import look_at
from t2bench.runner.observer import Observer
from t2bench.runner.recording import Recorder
from t2bench.runner.turns import Bench
from t2bench.spec.case import Plan
from t2bench.spec.plugin import Plugin
from t2bench.spec.suite import Suite


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """A plan with prophecy.

    Attributes:
        records: plan records of all cases and refusals, as a run would write them.
        total_s: rough seconds of a whole run; `learning_s`: the part of it that groups which learn take.
        memory_limit_bytes: what a case may need.
    """

    records: tuple[Record, ...]
    total_s: float
    learning_s: float
    memory_limit_bytes: int


def preview(
    suite: Suite,
    plan: Plan,
    *,
    threads: int | None,
    isolation: str,
    observer: Observer,
    plugins: Sequence[Plugin] = (),
) -> Preview:
    """Predict every case of a plan; `plugins` is code that it may import.

    Raises:
        WorkerFailed: no worker can be started.
    """
    threads = threads or env.default_threads()
    start = launcher(isolation, env.worker_environment(threads))
    try:
        machine = look_at(start, suite, plan, threads, plugins)
        bench = Bench(
            launcher=start,
            setup=machine.setup,
            tokens={},
            measure=suite.measure,
            limits=suite.limits,
            recorder=Recorder("plan"),
            seed=suite.seed,
        )
        records = [passes.refused(bench, refusal) for refusal in plan.refusals]
        estimator = Estimator(suite.measure)
        with passes.Predictor(bench, machine.ceilings, machine.memory_limit_bytes) as predictor:
            for done, case in enumerate(plan.cases):
                observer.working(f"predicting {case.id}", done, len(plan.cases), None)
                records.append(predictor.predict(case))
    finally:
        start.close()
    for record in records:
        estimator.learn(record)
    by_learning = {True: 0.0, False: 0.0}
    for cases in plan.groups.values():
        by_learning[cases[0].workload.learns] += num_launches(suite, cases) * estimator.launch_s(cases)
    return Preview(
        records=tuple(records),
        total_s=sum(by_learning.values()),
        learning_s=by_learning[True],
        memory_limit_bytes=machine.memory_limit_bytes,
    )
