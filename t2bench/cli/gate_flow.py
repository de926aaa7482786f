"""The way of a gate run, from a suite to a report: count, compare, take turns where there is a base, conclude.

Shared by `gate`, `calibrate` and `baseline`. What is judged and how is in `t2bench.gate`, measuring in
`t2bench.runner.gating`; this file only leads from one to the other.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from t2bench import __version__
from t2bench.cli.gate_base import Base, Request, base_for
from t2bench.gate import baseline as stored
from t2bench.gate import history, paired
from t2bench.gate.calibrate import refusals
from t2bench.gate.completeness import completeness, redefined
from t2bench.gate.counted import Counted, counted_cases
from t2bench.gate.exact import exact, stale
from t2bench.gate.judge import PASS
from t2bench.gate.policy import Policy, policy_of
from t2bench.gate.results import LAYERS, GateReport, GateRow, Layer
from t2bench.gate.verdict import Findings, concluded
from t2bench.runner.codebase import own_commit
from t2bench.runner.devices import suite_for_device
from t2bench.runner.gating import HASH_SEEDS, GateJob, GateOptions
from t2bench.runner.observer import Observer
from t2bench.spec.case import Plan
from t2bench.spec.errors import Mark, SpecError, SuiteErrors
from t2bench.spec.plan import expand, matches
from t2bench.spec.plugins import permitted
from t2bench.spec.suite import Suite


def load(request: Request, observer: Observer) -> tuple[Suite, Policy]:
    """The suite for the device, and its gate.

    Raises:
        SuiteErrors: either cannot be used.
    """
    suite, _ = suite_for_device(
        request.suite, request.device, observer, overrides=request.overrides, allow_code=request.allow_code
    )
    try:
        return suite, policy_of(suite.gate)
    except ValueError as error:
        raise SuiteErrors([SpecError(Mark(suite.source), "", str(error))]) from error


def gated(suite: Suite, only: str | None, observer: Observer) -> Plan:
    """What of the suite a gate can judge: times and counts, but no translations, whose noise no gate could pay for.

    Raises:
        SuiteErrors: the suite cannot be expanded, or nothing is left of it.
    """
    plan = expand(suite, only=only)
    kept = tuple(case for case in plan.cases if not case.workload.learns)
    left_out = len(plan.cases) - len(kept)
    if plan.cases and not kept:
        words = "every case trains to a quality, which a gate does not judge; give it a workload that is timed"
        raise SuiteErrors([SpecError(Mark(suite.source or suite.name), "matrix.workload", words)])
    if left_out:
        observer.note(f"left out: {left_out} cases that train to a quality, which a gate does not judge")
    return replace(plan, cases=kept)


def gate(request: Request, observer: Observer) -> GateReport:
    """A whole gate run; its report is in the run directory too.

    Raises:
        SuiteErrors, CodeBaseError, BaselineError, WorkerFailed, DirectoryError: see there.
    """
    began, started = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%S%z")
    suite, policy = load(request, observer)
    plan = gated(suite, request.only, observer)
    asked = request.base is not None or request.base_python is not None
    if not asked:
        stored.check(request.baselines, suite.name)
    if not policy.exact and not (asked and policy.margins and not request.exact_only):
        return _nothing_to_judge(suite)
    with base_for(request, suite, plan.cases) as base:
        if base is not None and base.variant:
            plan = replace(plan, cases=tuple(case for case in plan.cases if case.variant != base.variant))
        cases = base.cases if base else {}
        options = with_code(request, suite)
        with GateJob(suite, plan, base.code if base else None, cases, options, observer) as job:
            report = _judge(request, suite, policy, base, job)
    report = replace(report, started=started, duration_s=time.monotonic() - began)
    report = replace(report, rows=tuple(replace(row, line=_line(suite, row.case)) for row in report.rows))
    report.save(request.options.path)
    return report


def _nothing_to_judge(suite: Suite) -> GateReport:
    """The answer to a gate in which every metric is off; nothing is measured for it."""
    why = "every metric is off"
    blank = GateReport(
        suite=suite.name,
        suite_path=suite.source,
        base="nothing",
        candidate="this code",
        verdict="inconclusive",
        exit_code=3,
        headline="",
        version=__version__,
    )
    return concluded(blank, Findings(rows=(), skipped=dict.fromkeys(LAYERS, why)))


def with_code(request: Request, suite: Suite) -> GateOptions:
    """How to measure, with the code that the suite names, if the user permits it."""
    return replace(request.options, plugins=permitted(suite, allow_code=request.allow_code))


def accept(request: Request, observer: Observer, *, why: str) -> Path:
    """Count the suite as it is now, and store that as this machine's baseline.

    Args:
        request: what to count; its base is not looked at.
        observer: told what happens.
        why: the person's reason.

    Raises:
        BaselineError: a case is not fit to be held against others.
    """
    suite, _ = load(request, observer)
    plan = gated(suite, request.only, observer)
    with GateJob(suite, plan, None, {}, with_code(request, suite), observer) as job:
        cases = count(job)
    for case, entry in cases.items():
        if entry.status not in ("ok", "oom"):
            raise stored.BaselineError(f"not accepted: {case} is {entry.status}: {entry.reason}")
        for name in entry.unstable:
            observer.note(f"NOT EXACT: {case} {name} differs between hash seeds; it will not be judged")
    found = stored.baseline_of(suite.name, job.environment, cases, job.records)
    return stored.write(request.baselines, found, action="accept", why=why, commit=own_commit())


def count(job: GateJob) -> dict[str, Counted]:
    """Count both sides; the candidate's cases."""
    job.count()
    return counted_cases(job.records, {case.id: case.to_dict() for case in job.cases}, len(HASH_SEEDS))


def _judge(request: Request, suite: Suite, policy: Policy, base: Base | None, job: GateJob) -> GateReport:
    # One that does not hold here is said before anything is counted.
    held = None if base else stored.find(request.baselines, suite.name, job.environment)
    new = count(job)
    refused = {refusal.case.id: refusal.reason for refusal in job.refusals}
    differences: tuple[str, ...] = ()
    calibration: Mapping[str, Any] = {}
    if held is not None:
        found, path = held
        old, words, calibration = dict(found.cases), _words(found, path), found.calibration
        if request.only is not None:  # what was not asked for is not missing
            old = {case: entry for case, entry in old.items() if matches(case, request.only)}
        differences = _differences(found.facts, job.environment)
        out_of_date = stale(old, new)
    elif base is not None:
        old, words, out_of_date = _counted_base(base, job), base.words, []
    rows = [*completeness(old, new, refused), *exact(old, new, policy.exact)]
    rows += [] if base is None else _other_work(old, new)
    rows += _against_anchor(request, suite, job, new)
    skipped: dict[Layer, str] = {"L3": "no times were taken"}
    failures: list[str] = [f"base: {case}: {entry.reason}" for case, entry in old.items() if base and _lost(entry)]
    self_check = [f"every counter was taken under {len(HASH_SEEDS)} hash seeds"]
    if base is None or request.exact_only or not policy.margins:
        skipped["L2"] = "no base to take turns with (--base)" if base is None else "not asked for"
    else:
        both = [case for case in job.bases if old[case].status == "ok" and new[case].status == "ok"]
        # A step that is too large to be counted for real here is not timed here either; L0 says so.
        names = [case for case in both if new[case].real and not redefined(old[case].definition, new[case].definition)]
        calibration = _calibration(request, suite, job)
        timed, broken = _take_turns(job, policy, names, calibration)
        rows += timed
        answered = {row.case for row in timed} | {one.case for one in broken}
        rows += [_open(case, "no metric was measured on both sides") for case in names if case not in answered]
        seen = {row.metric for row in timed}
        rows += [
            _open(case, "the suite's gate names it, and no case of this run measures it", metric)
            for metric in policy.named
            for case in names
            if metric not in seen and case in answered
        ]
        rows += [_regressed(one) for one in broken if one.regressed]
        failures += [f"{one.case}: {one.why}" for one in broken if not one.regressed]
        rows += _past(request, suite, job, names)
        skipped["L3"] = f"fewer than {history.ENOUGH_RUNS} remembered runs of this machine (--remember)"
    if calibration:
        self_check.append(str(calibration.get("words", "")))
    report = GateReport(
        suite=suite.name,
        suite_path=suite.source,
        base=words,
        candidate=_candidate(job),
        verdict="pass",
        exit_code=0,
        headline="",
        self_check=tuple(self_check),
        fingerprint=job.environment["fingerprint"],
        differences=differences,
        machine=stored.machine_words(job.environment),
        runs=(str(job.options.path),),
        version=__version__,
    )
    return concluded(report, Findings(rows=rows, skipped=skipped, failures=failures, stale=out_of_date))


def _lost(entry: Counted) -> bool:
    return entry.status not in ("ok", "unsupported", "skipped", "oom")


def _counted_base(base: Base, job: GateJob) -> dict[str, Counted]:
    """The base's cases under the candidate's names."""
    labels = {case.id: name for name, case in job.bases.items()}
    definitions = {label: base.cases[name] for label, name in labels.items()}
    found = counted_cases(job.records, definitions, len(HASH_SEEDS))
    old = {labels[label]: entry for label, entry in found.items()}
    if base.variant:  # two variants may run on two back ends, and are defined otherwise by intent
        definitions = {case.id: case.to_dict() for case in job.cases}
        old = {
            case: replace(entry, backends=(), real=False, definition=definitions[case]) for case, entry in old.items()
        }
    return old | {case: Counted(status="ok", definition=entry) for case, entry in base.gone.items()}


def _take_turns(
    job: GateJob, policy: Policy, names: Sequence[str], calibration: Mapping[str, Any]
) -> tuple[list[GateRow], list[paired.Broken]]:
    """Both looks of L2: the second for what did not pass at the first."""
    refused = refusals(calibration, policy, names)
    names = [name for name in names if name not in {row.case for row in refused}]
    if not names:
        return refused, []
    pairs = {name: job.bases[name].id for name in names}
    first = list(range(policy.launches))
    job.pairs(names, first, rounds=policy.rounds, memory=policy.weighs)
    tests, broken = paired.tests_of(job.records, pairs, policy)
    codes = paired.early(tests, policy, first)
    lost = {one.case for one in broken}
    again = [
        name
        for name in names
        if name not in lost
        and any(codes.get((t.case, t.metric)) != PASS for t in paired.family(tests) if t.case == name)
    ]
    second = [policy.launches + launch for launch in first] if again else []
    if again:
        job.observer.note(f"second look at {len(again)} of {len(names)} cases: not passed at the first")
        job.pairs(again, second, rounds=policy.rounds, memory=policy.weighs)
        tests, broken = paired.tests_of(job.records, pairs, policy)
    return refused + paired.rows(tests, policy, first, second), broken


def _other_work(old: Mapping[str, Counted], new: Mapping[str, Counted]) -> list[GateRow]:
    """Cases that do other work than in the base: less of it is no improvement, and proves nothing."""
    changed = {case: redefined(old[case].definition, entry.definition) for case, entry in new.items() if case in old}
    return [
        GateRow(
            case=case,
            metric="status",
            layer="L0",
            verdict="inconclusive",
            why=f"the base defines this case otherwise: {', '.join(words)}",
        )
        for case, words in changed.items()
        if words
    ]


def _open(case: str, why: str, metric: str = "step_time_s") -> GateRow:
    return GateRow(case=case, metric=metric, layer="L2", verdict="inconclusive", why=f"not compared: {why}")


def _regressed(one: paired.Broken) -> GateRow:
    return GateRow(case=one.case, metric="status", layer="L2", verdict="fail", why=f"{one.why}; the base is ok")


def _calibration(request: Request, suite: Suite, job: GateJob) -> Mapping[str, Any]:
    """This machine's calibration, if its baseline has one under the same fingerprint."""
    path = stored.path_of(request.baselines, suite.name, job.environment["fingerprint"]["hw"])
    if not path.is_file():
        return {}
    found = stored.read(path)
    return found.calibration if found.fingerprint == job.environment["fingerprint"] else {}


def _past(request: Request, suite: Suite, job: GateJob, names: Sequence[str]) -> list[GateRow]:
    """L3, and this run into the history if that was asked for."""
    fingerprint = job.environment["fingerprint"]
    path = history.runs_file(request.baselines, suite.name, fingerprint["hw"])
    ok = [record for record in job.records if record.case in names]
    times = stored.baseline_of(suite.name, job.environment, dict.fromkeys(names, Counted(status="ok")), ok).times
    medians = {
        case: {name: sorted(values)[len(values) // 2] for name, values in entry.items() if name == "step_time_s"}
        for case, entry in times.items()
    }
    now = history.PastRun(
        when=job.environment["started"], commit=own_commit() or "unknown", fingerprint=fingerprint, values=medians
    )
    rows = history.judge(history.recall(path, fingerprint), now)
    if request.remember and medians:
        history.remember(path, now)
    return rows


def _against_anchor(request: Request, suite: Suite, job: GateJob, new: Mapping[str, Counted]) -> list[GateRow]:
    """The slow ratchet: what many accepted steps add up to since the anchor was pinned."""
    try:
        stored.check(request.baselines, suite.name)
        found, _ = stored.find(request.baselines, suite.name, job.environment)
    except stored.BaselineError:
        return []
    return history.against_anchor(found.anchor, new)


def _words(found: stored.Baseline, path: Path) -> str:
    accepted = found.accepted
    return (
        f"baseline {path}, accepted {accepted.get('when', '?')[:10]} by {accepted.get('who', '?')} on {found.machine}"
    )


def _differences(facts: Mapping[str, Any], environment: Mapping[str, Any]) -> tuple[str, ...]:
    from t2bench.meters.environment import differences

    return differences(facts, {name: environment.get(name) or {} for name in ("host", "torch")})


def _candidate(job: GateJob) -> str:
    commit = own_commit()
    torch = stored.torch_release(job.environment)
    words = "this code" if commit is None else f"commit {commit[:12]}"
    return f"{words}{', with changes' if commit and commit.endswith('+') else ''} (torch {torch})"


def _line(suite: Suite, case: str) -> int:
    """Where the suite file names the case's variant; 1 if nowhere."""
    variant = re.escape(case.rsplit("/", 1)[-1])
    try:
        lines = Path(suite.source).read_text(encoding="utf-8").splitlines()
    except OSError:
        return 1
    found = (n for n, line in enumerate(lines, start=1) if re.search(rf"(?<![\w+.-]){variant}(?![\w+.-])", line))
    return next(found, 1)
