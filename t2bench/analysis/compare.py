"""Compare runs with each other, or the variants of one run.

Variants of one run took turns, so their effects are paired. Two runs did not: whatever changed on the machine between
them is part of the difference, and every timed row says so. Counted metrics are compared exactly either way. A case
that only one side has is a row that says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from t2bench.analysis import stats
from t2bench.analysis.analyse import COUNTED, effects_between
from t2bench.analysis.cause import cause
from t2bench.analysis.effects import NOT_PAIRED_RUNS, Pair, exact_effect, unpaired_effect, with_family_verdicts
from t2bench.analysis.estimates import memory_metrics, timed_metrics
from t2bench.analysis.index import Index
from t2bench.analysis.outcomes import outcomes
from t2bench.analysis.quality_compare import between_runs, between_variants, other_trainings
from t2bench.analysis.results import Comparison, ComparisonRow, Effect, Interval, Outcome
from t2bench.analysis.trust import weighed
from t2bench.records import Run

# Facts about a machine that change from minute to minute, and so say nothing about comparability.
_PASSING = frozenset({"load_1min", "available_bytes"})
_FINGERPRINTS = {"hw": "hardware", "sw": "software", "proto": "protocol or settings"}


def compare(
    runs: Sequence[Run], by: Literal["run", "variant"] = "run", *, reference: str | None = None
) -> tuple[Comparison, ...]:
    """Comparisons against the first run, or within each run against the reference variant.

    Args:
        runs: at least two for `run`, at least one for `variant`.
        by: what is compared.
        reference: for `variant`: the baseline variant; None means the run's own.

    Raises:
        ValueError: too few runs, or a reference that a run does not have.
    """
    if by == "variant":
        if not runs:
            raise ValueError("comparing variants needs a run")
        return tuple(comparison for run in runs for comparison in _by_variant(Index(run), reference))
    if len(runs) < 2:
        raise ValueError(f"comparing runs needs at least two, got {len(runs)}")
    baseline = Index(runs[0])
    return tuple(_by_run(baseline, Index(run)) for run in runs[1:])


def _by_run(baseline: Index, candidate: Index) -> Comparison:
    groups = {case: group for index in (baseline, candidate) for group, cases in index.groups.items() for case in cases}
    endings = tuple({outcome.case: outcome for outcome in outcomes(index)} for index in (baseline, candidate))
    translated = between_runs(baseline, candidate)
    judged = {row.case for row in translated}
    rows = [
        row
        for case, group in groups.items()
        for row in _rows_of_case(baseline, candidate, group, case, _missing(case, *endings))
        if row.metric or case not in judged
    ]
    return Comparison(
        baseline=baseline.run.id,
        candidate=candidate.run.id,
        rows=_explained(_with_verdicts(rows), candidate, baseline),
        differences=differences(baseline.run.environment, candidate.run.environment),
        redefined=(*_redefined(baseline, candidate), *other_trainings(baseline, candidate)),
        quality=translated,
    )


def _redefined(baseline: Index, candidate: Index) -> list[str]:
    """Variants that bear one name and are two models: their rows compare different things."""
    found = []
    for name, model in candidate.models.items():
        delta = model.delta(baseline.models[name]) if name in baseline.models else {}
        found += [f"variant {name}: {axis}: {before} -> {after}" for axis, (before, after) in delta.items()]
    for case in candidate.records:
        if case in baseline.records and baseline.batch(case) != candidate.batch(case):
            found.append(f"case {case}: batch: {baseline.batch(case)} -> {candidate.batch(case)}")
    return found


def _explained(
    rows: Sequence[ComparisonRow], index: Index, other: Index, reference: str | None = None
) -> tuple[ComparisonRow, ...]:
    """The rows with a cause where a time is proven to differ.

    Args:
        rows: judged.
        index: the candidate's run.
        other: the baseline's run.
        reference: the baseline's variant, where variants of one run are compared; None for equal case ids.
    """

    def why(row: ComparisonRow) -> str:
        effect = row.effect
        if effect is None or not row.metric.endswith("_time_s") or effect.verdict not in ("lower", "higher"):
            return ""
        case = row.case if reference is None else other.variants(effect.group)[reference]
        return cause((index, row.case), (other, case))

    return tuple(replace(row, cause=why(row)) for row in rows)


def other_machine(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between the machines of two runs, in words; empty if they are one, or one of them is unknown."""
    old, new = (_facts(environment.get("fingerprint")).get("hw") for environment in (before, after))
    if old is None or new is None or old == new:
        return ()
    lines = tuple(line for line in differences(before, after) if line.startswith(("hardware", "host.")))
    return lines or (f"hardware fingerprint: {old} -> {new}",)


def _rows_of_case(baseline: Index, candidate: Index, group: str, case: str, note: str) -> Iterator[ComparisonRow]:
    """All metrics of one case that either run has; one row without a metric if neither has any."""
    old, new = _metrics(baseline, case), _metrics(candidate, case)
    names = dict.fromkeys([*old, *new])
    if not names:
        yield ComparisonRow(case=case, metric="", unit="1", baseline=None, candidate=None, effect=None, note=note)
    for metric in names:
        before, after = old.get(metric), new.get(metric)
        effect = None
        if before and after:
            pair = Pair(
                group=group,
                metric=metric,
                variant=candidate.variant(group, case),
                reference=baseline.variant(group, case),
                ghost=candidate.is_ghost(group, case),
            )
            if metric in COUNTED:
                effect = exact_effect(pair, after[0], before[0])
            else:
                effect = unpaired_effect(pair, after, before, warnings=(NOT_PAIRED_RUNS,))
            effect = None if effect is None else weighed(effect, [(candidate, case), (baseline, case)])
            if effect is not None and not effect.doubt and metric not in COUNTED:
                # The interval knows the spread of launches, not what the machine did between the two runs.
                effect = replace(effect, verdict="undecidable", mde=None, p_value=None, doubt=NOT_PAIRED_RUNS)
        yield ComparisonRow(
            case=case,
            metric=metric,
            unit=(baseline if before else candidate).unit(case, metric),
            baseline=_interval(metric, before),
            candidate=_interval(metric, after),
            effect=effect,
            note=note if not (before and after) else "" if effect else "no ratio: a value is not positive",
        )


def _metrics(index: Index, case: str) -> dict[str, list[float]]:
    """Metric -> one value per launch (timed, weighed) or the count."""
    found = {
        metric: [launch.median for launch in index.launches(case, metric)] for metric in timed_metrics(index, case)
    }
    weights = index.values(case, "memory")
    found |= {metric: weights[metric] for metric in memory_metrics(index, case)}
    found |= {metric: values for metric, values in index.values(case, "counters").items() if metric in COUNTED}
    return {metric: values for metric, values in found.items() if values}


def _interval(metric: str, values: Sequence[float] | None) -> Interval | None:
    if not values:
        return None
    return Interval(value=values[0]) if metric in COUNTED else stats.median_interval(values)


def _missing(case: str, baseline: Mapping[str, Outcome], candidate: Mapping[str, Outcome]) -> str:
    """Why a metric may be missing on one side, in words."""
    notes = []
    for side, endings in (("baseline", baseline), ("candidate", candidate)):
        ending = endings.get(case)
        if ending is None:
            notes.append(f"not in the {side}")
        elif ending.status != "ok":
            notes.append(f"{ending.status} in the {side}" + (f": {ending.reason}" if ending.reason else ""))
    return "; ".join(notes) or "not measured on both sides"


def _by_variant(index: Index, reference: str | None) -> Iterator[Comparison]:
    chosen = reference or index.reference
    names = dict.fromkeys(name for group in index.groups for name in index.variants(group))
    if chosen not in names:
        raise ValueError(f"{index.run.id} has no variant {chosen}; it has {', '.join(names) or 'none'}")
    for variant in names:
        if variant != chosen:
            translated = between_variants(index, variant, chosen)
            known = {row.case for row in translated}
            rows = [row for group in index.groups for row in _rows_of_pair(index, group, variant, chosen)]
            rows = [row for row in rows if row.metric or row.case not in known]
            judged = _explained(_with_verdicts(rows), index, index, chosen)
            yield Comparison(baseline=chosen, candidate=variant, rows=judged, quality=translated)


def _rows_of_pair(index: Index, group: str, variant: str, reference: str) -> Iterator[ComparisonRow]:
    cases = index.variants(group)
    if variant not in cases and reference not in cases:
        return
    case = cases.get(variant, f"{group}/{variant}")
    other = cases.get(reference, f"{group}/{reference}")
    both = variant in cases and reference in cases
    effects = {e.metric: e for e in effects_between(index, group, variant, reference)} if both else {}
    mine, theirs = _metrics(index, case), _metrics(index, other)
    for metric in dict.fromkeys([*theirs, *mine]) or [""]:
        missing = [name for name, values in ((reference, theirs), (variant, mine)) if metric not in values]
        yield ComparisonRow(
            case=case,
            metric=metric,
            unit=index.unit(case if metric in mine else other, metric),
            baseline=_interval(metric, theirs.get(metric)),
            candidate=_interval(metric, mine.get(metric)),
            effect=effects.get(metric),
            note=f"not measured for {' and '.join(missing)}" if missing else "",
        )


def _with_verdicts(rows: Sequence[ComparisonRow]) -> tuple[ComparisonRow, ...]:
    """Verdicts by Holm's rule over all rows of one metric."""
    judged: Iterator[Effect] = iter(with_family_verdicts(row.effect for row in rows if row.effect is not None))
    return tuple(row if row.effect is None else replace(row, effect=next(judged)) for row in rows)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between two environments, in words; empty if their fingerprints agree and no fact differs."""
    found = []
    old, new = (_facts(environment.get("fingerprint")) for environment in (before, after))
    for name, word in _FINGERPRINTS.items():
        if old.get(name) != new.get(name):
            found.append(f"{word} fingerprint: {old.get(name)} -> {new.get(name)}")
    for section in ("host", "torch"):
        old, new = (_facts(environment.get(section)) for environment in (before, after))
        for name in dict.fromkeys([*old, *new]):
            if name not in _PASSING and old.get(name) != new.get(name):
                found.append(f"{section}.{name}: {old.get(name)} -> {new.get(name)}")
    return tuple(found)


def _facts(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
