"""A run made of records alone, with every kind of ending, under any names and texts."""

from __future__ import annotations

from typing import Any

import pytest

from t2bench.analysis.analyse import analyse
from t2bench.records import Metric, Record, Run

LENGTHS = (64, 128, 8192)
LAUNCHES = 3
ROUNDS = 4


def seconds(place: int, length: int, launch: int, turn: int) -> float:
    """The sample of a case: known to the digit, so that tests can compute what must come out."""
    return (0.010 + 0.002 * place) * length / 64 * (1 + 0.01 * launch + 0.001 * turn)


def saved_bytes(place: int, length: int) -> int:
    return 4096 * length + 8 * place


def make_run(path: Any, names: tuple[str, str, str] = ("vanilla", "vanilla+flash", "-x"), words: str = "") -> Run:
    """Three variants and a ghost at three lengths; at 8192 one is too large, one crashed, one is refused."""
    records: list[Record] = []
    groups: dict[str, list[str]] = {}
    for length in LENGTHS:
        group = f"train_step/fp32/L{length}"
        for place, name in enumerate((*names, f"{names[0]}@ghost")):
            case = f"{group}/{name}"
            groups.setdefault(group, []).append(case)
            axes = {"length": length, "batch": 4, "dtype": "fp32", "device": "cpu", "seed": 0, "ghost": place == 3}
            base: dict[str, Any] = {"run": f"made{words}", "case": case, "group": group, "variant": name}
            base |= {"workload": "train_step", "axes": axes}
            if length == 8192:
                status = ("oom", "crashed", "unsupported", "skipped")[place]
                records.append(Record(**base, pass_="time", launch=0, status=status, reason=f"no more{words}"))  # type: ignore[arg-type]
            else:
                records += _measured(base, place, length)
    suite = {
        "name": f"suite{words}",
        "device": "cpu",
        "reference": names[0],
        "variants": [{"name": name, "model": None} for name in names],
        "measure": {"launches": LAUNCHES},
    }
    environment = {
        "run": f"made{words}",
        "suite": suite,
        "plan": {"groups": groups},
        "started": "2031-02-03T04:05:06+00:00",
        "host": {"cpu": f"A CPU{words}", "allowed_cores": 8, "python": "3.12.1", "machine": "x86_64"},
        "torch": {"torch": "2.13.0", "threads": 7},
        "fingerprint": {"hw": "aa", "sw": "bb", "proto": "cc"},
        "argv": ["t2bench", "run", f"x{words}"],
    }
    return Run(path=path, suite=suite, environment=environment, records=tuple(records))


def _measured(base: dict[str, Any], place: int, length: int) -> list[Record]:
    made = []
    for launch in range(LAUNCHES):
        samples = tuple(seconds(place, length, launch, turn) for turn in range(ROUNDS))
        metrics = {
            "step_time_s": Metric(value=samples[1], unit="s", samples=samples),
            "tokens_per_s": Metric(value=4 * length / samples[1], unit="tokens/s"),
        }
        turns = {
            "round": list(range(ROUNDS)),
            "position": [place] * ROUNDS,
            "start_s": [10.0 * launch + turn for turn in range(ROUNDS)],
            "contended": [turn == ROUNDS - 1 and launch == 1 for turn in range(ROUNDS)],
        }
        made.append(Record(**base, pass_="time", launch=launch, status="ok", metrics=metrics, turns=turns))
    if place < 3:
        counts = {
            "saved_for_backward_bytes": Metric(value=saved_bytes(place, length), unit="bytes"),
            "executed_flops": Metric(value=1e9 * length, unit="flops"),
        }
        weights = {"process_peak_bytes": Metric(value=5e7 + length, unit="bytes")}
        made.append(Record(**base, pass_="counters", launch=0, status="ok", metrics=counts))
        made.append(Record(**base, pass_="memory", launch=0, status="ok", metrics=weights))
    return made


@pytest.fixture
def make():
    return make_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path)


@pytest.fixture
def analysis(run):
    return analyse(run)
