"""A case's own values: median of launch medians, with what the samples look like in plain words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from t2bench.analysis import stats
from t2bench.analysis.effects import FEW_LAUNCHES
from t2bench.analysis.index import Index
from t2bench.analysis.launches import RATE, STEP_TIME, LaunchSamples
from t2bench.analysis.results import Estimate, Interval

# Beyond these a sample series is told about. They do not change any number.
CONTENDED_SHARE = 0.10
SPIKE_SHARE = 0.05
SPIKE_FACTOR = 1.5
SEVERE_OUTLIER_SHARE = 0.10
AUTOCORRELATION = 0.5
DRIFT = 0.05  # over the launch

_PASSED_OVER = ("baseline_bytes",)  # what the process held before the model was built: no property of the case


def timed_metrics(index: Index, case: str) -> list[str]:
    """Names of the sampled metrics of a case, the step time first."""
    names = {name for record in index.time_records(case) for name in record.metrics}
    return sorted(names, key=lambda name: (name != STEP_TIME, name))


def memory_metrics(index: Index, case: str) -> list[str]:
    """Names of the byte metrics of a case's memory pass."""
    return sorted(name for name in index.values(case, "memory") if name.endswith("_bytes") and name not in _PASSED_OVER)


def estimates_of(index: Index, group: str, case: str) -> list[Estimate]:
    """Everything measured of one case: times per launch, memory per memory pass."""
    found = []
    variant = index.variant(group, case)
    for metric in timed_metrics(index, case):
        launches = index.launches(case, metric)
        if launches:
            found.append(_timed(index, group, case, metric, launches))
    for metric in memory_metrics(index, case):
        values = index.values(case, "memory")[metric]
        found.append(
            Estimate(
                case=case,
                group=group,
                variant=variant,
                metric=metric,
                unit=index.unit(case, metric),
                interval=stats.median_interval(values),
                num_launches=len(values),
                num_samples=len(values),
            )
        )
    return found


def _timed(index: Index, group: str, case: str, metric: str, launches: Sequence[LaunchSamples]) -> Estimate:
    warnings = sample_warnings(launches) if metric == STEP_TIME else ()
    not_ok = {record.reason for record in index.time_records(case) if record.status != "ok"}
    if metric == STEP_TIME:
        warnings += tuple(sorted(not_ok - {""}))
    return Estimate(
        case=case,
        group=group,
        variant=index.variant(group, case),
        metric=metric,
        unit=index.unit(case, metric),
        interval=_rate(index, case) if metric == RATE else _over(launches),
        num_launches=len(launches),
        num_samples=sum(launch.used.size for launch in launches),
        warnings=warnings,
    )


def _over(launches: Sequence[LaunchSamples]) -> Interval:
    return stats.median_interval([launch.median for launch in launches])


def _rate(index: Index, case: str) -> Interval:
    """Tokens over the step time's own interval: the mean of two launches is not the same for times and for rates."""
    steps, rates = index.launches(case, STEP_TIME), index.launches(case, RATE)
    if not steps:
        return _over(rates)
    tokens, time = rates[0].median * steps[0].median, _over(steps)
    low = None if time.high is None else tokens / time.high
    high = None if time.low is None else tokens / time.low
    return Interval(value=tokens / time.value, low=low, high=high)


def sample_warnings(launches: Sequence[LaunchSamples]) -> tuple[str, ...]:
    """What a careful reader should know about these samples; nothing was removed because of it."""
    found: list[str] = []
    if len(launches) == 1:
        found.append("one launch: no interval")
    elif len(launches) < FEW_LAUNCHES:
        found.append(f"{len(launches)} launches: intervals are very wide")
    clean = np.concatenate([launch.clean for launch in launches])
    if 1.0 - clean.mean() > CONTENDED_SHARE:
        overruled = sum(not launch.enough_clean for launch in launches)
        mixed = f"; in {overruled} of {len(launches)} launches too many to leave them out" if overruled else ""
        found.append(f"{(~clean).sum()} of {clean.size} samples waited for a processor{mixed}")
    spikes = float(np.mean([stats.spike_rate(launch.used, SPIKE_FACTOR) for launch in launches]))
    if spikes > SPIKE_SHARE:
        found.append(f"{spikes:.0%} of the samples are spikes above {SPIKE_FACTOR} x the median")
    severe = sum(stats.tukey_outliers(launch.used).severe for launch in launches)
    total = sum(launch.used.size for launch in launches)
    if severe > SEVERE_OUTLIER_SHARE * total:
        found.append(f"{severe} of {total} samples are severe outliers (beyond 3 interquartile ranges)")
    found += _drift(launches)
    return tuple(found)


def _drift(launches: Sequence[LaunchSamples]) -> list[str]:
    """Drift and memory in the time series: harmless for paired effects, not for a case's own value."""
    found = []
    moved = []
    for launch in launches:
        slope_per_s = stats.drift_per_s(launch.values, launch.starts_s) if launch.starts_s.size else None
        if slope_per_s is not None:
            span_s = float(launch.starts_s[-1] - launch.starts_s[0])
            moved.append((stats.expm1(slope_per_s * span_s), span_s))
    # One direction in every launch, or it is no drift but noise.
    if moved and len({total > 0 for total, _ in moved}) == 1:
        total, span_s = (float(np.median(column)) for column in zip(*moved, strict=True))
        if abs(total) > DRIFT:
            found.append(f"times drift by {total:+.0%} within a launch of {span_s:.3g} s")
    lags = [stats.lag1_autocorrelation(np.log(launch.values)) for launch in launches]
    known = [lag for lag in lags if lag is not None]
    if known and float(np.median(known)) > AUTOCORRELATION:
        found.append(f"neighbouring samples are alike (lag-1 autocorrelation {np.median(known):.2f})")
    return found
