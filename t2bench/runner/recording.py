"""Making records of a case: the columns every pass shares, filled in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from t2bench.records import Metric, Pass, Record, Status
from t2bench.spec.case import Case

# Unit of every metric a worker may report by plain number; the name of a metric ends in its unit where it can.
UNITS = {
    "_s": "s",
    "_bytes": "bytes",
    "_flops": "flops",
    "_per_s": "tokens/s",
    "num_params": "1",
    "bytes_touched": "bytes",
}


def unit_of_metric(name: str) -> str:
    """The unit that a metric's name implies.

    Raises:
        KeyError: the name implies none.
    """
    for ending in ("num_params", "bytes_touched", "_per_s", "_bytes", "_flops", "_s"):
        if name.endswith(ending):
            return UNITS[ending]
    raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Recorder:
    """Makes the records of one run.

    Attributes:
        run: run id.
    """

    run: str

    def record(
        self,
        case: Case,
        pass_: Pass,
        *,
        launch: int = 0,
        status: str = "ok",
        reason: str = "",
        values: Mapping[str, float | None] | None = None,
        sampled: Mapping[str, Metric] | None = None,
        turns: Mapping[str, list[Any]] | None = None,
        observed: Mapping[str, Any] | None = None,
    ) -> Record:
        """A record of `case`.

        Args:
            case: the case.
            pass_: the pass that produced it.
            launch: the replicate.
            status: one of `t2bench.records.STATUSES`.
            reason: why, if not ok.
            values: metric name -> number, unit implied by the name.
            sampled: metric name -> Metric, for sampled ones.
            turns: columns parallel to the samples.
            observed: facts seen while running.
        """
        metrics = {name: Metric(value=value, unit=unit_of_metric(name)) for name, value in (values or {}).items()}
        return Record(
            run=self.run,
            case=case.id,
            group=case.group,
            variant=case.variant,
            workload=case.workload.label,
            axes=case.axes,
            pass_=pass_,
            launch=launch,
            status=cast(Status, status),
            reason=reason,
            metrics={**metrics, **(sampled or {})},
            turns=turns or {},
            observed=observed or {},
        )
