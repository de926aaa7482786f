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

from t2bench.attention.dispatch import REFERENCE, takes_mask_tensor
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
from t2bench.models.loss import IGNORE
from t2bench.models.precision import PRECISIONS
from t2bench.models.recurrent import Recurrent
from t2bench.models.recurrent_reference import by_definition
from t2bench.models.transformer import Transformer, build
from t2bench.models.truth_own import check_own
from t2bench.spec.case import Case
from t2bench.spec.model import ModelSpec

MAX_LAYERS = 2
MAX_VOCAB = 256
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

Batch = dict[str, Tensor]


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
    small = dataclasses.replace(
        spec,
        enc_layers=min(spec.enc_layers, MAX_LAYERS),
        dec_layers=min(spec.dec_layers, MAX_LAYERS),
        vocab=min(spec.vocab, MAX_VOCAB),
    )
    batch = _batch(small, min(length, MAX_LENGTH), seed, device)
    rounding = rounding or dtype
    gain = GAIN if torch.finfo(rounding).bits >= 32 else LOW_PRECISION_GAIN
    model = _variant(small, device, dtype, seed, gain)
    try:
        checks = _numerics(model, batch, device, trains, rounding)
        if [verdict.name for verdict in checks if not verdict.passed] == [GRADIENTS] and spec.activation == "relu":
            # One activation in a thousand draws lies within rounding of the kink and has either of two derivatives.
            # A mistake fails on other weights too.
            model = _variant(small, device, dtype, seed + 1, gain)
            checks = _numerics(model, batch, device, trains, rounding)
        error = checks[0].error
        assert error is not None
        # Two runs of one model may each be off by what it is off from the oracle, and no more.
        allowed = _allowed(rounding, error)
        checks += _operator(spec, device, rounding, seed, length, trains)
        checks += _observed(model, batch, trains)
        if model.decoder is not None:
            checks.append(_causality(model, batch, allowed))
        checks += _padding(model, batch, allowed)
    except RuntimeError as failure:
        return (refused(spec.attention, failure),)
    return tuple(checks)


def _batch(spec: ModelSpec, length: int, seed: int, device: torch.device | str) -> Batch:
    """Two sequences of tokens, their labels (a few of them to be ignored), and a shorter source."""
    generator = torch.Generator().manual_seed(seed)
    tokens_BT = torch.randint(0, spec.vocab, (2, length + 1), generator=generator)
    labels_BT = tokens_BT[:, 1:].clone()
    labels_BT[1, : length // 3] = IGNORE
    batch = {"tokens": tokens_BT[:, :-1], "labels": labels_BT}
    if spec.arch == "encdec":
        batch["source"] = torch.randint(0, spec.vocab, (2, max(1, length - 3)), generator=generator)
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _variant(spec: ModelSpec, device: torch.device | str, dtype: torch.dtype, seed: int, gain: float) -> Transformer:
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
        tensor.copy_(draw)
    return model


def _plain(spec: ModelSpec, like: Transformer, device: torch.device | str, dtype: torch.dtype) -> Transformer:
    """The plain implementation of the same function, with the weights of `like`."""
    plain = dataclasses.replace(spec, attention="math", projections="separate", loss="dense")
    model = build(plain, device=device, dtype=dtype).eval()
    load_logical(model, logical_parameters(like))
    return model


def _logits(model: Transformer, batch: Mapping[str, Tensor], **lengths: Tensor) -> Tensor:
    with torch.no_grad():
        logits_BTV: Tensor = model(batch["tokens"], source_BS=batch.get("source"), **lengths)
    return logits_BTV


def _results(model: Transformer, batch: Batch, trains: bool) -> Results:
    logits_BTV = _logits(model, batch)
    model.zero_grad(set_to_none=True)
    loss = _step(model, batch, trains)
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
    spec: ModelSpec, device: torch.device | str, dtype: torch.dtype, seed: int, length: int, trains: bool
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
        length=min(length, OPERATOR_LENGTH),
        seed=seed,
    )
    return [verdict for verdict in found if not verdict.name.startswith("backend")]


def _observed(model: Transformer, batch: Batch, trains: bool) -> tuple[Check, ...]:
    """The back end that runs in the mode that will be timed: with the spec's dropout if it trains."""
    with observe() as seen:
        _step(model.train(trains), batch, trains)
    model.eval()
    if not model.spec.attends:
        found = ", ".join(seen.kernels)
        return (Check(name="backend", passed=not found, detail=f"no attention was requested, {found or 'none'} ran"),)
    return backend_checks(model.spec.attention, seen, backward=trains)


def _step(model: Transformer, batch: Batch, trains: bool) -> Tensor:
    """Loss, and backward from it if it trains."""
    with torch.set_grad_enabled(trains):
        loss = model.loss(model.hidden(batch["tokens"], source_BS=batch.get("source")), batch["labels"])
        if trains:
            loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _causality(model: Transformer, batch: Batch, allowed: float) -> Check:
    """Changing later tokens leaves earlier logits alone, and does change later ones."""
    length = batch["tokens"].shape[1]
    cut = max(1, 2 * length // 3)
    changed = {**batch, "tokens": batch["tokens"].clone()}
    changed["tokens"][:, cut:] = (changed["tokens"][:, cut:] + 1) % model.spec.vocab
    before_BTV, after_BTV = _logits(model, batch), _logits(model, changed)
    error = scaled_error(after_BTV[:, :cut], before_BTV[:, :cut])
    if cut < length and torch.equal(after_BTV[:, cut:], before_BTV[:, cut:]):
        return Check(name="causality", passed=False, detail="changing tokens changes no logits, not even their own")
    return numeric_check("causality", error, allowed, f"earlier logits after tokens from position {cut} on changed")


def _padding(model: Transformer, batch: Batch, allowed: float) -> list[Check]:
    """What stands in padding does not matter, and a padded sequence equals the same one unpadded."""
    spec = model.spec
    side = "source" if spec.arch == "encdec" else "tokens"
    argument = "source_lengths_B" if spec.arch == "encdec" else "lengths_B"
    device = batch["tokens"].device
    if spec.arch != "decoder" and not takes_mask_tensor(spec.attention, device.type):
        detail = f"does not apply: {spec.attention} takes no padding mask on {device.type}, so batches have none"
        return [Check(name="padding", passed=True, detail=detail)]
    full = batch[side].shape[1]
    kept = max(1, full - 5)
    lengths_B = torch.tensor([full, kept], device=device)
    valid = slice(None) if spec.arch == "encdec" else slice(kept)
    changed = {**batch, side: batch[side].clone()}
    changed[side][1, kept:] = (changed[side][1, kept:] + 1) % spec.vocab
    alone = {name: tensor[1:] for name, tensor in batch.items()}
    alone[side] = alone[side][:, :kept]
    padded_TV = _logits(model, batch, **{argument: lengths_B})[1, valid]
    other_TV = _logits(model, changed, **{argument: lengths_B})[1, valid]
    alone_TV = _logits(model, alone)[0]
    return [
        numeric_check("padding: ignored", scaled_error(other_TV, padded_TV), allowed, "logits with other padding"),
        numeric_check("padding: unpadded", scaled_error(alone_TV, padded_TV), allowed, "logits without padding"),
    ]
