"""The passes before timing: predictions, truth checks, exact counters, memory. Each in fresh processes of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from t2bench.records import Record
from t2bench.runner.launcher import Worker, WorkerFailed
from t2bench.runner.machine import GIB
from t2bench.runner.turns import Bench
from t2bench.spec.case import Case, Refusal
from t2bench.spec.model import AXIS_KINDS, ModelSpec

# How far two runs of the same mathematics may differ in the loss of the first step, relative.
LOSS_TOLERANCE = {"fp32": 1e-3, "bf16": 3e-2, "fp16": 1e-2}
TRUTH_LENGTH = 64  # numerics and causality do not depend on the length; a short input keeps the float64 reference cheap


def refused(bench: Bench, refusal: Refusal) -> Record:
    """The row of a case that will not be measured."""
    return bench.recorder.record(refusal.case, "plan", status=refusal.status, reason=refusal.reason)


class Predictor:
    """Predicts cases in one long-lived worker (fake tensors allocate nothing, so nothing can be left over).

    Args:
        bench: what every launch needs.
        ceilings: dtype -> measured ceilings, for the time estimate.
        memory_limit_bytes: a case predicted to need more becomes an `oom` row.
    """

    def __init__(self, bench: Bench, ceilings: Mapping[str, Any], memory_limit_bytes: int) -> None:
        self._bench = bench
        self._ceilings = dict(ceilings)
        self._limit_bytes = memory_limit_bytes
        self._worker: Worker | None = None

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def predict(self, case: Case) -> Record:
        """The plan record of a case: predicted metrics, and `oom` if they do not fit."""
        recorder = self._bench.recorder
        try:
            self._worker = self._worker or self._bench.open()
            message = self._bench.job("predict", case, ceilings=self._ceilings)
            metrics = self._worker.ask(message, self._bench.limits.case_timeout_s)["metrics"]
        except WorkerFailed as error:
            self._leave()
            return recorder.record(case, "plan", status=error.status, reason=f"prediction failed: {error.reason}")
        needed = metrics["tracked_peak_bytes"]
        if needed > self._limit_bytes:
            reason = f"predicted: needs {needed / GIB:.2f} GiB at least, the limit is {self._limit_bytes / GIB:.2f} GiB"
            return recorder.record(case, "plan", status="oom", reason=reason, values=metrics)
        return recorder.record(case, "plan", values=metrics)


class TruthKeeper:
    """Checks every variant once per workload and dtype, and lends the verdict to its cases at other lengths."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._known: dict[tuple[Any, ...], tuple[str, str, dict[str, Any]]] = {}

    def check(self, case: Case) -> Record:
        """The truth record of a case: numerics, causality, padding, and the back end that really ran."""
        extras = tuple((key, str(value)) for key, value in case.extras)
        key = (case.model.digest, case.workload, case.dtype, extras)
        if key not in self._known:
            self._known[key] = self._run(case)
        status, reason, observed = self._known[key]
        return self._bench.recorder.record(case, "truth", status=status, reason=reason, observed=observed)

    def _run(self, case: Case) -> tuple[str, str, dict[str, Any]]:
        short = replace(case, length=min(case.length, TRUTH_LENGTH), batch=2)
        try:
            checks = self._bench.ask_fresh("truth", short)["checks"]
        except WorkerFailed as error:
            return error.status, f"truth check: {error.reason}", {}
        observed = {"checks": checks, "length": short.length}
        for check in checks:
            if not check["passed"]:
                status = "wrong_backend" if check["name"].startswith("backend") else "wrong_numerics"
                return status, f"{check['name']}: {check['detail']}", observed
        return "ok", "", observed


def count(bench: Bench, case: Case) -> Record:
    """The counters record of a case; `observed.checksum` is the loss of its first step."""
    try:
        answer = bench.ask_fresh("counters", case)
    except WorkerFailed as error:
        return bench.recorder.record(case, "counters", status=error.status, reason=error.reason)
    requested, seen = case.model.attention, answer["observed"]["backends"]
    observed = {**answer["observed"], "backend_requested": requested}
    status, reason = "ok", ""
    if seen != [requested]:
        status = "wrong_backend"
        reason = f"{requested} was requested, {' and '.join(seen) or 'nothing recognisable'} ran"
    return bench.recorder.record(
        case, "counters", status=status, reason=reason, values=answer["metrics"], observed=observed
    )


def weigh(bench: Bench, case: Case) -> Record:
    """The memory record of a case: what two steps in a fresh process needed."""
    try:
        answer = bench.ask_fresh("memory", case)
    except WorkerFailed as error:
        return bench.recorder.record(case, "memory", status=error.status, reason=error.reason)
    return bench.recorder.record(case, "memory", values=answer["metrics"], observed=answer["observed"])


def disagreement(case: Case, loss: float, other: Case, other_loss: float) -> str | None:
    """Why two cases that must compute the same do not; None if they agree or need not agree.

    Cases of one group get the same weights and batches, so variants that differ in implementation axes only must have
    the same loss.
    """
    if not same_function(case.model, other.model):
        return None
    tolerance = LOSS_TOLERANCE[case.dtype]
    if math.isfinite(loss) and math.isclose(loss, other_loss, rel_tol=tolerance, abs_tol=tolerance):
        return None
    return f"first loss {loss:.6g} differs from {other.variant}'s {other_loss:.6g} although the mathematics is the same"


def same_function(a: ModelSpec, b: ModelSpec) -> bool:
    """Whether two variants differ in implementation axes only."""
    return all(AXIS_KINDS[axis] == "implementation" for axis in a.delta(b))


def fits_together(cases: Sequence[Case], predicted: Mapping[str, float], limit_bytes: int) -> bool:
    """Whether all variants of a group can be held in memory at once (a ghost needs what its reference needs)."""
    return sum(predicted.get(case.id, 0.0) for case in cases) <= limit_bytes
