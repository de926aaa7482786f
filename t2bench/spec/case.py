"""Case: one variant doing one workload at one point of a suite's matrix; and Plan: all cases of a suite.

A case's id is readable, stable and greppable: `train_step/bf16/L4096/transformer2`. The cases that are compared with
each other form a group, whose id is the case id without the variant: `train_step/bf16/L4096`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, get_args

from t2bench.spec.axes import STRICT
from t2bench.spec.model import ModelSpec

WorkloadKind = Literal["attention", "forward", "train_step"]
Dtype = Literal["fp32", "bf16", "fp16"]
DeviceKind = Literal["cpu", "cuda"]

WORKLOADS: tuple[str, ...] = get_args(WorkloadKind)
DTYPES: tuple[str, ...] = get_args(Dtype)
DTYPE_BYTES: dict[str, int] = {"fp32": 4, "bf16": 2, "fp16": 2}

GHOST_SUFFIX = "@ghost"

# More than any text has, and few enough that products of sizes stay far from the limits of floats.
MAX_LENGTH = 1 << 24
# Workloads that read text need one id for each of the 256 bytes, two marks, and some for words: a model that only
# ever sees bytes is no test of its tables. `t2bench.workloads.text` refuses less as well; this layer may not import it.
MIN_TEXT_VOCAB = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadSpec:
    """What is done with a variant.

    Attributes:
        kind: `attention` (the operator alone, on random q, k, v as in the FlashAttention protocol), `forward`
            (inference on a batch of real text, no autograd) or `train_step` (forward, loss, backward, fused AdamW).
        causal: for `attention`: mask out keys after the query. Models decide this themselves.
        backward: for `attention`: time forward and backward.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: WorkloadKind = "train_step"
    causal: bool = False
    backward: bool = False

    @property
    def label(self) -> str:
        """Readable name, the first part of a case id."""
        if self.kind != "attention":
            return self.kind
        return "attention" + ("+causal" if self.causal else "") + ("+backward" if self.backward else "")

    @property
    def trains(self) -> bool:
        """Whether gradients are computed."""
        return self.kind == "train_step" or (self.kind == "attention" and self.backward)

    @property
    def reads_text(self) -> bool:
        """Whether its batches are real text, which not every vocabulary can spell."""
        return self.kind != "attention"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One variant x workload x matrix point.

    Attributes:
        variant: the variant's name as reports show it.
        model: the resolved variant at this point (matrix keys that name an axis are already applied).
        workload: what is done.
        length: tokens per sequence L (for `encdec`: of the source and of the target, each).
        batch: sequences B.
        dtype: parameters, activations and gradients alike (pure, no autocast).
        device: kind of device.
        seed: weights and batches.
        extras: further matrix keys in suite order, for example (("heads", 16),); they are part of the id.
        ghost: the reference measured a second time under a second name, which states the run's own null.
    """

    variant: str
    model: ModelSpec
    workload: WorkloadSpec
    length: int
    batch: int
    dtype: Dtype
    device: DeviceKind
    seed: int = 0
    extras: tuple[tuple[str, Any], ...] = ()
    ghost: bool = False

    @property
    def group(self) -> str:
        """Id of the cases that this one is compared with: equal in everything but the variant."""
        parts = [self.workload.label, self.dtype, f"L{self.length}"]
        parts += [f"{key}={_show(value)}" for key, value in self.extras]
        return "/".join(parts)

    @property
    def id(self) -> str:
        """Stable, readable id."""
        return f"{self.group}/{self.variant}"

    @property
    def axes(self) -> dict[str, Any]:
        """The matrix point as flat columns for records and data frames."""
        return {
            "length": self.length,
            "batch": self.batch,
            "dtype": self.dtype,
            "device": self.device,
            "seed": self.seed,
            "ghost": self.ghost,
            **{key: _show(value) for key, value in self.extras},
        }

    @property
    def tokens(self) -> int:
        """Token positions processed by one step (source and target)."""
        return (
            self.batch * self.length * (2 if self.model.arch == "encdec" and self.workload.kind != "attention" else 1)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary, the inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Case:
        """Rebuild a case from `to_dict` (after a trip through JSON)."""
        values = dict(data)
        values["model"] = ModelSpec.from_dict(values["model"])
        values["workload"] = WorkloadSpec(**values["workload"])
        values["extras"] = tuple((key, value) for key, value in values.get("extras", ()))
        return cls(**values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A case that will not be measured, and why: shown to the user, written to the records, never dropped silently.

    Attributes:
        case: the refused case.
        status: `unsupported` (the combination cannot work or would silently be something else) or `skipped` (the
            suite excludes it).
        reason: one sentence for the user.
    """

    case: Case
    status: Literal["unsupported", "skipped"]
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything a run will do, in suite order.

    Attributes:
        cases: cases to measure, ghosts included.
        refusals: cases that will not be measured, with reasons.
        reference: the variant that effects are measured against.
    """

    cases: tuple[Case, ...]
    refusals: tuple[Refusal, ...]
    reference: str

    @property
    def groups(self) -> dict[str, tuple[Case, ...]]:
        """Group id -> its cases, in suite order."""
        found: dict[str, list[Case]] = {}
        for case in self.cases:
            found.setdefault(case.group, []).append(case)
        return {group: tuple(cases) for group, cases in found.items()}


def _show(value: Any) -> Any:
    """An extra's value as a scalar for ids and columns (a nested axis shows its kind)."""
    if isinstance(value, Mapping):
        return "+".join(f"{v}" for v in value.values())
    return value
