"""Playing the self-test's scenarios on this machine with the smallest case of the user's suite."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from t2bench.cli import gate_base, gate_flow
from t2bench.gate import baseline as stored
from t2bench.gate import paired
from t2bench.gate.completeness import completeness
from t2bench.gate.counted import Counted
from t2bench.gate.exact import exact
from t2bench.gate.judge import PASS
from t2bench.gate.policy import Policy
from t2bench.gate.results import EXIT_CODES
from t2bench.gate.selftest import SCENARIOS, Scenario, self_test, verdict
from t2bench.gate.verdict import Findings, decide
from t2bench.runner.gating import BASE_SUFFIX, GateJob
from t2bench.runner.observer import Observer
from t2bench.spec.case import Case, Plan
from t2bench.spec.cost import model_flops
from t2bench.spec.errors import Mark, SpecError, SuiteErrors
from t2bench.spec.suite import Suite

OTHER_BACK_END = {"math": "sdpa_flash"}


def run_self_test(request: gate_base.Request, watch: Observer, people: Console, *, as_json: bool) -> int:
    """Play every scenario, say how it went, and return the exit code.

    Raises:
        SuiteErrors: the suite cannot be used, or has no step that trains, in which a tensor could be saved.
    """
    suite, policy = gate_flow.load(request, watch)
    case = _smallest(gate_flow.gated(suite, request.only, watch), suite)
    watch.note(f"self-test with {case.id}")
    with tempfile.TemporaryDirectory(prefix="t2bench-self-test-") as scratch:
        player = _Player(request, suite, policy, case, Path(scratch), watch)
        outcomes = self_test(player.play, SCENARIOS)
    watch.close()
    for outcome in outcomes:
        mark = "ok  " if outcome.ok else "WRONG"
        wanted = "" if outcome.ok else f", should be {outcome.scenario.exit_code}"
        line = f"{mark} exit {outcome.exit_code}{wanted}: {outcome.scenario.words}: {outcome.headline}"
        people.print(line, markup=False, highlight=False, soft_wrap=True)
    code = verdict(outcomes)
    right = sum(outcome.ok for outcome in outcomes)
    people.print(f"self-test: {right} of {len(outcomes)} right (exit {code})", markup=False, highlight=False)
    if as_json:
        rows = [
            {"words": o.scenario.words, "exit_code": o.exit_code, "wanted": o.scenario.exit_code, "why": o.headline}
            for o in outcomes
        ]
        click.echo(json.dumps({"exit_code": code, "scenarios": rows}))
    return code


def _smallest(plan: Plan, suite: Suite) -> Case:
    training = [case for case in plan.cases if case.workload.trains and not case.ghost]
    if not training:
        words = "a self-test needs a workload that trains, so that a tensor can be saved for backward"
        raise SuiteErrors([SpecError(Mark(suite.source), "", words)])
    return min(training, key=lambda case: model_flops(case.model, case.workload, case.batch, case.length))


class _Player:
    """Runs gates over one case, each in a run directory of its own."""

    def __init__(
        self, request: gate_base.Request, suite: Suite, policy: Policy, case: Case, scratch: Path, watch: Observer
    ) -> None:
        self._suite, self._policy, self._case, self._watch = suite, policy, case, watch
        self._options = gate_flow.with_code(request, suite)
        self._scratch = scratch
        self._numbers = iter(range(100))
        self._base: dict[str, Counted] = {}

    def play(self, scenario: Scenario) -> tuple[int, str]:
        """Exit code and headline of a gate that meets the defect."""
        self._watch.note(f"planting: {scenario.words}")
        if scenario.defect == "corrupted_baseline":
            return self._corrupted()
        if scenario.timed:
            return self._timed(0.0 if scenario.defect == "none" else self._slowdown())
        return self._counted(scenario)

    def _slowdown(self) -> float:
        margin = self._policy.margins["step_time_s"]
        return margin.tolerance + margin.detect

    def _job(self, plants: dict[str, Any], swapped: dict[str, str], *, twin: bool) -> GateJob:
        options = replace(
            self._options, path=self._scratch / f"run{next(self._numbers)}", plants=plants, swapped=swapped
        )
        plan = Plan(cases=(self._case,), refusals=(), reference=self._case.variant)
        twins = {self._case.id: self._case.to_dict()} if twin else {}
        return GateJob(self._suite, plan, None, twins, options, self._watch)

    def _count(self, plants: dict[str, Any], swapped: dict[str, str]) -> dict[str, Counted]:
        with self._job(plants, swapped, twin=False) as job:
            self._environment = job.environment
            return gate_flow.count(job)

    def _counted(self, scenario: Scenario) -> tuple[int, str]:
        self._base = self._base or self._count({}, {})
        base, name = self._base, self._case.id
        if scenario.defect == "removed_case":
            new: dict[str, Counted] = {}
        elif scenario.defect == "renamed_case":
            new = {f"{name}-renamed": base[name]}
        elif scenario.defect == "swapped_back_end":
            new = self._count({}, {name: OTHER_BACK_END.get(self._case.model.attention, "math")})
        else:
            new = self._count({} if scenario.defect == "none" else {name: {scenario.defect: True}}, {})
        rows = completeness(base, new, {}) + exact(base, new, self._policy.exact)
        found, headline = decide(Findings(rows=rows, skipped={}))
        return EXIT_CODES[found], headline

    def _corrupted(self) -> tuple[int, str]:
        baseline = stored.baseline_of(self._suite.name, self._environment, self._base)
        path = stored.write(self._scratch, baseline, action="accept", why="self-test", commit=None)
        text = path.read_text(encoding="utf-8")
        place = text.index('"values"') + 40
        path.write_text(text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :], encoding="utf-8")
        try:
            stored.find(self._scratch, self._suite.name, self._environment)
        except stored.BaselineError as error:
            return EXIT_CODES["baseline"], str(error).replace(str(path), path.name)
        return EXIT_CODES["pass"], "the damaged baseline was read"

    def _timed(self, slow: float) -> tuple[int, str]:
        """A gate of the case against itself, with our side slowed down."""
        name, policy = self._case.id, replace(self._policy, margins=self._step_time())
        plants = {name: {"slow": slow}} if slow else {}
        first, second = range(policy.launches), range(policy.launches, 2 * policy.launches)
        pairs = {name: name + BASE_SUFFIX}
        with self._job(plants, {}, twin=True) as job:
            job.pairs([name], first, rounds=policy.rounds, memory=False)
            tests, broken = paired.tests_of(job.records, pairs, policy)
            codes = paired.early(tests, policy, first)
            again = not broken and any(code != PASS for code in codes.values())
            if again:
                job.pairs([name], second, rounds=policy.rounds, memory=False)
                tests, broken = paired.tests_of(job.records, pairs, policy)
        rows = paired.rows(tests, policy, first, second if again else ())
        found, headline = decide(Findings(rows=rows, skipped={}, failures=[one.why for one in broken]))
        return EXIT_CODES[found], headline

    def _step_time(self) -> dict[str, Any]:
        return {"step_time_s": self._policy.margins["step_time_s"]}
