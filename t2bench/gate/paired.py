"""L2: from the records of paired launches to one row per test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from t2bench.analysis import stats
from t2bench.analysis.effects import paired_logs
from t2bench.analysis.launches import launches_of
from t2bench.analysis.results import Interval
from t2bench.analysis.stats import Floats, expm1
from t2bench.gate import judge
from t2bench.gate.policy import MEMORY_METRICS, Policy, thresholds, worse_by
from t2bench.gate.results import GateRow, RowVerdict
from t2bench.records import HIGHER_IS_BETTER, Record
from t2bench.spec.gate import Margin

ALIVE = ("ok", "not_steady", "throttled")
# Always allowed, whatever a model's size: two code bases load their modules to different places, and so differ in the
# pages that a process touches (0.8 MiB between equal commits).
SLACK_BYTES: Mapping[str, int] = {"process_peak_bytes": 2 << 20}
WORDS: Mapping[int, RowVerdict] = {judge.PASS: "pass", judge.INCONCLUSIVE: "inconclusive", judge.FAIL: "fail"}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PairedTest:
    """One metric of one pair, as far as it was measured.

    Attributes:
        case: the candidate's case id.
        changes: launch -> change for the worse (see `policy.worse_by`).
        base: the base's own value.
        new: the candidate's.
        restless: launches in which a side could not be measured steadily.
    """

    case: str
    metric: str
    unit: str
    margin: Margin
    changes: Mapping[int, float]
    base: Interval
    new: Interval
    restless: int = 0

    def values(self, launches: Sequence[int]) -> Floats:
        """Changes of some launches, NaN where there is none."""
        return np.array([self.changes.get(launch, math.nan) for launch in launches])


@dataclass(frozen=True, kw_only=True, slots=True)
class Broken:
    """A pair that could not be measured to the end.

    Attributes:
        regressed: the candidate broke and the base did not, which is a regression; otherwise nothing is known.
        why: what happened.
    """

    case: str
    regressed: bool
    why: str


def tests_of(
    records: Iterable[Record], pairs: Mapping[str, str], policy: Policy
) -> tuple[list[PairedTest], list[Broken]]:
    """Every margin of the policy that was measured on both sides of a pair.

    Args:
        records: of the paired launches.
        pairs: the candidate's case id -> the base's.
        policy: what is judged.
    """
    by_case: dict[str, list[Record]] = {}
    for record in records:
        by_case.setdefault(record.case, []).append(record)
    tests: list[PairedTest] = []
    broken: list[Broken] = []
    for new, base in pairs.items():
        ours, theirs = by_case.get(new, []), by_case.get(base, [])
        failure = _broken(new, ours, theirs)
        if failure is not None:
            broken.append(failure)
            continue
        for metric, margin in policy.margins.items():
            test = _test(new, metric, margin, ours, theirs)
            if test is not None:
                tests.append(test)
    return tests, broken


def _broken(case: str, ours: Sequence[Record], theirs: Sequence[Record]) -> Broken | None:
    bad = [next((r for r in side if r.status not in ALIVE), None) for side in (ours, theirs)]
    mine, other = bad
    if mine is not None:
        both = other is not None
        why = f"{mine.status}: {mine.reason}" + (f"; the base too: {other.status}" if other is not None else "")
        return Broken(case=case, regressed=not both, why=why)
    if other is not None:
        return Broken(case=case, regressed=False, why=f"the base ended {other.status}: {other.reason}")
    return None


def _test(
    case: str, metric: str, margin: Margin, ours: Sequence[Record], theirs: Sequence[Record]
) -> PairedTest | None:
    mine, other = _per_launch(ours, metric), _per_launch(theirs, metric)
    shared = [launch for launch in mine if launch in other]
    if not shared:
        return None
    if margin.absolute or metric in MEMORY_METRICS:
        changes = {launch: worse_by(metric, margin, mine[launch], other[launch]) for launch in shared}
    else:
        logs = paired_logs(launches_of(ours, metric), launches_of(theirs, metric))
        sign = -1.0 if metric in HIGHER_IS_BETTER else 1.0
        found = {} if logs is None else dict(zip(logs.launches, logs.values, strict=True))
        changes = {launch: sign * float(value) for launch, value in found.items()}
    restless = {r.launch for r in (*ours, *theirs) if r.pass_ == "time" and r.status != "ok"}
    base = stats.median_interval([other[launch] for launch in shared])
    if metric in SLACK_BYTES and not margin.absolute:
        margin = replace(margin, tolerance=max(margin.tolerance, SLACK_BYTES[metric] / base.value))
    return PairedTest(
        case=case,
        metric=metric,
        unit=next(r.metrics[metric].unit for r in ours if metric in r.metrics),
        margin=margin,
        changes=changes,
        base=base,
        new=stats.median_interval([mine[launch] for launch in shared]),
        restless=len(restless) if metric.endswith("_s") else 0,
    )


def _per_launch(records: Iterable[Record], metric: str) -> dict[int, float]:
    found: dict[int, float] = {}
    for record in records:
        value = record.metrics[metric].value if metric in record.metrics else None
        if value is not None and record.pass_ not in ("plan", "counters"):
            found[record.launch] = value
    return found


def family(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """The tests that share the false-alarm rate."""
    return [test for test in tests if not test.margin.advisory]


def early(tests: Sequence[PairedTest], policy: Policy, first: Sequence[int]) -> dict[tuple[str, str], int]:
    """(case, metric) -> code of the first look, for tests that have all its launches."""
    members = [test for test in family(tests) if not np.isnan(test.values(first)).any()]
    if not members or len(first) < 2:
        return {}
    bounds, limits = _scales(members)
    codes = judge.first_look(np.stack([t.values(first) for t in members]), bounds, limits, policy.alpha)
    return {(t.case, t.metric): int(code) for t, code in zip(members, codes, strict=True)}


def rows(tests: Sequence[PairedTest], policy: Policy, first: Sequence[int], second: Sequence[int]) -> list[GateRow]:
    """The final row of every test.

    Args:
        tests: all tests.
        policy: how they are judged.
        first: launches of the first look.
        second: launches of the second; empty if there was none, and then an alarm stays unconfirmed.
    """
    judged = family(tests)
    whole = [test for test in judged if len(first) >= 2 and not np.isnan(test.values(first)).any()]
    if second:
        passed = early(whole, policy, first)
        whole = [
            test
            for test in whole
            if passed[test.case, test.metric] == judge.PASS or not np.isnan(test.values(second)).any()
        ]
    codes: dict[int, int] = {}
    if whole:
        bounds, limits = _scales(whole)
        values = np.stack([test.values(first) for test in whole])
        found = judge.first_look(values, bounds, limits, policy.alpha)
        if second:
            fresh = np.stack([test.values(second) for test in whole])
            found = judge.second_look(values, fresh, bounds, limits, policy.alpha)
        else:
            found = np.where(found == judge.FAIL, judge.INCONCLUSIVE, found)
        codes = {id(test): int(code) for test, code in zip(whole, found, strict=True)}
    size = max(1, len(judged))
    made = [_row(test, codes.get(id(test)), policy, size, (*first, *second)) for test in judged]
    return made + _advisory([test for test in tests if test.margin.advisory], policy, (*first, *second))


def _scales(tests: Sequence[PairedTest]) -> tuple[Floats, Floats]:
    both = np.array([thresholds(test.margin) for test in tests])
    return both[:, 0], both[:, 1]


def _row(test: PairedTest, code: int | None, policy: Policy, size: int, launches: Sequence[int]) -> GateRow:
    values = test.values(launches)
    values = values[~np.isnan(values)]
    bound, _ = thresholds(test.margin)
    margin = test.margin
    if values.size < 2:
        return _plain(test, "inconclusive", f"{values.size} paired launches; a verdict needs two at least")
    seen = judge.look(values[None, :], np.array([bound]))
    excess = judge.detectable(float(values.std(ddof=1)), policy.launches, size, policy.alpha)
    mde = excess if margin.absolute else expm1(bound + excess) - margin.tolerance
    # Fewer launches than planned, or an alarm without its second look, prove nothing.
    verdict = WORDS[judge.INCONCLUSIVE if code is None else code]
    return GateRow(
        case=test.case,
        metric=test.metric,
        layer="L2",
        verdict=verdict,
        why=_why(test, verdict, float(seen.mean[0]), values, policy, size),
        unit=test.unit,
        base=test.base,
        new=test.new,
        effect=_effect(test, float(seen.mean[0]), float(seen.low[0]), float(seen.high[0])),
        tolerance=margin.tolerance,
        detect=margin.detect,
        mde=mde,
        p_value=judge.p_value(float(seen.t[0]), seen.df),
        num_launches=int(values.size),
    )


def _why(test: PairedTest, verdict: str, mean: float, values: Floats, policy: Policy, size: int) -> str:
    allowed = _amount(test.margin.tolerance, test)
    caught = _amount(test.margin.tolerance + test.margin.detect, test)
    words = {
        "pass": f"below {caught} with 95 % confidence ({allowed} are allowed)",
        "fail": f"proven to be worse by more than the {allowed} that are allowed; fresh launches confirm it",
        "inconclusive": f"neither within {allowed} nor proven beyond",
    }[verdict]
    if verdict == "inconclusive":
        bound, limit = thresholds(test.margin)
        needed = judge.launches_needed(float(values.std(ddof=1)), limit - bound, size, policy.alpha)
        if needed is not None and needed > policy.launches:
            words += f"; at this noise {needed} launches a look would decide"
        elif needed is None:
            words += "; this machine is too noisy for the margin"
    if test.restless:
        words += f"; in {test.restless} launches a side was not steady"
    return words


def _amount(size: float, test: PairedTest) -> str:
    return f"{size:g} {test.unit}" if test.margin.absolute else f"{100 * size:g} %"


def _effect(test: PairedTest, mean: float, low: float, high: float) -> Interval | None:
    """The ratio candidate / base: the change for the worse, turned back into a ratio of values."""
    if test.margin.absolute:
        return None
    if test.metric in HIGHER_IS_BETTER:
        mean, low, high = -mean, -high, -low
    return Interval(value=math.exp(mean), low=stats.exp(low), high=stats.exp(high))


def _plain(test: PairedTest, verdict: RowVerdict, why: str) -> GateRow:
    return GateRow(
        case=test.case,
        metric=test.metric,
        layer="L2",
        verdict=verdict,
        why=why,
        unit=test.unit,
        base=test.base,
        new=test.new,
        tolerance=test.margin.tolerance,
        detect=test.margin.detect,
        num_launches=len(test.changes),
    )


def _advisory(tests: Sequence[PairedTest], policy: Policy, launches: Sequence[int]) -> list[GateRow]:
    """Rows outside the family: Benjamini and Hochberg's rule marks what deserves a look."""
    made = [_row(test, judge.PASS, policy, max(1, len(tests)), launches) for test in tests]
    known = [index for index, row in enumerate(made) if row.p_value is not None]
    marks = judge.advisory([made[index].p_value or 0.0 for index in known])
    marked = {index for index, mark in zip(known, marks, strict=True) if mark}
    return [
        replace(row, verdict="warn", why="worse than its margin allows; advisory, at a false discovery rate of 10 %")
        if index in marked
        else replace(row, verdict="advisory", why="advisory: not part of the verdict")
        for index, row in enumerate(made)
    ]
