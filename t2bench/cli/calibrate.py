"""`t2bench calibrate`: what this machine can resolve, found out by gating a suite against itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from t2bench.cli import common

if TYPE_CHECKING:
    from t2bench.cli.gate_base import Request
    from t2bench.runner.observer import Observer


@click.command("calibrate")
@common.suite_options
@click.option("--launches", type=click.IntRange(min=3), help="Pairs of launches [default: two looks' worth].")
@click.option("--baselines", metavar="DIR", default="results/baselines", show_default=True)
@click.option("-o", "--out", metavar="DIR", help="Run directory [default: results/calibrate/SUITE/TIME].")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def command(
    suite: str,
    device: str,
    only: str | None,
    overrides: tuple[str, ...],
    seed: int | None,
    quick: bool,
    data: str | None,
    threads: int | None,
    allow_code: bool,
    as_json: bool,
    launches: int | None,
    baselines: str,
    out: str | None,
    quiet: bool,
) -> None:
    """Measure SUITE against itself: spread between launches, false alarms of the gate's rule, what it can detect.

    The certificate is stored with this machine's baseline, and gates refuse margins that it says cannot be resolved.
    """
    from rich.console import Console

    from t2bench.cli import gate_base
    from t2bench.cli.progress import Progress
    from t2bench.runner.observer import Silent

    if quick:
        common.fail("--quick is a look, not a result; a calibration does not take it")
    watch = Silent() if quiet else Progress(Console(stderr=True))
    request = gate_base.Request(
        suite=suite,
        device=device,
        allow_code=allow_code,
        only=only,
        overrides=common.all_overrides(overrides, seed, quick=False),
        baselines=Path(baselines),
        options=gate_base.options_of("calibrate", suite, out, data, threads, None),
    )
    try:
        with common.gate_errors(), common.termination_as_interrupt():
            found, path = _calibrate(request, watch, launches)
    except KeyboardInterrupt:
        common.fail("interrupted; nothing was stored", common.INTERRUPTED)
    finally:
        watch.close()
    if as_json:
        print(json.dumps({**found, "baseline": str(path)}))
        return
    _show(found)
    print(path)


def _calibrate(request: Request, watch: Observer, launches: int | None) -> tuple[dict[str, Any], Path]:
    from t2bench.cli import gate_flow
    from t2bench.gate import baseline as stored
    from t2bench.gate.calibrate import calibrate
    from t2bench.runner.codebase import own_commit
    from t2bench.runner.gating import GateJob

    suite, policy = gate_flow.load(request, watch)
    plan = gate_flow.gated(suite, request.only, watch)
    twins = {case.id: case.to_dict() for case in plan.cases if not case.ghost}
    with GateJob(suite, plan, None, twins, gate_flow.with_code(request, suite), watch) as job:
        counted = gate_flow.count(job)
        names = [case for case, entry in counted.items() if entry.status == "ok"]
        job.pairs(names, range(launches or 2 * policy.launches), rounds=policy.rounds, memory=policy.weighs)
    pairs = {name: job.bases[name].id for name in names}
    try:
        found = calibrate(job.records, pairs, policy, when=str(job.environment["started"]))
    except ValueError as error:
        common.fail(str(error), common.FAILED)
    path = stored.path_of(request.baselines, suite.name, job.environment["fingerprint"]["hw"])
    try:
        before = stored.read(path)
    except stored.BaselineError:
        before = stored.baseline_of(suite.name, job.environment, counted, job.records)
    if before.fingerprint != job.environment["fingerprint"]:
        before = stored.baseline_of(suite.name, job.environment, counted, job.records)
    calibrated = replace(before, calibration=found)
    stored.write(request.baselines, calibrated, action="calibrate", why="calibration", commit=own_commit())
    return found, path


def _show(found: dict[str, Any]) -> None:
    for case, metrics in found["cases"].items():
        for metric, entry in metrics.items():
            detectable = ", ".join(f"{k} launches {100 * v:.2g} %" for k, v in entry["mde"].items())
            click.echo(f"{case} {metric}: launches differ by {100 * entry['launch_sd']:.2g} %")
            click.echo(f"  found with 90 % probability beyond the tolerance: {detectable}")
            if entry.get("paired_autocorrelation") is not None:
                raw, ratio = entry["autocorrelation"], entry["paired_autocorrelation"]
                click.echo(f"  lag-1 autocorrelation: {raw:.2f} of the times, {ratio:.2f} of the paired ratios")
    worst = found["false_alarms"]["worst"]
    click.echo(found["words"])
    click.echo(
        f"with every case at its tolerance: {worst['events']} false alarms in {worst['trials']} resampled gate runs "
        f"(95 % interval {100 * worst['low']:.2g} to {100 * worst['high']:.2g} %; alpha is {100 * found['alpha']:g} %)"
    )
