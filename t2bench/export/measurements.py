"""What every exported format is made from: one value per case and metric, with the launches behind it.

The names of the metrics are those of the records and reports in every format, and times stay in seconds unless a format
itself prescribes another unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from t2bench.analysis import seeds
from t2bench.analysis.index import Index
from t2bench.analysis.quality_records import SCORES
from t2bench.analysis.results import Analysis, Interval, Outcome
from t2bench.records import HIGHER_IS_BETTER, Run
from t2bench.report import safe

# Told by the plan, and as exact as a count.
_PLANNED = ("num_params", "model_flops")
# What a training leaves that is better the more, or the less, there is of it.
LEARNED = (
    *("bleu", "chrf", "chrfpp", "ter", "exact_match", "val_bleu", "val_loss"),
    *("train_time_s", "train_tokens_per_s", "decode_sentences_per_s", "time_to_quality_s", "tokens_to_quality"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One metric of one case.

    Attributes:
        case, group, variant, workload: as recorded, raw.
        label: the case id on one line without control characters, unique among the cases of its export.
        axes: the matrix point (length, batch, dtype, ...).
        interval: median of launch medians with its 95 % interval; for counts the count alone.
        values: one value per launch, in launch order; the count alone for counts.
        num_samples: timed windows behind the values.
        exact: counted, not measured.
    """

    case: str
    label: str
    group: str
    variant: str
    workload: str
    axes: Mapping[str, Any]
    metric: str
    unit: str
    interval: Interval
    values: tuple[float, ...]
    num_samples: int
    exact: bool

    @property
    def higher_is_better(self) -> bool:
        """Whether more of it is good."""
        return self.metric in HIGHER_IS_BETTER

    @property
    def length(self) -> int:
        """Tokens per sequence; 0 where the case has no length."""
        return int(self.axes.get("length") or 0)


def measurements(run: Run, analysis: Analysis, *, ghosts: bool = False) -> tuple[Measurement, ...]:
    """Every measured and counted value of a run, in the order of its cases.

    Args:
        run: the run.
        analysis: its analysis.
        ghosts: with the second copy of the reference, which says how large the run's own noise is. Dashboards would
            take it for one more variant.
    """
    index = Index(run)
    found: list[Measurement] = []
    labels = unique_labels(outcome.case for outcome in analysis.outcomes)
    for outcome in analysis.outcomes:
        if not ghosts and index.is_ghost(outcome.group, outcome.case):
            continue
        records = index.records.get(outcome.case, ())
        base: dict[str, Any] = {
            "case": outcome.case,
            "label": labels[outcome.case],
            "group": outcome.group,
            "variant": outcome.variant,
            "workload": records[0].workload if records else "",
            "axes": records[0].axes if records else {},
        }
        found += _measured(index, analysis, outcome.case, base)
        found += _counted(index, analysis, outcome.case, base)
        found += _learned(index, outcome.case, base)
    return tuple(found)


def _measured(index: Index, analysis: Analysis, case: str, base: Mapping[str, Any]) -> Iterator[Measurement]:
    weighed = index.values(case, "memory")
    for estimate in analysis.estimates:
        if estimate.case == case:
            launches = tuple(launch.median for launch in index.launches(case, estimate.metric))
            yield Measurement(
                **base,
                metric=estimate.metric,
                unit=estimate.unit,
                interval=estimate.interval,
                values=launches or tuple(weighed.get(estimate.metric, ())) or (estimate.interval.value,),
                num_samples=estimate.num_samples,
                exact=False,
            )


def _counted(index: Index, analysis: Analysis, case: str, base: Mapping[str, Any]) -> Iterator[Measurement]:
    counts = dict(analysis.counted.get(case, {}))
    if counts:
        planned = analysis.predicted.get(case, {})
        counts |= {metric: planned[metric] for metric in _PLANNED if metric in planned}
    for metric, count in counts.items():
        yield Measurement(
            **base,
            metric=metric,
            unit=index.unit(case, metric),
            interval=Interval(value=count),
            values=(count,),
            num_samples=1,
            exact=True,
        )


def _learned(index: Index, case: str, base: Mapping[str, Any]) -> Iterator[Measurement]:
    """What every training of the case knows about itself, one value a seed; a target that one missed has no value."""
    trained = sum(record.pass_ == "quality" and record.status == "ok" for record in index.records.get(case, ()))
    for metric, values in index.values(case, "quality", ("ok",)).items():
        if metric in LEARNED and len(values) == trained:
            yield Measurement(
                **base,
                metric=metric,
                unit=index.unit(case, metric),
                interval=seeds.spread(values, SCORES.get(metric, seeds.ANY)).interval,
                values=tuple(values),
                num_samples=len(values),
                exact=False,
            )


def without_value(analysis: Analysis) -> tuple[Outcome, ...]:
    """Cases that ended otherwise than ok: most formats have no place for them, so that the reader must be told."""
    return tuple(outcome for outcome in analysis.outcomes if outcome.status != "ok")


def unique_labels(names: Iterable[str]) -> dict[str, str]:
    """Name -> the same on one line without control characters; a number tells apart what would become equal."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        if name in found:
            continue
        plain = safe.clean(name) or "?"
        label, copy = plain, 2
        while label in taken:
            label, copy = f"{plain} ({copy})", copy + 1
        found[name] = label
        taken.add(label)
    return found


def facts(run: Run) -> dict[str, str]:
    """What a reader of an exported file must know about where its numbers come from; known facts only."""
    host, torch = (_mapping(run.environment.get(name)) for name in ("host", "torch"))
    prints = _mapping(run.environment.get("fingerprint"))
    found = {
        "run": run.id,
        "suite": run.suite.get("name"),
        "device": run.environment.get("device") or run.suite.get("device"),
        "started": run.environment.get("started"),
        "cpu": host.get("cpu"),
        "gpu": host.get("gpu"),
        "torch": torch.get("torch") or torch.get("version"),
        "threads": torch.get("threads"),
        "python": host.get("python"),
        **{f"fingerprint_{name}": value for name, value in prints.items()},
    }
    return {name: safe.clean(value) for name, value in found.items() if value not in (None, "")}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
