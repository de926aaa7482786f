"""A factory of runs whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2bench.analysis.launches import LaunchSamples
from t2bench.records import Metric, Record, Run
from t2bench.spec.model import ModelSpec

Curve = Callable[[int], float]

MODELS = {
    "vanilla": ModelSpec(),
    "pre": ModelSpec(norm_place="pre"),
    "gelu": ModelSpec(norm_place="pre", activation="gelu"),
    "flash": ModelSpec(attention="sdpa_flash"),
}


@dataclass
class RunFactory:
    """Builds a run record by record.

    A sample is truth x exp(machine wander shared by the round + offset of the launch + noise of the sample).
    """

    curves: Mapping[str, Curve] = field(
        default_factory=lambda: {"vanilla": lambda n: 1e-3 * n, "flash": lambda n: 0.5e-3 * n}
    )
    lengths: Sequence[int] = (128, 256, 512, 1024, 2048)
    launches: int = 3
    rounds: int = 8
    noise: float = 0.01
    offset: float = 0.002
    wander: float = 0.10
    batch: int = 4
    ghost: bool = True
    ladder: Sequence[str] = ()
    seed: int = 0
    saved: Mapping[str, Curve] = field(
        default_factory=lambda: {
            "vanilla": lambda n: 1000 + 200 * n + 4 * n * n,
            "flash": lambda n: 1000 + 250 * n,
        }
    )
    limits: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        first = next(iter(self.curves))
        return [*self.curves, *([f"{first}@ghost"] if self.ghost else [])]

    def group(self, length: int) -> str:
        return f"train_step/fp32/L{length}"

    def build(self) -> Run:
        generator = np.random.default_rng(self.seed)
        records: list[Record] = []
        for length in self.lengths:
            records += [self._plan(name, length) for name in self.names]
        for length in self.lengths:
            for name in self.names:
                records.append(self._record(name, length, "truth"))
                if not name.endswith("@ghost"):
                    records += [self._counters(name, length), self._memory(name, length)]
        for launch in range(self.launches):
            for length in self.lengths:
                records += self._timed(generator, launch, length)
        return Run(path=Path("run"), suite=self._suite(), environment=self._environment(), records=tuple(records))

    def _suite(self) -> dict[str, Any]:
        return {
            "name": "synthetic",
            "reference": next(iter(self.curves)),
            "ladder": list(self.ladder),
            "variants": [{"name": name, "model": MODELS.get(name, ModelSpec()).to_dict()} for name in self.curves],
            "measure": {"launches": self.launches},
            "limits": {"max_time_s": None, "expect_oom": False, **self.limits},
        }

    def _environment(self) -> dict[str, Any]:
        return {
            "run": "synthetic/1",
            "plan": {"groups": {self.group(n): [f"{self.group(n)}/{v}" for v in self.names] for n in self.lengths}},
            "fingerprint": {"hw": "aa", "sw": "bb", "proto": "cc"},
            "host": {"cpu": "model A", "ram_bytes": 8, "load_1min": 0.5},
            "torch": {"torch": "2.13.0", "threads": 1},
            "wall_s": 10.0,
            "inside_s": 4.0,
            "finished": "2026-01-01T00:00:00",
        }

    def _record(self, name: str, length: int, pass_: str, **values: Any) -> Record:
        metrics = {
            key: Metric(value=value, unit="bytes" if key.endswith("bytes") else "1")
            for key, value in values.pop("metrics", {}).items()
        }
        return Record(
            run="synthetic/1",
            case=f"{self.group(length)}/{name}",
            group=self.group(length),
            variant=name,
            workload="train_step",
            axes={"length": length, "batch": self.batch, "dtype": "fp32", "ghost": name.endswith("@ghost")},
            pass_=pass_,  # type: ignore[arg-type]
            launch=values.pop("launch", 0),
            status=values.pop("status", "ok"),
            metrics=values.pop("raw", metrics),
            **values,
        )

    def _saved(self, name: str, length: int) -> float:
        return self.saved.get(name.removesuffix("@ghost"), self.saved["flash"])(length)

    def _plan(self, name: str, length: int) -> Record:
        saved = self._saved(name, length)
        metrics = {"saved_for_backward_bytes": saved * self.batch, "num_params": 5.0, "sequence_saved_bytes": saved}
        return self._record(name, length, "plan", metrics=metrics)

    def _counters(self, name: str, length: int) -> Record:
        metrics = {"saved_for_backward_bytes": self._saved(name, length) * self.batch, "num_params": 5.0}
        return self._record(name, length, "counters", metrics=metrics)

    def _memory(self, name: str, length: int) -> Record:
        metrics = {"process_peak_bytes": self._saved(name, length) * 10.0, "baseline_bytes": 1e6}
        return self._record(name, length, "memory", metrics=metrics)

    def _timed(self, generator: np.random.Generator, launch: int, length: int) -> list[Record]:
        wander = np.cumsum(generator.normal(0, self.wander, self.rounds))
        found = []
        for name in self.names:
            truth = self.curves[name.removesuffix("@ghost")](length)
            logs = wander + generator.normal(0, self.offset) + generator.normal(0, self.noise, self.rounds)
            times = truth * np.exp(logs)
            raw = {
                "step_time_s": Metric(value=float(np.median(times)), unit="s", samples=tuple(times.tolist())),
                "forward_time_s": Metric(value=None, unit="s", samples=tuple((times / 3).tolist())),
                "tokens_per_s": Metric(value=float(self.batch * length / np.median(times)), unit="tokens/s"),
            }
            turns = {
                "round": list(range(self.rounds)),
                "start_s": [10.0 * i for i in range(self.rounds)],
                "contended": [False] * self.rounds,
            }
            observed = {"steady": True, "interleave": "token", "checksum": 6.25}
            found.append(self._record(name, length, "time", launch=launch, raw=raw, turns=turns, observed=observed))
        return found


def edit(run: Run, change: Callable[[Record], Record | None]) -> Run:
    """The run with every record passed through `change`; None removes it."""
    changed = (change(record) for record in run.records)
    return replace(run, records=tuple(record for record in changed if record is not None))


@pytest.fixture
def factory() -> type[RunFactory]:
    return RunFactory


@pytest.fixture
def edited() -> Callable[[Run, Callable[[Record], Record | None]], Run]:
    return edit


@pytest.fixture
def samples() -> Callable[..., LaunchSamples]:
    """Builds the samples of one launch."""

    def build(launch: int, values: Any, **changes: Any) -> LaunchSamples:
        count = len(values)
        columns: dict[str, Any] = {
            "values": np.asarray(values, dtype=np.float64),
            "turns": tuple((index, 0) for index in range(count)),
            "clean": np.ones(count, dtype=np.bool_),
            "starts_s": np.array([]),
        }
        return LaunchSamples(launch, **{**columns, **changes})

    return build
