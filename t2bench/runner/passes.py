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
LOSS_TOLERANCE = {
    **{"fp32": 1e-3, "tf32": 1e-2, "bf16": 3e-2, "fp16": 1e-2},
    **{"bf16_autocast": 3e-2, "fp16_autocast": 1e-2},
}
# The same where one of them approximates the mathematics (quantization), however good the dtype is.
APPROXIMATE_LOSS_TOLERANCE = 0.1
TRUTH_LENGTH = 64  # a short input keeps the float64 reference cheap; attention is also checked at its own length


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
            message = self._bench.job("predict", case.step, ceilings=self._ceilings)
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
    """Checks every variant once per workload and dtype, and its attention at every length that will be timed."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._known: dict[tuple[Any, ...], list[dict[str, Any]]] = {}

    def check(self, case: Case) -> Record:
        """The truth record of a case: numerics, causality, padding, and the back end that really ran."""
        recorder, model = self._bench.recorder, case.model
        extras = tuple((key, str(value)) for key, value in case.extras)
        short = replace(case.step, length=_truth_length(case), batch=2)
        step = case.step
        kernel = (model.arch, model.attention, model.heads, model.num_kv_heads, model.dim_per_head, case.length)
        try:
            checks = self._ask("truth", short, (model.digest, step.workload, case.dtype, extras))
            if all(check["passed"] for check in checks) and model.recurrence == "none":
                checks = checks + self._ask("rows", step, (*kernel, step.workload, case.dtype))
        except WorkerFailed as error:
            return recorder.record(case, "truth", status=error.status, reason=f"truth check: {error.reason}")
        failed = next((check for check in checks if not check["passed"]), None)
        status, reason = "ok", ""
        if failed is not None:
            status = "wrong_backend" if failed["name"].startswith("backend") else "wrong_numerics"
            reason = f"{failed['name']}: {failed['detail']}"
        return recorder.record(case, "truth", status=status, reason=reason, observed={"checks": checks})

    def _ask(self, op: str, case: Case, key: tuple[Any, ...]) -> list[dict[str, Any]]:
        """The checks of one operation, made once per key."""
        if (op, *key) not in self._known:
            self._known[op, *key] = self._bench.ask_fresh(op, case)["checks"]
        return self._known[op, *key]


def _truth_length(case: Case) -> int:
    """Tokens of the model's check, whatever the case's own length: it must be long enough to show mistakes."""
    position = case.model.position
    return min(TRUTH_LENGTH, position.max_len) if position.kind == "learned" else TRUTH_LENGTH


def count(bench: Bench, case: Case) -> Record:
    """The counters record of a case; `observed.checksum` is the loss of its first step."""
    try:
        answer = bench.ask_fresh("counters", case)
    except WorkerFailed as error:
        return bench.recorder.record(case, "counters", status=error.status, reason=error.reason)
    # A user's own module never asked for a back end; what ran is recorded all the same.
    requested, seen = case.backend_requested, answer["observed"]["backends"]
    observed = {**answer["observed"], "backend_requested": requested}
    status, reason = "ok", ""
    if answer["observed"]["checksum"] is None:
        status, reason = "wrong_numerics", "the first loss is not a finite number"
    expected = [] if requested == "none" else [requested]
    if requested is not None and seen != expected:
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
    if approximates(case.model, other.model):
        tolerance = max(tolerance, APPROXIMATE_LOSS_TOLERANCE)
    if math.isfinite(loss) and math.isclose(loss, other_loss, rel_tol=tolerance, abs_tol=tolerance):
        return None
    return f"first loss {loss:.6g} differs from {other.variant}'s {other_loss:.6g} although the mathematics is the same"


def same_function(a: ModelSpec, b: ModelSpec) -> bool:
    """Whether two variants differ in how they compute only, be it exactly or approximately."""
    return all(AXIS_KINDS[axis] != "function" for axis in a.delta(b))


def approximates(a: ModelSpec, b: ModelSpec) -> bool:
    """Whether two variants differ in an axis that approximates."""
    return any(AXIS_KINDS[axis] == "approximation" for axis in a.delta(b))


def fits_together(cases: Sequence[Case], predicted: Mapping[str, float], limit_bytes: int) -> bool:
    """Whether all variants of a group can be held in memory at once (a ghost needs what its reference needs)."""
    return sum(predicted.get(case.id, 0.0) for case in cases) <= limit_bytes
