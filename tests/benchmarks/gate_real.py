"""Real gate runs on this machine: false alarms, power, and what the rules of other tools say of the same samples.

    python tests/benchmarks/gate_real.py --runs 30 --planted 10 -o results/gate_real      (make gate-real)
    python tests/benchmarks/gate_real.py --table results/gate_real                        the table again

Each run gates a small training step against itself, in fresh processes that take turns, as `t2bench gate --base` does.
In the planted ones every step of the candidate waits 10 % longer. Runs are appended to `runs.jsonl`, so that a series
may be interrupted and continued. The other tools' rules judge the samples of the first launch, since that is what they
are given: one run of the old code and one of the new.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats as scipy_stats

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from t2bench.cli import gate_base, gate_flow  # noqa: E402
from t2bench.gate import judge, paired  # noqa: E402
from t2bench.gate.verdict import Findings, decide  # noqa: E402
from t2bench.runner.gating import BASE_SUFFIX, GateJob, GateOptions  # noqa: E402
from t2bench.runner.observer import Silent  # noqa: E402
from t2bench.spec.case import Plan  # noqa: E402
from t2bench.spec.plan import expand  # noqa: E402

SUITE = """
schema: 1
name: gate_real
variants: [vanilla]
model: {arch: decoder, width: 128, heads: 4, ff: 512, dec_layers: 2, vocab: 1024}
matrix: {workload: [train_step], length: [128]}
tokens_per_step: 512
ghost: false
measure: {warmup_s: 0.2, warmup_max_s: 2.0, max_rounds: 15, rounds: 15, clean_share: 0.01}
gate: {launches: 5, rounds: 15, metrics: {step_time_s: {tolerance: 3%, detect: 5%}}}
"""
PLANTED = 0.10


def one_run(slow: float, folder: Path) -> dict[str, object]:
    """A gate run: verdict and the samples behind it."""
    suite_path = folder / "gate_real.yaml"
    suite_path.write_text(SUITE)
    request = gate_base.Request(suite=str(suite_path), device="cpu", options=GateOptions(path=folder / "run"))
    suite, policy = gate_flow.load(request, Silent())
    policy = replace(policy, margins={"step_time_s": policy.margins["step_time_s"]})
    case = expand(suite).cases[0]
    plan = Plan(cases=(case,), refusals=(), reference=case.variant)
    options = replace(request.options, plants={case.id: {"slow": slow}} if slow else {})
    pairs = {case.id: case.id + BASE_SUFFIX}
    first, second = range(policy.launches), range(policy.launches, 2 * policy.launches)
    with GateJob(suite, plan, None, {case.id: case.to_dict()}, options, Silent()) as job:
        job.pairs([case.id], first, rounds=policy.rounds, memory=False)
        tests, broken = paired.tests_of(job.records, pairs, policy)
        again = any(code != judge.PASS for code in paired.early(tests, policy, first).values())
        if again:
            job.pairs([case.id], second, rounds=policy.rounds, memory=False)
            tests, broken = paired.tests_of(job.records, pairs, policy)
    rows = paired.rows(tests, policy, first, second if again else ())
    verdict, headline = decide(Findings(rows=rows, skipped={}, failures=[one.why for one in broken]))
    samples: dict[str, list[list[float]]] = {"new": [], "base": []}
    for record in job.records:
        if record.pass_ == "time" and "step_time_s" in record.metrics:
            side = "base" if record.variant.endswith(BASE_SUFFIX) else "new"
            samples[side].append(list(record.metrics["step_time_s"].samples or ()))
    return {"planted": slow, "verdict": verdict, "headline": headline, "looks": 1 + again, **samples}


def mann_whitney(new: np.ndarray, base: np.ndarray) -> float:
    """Two-sided p of the Mann-Whitney test."""
    return float(scipy_stats.mannwhitneyu(new, base, alternative="two-sided").pvalue)


# Each rule sees two lists of times, as the tool would; whether it would call the new one a regression.
RULES = {
    "TorchBench: median beyond 7 %": lambda new, base: np.median(new) > 1.07 * np.median(base),
    "pytest-benchmark: mean:10%": lambda new, base: new.mean() > 1.10 * base.mean(),
    "pytest-benchmark: min:10%": lambda new, base: new.min() > 1.10 * base.min(),
    "Mann-Whitney per iteration, p < 0.05": lambda new, base: (
        mann_whitney(new, base) < 0.05 and np.median(new) > np.median(base)
    ),
    "asv: Mann-Whitney p < 0.002 and factor 1.1": lambda new, base: (
        mann_whitney(new, base) < 0.002 and np.median(new) > 1.1 * np.median(base)
    ),
}


def table(runs: list[dict[str, object]]) -> str:
    """Alarms on identical code, and planted slowdowns found, per rule, as Markdown.

    The other tools' two runs are not measured in turns, so here too the new side is a launch of another time: the
    candidate of one run is held against the base of the run before.
    """
    lines = ["| rule | alarms on identical code | planted 10 % found |", "|---|---:|---:|"]
    quiet = [run for run in runs if not run["planted"]]
    planted = [run for run in runs if run["planted"]]
    ours = [_rate([run["verdict"] == "regression" for run in group]) for group in (quiet, planted)]
    lines.append(f"| **t2bench gate** (tolerance 3 %, detect 5 %) | {ours[0]} | {ours[1]} |")
    for name, rule in RULES.items():
        cells = [_rate([bool(rule(*pair)) for pair in _pairs(group, quiet)]) for group in (quiet, planted)]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    undecided = sum(run["verdict"] == "inconclusive" for run in quiet)
    looks = np.mean([run["looks"] for run in quiet]) if quiet else math.nan
    lines += [
        "",
        f"{undecided} of the {len(quiet)} runs of identical code were undecided; {looks:.2f} looks on average.",
    ]
    return "\n".join(lines)


def _pairs(group: list[dict[str, object]], quiet: list[dict[str, object]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(new samples, base samples) of single launches that were measured at different times."""
    found = []
    for index, run in enumerate(group):
        other = quiet[(index + 1) % len(quiet)] if quiet else run
        for launch, new in enumerate(run["new"]):  # type: ignore[arg-type, var-annotated]
            base = other["base"]
            found.append((np.array(new), np.array(base[launch % len(base)])))  # type: ignore[arg-type, index]
    return found


def _rate(flags: list[bool]) -> str:
    if not flags:
        return "n/a"
    low, high = judge.clopper_pearson(sum(flags), len(flags))
    return f"{sum(flags)} of {len(flags)} [{100 * low:.0f}, {100 * high:.0f} %]"


def main() -> None:
    """Measure what is still missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30, help="gate runs of identical code")
    parser.add_argument("--planted", type=int, default=10, help="gate runs with a planted slowdown of 10 %%")
    parser.add_argument("-o", "--out", type=Path, default=Path("results/gate_real"))
    parser.add_argument("--table", type=Path, help="only print the table of this folder")
    args = parser.parse_args()
    out = args.table or args.out
    out.mkdir(parents=True, exist_ok=True)
    journal = out / "runs.jsonl"
    done = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    wanted = [] if args.table else [0.0] * args.runs + [PLANTED] * args.planted
    for run in done:
        if run["planted"] in wanted:
            wanted.remove(run["planted"])
    # Planted runs are spread among the others, so that both live through the same hours.
    wanted = [wanted[index] for index in np.random.default_rng(len(done)).permutation(len(wanted))]
    for number, slow in enumerate(wanted, start=1):
        with tempfile.TemporaryDirectory(prefix="t2bench-gate-real-") as folder:
            run = one_run(slow, Path(folder))
        with journal.open("a") as file:
            file.write(json.dumps(run) + "\n")
        done.append(run)
        print(f"[{number}/{len(wanted)}] planted {slow:.0%}: {run['verdict']}: {run['headline']}", file=sys.stderr)
    text = table(done)
    (out / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
