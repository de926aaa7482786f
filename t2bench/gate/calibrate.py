"""What a machine can resolve: the suite against itself, and what the configured rule would have made of that.

The certificate is stored with the baseline and holds for one fingerprint. A gate that reads it refuses margins which
this machine cannot resolve, before it spends the time, and says how many launches would be needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from t2bench.analysis import stats
from t2bench.analysis.launches import STEP_TIME, launches_of
from t2bench.gate import judge, paired
from t2bench.gate.policy import Policy, thresholds
from t2bench.gate.results import GateRow
from t2bench.records import Record

RESAMPLES = 4000
LAUNCHES_SHOWN = (3, 5, 8, 12, 20)


def calibrate(records: Sequence[Record], pairs: Mapping[str, str], policy: Policy, *, when: str) -> dict[str, Any]:
    """The certificate of a machine.

    Args:
        records: of paired launches in which both sides are the same code.
        pairs: case id -> the id of its other self.
        policy: the rule to certify.
        when: ISO 8601.

    Raises:
        ValueError: fewer than three launches, or nothing was measured.
    """
    tests, broken = paired.tests_of(records, pairs, policy)
    if broken:
        raise ValueError(f"{broken[0].case}: {broken[0].why}")
    members = [test for test in paired.family(tests) if len(test.changes) >= 3]
    if not members:
        raise ValueError("calibration needs three launches at least, of at least one metric")
    size = len(members)
    cases: dict[str, dict[str, Any]] = {}
    for test in members:
        values = np.array(list(test.changes.values()))
        spread = float(values.std(ddof=1))
        found: dict[str, Any] = {"launch_sd": spread, "mean": float(values.mean()), "launches": int(values.size)}
        found["mde"] = {str(k): judge.detectable(spread, k, size, policy.alpha) for k in LAUNCHES_SHOWN}
        if test.metric == STEP_TIME:
            found |= _rounds(records, test.case, pairs[test.case])
        cases.setdefault(test.case, {})[test.metric] = found
    alarms = {name: _false_alarms(members, policy, at_tolerance=at) for name, at in (("null", False), ("worst", True))}
    return {
        "when": when,
        "launches": policy.launches,
        "rounds": policy.rounds,
        "alpha": policy.alpha,
        "tests": size,
        "cases": cases,
        "false_alarms": alarms,
        "words": _words(cases, alarms, when),
    }


def _words(cases: Mapping[str, Any], alarms: Mapping[str, Any], when: str) -> str:
    spreads = [entry["launch_sd"] for metrics in cases.values() for name, entry in metrics.items() if name == STEP_TIME]
    spread = (
        f"launch spread of the step time {100 * min(spreads):.2g} to {100 * max(spreads):.2g} %; " if spreads else ""
    )
    null = alarms["null"]
    return (
        f"calibrated {when[:10]}: {spread}{null['events']} false alarms in {null['trials']} resampled gate runs "
        f"(95 % upper bound {100 * null['high']:.2g} %)"
    )


def _rounds(records: Iterable[Record], case: str, other: str) -> dict[str, float | None]:
    """Spread between the rounds of a launch, and the memory of the series before and after pairing."""
    ours = launches_of([record for record in records if record.case == case], STEP_TIME)
    theirs = {x.launch: x for x in launches_of([record for record in records if record.case == other], STEP_TIME)}
    spreads, raw, ratios = [], [], []
    for mine in ours:
        its = theirs.get(mine.launch)
        if its is None or mine.values.size != its.values.size:
            continue
        logs = np.log(mine.values / its.values)
        spreads.append(float(logs.std(ddof=1)) if logs.size > 1 else math.nan)
        raw.append(stats.lag1_autocorrelation(np.log(mine.values)))
        ratios.append(stats.lag1_autocorrelation(logs))
    return {
        "round_sd": float(np.median(spreads)) if spreads else None,
        "autocorrelation": _median(raw),
        "paired_autocorrelation": _median(ratios),
    }


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _false_alarms(members: Sequence[paired.PairedTest], policy: Policy, *, at_tolerance: bool) -> dict[str, Any]:
    """Red gate runs among runs drawn from these launches with the two labels exchanged at random.

    Launches are drawn jointly for all tests, since what disturbs one case may disturb the others. `at_tolerance` shifts
    every test to the worst change that is allowed. Drawn from few launches, the rate says nothing below 1 / launches
    that the spread itself does not say.
    """
    shared = sorted(set.intersection(*(set(test.changes) for test in members)))
    if len(shared) < 3:
        return {"events": 0, "trials": 0, "low": 0.0, "high": 1.0}
    values = np.stack([test.values(shared) for test in members])
    bounds, limits = (np.array(column) for column in zip(*(thresholds(t.margin) for t in members), strict=True))
    rng = np.random.default_rng(0)

    def drawn() -> Any:
        chosen = rng.integers(0, len(shared), (RESAMPLES, 1, policy.launches))
        signs = rng.choice([-1.0, 1.0], (RESAMPLES, 1, policy.launches))
        picked = np.take_along_axis(np.broadcast_to(values, (RESAMPLES, *values.shape)), chosen, axis=-1) * signs
        return picked + (bounds[:, None] if at_tolerance else 0.0)

    codes = judge.second_look(drawn(), drawn(), bounds, limits, policy.alpha)
    events = int((codes == judge.FAIL).any(axis=-1).sum())
    low, high = judge.clopper_pearson(events, RESAMPLES)
    return {"events": events, "trials": RESAMPLES, "low": low, "high": high}


def refusals(calibration: Mapping[str, Any], policy: Policy, names: Sequence[str]) -> list[GateRow]:
    """Inconclusive rows for what this machine is known not to resolve; empty without a calibration."""
    rows = []
    known = calibration.get("cases", {})
    tests = [(case, name) for case in names for name in policy.margins if name in known.get(case, {})]
    size = max(1, len(tests))
    for case, metric in tests:
        margin = policy.margins[metric]
        bound, limit = thresholds(margin)
        spread = float(known[case][metric]["launch_sd"])
        if margin.advisory or judge.detectable(spread, policy.launches, size, policy.alpha) <= limit - bound:
            continue
        needed = judge.launches_needed(spread, limit - bound, size, policy.alpha)
        cure = f"{needed} launches a look would do" if needed else "no number of launches would do: widen the margin"
        rows.append(
            GateRow(
                case=case,
                metric=metric,
                layer="L2",
                verdict="inconclusive",
                why=f"not measured: launches differ by {100 * spread:.2g} % here (calibration); {cure}",
                tolerance=margin.tolerance,
                detect=margin.detect,
            )
        )
    return rows
