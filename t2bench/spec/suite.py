"""Suite: what a suite file says, validated. Reading YAML into it is the business of `t2bench.spec.loader`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from t2bench.spec.axes import STRICT
from t2bench.spec.gate import Gate
from t2bench.spec.model import ModelSpec
from t2bench.spec.quality import QualitySpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """How much is measured, and when it is enough.

    Attributes:
        launches: fresh processes per variant: the statistical replicates. One allows no interval.
        rounds: turns per variant and launch, at least; each turn is one sample per metric.
        max_rounds: more rounds are added up to this while contended rounds keep the clean ones below `rounds`.
        clean_share: share of `rounds` that must be free of waiting for a processor; with fewer the case could not be
            measured (its data is kept).
        min_sample_s: a sample repeats the step until it is at least this long (seconds).
        warmup_calls: steps before the first sample, at least.
        warmup_s: seconds of warm-up, at least, unless one step is longer than this.
        warmup_max_s: give up waiting for a steady state after this; the case is marked, its data kept.
        truth: check numerics, causality and the observed back end before timing.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    launches: int = 3
    rounds: int = 8
    max_rounds: int = 24
    clean_share: float = 0.5
    min_sample_s: float = 0.01
    warmup_calls: int = 3
    warmup_s: float = 0.5
    warmup_max_s: float = 20.0
    truth: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a case may use.

    Attributes:
        case_timeout_s: seconds without an answer from a worker (build, warm-up or one turn) before its process group
            is killed.
        memory_gib: a case predicted to need more is not run (a row says so), and on a CPU the worker's address space
            is limited to it; None means 80 % of what the device has.
        max_time_s: stop starting launches when the run has taken this long; what was measured is reported.
        expect_oom: an out-of-memory case is a result of this suite, not a failure.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    case_timeout_s: float = 300.0
    memory_gib: float | None = None
    max_time_s: float | None = None
    expect_oom: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A named variant of a suite, resolved.

    Attributes:
        name: as reports show it.
        model: the full spec, with the suite's `model:` overrides applied.
        base: name of the preset or variant it was derived from; empty for a root preset.
        summary: one line for listings.
        scale: sizes stated as a share ("ff": "2/3"), for matrix points that change what they are a share of.
        recipe: how its training differs from the suite's: fields of `t2bench.spec.quality.Recipe`.
    """

    name: str
    model: ModelSpec
    base: str = ""
    summary: str = ""
    scale: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """A suite, resolved for one device.

    Attributes:
        name: short, file-system safe; the results folder is named after it.
        summary: one line for listings and the report's head.
        device: the device kind the profile was chosen for.
        variants: in suite order; the first is the ladder's foot.
        reference: name of the variant that effects are measured against.
        matrix: axis name -> values, in suite order (`workload`, `length`, `dtype`, `batch`, or a ModelSpec field).
        tokens_per_step: constant tokens per step: batch = max(1, tokens_per_step // length) unless `batch` is given.
        quality: what workloads that train to a quality learn from, how, and how they are judged.
        gate: which metrics a gate judges, and how much worse each may get.
        exclude: entries {"match": {key: value or list}, "reason": text}.
        include: extra matrix points {key: value}, each a full or partial point (missing keys take the first value).
        ladder: variant names, each compared with the one before; empty for none.
        resolved: the whole suite as plain data, as saved to `suite.yaml`.
        source: path of the file, for messages.
        only: glob on case ids and variant names: the rest of the plan is left out; empty for everything.
        plugins: code of the user's own, as written -> absolute path or module (see `t2bench.spec.plugins`).
    """

    name: str
    summary: str
    device: str
    variants: tuple[Variant, ...]
    reference: str
    matrix: Mapping[str, tuple[Any, ...]]
    tokens_per_step: int
    measure: Measure = field(default_factory=Measure)
    limits: Limits = field(default_factory=Limits)
    quality: QualitySpec = field(default_factory=QualitySpec)
    gate: Gate = field(default_factory=Gate)
    exclude: tuple[Mapping[str, Any], ...] = ()
    include: tuple[Mapping[str, Any], ...] = ()
    ladder: tuple[str, ...] = ()
    seed: int = 0
    ghost: bool = True
    resolved: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    only: str = ""
    plugins: Mapping[str, str] = field(default_factory=dict)
