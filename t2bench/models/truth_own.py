"""Truth checks for a user's own module: what can be asked of a model whose function nobody else has written down.

No reference says what it ought to compute. It is held to itself: the same weights in float64 give the same logits, its
loss is the cross-entropy of its own logits, gradients are finite, the future is out of sight, padding does not matter.
A training step is timed in training mode, so loss and causality are looked at there too. Weights are those of its own
initialisation.

Shape letters: B batch, T length, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from t2bench.attention.verify import Check, numeric_check, scaled_error
from t2bench.models.loss import IGNORE
from t2bench.models.own import Own, build_own
from t2bench.models.trial import Batch, logits
from t2bench.models.truth_properties import causality, padding
from t2bench.spec.errors import listing
from t2bench.spec.model import ModelSpec

MAX_LAYERS, MAX_VOCAB, MAX_LENGTH = 2, 256, 24
CAUSAL_LENGTH = 96  # what is looked ahead in blocks or windows may be out of sight in a shorter text
UNUSED = "parameters without a gradient"
FLOAT32_ALLOWED = 5e-4
ROUNDING_UNITS = 64  # in 16 bits, of an unknown function


def check_own(
    spec: ModelSpec, *, device: torch.device | str, dtype: torch.dtype, rounding: torch.dtype, seed: int, length: int,
    trains: bool,
) -> tuple[Check, ...]:  # fmt: skip
    """Check a variant that a factory makes, on small inputs; arguments as in `t2bench.models.truth.check`.

    Raises:
        FactoryError: the module does not have the interface that is asked for.
        Exception: whatever the user's code raises.
    """
    small = replace(
        spec,
        enc_layers=min(spec.enc_layers, MAX_LAYERS),
        dec_layers=min(spec.dec_layers, MAX_LAYERS),
        vocab=min(spec.vocab, MAX_VOCAB),
    )
    model = build_own(small, device=device, dtype=dtype, seed=seed).eval()
    batch = _batch(small, min(length, MAX_LENGTH), seed, device)
    long_batch = _batch(small, max(2, min(length, CAUSAL_LENGTH)), seed, device)
    allowed = FLOAT32_ALLOWED if torch.finfo(rounding).bits >= 32 else ROUNDING_UNITS * torch.finfo(rounding).eps
    checks = [_precision(model, batch, allowed, seed), _loss(model, batch, allowed)]
    if trains:
        checks += _gradients(model, batch)
    if spec.arch != "encoder":
        checks.append(causality(model, long_batch, allowed))
    checks += padding(model, batch, allowed)
    if trains:
        checks += _training(model.train(), batch, long_batch, allowed)
    return tuple(checks)


def _batch(spec: ModelSpec, length: int, seed: int, device: torch.device | str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens_BT = torch.randint(0, spec.vocab, (2, length + 1), generator=generator)
    batch = {"tokens": tokens_BT[:, :-1], "labels": tokens_BT[:, 1:].clone()}
    batch["labels"][1, : length // 3] = IGNORE
    if spec.arch == "encdec":
        batch["source"] = torch.randint(0, spec.vocab, (2, max(1, length - 3)), generator=generator)
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _hidden(model: Own, batch: Batch) -> Tensor:
    return model.hidden(batch["tokens"], source_BS=batch.get("source"))


def _precision(model: Own, batch: Batch, allowed: float, seed: int) -> Check:
    name = "numerics: logits"
    device = batch["tokens"].device
    exact = build_own(model.spec, device=device, dtype=torch.float64, seed=seed).eval()
    exact.load_state_dict(model.state_dict())
    try:
        wanted_BTV = logits(exact, batch)
    except RuntimeError as error:
        why = str(error).partition("\n")[0]
        return Check(name=name, passed=True, detail=f"does not apply: the module does not run in float64 ({why})")
    return numeric_check(name, scaled_error(logits(model, batch), wanted_BTV), allowed, "logits against float64")


def _loss(model: Own, batch: Batch, allowed: float) -> Check:
    logits_BTV = logits(model, batch)
    with torch.no_grad():
        found = model.loss(_hidden(model, batch), batch["labels"])
    wanted = F.cross_entropy(logits_BTV.double().flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORE)
    return numeric_check("numerics: loss", scaled_error(found, wanted), allowed, "loss against its own logits")


def _gradients(model: Own, batch: Batch) -> list[Check]:
    name = "numerics: gradients"
    model.zero_grad(set_to_none=True)
    loss = model.loss(_hidden(model, batch), batch["labels"])
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = {name: p for name, p in model.module.named_parameters() if p.requires_grad}
    missing = [name for name, p in parameters.items() if p.grad is None]
    wrong = [name for name, p in parameters.items() if p.grad is not None and not bool(p.grad.isfinite().all())]
    model.zero_grad(set_to_none=True)
    if wrong:
        return [Check(name=name, passed=False, detail=f"the gradient of {wrong[0]} is not finite")]
    if len(missing) == len(parameters):
        return [Check(name=name, passed=False, detail="the loss reaches no parameter")]
    checks = [Check(name=name, passed=True, detail=f"finite, for {len(parameters) - len(missing)} parameters")]
    if missing:
        detail = f"the loss does not reach {len(missing)} of {len(parameters)} parameters: {listing(missing)}"
        checks.append(Check(name=UNUSED, passed=True, detail=detail))
    return checks


def _training(model: Own, batch: Batch, long_batch: Batch, allowed: float) -> list[Check]:
    """The same in training mode, which is what a training step times: unless it is random there, as with dropout."""
    if not torch.equal(logits(model, batch).nan_to_num(), logits(model, batch).nan_to_num()):
        return []
    checks = [_loss(model, batch, allowed)]
    if model.spec.arch != "encoder":
        checks.append(causality(model, long_batch, allowed))
    return [replace(check, name=f"{check.name} in training mode") for check in checks]
