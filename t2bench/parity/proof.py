"""Everything that can be said about whether a variant is right: truth checks, properties, and a trusted implementation.

truth       the variant as it would be timed (back end, dtype, device) against itself in float64
property    what every model must do: causality, padding, batches, counts, gradients, saving
oracle      the same function in a library that others trust, or the paper's equation, with random weights
control     that function broken on purpose, which the oracle's tolerance must notice
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch

from t2bench.attention.verify import Check
from t2bench.models import truth
from t2bench.models.own import build_own
from t2bench.models.precision import PRECISIONS
from t2bench.models.truth_own import CAUSAL_LENGTH, UNUSED
from t2bench.parity import properties, subject
from t2bench.parity.oracle import Oracle
from t2bench.parity.oracles import for_spec
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.cost import num_params
from t2bench.spec.model import APPROXIMATION_AXES, IMPLEMENTATION_AXES, ModelSpec
from t2bench.spec.refusals import refusal

Part = Literal["truth", "property", "oracle", "control"]

LENGTH, MAX_VOCAB = 24, 256
# A model of more parameters (two layers of it) is checked at width 32: its function is the same, and it fits anywhere.
MAX_PARAMS = 60_000_000
INSTALL = "pip install 't2bench[test]'"


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """What was checked.

    Attributes:
        verdicts: every check with the part it belongs to.
        oracle: name of the trusted implementation; empty if there is none.
        version: of its library.
        notes: what could not be checked, and what was checked instead.
    """

    verdicts: tuple[tuple[Part, Check], ...]
    oracle: str
    version: str
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed for _, check in self.verdicts)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; an error that is not finite is None."""
        verdicts = [{"part": part, **asdict(check), "error": _finite(check.error)} for part, check in self.verdicts]
        return {"verdicts": verdicts, "oracle": self.oracle, "version": self.version, "notes": list(self.notes)}


def prove(spec: ModelSpec, *, device: Literal["cpu", "cuda"], dtype: Any, seed: int = 0) -> Proof:
    """Check a variant in every way there is.

    Args:
        spec: the variant.
        device: where it is to run.
        dtype: a name of `t2bench.spec.case.Dtype`.
        seed: of weights and tokens.

    Raises:
        Exception: whatever a user's factory raises.
    """
    case, notes = _runnable(spec, device, dtype, seed)
    verdicts: list[tuple[Part, Check]] = []
    if case is not None:
        checks = truth.check_case(case, device=device)
        verdicts += [("truth", check) for check in checks]
        notes += [check.detail for check in checks if check.name == UNUSED]
        verdicts += [("property", check) for check in _properties(case.model, device, dtype, seed)]
    oracle, library = for_spec(spec), for_spec(spec, only_installed=False)
    if oracle is None:
        notes.append("no oracle: nobody else has written down what a module of your own computes")
    else:
        verdicts += against(oracle, spec, dtype)
    if library is not None and not library.installed:
        notes.append(
            f"oracle {library.name}: {library.library} is not installed ({INSTALL}); checked against the equations only"
        )
    name, version = (oracle.name, version_of(oracle)) if oracle else ("", "")
    return Proof(verdicts=tuple(verdicts), oracle=name, version=version, notes=tuple(notes))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _runnable(spec: ModelSpec, device: Literal["cpu", "cuda"], dtype: Any, seed: int) -> tuple[Case | None, list[str]]:
    """The case in which the variant is checked: as it is if it can run here, else the same function otherwise."""
    notes: list[str] = []
    length = CAUSAL_LENGTH if spec.factory else LENGTH
    small = replace(spec, enc_layers=2, dec_layers=2, vocab=min(spec.vocab, MAX_VOCAB))
    if not spec.factory and num_params(small).total > MAX_PARAMS:
        small = subject.shrunk(spec)
        notes.append(f"checked at width {small.width}: at its own it would take gigabytes")
    reasons: list[str] = []
    for model in _stand_ins(small):
        for kind in ("train_step", "forward"):
            case = Case(
                variant="checked", model=model, workload=WorkloadSpec(kind=kind), length=length, batch=2, dtype=dtype,
                device=device, seed=seed,
            )  # fmt: skip
            reason = refusal(case)
            if reason is None:
                if model != small:
                    changed = ", ".join(f"{axis} {new}" for axis, (_, new) in model.delta(small).items())
                    notes.append(f"{reasons[-1]}; checked with {changed}")
                elif kind == "forward":
                    notes.append(f"{reasons[-1]}; checked without training")
                return case, notes
            reasons.append(reason)
    return None, [*notes, f"not checked: {reasons[0]}"]


def _stand_ins(spec: ModelSpec) -> Iterator[ModelSpec]:
    """The spec, and then plainer implementations of the same function."""
    yield spec
    plain = ModelSpec()
    neutral = {axis: getattr(plain, axis) for axis in IMPLEMENTATION_AXES | APPROXIMATION_AXES}
    yield replace(spec, attention="math")
    yield replace(spec, **neutral)


def _properties(spec: ModelSpec, device: str, dtype: str, seed: int) -> tuple[Check, ...]:
    parameters = PRECISIONS[dtype].parameters
    if not spec.factory:
        return properties.check_properties(subject.shrunk(spec), device=device, dtype=parameters, seed=seed)
    small = subject.shrunk(spec)
    under_test = subject.Subject(
        spec=small,
        model=build_own(small, device=device, dtype=parameters, seed=seed).eval(),
        batch=subject.random_batch(small, device=device, seed=seed),
        tolerance=subject.TOLERANCE.get(parameters, _rounding(parameters)),
    )
    return (*properties.batch_invariance(under_test), *properties.state_dict(under_test))


def _rounding(dtype: torch.dtype) -> float:
    return subject.LOW_PRECISION_ROUNDING_UNITS * torch.finfo(dtype).eps


def against(oracle: Oracle, spec: ModelSpec, dtype: str) -> list[tuple[Part, Check]]:
    """The oracle's checks, computed on the CPU with the variant's own back end if the CPU has it."""
    here = Case(
        variant="oracle", model=replace(oracle.spec, attention=spec.attention), workload=WorkloadSpec(kind="forward"),
        length=LENGTH, batch=2, dtype="fp32", device="cpu",
    )  # fmt: skip
    backend = spec.attention if refusal(here) is None else "math"
    compute = PRECISIONS[dtype].compute
    found = oracle.check(backend=backend)
    if compute != torch.float32:
        found += oracle.check(backend=backend, dtype=compute)
    return [("control" if check.name.startswith("negative") else "oracle", check) for check in found]


def version_of(oracle: Oracle) -> str:
    """Version of the oracle's library; empty if it needs none."""
    return importlib.metadata.version(oracle.library) if oracle.library else ""
