"""A synthetic run and its analysis: three variants and a ghost at six lengths, with every way to end in it.

vanilla runs out of memory at 8192 (predicted), flash crashes at 8192, chunked is refused at 256; launches, samples and
intervals come from simple formulas, so that tests can compute what must be shown.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from t2bench.analysis.results import (
    Analysis,
    Crossover,
    Effect,
    Estimate,
    ExactScaling,
    Interval,
    Outcome,
    Rung,
    TimedScaling,
)
from t2bench.records import Metric, Record, Run

LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
SERIES = "train_step/fp32"
PHASES = ("forward_time_s", "loss_time_s", "backward_time_s", "optimizer_time_s")
SHARES = (0.3, 0.1, 0.55, 0.05)


def step_time(name: str, length: int) -> float:
    """Seconds of one step of 8192 tokens, by formula."""
    linear, quadratic = {0: (0.20, 9e-5), 1: (0.21, 3e-5), 2: (0.19, 8.9e-5)}[ORDER[name]]
    return linear + quadratic * length


ORDER: dict[str, int] = {}


def spread(value: float, share: float, launches: int) -> Interval:
    if launches < 2:
        return Interval(value=value)
    return Interval(value=value, low=value * (1 - share), high=value * (1 + share))


def group(length: int, series: str = SERIES) -> str:
    return f"{series}/L{length}"


def ending(index: int, length: int, words: str) -> tuple[str, str, bool]:
    if index == 0 and length == 8192:
        return "oom", f"predicted: needs 12.4 GiB, the limit is 8 GiB{words}", True
    if index == 1 and length == 8192:
        return "crashed", f"signal 9 in launch 0{words}", False
    if index == 2 and length == 256:
        return "unsupported", f"chunked loss needs at least 512 tokens{words}", True
    return "ok", "", True


def make(
    path: Path,
    *,
    names: tuple[str, str, str] = ("vanilla", "flash", "chunked"),
    launches: int = 3,
    measured: bool = True,
    words: str = "",
    suite: str = "quickstart",
) -> tuple[Run, Analysis]:
    """A run and its analysis; `words` is put into every free text, `names` are the variants'."""
    ORDER.clear()
    ORDER.update({name: index for index, name in enumerate(names)})
    ghost = f"{names[0]}@ghost"
    ORDER[ghost] = 0
    outcomes: list[Outcome] = []
    records: list[Record] = []
    estimates: list[Estimate] = []
    effects: list[Effect] = []
    counted: dict[str, dict[str, float]] = {}
    predicted: dict[str, dict[str, float]] = {}
    memory: dict[str, dict[str, float]] = {}
    for length in LENGTHS:
        for name in (*names, ghost):
            index = ORDER[name]
            status, reason, expected = ending(index, length, words)
            if not measured and status == "ok":
                status, reason, expected = "crashed", f"signal 11{words}", False
            case = f"{group(length)}/{name}"
            outcomes.append(
                Outcome(case=case, group=group(length), variant=name, status=status, reason=reason, expected=expected)
            )
            square = (96, 0, 88)[index]
            saved = float(square * length * length + 12288 * length + 4096) * (8192 // length)
            predicted[case] = {"tracked_peak_bytes": saved * 1.25, "saved_for_backward_bytes": saved}
            axes = {"length": length, "batch": 8192 // length, "dtype": "fp32", "device": "cpu", "ghost": name == ghost}
            base: dict[str, Any] = {
                "run": f"{suite}-1",
                "case": case,
                "group": group(length),
                "variant": name,
                "workload": "train_step",
                "axes": axes,
            }
            if status != "ok":
                records.append(Record(**base, pass_="plan", launch=0, status=status, reason=reason))
                continue
            counted[case] = {
                **predicted[case],
                "model_flops": 3.1e11,
                "executed_flops": 3.3e11 + length,
                "num_params": 6_543_210.0,
            }
            if name != ghost:
                memory[case] = {"process_peak_bytes": saved * 1.4, "baseline_bytes": 3e8}
            seconds = step_time(name, length)
            records.extend(_timed(base, seconds, launches))
            for metric, share in zip(("step_time_s", *PHASES), (1.0, *SHARES), strict=True):
                estimates.append(
                    Estimate(
                        case=case,
                        group=group(length),
                        variant=name,
                        metric=metric,
                        unit="s",
                        interval=spread(seconds * share, 0.02, launches),
                        num_launches=launches,
                        num_samples=8 * launches,
                        warnings=(f"speed drifted by 4 % a minute{words}",) if length == 512 and index == 0 else (),
                    )
                )
            if index == 0 and name != ghost:
                continue
            if ending(0, length, "")[0] == "ok":
                effects.append(effect(name, names[0], length, launches, ghost=name == ghost))
    analysis = Analysis(
        reference=names[0],
        outcomes=tuple(outcomes),
        estimates=tuple(estimates),
        effects=tuple(effects),
        exact_scaling=_exact(names),
        timed_scaling=_scaling(names, launches, words) if measured else (),
        crossovers=_crossovers(names, launches, words) if measured else (),
        ladder=_ladder(names, launches, words) if measured else (),
        counted=counted,
        predicted=predicted,
        measured_memory=memory,
        launches=launches if measured else 0,
        inside_fraction=0.71 if measured else None,
        warnings=(f"the machine was busy: 9 % of the samples are contended{words}",),
    )
    return Run(
        path=path, suite=_suite(names, suite), environment=_environment(names, suite, words), records=tuple(records)
    ), analysis


def only(run: Run, analysis: Analysis, length: int) -> tuple[Run, Analysis]:
    """The same with one length: no growth and no crossovers, as the analysis would have it."""
    kept = {
        field: tuple(item for item in getattr(analysis, field) if item.group == group(length))
        for field in ("outcomes", "estimates", "effects", "ladder")
    }
    records = tuple(record for record in run.records if record.group == group(length))
    scaled = tuple(replace(s, lengths=(length,), coefficients=None, refused="one") for s in analysis.exact_scaling)
    small = replace(analysis, **kept, exact_scaling=scaled, timed_scaling=(), crossovers=())
    return replace(run, records=records), small


def repeated(run: Run, analysis: Analysis, times: int) -> tuple[Run, Analysis]:
    """The same with its series that many times, under other names."""

    def renamed(item: Any, copy: int) -> Any:
        names = ("case", "group", "series")
        return replace(item, **{n: getattr(item, n).replace("fp32", f"fp32.{copy}") for n in names if hasattr(item, n)})

    fields = ("outcomes", "estimates", "effects", "exact_scaling", "timed_scaling", "crossovers", "ladder")
    many = {f: tuple(renamed(item, copy) for copy in range(times) for item in getattr(analysis, f)) for f in fields}
    numbers = {
        f: {
            case.replace("fp32", f"fp32.{copy}"): v for copy in range(times) for case, v in getattr(analysis, f).items()
        }
        for f in ("counted", "predicted", "measured_memory")
    }
    records = tuple(renamed(record, copy) for copy in range(times) for record in run.records)
    return replace(run, records=records), replace(analysis, **many, **numbers)


def effect(name: str, reference: str, length: int, launches: int, *, ghost: bool = False) -> Effect:
    ratio = 1.004 if ghost else step_time(name, length) / step_time(reference, length)
    share = 0.011 if ghost else 0.018
    interval = spread(ratio, share, launches)
    verdict: Any = "undecidable"
    if interval.low is not None and interval.high is not None:
        verdict = "higher" if interval.low > 1 else "lower" if interval.high < 1 else "not distinguishable"
    return Effect(
        group=group(length),
        metric="step_time_s",
        variant=name,
        reference=reference,
        ratio=interval,
        mde=0.031 if launches > 1 else None,
        verdict=verdict,
        paired=True,
        num_launches=launches,
        ghost=ghost,
    )


def _timed(base: dict[str, Any], seconds: float, launches: int) -> list[Record]:
    made = []
    for launch in range(launches):
        wobble = [seconds * (1 + 0.01 * ((7 * turn + 3 * launch) % 5 - 2)) for turn in range(8)]
        metrics = {
            "step_time_s": Metric(value=seconds, unit="s", samples=tuple(wobble)),
            "tokens_per_s": Metric(value=8192 / seconds, unit="tokens/s"),
        }
        for phase, share in zip(PHASES, SHARES, strict=True):
            metrics[phase] = Metric(value=seconds * share, unit="s", samples=tuple(share * w for w in wobble))
        turns = {
            "round": list(range(8)),
            "position": [turn % 3 for turn in range(8)],
            "start_s": [turn * 2.0 + launch * 30 for turn in range(8)],
            "contended": [turn == 5 for turn in range(8)],
        }
        made.append(Record(**base, pass_="time", launch=launch, status="ok", metrics=metrics, turns=turns))
    return made


def _exact(names: tuple[str, str, str]) -> tuple[ExactScaling, ...]:
    squares = (Fraction(96), Fraction(0), Fraction(88))
    return tuple(
        ExactScaling(
            series=SERIES,
            variant=name,
            metric="sequence_saved_bytes",
            unit="bytes",
            lengths=LENGTHS,
            coefficients=None if index == 2 else (Fraction(4096), Fraction(12288), squares[index]),
            refused="the count is not a polynomial in L" if index == 2 else "",
        )
        for index, name in enumerate(names)
    )


def _scaling(names: tuple[str, str, str], launches: int, words: str) -> tuple[TimedScaling, ...]:
    found = []
    for index, name in enumerate(names):
        lengths = tuple(n for n in LENGTHS if ending(index, n, "")[0] == "ok")
        per_sequence = tuple(step_time(name, n) * n / 8192 for n in lengths)
        fitted = index < 2
        linear, quadratic = step_time(name, 0) / 8192, (step_time(name, 1000) - step_time(name, 0)) / 1000 / 8192
        found.append(
            TimedScaling(
                series=SERIES,
                variant=name,
                metric="step_time_s",
                lengths=lengths,
                values=tuple(spread(v, 0.02, launches) for v in per_sequence),
                exponent=spread(1.71 - 0.4 * index % 0.7, 0.03, launches),
                local=(),
                coefficients=tuple(spread(v, 0.05, launches) for v in (1e-9, linear, quadratic)) if fitted else None,  # type: ignore[arg-type]
                residual=0.03 if fitted else 0.31,
                parity_length=spread(linear / quadratic, 0.1, launches) if fitted else None,
                refused="" if fitted else f"the fit misses a launch median by 31 %{words}",
            )
        )
    return tuple(found)


def _crossovers(names: tuple[str, str, str], launches: int, words: str) -> tuple[Crossover, ...]:
    common = {"series": SERIES, "reference": names[0], "metric": "step_time_s"}
    return (
        Crossover(**common, variant=names[1], length=spread(310.0, 0.2, launches), note="lower from about 310 on"),
        Crossover(**common, variant=names[2], length=None, note=f"lower at every measured length (512 to 4096){words}"),
    )


def _ladder(names: tuple[str, str, str], launches: int, words: str) -> tuple[Rung, ...]:
    found = []
    for previous, name, axis in ((0, 2, "loss"), (2, 1, "attention")):
        found.append(
            Rung(
                variant=names[name],
                previous=names[previous],
                group=group(4096),
                axes={axis: (f"before{words}", f"after{words}")},
                effect=effect(names[name], names[previous], 4096, launches),
                cumulative=effect(names[name], names[0], 4096, launches),
            )
        )
    return tuple(found)


def _suite(names: tuple[str, str, str], suite: str) -> dict[str, Any]:
    return {
        "name": suite,
        "device": "cpu",
        "reference": names[0],
        "variants": [{"name": n, "model": {}} for n in names],
    }


def _environment(names: tuple[str, str, str], suite: str, words: str) -> dict[str, Any]:
    return {
        "run": f"{suite}-1",
        "suite": _suite(names, suite),
        "host": {"cpu": f"An 8 core CPU{words}", "cores": 8, "ram_bytes": 34359738368, "governor": None},
        "torch": {"version": "2.13.0", "threads": 7},
        "ceilings": {"fp32_gemm_flops": 3.2e11},
        "fingerprint": {"hw": "1a2b3c4d", "sw": "5e6f7a8b", "proto": "9c0d1e2f"},
        "started": "2031-02-03T04:05:06+00:00",
        "wall_s": 61.2,
        "inside_s": 43.5,
        "argv": ["t2bench", "run", suite, "--set", f"name={words}"],
    }
