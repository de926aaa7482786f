"""Launches of groups: checks first, then turns (or trainings), then the records."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from t2bench.records import Record
from t2bench.runner import passes
from t2bench.runner.estimate import Estimator
from t2bench.runner.state import RunState
from t2bench.runner.texts import Texts
from t2bench.runner.train_launch import TrainLaunch
from t2bench.runner.turns import Bench, measure_launch
from t2bench.spec.case import Case


class Groups:
    """Measures launches of groups: checks first, then turns, then the records."""

    def __init__(
        self,
        reference: str,
        bench: Bench,
        memory_limit_bytes: int,
        estimator: Estimator,
        texts: Texts,
        state: RunState,
    ) -> None:
        self._reference, self._bench, self._limit_bytes = reference, bench, memory_limit_bytes
        self._estimator, self._texts, self._state = estimator, texts, state
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
        if alive[0].workload.learns:
            self._train(launch, alive, progress, together=together)
            self._estimator.took(alive[0].group, time.monotonic() - began)
            return
        records, inside_s = measure_launch(
            self._bench, alive, launch, interleave="token" if together else "launches", watch=watch
        )
        self._estimator.took(alive[0].group, time.monotonic() - began)
        state.inside_s += inside_s
        by_id = {case.id: case for case in alive}
        state.append([self._verified(record, by_id[record.case], original[record.case]) for record in records])
        state.save()

    def _train(self, launch: int, cases: Sequence[Case], progress: tuple[int, int, float], *, together: bool) -> None:
        """One launch of a group that learns."""
        done, total, left_s = progress
        later_s = max(0.0, left_s - self._estimator.launch_s(cases))

        def watch(what: str, launch_left_s: float | None) -> None:
            self._state.observer.working(
                what, done, total, left_s if launch_left_s is None else launch_left_s + later_s
            )

        began = time.monotonic()
        training = TrainLaunch(self._bench, self._texts, self._state.path, watch)
        records = training.measure(cases, launch, together=together)
        self._state.inside_s += time.monotonic() - began
        self._state.append(records)
        training.forget()
        self._state.save()

    def _doubled(self, case: Case, cases: Sequence[Case]) -> str:
        """Id of the case that a ghost doubles; any other case's own id."""
        originals = (c.id for c in cases if case.ghost and not c.ghost and c.variant == self._reference)
        return next(originals, case.id)

    def _check(self, case: Case, cases: Sequence[Case]) -> None:
        state = self._state
        if self._bench.measure.truth and (case.id, "truth", 0) not in state.journal:
            state.append([self._truth.check(case)])
        if case.workload.learns or case.id in state.ended or (case.id, "counters", 0) in state.journal:
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
