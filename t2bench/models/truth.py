"""Truth before speed: is this variant, on this device and in this dtype, the model that its spec says?

A variant at full width, but with two layers a stack and a small vocabulary, is compared with itself computed in float64
by the attention oracle with unfused projections and dense loss: the same weights must give the same logits, loss and
gradients. Then causality, padding, and the back end that really ran. That the float64 model is itself what the
literature says is the business of the parity tests.

Weights are drawn large (a gain of 1.7 per matrix, 1 in 16 bits). With freshly initialised weights most mistakes hide
below any sane tolerance, because attention is uniform and activations are linear there.

Shape letters: B batch, T length, S source length, V vocabulary (padded).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from t2bench.attention.dispatch import REFERENCE
from t2bench.attention.features import Features
from t2bench.attention.verify import (
    Check,
    backend_checks,
    check_attention,
    numeric_check,
    refused,
    scaled_error,
    tolerance,
)
from t2bench.attention.witness import observe
from t2bench.models.attention import Attention
from t2bench.models.init import load_logical, logical_parameters, mixed_seed
from t2bench.models.precision import PRECISIONS
from t2bench.models.recurrent import Recurrent
from t2bench.models.recurrent_reference import by_definition
from t2bench.models.transformer import Transformer, build
from t2bench.models.trial import Batch, can_be_ragged, logits, make_batch, ragged, shrunk, step
from t2bench.models.truth_own import check_own
from t2bench.models.truth_properties import property_checks
from t2bench.spec.case import Case
from t2bench.spec.model import ModelSpec

MAX_LENGTH = 24
CHUNK_TOKENS = 14  # small enough that the chunked loss has several chunks, the last one partial
GAIN = 1.7
LOW_PRECISION_GAIN = 1.0  # at larger gains, rounding to 16 bits alone turns gradients into noise
MODEL_ROUNDING_UNITS = 32  # rounding adds up over layers
MODEL_FLOAT32_FLOOR = 5e-5
MODEL_FLOAT32_CAP = 5e-4  # what sharp attention may make of float32 rounding; mistakes are far above it
GRADIENT_ROUNDING_UNITS = 32  # always allowed in 16 bits: a ReLU near its kink has either of two derivatives
OPERATOR_LENGTH = 96

GRADIENTS = "numerics: gradients"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """What a model computes: (logits, loss), and gradients by logical name (empty without training)."""

    values: tuple[Tensor, Tensor]
    gradients: Mapping[str, Tensor]


def check_case(case: Case, *, device: torch.device | str) -> tuple[Check, ...]:
    """The checks that a case needs before it is timed: of the operator for `attention`, else of the model."""
    spec, precision = case.model, PRECISIONS[case.dtype]
    precision.set_matmul()
    if case.workload.kind != "attention":
        # Autocast leaves float64 alone, so the oracle may be computed inside as well.
        with precision.forward(torch.device(device).type):
            return check(
                spec,
                device=device,
                dtype=precision.parameters,
                rounding=precision.rounding,
                seed=case.seed,
                length=case.length,
                trains=case.workload.trains,
            )
    return check_attention(
        spec.attention,
        heads=spec.heads,
        kv_heads=spec.num_kv_heads,
        head_dim=spec.dim_per_head,
        causal=case.workload.causal,
        backward=case.workload.backward,
        dtype=precision.compute,
        device=device,
        rounding=precision.rounding,
        features=Features.of(spec),
        length=case.length,
        seed=case.seed,
    )


def check(
    spec: ModelSpec,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    seed: int,
    length: int,
    trains: bool = True,
    rounding: torch.dtype | None = None,
) -> tuple[Check, ...]:
    """Check a variant on small inputs.

    Args:
        spec: the variant; layers and vocabulary are reduced, widths are not.
        device: where it will run.
        dtype: of its parameters.
        seed: of weights and tokens.
        length: tokens per sequence of the case; at most `MAX_LENGTH` are used.
        trains: check gradients and the backward kernels too.
        rounding: dtype whose unit of rounding the results have, where it is not that of the parameters (autocast, which
            the caller turns on, or TF32).

    Returns:
        One verdict per property, in the order checked. After a refusal by torch the rest is left out.
    """
    if spec.factory:
        return check_own(
            spec, device=device, dtype=dtype, rounding=rounding or dtype, seed=seed, length=length, trains=trains
        )
    small_length = min(length, MAX_LENGTH)
    small = shrunk(spec, small_length)
    plain_batch = batch = make_batch(small, small_length, seed, device)
    if spec.padding != "mask" and can_be_ragged(spec):
        batch = ragged(small, batch)
    rounding = rounding or dtype
    gain = GAIN if torch.finfo(rounding).bits >= 32 else LOW_PRECISION_GAIN
    model = sharp_variant(small, device, dtype, seed, gain)
    try:
        checks = _numerics(model, batch, device, trains, rounding)
        if [verdict.name for verdict in checks if not verdict.passed] == [GRADIENTS] and spec.activation == "relu":
            # One activation in a thousand draws lies within rounding of the kink and has either of two derivatives.
            # A mistake fails on other weights too.
            model = sharp_variant(small, device, dtype, seed + 1, gain)
            checks = _numerics(model, batch, device, trains, rounding)
        error = checks[0].error
        assert error is not None
        # Two runs of one model may each be off by what it is off from the oracle, and no more.
        allowed = _allowed(rounding, error)
        autocast = torch.is_autocast_enabled(torch.device(device).type)
        checks += _operator(spec, device, rounding if autocast else dtype, rounding, seed, length, trains)
        checks += _observed(model, batch, trains)
        checks += property_checks(model, plain_batch, allowed)
    except (RuntimeError, ValueError) as failure:
        return (refused(spec.attention, failure),)
    return tuple(checks)


def sharp_variant(
    spec: ModelSpec, device: torch.device | str, dtype: torch.dtype, seed: int, gain: float
) -> Transformer:
    """The model with large weights, in evaluation mode (dropout off)."""
    model = build(spec, device=device, dtype=dtype, seed=seed).eval()
    model.chunk_tokens = CHUNK_TOKENS
    generator = torch.Generator()
    for name, tensor in logical_parameters(model).items():
        generator.manual_seed(mixed_seed(seed, f"truth/{name}"))
        draw = torch.empty(tensor.shape).normal_(generator=generator)
        if tensor.ndim == 1:
            draw = 0.1 * draw + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        else:
            draw *= gain * tensor.shape[-1] ** -0.5
            if spec.score == "dot" and name.endswith("_attention.q.weight"):
                # As T5 folds the scale into its initialisation: where nothing scales scores down, they would saturate
                # the softmax, and rounding alone would turn gradients into noise.
                draw *= spec.dim_per_head**-0.5
        tensor.copy_(draw)
    return model


def _plain(spec: ModelSpec, like: Transformer, device: torch.device | str, dtype: torch.dtype) -> Transformer:
    """The plain implementation of the same function, with the weights of `like`."""
    plain = dataclasses.replace(
        spec, attention="math", padding="mask", projections="separate", loss="dense", checkpoint="off"
    )
    model = build(plain, device=device, dtype=dtype).eval()
    load_logical(model, logical_parameters(like))
    return model


def _results(model: Transformer, batch: Batch, trains: bool) -> Results:
    logits_BTV = logits(model, batch)
    model.zero_grad(set_to_none=True)
    loss = step(model, batch, trains)
    return Results(values=(logits_BTV, loss), gradients=logical_parameters(model, grad=True))


def _numerics(
    model: Transformer, batch: Batch, device: torch.device | str, trains: bool, rounding: torch.dtype
) -> list[Check]:
    """Logits, loss and gradients against the float64 oracle."""
    spec = model.spec
    oracle = _plain(spec, model, device, torch.float64)
    for module in oracle.modules():
        if isinstance(module, Attention):
            module.backend = REFERENCE
    if isinstance(oracle, Recurrent):
        by_definition(oracle)
    exact = _results(oracle, batch, trains)
    found = _results(model, batch, trains)
    naive = _results(_plain(spec, model, device, model.table_VD.dtype), batch, trains)
    what = f"{spec.attention}, {spec.projections}, {spec.loss} loss against the float64 reference"
    checks = []
    for index, name in enumerate(("logits", "loss")):
        plain = scaled_error(naive.values[index], exact.values[index])
        # The loss is a mean, in which rounding cancels: it can be held to one unit.
        allowed = (
            _allowed(rounding, plain)
            if name == "logits"
            else max(2.0 * plain, MODEL_FLOAT32_FLOOR, torch.finfo(rounding).eps)
        )
        error = scaled_error(found.values[index], exact.values[index])
        checks.append(numeric_check(f"numerics: {name}", error, allowed, f"{name} by {what}"))
    if trains:
        mean = torch.finfo(rounding).bits < 32
        allowed = _allowed_gradient(rounding, _gradient_error(naive, exact, mean=mean))
        error = _gradient_error(found, exact, mean=mean)
        checks.append(numeric_check(GRADIENTS, error, allowed, f"gradients by {what}"))
    return checks


def _allowed(dtype: torch.dtype, plain_error: float) -> float:
    """The operator's rule, with room for rounding to add up over the layers of a model."""
    if dtype == torch.float32:
        return min(max(2.0 * plain_error, MODEL_FLOAT32_FLOOR), MODEL_FLOAT32_CAP)
    return tolerance(dtype, plain_error, rounding_units=MODEL_ROUNDING_UNITS)


def _allowed_gradient(dtype: torch.dtype, plain_error: float) -> float:
    if torch.finfo(dtype).bits >= 32:
        return 5.0 * _allowed(dtype, plain_error / 5.0)
    eps = torch.finfo(dtype).eps
    return min(max(3.0 * plain_error, GRADIENT_ROUNDING_UNITS * eps), 4 * GRADIENT_ROUNDING_UNITS * eps)


def _gradient_error(found: Results, oracle: Results, *, mean: bool) -> float:
    """Largest relative error of a parameter's gradient in the Euclidean norm.

    With `mean`, for 16 bits, the root mean square over parameters. Norms, not maxima: rounding that carries one
    activation across the kink of a ReLU changes a few entries by their whole size. Some gradients are zero but for
    rounding (softmax does not feel a bias on all keys), so each is judged on at least a hundredth of the scale of the
    largest. A gradient that is missing counts as zero.
    """
    norms = {name: float(g.norm()) for name, g in oracle.gradients.items()}
    floor = 1e-2 * max(norms.values())
    errors = [
        float((found.gradients.get(name, torch.zeros_like(g)).double() - g).norm()) / max(norms[name], floor)
        for name, g in oracle.gradients.items()
    ]
    if any(math.isnan(error) for error in errors):
        return math.inf
    return math.sqrt(sum(e * e for e in errors) / len(errors)) if mean else max(errors)


def _operator(
    spec: ModelSpec,
    device: torch.device | str,
    dtype: torch.dtype,
    rounding: torch.dtype,
    seed: int,
    length: int,
    trains: bool,
) -> list[Check]:
    """The attention operator by itself, at a length with several blocks: there 16 bits can be judged more strictly."""
    if spec.recurrence != "none":
        return []  # its attention is part of the step and has no back ends
    found = check_attention(
        spec.attention,
        heads=spec.heads,
        kv_heads=spec.num_kv_heads,
        head_dim=spec.dim_per_head,
        causal=spec.arch != "encoder",
        backward=trains,
        dtype=dtype,
        device=device,
        rounding=rounding,
        features=Features.of(spec),
        length=min(length, OPERATOR_LENGTH),
        seed=seed,
    )
    return [verdict for verdict in found if not verdict.name.startswith("backend")]


def _observed(model: Transformer, batch: Batch, trains: bool) -> tuple[Check, ...]:
    """The back end that runs in the mode that will be timed: with the spec's dropout if it trains."""
    with observe() as seen:
        step(model.train(trains), batch, trains)
    model.eval()
    if not model.spec.attends:
        found = ", ".join(seen.kernels)
        return (Check(name="backend", passed=not found, detail=f"no attention was requested, {found or 'none'} ran"),)
    return backend_checks(model.spec.attention, seen, backward=trains)
