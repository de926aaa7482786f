"""Oracle: an implementation that others trust, and the spec that claims to be the same function.

The rule: with the same random weights, the largest |ours - theirs| / (1 + |theirs|) is at most 2e-5 in float32, and in
16 bits its root mean square is at most twice what the trusted implementation itself loses in these 16 bits. Each oracle
has a negative control: the spec broken in the one place that the oracle is about, which the same tolerance must notice.

Shape letters: B batch, T length, V vocabulary.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from t2bench.attention.verify import Check, numeric_check
from t2bench.models.init import load_logical, logical_parameters
from t2bench.models.transformer import build
from t2bench.spec.model import ModelSpec

FLOAT32_TOLERANCE = 2e-5
LOW_PRECISION_FACTOR = 2.0
ROUNDING_UNITS = 4  # always allowed in 16 bits


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Expected:
    """A trusted model with random weights, and what it is to be compared on.

    Attributes:
        weights: its parameters under our logical names.
        module: the model itself, in evaluation mode.
        call: computes the output (B, T, ...) of the module it is given.
        inputs: arguments of our `hidden` and `forward`.
        valid_BT: positions whose output is compared.
        hidden: compare hidden states instead of logits.
        drive: computes the output of our model, where that takes more than one call with `inputs`.
    """

    weights: Mapping[str, Tensor]
    module: nn.Module
    call: Callable[[nn.Module], Tensor]
    inputs: Mapping[str, Tensor]
    valid_BT: Tensor
    hidden: bool = False
    drive: Callable[[Any], Tensor] | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Oracle:
    """A trusted implementation of one spec.

    Attributes:
        name: of the implementation, for people.
        library: what must be importable; empty if nothing.
        spec: the variant, at a size that computes in milliseconds.
        make: builds the trusted model of such a spec.
        control: breaks the spec in the place that the oracle is about.
        free: fields of the spec that `make` reads, so that it can vouch for specs which differ in them; a nested field
            is written with a dot.
    """

    name: str
    library: str
    spec: ModelSpec
    make: Callable[[ModelSpec], Expected]
    control: Callable[[ModelSpec], ModelSpec]
    free: tuple[str, ...] = ()

    @property
    def installed(self) -> bool:
        """Whether the library is there (it comes with the extra `test`)."""
        return not self.library or importlib.util.find_spec(self.library) is not None

    def check(
        self, *, backend: str = "", dtype: torch.dtype = torch.float32, **implementation: Any
    ) -> tuple[Check, ...]:
        """Compare with the trusted implementation, and the negative control with it too.

        Args:
            backend: back end of attention; empty for the spec's own.
            dtype: float32, or bfloat16 and float16 for the rule of 16 bits.
            implementation: other implementation axes, such as `projections`.

        Returns:
            The comparison, and (in float32) the control, which passes if the break is noticed.
        """
        spec = replace(self.spec, **implementation)
        if backend:
            spec = replace(spec, attention=backend)  # type: ignore[arg-type]
        if dtype != torch.float32:
            return (self._low_precision(spec, dtype),)
        error = difference(spec, self.expected)
        what = f"{spec.attention} against {self.name}"
        found = numeric_check(f"parity: {self.name}", error, FLOAT32_TOLERANCE, what)
        broken = difference(self.control(spec), self.expected, strict=False)
        detail = f"a deliberate mistake is off by {broken:.2g}, {FLOAT32_TOLERANCE:.2g} is allowed"
        noticed = broken > FLOAT32_TOLERANCE
        return found, Check(name=f"negative control: {self.name}", passed=noticed, detail=detail, error=broken)

    @property
    def expected(self) -> Expected:
        """The trusted model of `spec`, made once."""
        return _made(self)

    def _low_precision(self, spec: ModelSpec, dtype: torch.dtype) -> Check:
        theirs = output_of(self.expected)
        rounded = copy.deepcopy(self.expected.module)
        for parameter in rounded.parameters():  # not the buffers: libraries keep tables of angles in float32
            parameter.data = parameter.data.to(dtype)
        with torch.no_grad():
            plain = _typical(self.expected.call(rounded), theirs, self.expected.valid_BT)
        allowed = max(LOW_PRECISION_FACTOR * plain, ROUNDING_UNITS * torch.finfo(dtype).eps)
        error = _typical(ours(spec, self.expected, dtype=dtype), theirs, self.expected.valid_BT)
        name = f"parity in {str(dtype).removeprefix('torch.')}: {self.name}"
        return numeric_check(name, error, allowed, f"{spec.attention} against {self.name} in float32")


def difference(spec: ModelSpec, want: Expected, *, strict: bool = True, dtype: torch.dtype = torch.float32) -> float:
    """Largest |ours - theirs| / (1 + |theirs|) over valid positions; infinite if anything is NaN.

    Args:
        spec: ours.
        want: theirs.
        strict: parameters must correspond one to one; else (for a broken spec) those that both have are the same.
        dtype: of ours.
    """
    worst = float(_errors(ours(spec, want, strict=strict, dtype=dtype), output_of(want), want.valid_BT).max())
    return math.inf if math.isnan(worst) else worst


def ours(spec: ModelSpec, want: Expected, *, strict: bool = True, dtype: torch.dtype = torch.float32) -> Tensor:
    """What our model of the spec computes with their weights and inputs; `strict` as in `difference`."""
    model = build(spec, dtype=dtype).eval()
    if strict:
        load_logical(model, want.weights)
    else:
        for name, tensor in logical_parameters(model).items():
            if name in want.weights and want.weights[name].shape == tensor.shape:
                tensor.copy_(want.weights[name])
    arguments: dict[str, Any] = dict(want.inputs)
    for name, kind in (("prefix_lengths_B", "prefix"), ("documents_BT", "document")):
        if spec.pattern.kind != kind:  # a broken spec may have lost its use for them
            arguments.pop(name, None)
    with torch.no_grad():
        if want.drive is not None:
            return want.drive(model)
        output_BTV: Tensor = (model.hidden if want.hidden else model)(arguments.pop("tokens_BT"), **arguments)
    return output_BTV


@functools.cache
def output_of(want: Expected) -> Tensor:
    """What the trusted model computes in its own precision."""
    with torch.no_grad():
        return want.call(want.module)


@functools.cache
def _made(oracle: Oracle) -> Expected:
    with torch.no_grad():
        return oracle.make(oracle.spec)


def _errors(found: Tensor, theirs: Tensor, valid_BT: Tensor) -> Tensor:
    return ((found.double() - theirs.double()).abs() / (1.0 + theirs.double().abs()))[valid_BT]


def _typical(found: Tensor, theirs: Tensor, valid_BT: Tensor) -> float:
    """Root mean square: in 16 bits the largest error is a matter of luck."""
    return float(_errors(found, theirs, valid_BT).square().mean().sqrt())
