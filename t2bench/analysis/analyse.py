"""From a run's records to everything a report shows. Works on any part of a run: interrupted, failed, damaged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from t2bench.analysis import checks
from t2bench.analysis.crossover import Point, crossover
from t2bench.analysis.effects import (
    Pair,
    exact_effect,
    null_summary,
    timed_effect,
    timed_log_ratio,
    unpaired_effect,
    with_family_verdicts,
)
from t2bench.analysis.estimates import estimates_of, memory_metrics, timed_metrics
from t2bench.analysis.index import Index, series_of
from t2bench.analysis.ladder import ladder
from t2bench.analysis.launches import STEP_TIME
from t2bench.analysis.outcomes import outcomes
from t2bench.analysis.quality import quality
from t2bench.analysis.results import Analysis, Crossover, Effect, ExactScaling, TimedScaling
from t2bench.analysis.scaling import exact_scaling, timed_scaling
from t2bench.analysis.trust import weighed
from t2bench.records import STATUSES, Run

COUNTED = ("saved_for_backward_bytes", "tracked_peak_bytes", "executed_flops", "model_flops", "num_params")
# Counted for one sequence, so that the batch does not bend the curve.
PER_SEQUENCE = ("sequence_saved_bytes", "sequence_peak_bytes", "sequence_flops")


def analyse(run: Run) -> Analysis:
    """Judge a run: outcomes, values, effects against the reference, scaling, crossovers, ladder, warnings."""
    index = Index(run)
    effects = with_family_verdicts(_effects(index))
    counted = index.single_values("counters")
    # A refused or too large case was predicted all the same, and the prediction is what explains the refusal.
    predicted = index.single_values("plan", STATUSES)
    null = null_summary(effects)
    return Analysis(
        reference=index.reference,
        outcomes=outcomes(index),
        estimates=tuple(
            estimate
            for group, cases in index.groups.items()
            for case in cases
            for estimate in estimates_of(index, group, case)
        ),
        effects=effects,
        exact_scaling=tuple(_exact_scaling(index, predicted)),
        timed_scaling=tuple(_timed_scaling(index)),
        crossovers=tuple(_crossovers(index, effects)),
        ladder=ladder(index, [str(name) for name in run.suite.get("ladder") or ()]),
        counted=counted,
        predicted=predicted,
        measured_memory=index.single_values("memory"),
        launches=len({record.launch for case in index.records for record in index.time_records(case)}),
        inside_fraction=_inside_fraction(run.environment),
        null=null,
        warnings=checks.run_warnings(index, counted, predicted, null),
        quality=quality(index),
    )


def _inside_fraction(environment: Mapping[str, object]) -> float | None:
    inside_s, wall_s = environment.get("inside_s"), environment.get("wall_s")
    if not isinstance(inside_s, (int, float)) or not isinstance(wall_s, (int, float)) or wall_s <= 0:
        return None
    return inside_s / wall_s


def _effects(index: Index) -> Iterator[Effect]:
    """Every metric of every variant against the reference of its group, ghosts included."""
    for group in index.groups:
        cases = index.variants(group)
        for variant in cases:
            if variant != index.reference and index.reference in cases:
                yield from effects_between(index, group, variant, index.reference)


def effects_between(index: Index, group: str, variant: str, reference: str) -> Iterator[Effect]:
    """Every metric that two variants of a group have in common: timed and paired, weighed, counted."""
    cases = index.variants(group)
    for effect in _ratios(index, group, variant, reference):
        yield weighed(effect, [(index, cases[variant]), (index, cases[reference])])


def _ratios(index: Index, group: str, variant: str, reference: str) -> Iterator[Effect]:
    cases = index.variants(group)
    mine, theirs = cases[variant], cases[reference]
    for metric in timed_metrics(index, mine):
        if metric.endswith("_time_s"):
            pair = pair_of(index, group, metric, variant, reference)
            yield from _present(timed_effect(pair, index.launches(mine, metric), index.launches(theirs, metric)))
    weights, reference_weights = index.values(mine, "memory"), index.values(theirs, "memory")
    for metric in memory_metrics(index, mine):
        pair = pair_of(index, group, metric, variant, reference)
        yield from _present(unpaired_effect(pair, weights[metric], reference_weights.get(metric, [])))
    counts, reference_counts = index.values(mine, "counters"), index.values(theirs, "counters")
    for metric in COUNTED:
        if metric in counts and metric in reference_counts:
            pair = pair_of(index, group, metric, variant, reference)
            yield from _present(exact_effect(pair, counts[metric][0], reference_counts[metric][0]))


def pair_of(index: Index, group: str, metric: str, variant: str, reference: str) -> Pair:
    """The labels of an effect."""
    ghost = index.is_ghost(group, index.variants(group).get(variant, ""))
    return Pair(
        group=group,
        metric=metric,
        variant=variant,
        reference=reference,
        ghost=ghost,
        implementation_only=ghost or index.implementation_only(variant, reference),
    )


def _present(effect: Effect | None) -> Iterator[Effect]:
    if effect is not None:
        yield effect


def _by_series(index: Index) -> dict[tuple[str, str], dict[int, str]]:
    """(series, variant) -> length -> case id, ghosts left out."""
    found: dict[tuple[str, str], dict[int, str]] = {}
    for group, cases in index.groups.items():
        series, length = series_of(group)
        for case in cases:
            if length is not None and not index.is_ghost(group, case):
                found.setdefault((series, index.variant(group, case)), {})[length] = case
    return found


def _exact_scaling(index: Index, predicted: Mapping[str, Mapping[str, float]]) -> Iterator[ExactScaling]:
    for (series, variant), cases in _by_series(index).items():
        for metric in PER_SEQUENCE:
            counts = {
                length: predicted[case][metric] for length, case in cases.items() if metric in predicted.get(case, {})
            }
            if counts:
                unit = index.unit(cases[min(counts)], metric)
                yield exact_scaling(series, variant, metric, unit, counts)


def _timed_scaling(index: Index) -> Iterator[TimedScaling]:
    for (series, variant), cases in _by_series(index).items():
        values: dict[int, Sequence[float]] = {}
        for length, case in cases.items():
            launches = index.launches(case, STEP_TIME)
            if launches:
                values[length] = [launch.median / index.batch(case) for launch in launches]
        if values:
            yield timed_scaling(series, variant, values)


def _crossovers(index: Index, effects: Sequence[Effect]) -> Iterator[Crossover]:
    """Crossover in step time of every variant with the reference, per series."""
    points: dict[tuple[str, str], list[Point]] = {}
    for effect in effects:
        series, length = series_of(effect.group)
        if effect.metric == STEP_TIME and not (effect.ghost or effect.doubt) and length is not None:
            cases = index.variants(effect.group)
            sides = (index.launches(cases[name], STEP_TIME) for name in (effect.variant, index.reference))
            ratio = timed_log_ratio(*sides)
            if ratio is not None:
                point = Point(length=length, log_ratio=ratio.estimate, verdict=effect.verdict)
                points.setdefault((series, effect.variant), []).append(point)
    for (series, variant), found in points.items():
        yield crossover(series, variant, index.reference, STEP_TIME, found)
