"""Case: one variant doing one workload at one point of a suite's matrix; and Plan: all cases of a suite.

A case's id is readable, stable and greppable: `train_step/bf16/L4096/transformer2`. The cases that are compared with
each other form a group, whose id is the case id without the variant: `train_step/bf16/L4096`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from t2bench.spec.axes import STRICT
from t2bench.spec.model import ModelSpec
from t2bench.spec.quality import QualitySpec

WorkloadKind = Literal["attention", "forward", "train_step", "prefill", "decode", "translate", "extrapolate", "recall"]
Dtype = Literal["fp32", "tf32", "bf16", "fp16", "bf16_autocast", "fp16_autocast"]
DeviceKind = Literal["cpu", "cuda"]

WORKLOADS: tuple[str, ...] = get_args(WorkloadKind)
LEARNING: tuple[str, ...] = ("translate", "extrapolate", "recall")
DTYPES: tuple[str, ...] = get_args(Dtype)
# Of what matrix products make, keys and values among it; what each dtype means is in `t2bench.models.precision`.
DTYPE_BYTES: dict[str, int] = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "bf16_autocast": 2, "fp16_autocast": 2}
# Of parameters, gradients and the optimizer's state.
PARAMETER_BYTES: dict[str, int] = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "bf16_autocast": 4, "fp16_autocast": 4}

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
            (inference on a batch of real text, no autograd), `train_step` (forward, loss, backward, fused AdamW),
            `prefill` (read a prompt up to the first new token), `decode` (the same and `new_tokens` - 1 more, each
            the likeliest after those before it; an end mark does not end it, so that all do equal work), or training
            to a quality by the suite's `quality:`: `translate` (judged on the first test set), `extrapolate` (trained
            on short sentences, judged on the longest) or `recall` (copying, reversing, finding again).
        causal: for `attention`: mask out keys after the query. Models decide this themselves.
        backward: for `attention`: time forward and backward.
        new_tokens: for `decode`: tokens to generate after a prompt (encdec: from a source) of the case's length.
        ragged: for `forward` and `train_step`: sequences of several lengths, the longest of which is the case's, half
            of it on average; the variant's `padding` says how they share a batch. Padding counts as no tokens.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: WorkloadKind = "train_step"
    causal: bool = False
    backward: bool = False
    new_tokens: int = 32
    ragged: bool = False

    @property
    def label(self) -> str:
        """Readable name, the first part of a case id."""
        if self.kind == "decode":
            return f"decode+{self.new_tokens}"
        if self.kind != "attention":
            return self.kind + ("+ragged" if self.ragged else "")
        return "attention" + ("+causal" if self.causal else "") + ("+backward" if self.backward else "")

    @property
    def trains(self) -> bool:
        """Whether gradients are computed."""
        return self.kind == "train_step" or self.learns or (self.kind == "attention" and self.backward)

    @property
    def learns(self) -> bool:
        """Whether a model is trained until it is good at something, and that is what is measured."""
        return self.kind in LEARNING

    @property
    def generates(self) -> bool:
        """Whether tokens are generated one after the other."""
        return self.kind in ("prefill", "decode")

    @property
    def reads_text(self) -> bool:
        """Whether its batches are cut from a token stream of text, which not every vocabulary can spell."""
        return self.kind != "attention" and not self.learns


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One variant x workload x matrix point.

    Attributes:
        variant: the variant's name as reports show it.
        model: the resolved variant at this point (matrix keys that name an axis are already applied).
        workload: what is done.
        length: tokens per sequence L (for `encdec`: of the source and of the target, each); for training to a quality
            the most that a sentence of the training text may have on a side.
        batch: sequences B; for training to a quality, batches have B x L padded tokens a side at most.
        dtype: of parameters, activations and gradients alike, or mixed (`..._autocast`).
        device: kind of device.
        seed: weights and batches.
        extras: further matrix keys in suite order, for example (("heads", 16),); they are part of the id.
        ghost: the reference measured a second time under a second name, which states the run's own null.
        quality: for workloads that learn: from what and how.
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
    quality: QualitySpec | None = None

    @property
    def step(self) -> Case:
        """One training step of a case that learns: what predictions and checks are made of; any other case itself."""
        if not self.workload.learns:
            return self
        return replace(self, workload=WorkloadSpec(kind="train_step"), quality=None)

    @property
    def launches(self) -> int | None:
        """Launches that it has by its own terms; None for as many as the suite measures."""
        return None if self.quality is None else self.quality.seeds

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
    def backend_requested(self) -> str | None:
        """The attention back end that the spec asks for, or `none` where the model has no attention.

        None for a user's own module, whose spec only describes it.
        """
        if self.model.factory:
            return None
        return self.model.attention if self.model.attends else "none"

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
    def last_length(self) -> int:
        """Positions of the longest sequence that a step gets to: a prompt grows by what is generated."""
        new = self.workload.new_tokens if self.workload.kind == "decode" else 1
        if not self.workload.generates:
            return self.length
        # The last token generated is not read again.
        return max(self.length, new) if self.model.arch == "encdec" else self.length + new - 1

    @property
    def tokens(self) -> int:
        """Tokens that one step gets through: source and target; of `prefill` the prompt, of `decode` the new ones.

        Of ragged batches it is the upper bound; what a step really reads the workload knows.
        """
        if self.workload.kind == "decode":
            return self.batch * self.workload.new_tokens
        both = self.model.arch == "encdec" and self.workload.kind in ("forward", "train_step", *LEARNING)
        return self.batch * self.length * (2 if both else 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary, the inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Case:
        """Rebuild a case from `to_dict` (after a trip through JSON)."""
        values = dict(data)
        values["model"] = ModelSpec.from_dict(values["model"])
        values["workload"] = WorkloadSpec(**values["workload"])
        if values.get("quality") is not None:
            values["quality"] = QualitySpec.from_dict(values["quality"])
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


class Unsupported(Exception):
    """This machine or its software cannot do what a case asks, which only showed when it was tried.

    The message says why, and what would help. The case's row has the status `unsupported`.
    """


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
