"""Truth of the ways to run a model: generation with a cache, compilation, quantization. On small models, as in
`t2bench.models.truth`, which checks the model itself; here it is compared with itself, run plainly.

    generation    each new token's logits by a cache, against those of one pass over the whole text without
    compilation   hidden states, loss and gradients of compiled code, against the same code eager
    quantization  logits of the quantized model, against the unquantized one: an approximation, so its error is a
                  finding, which must stay within the bound of `t2bench.models.quantize`

Shape letters: B batch, T length, D width, V vocabulary (padded).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from t2bench.attention.verify import Check, numeric_check, scaled_error
from t2bench.models import truth
from t2bench.models.compiled import wrap_parts
from t2bench.models.init import logical_parameters
from t2bench.models.precision import PRECISIONS, Precision
from t2bench.models.quantize import ALLOWED_ERROR, quantize
from t2bench.models.transformer import Transformer
from t2bench.models.trial import make_batch, shrunk
from t2bench.spec.case import Case
from t2bench.workloads.batches import Batch
from t2bench.workloads.generation import Generator

LENGTH = 16
NEW_TOKENS = 7
# Both sides round alike but in another order: units of rounding that may add up to over two layers and their gradients.
FLOAT32_ALLOWED = 5e-4
ROUNDING_UNITS = 8


def check_case(case: Case, *, device: torch.device | str) -> tuple[Check, ...]:
    """Every check that a case needs before it is timed: of its model or operator, and of how it is run."""
    checks = truth.check_case(case, device=device)
    if case.workload.kind == "attention" or case.model.factory or not all(check.passed for check in checks):
        return checks
    precision = PRECISIONS[case.dtype]
    with precision.forward(torch.device(device).type):
        if case.workload.generates:
            checks += _generation(case, precision, device)
        elif case.model.compile != "off":
            checks += _compilation(case, precision, device)
        if case.model.quant != "none":
            checks += _quantization(case, precision, device)
    return checks


def _model(case: Case, precision: Precision, device: torch.device | str) -> Transformer:
    spec = replace(shrunk(case.model, LENGTH), dropout=0.0, attention_dropout=0.0)
    gain = truth.GAIN if torch.finfo(precision.rounding).bits >= 32 else truth.LOW_PRECISION_GAIN
    return truth.sharp_variant(spec, device, precision.parameters, case.seed, gain)


def _batch(model: Transformer, case: Case, device: torch.device | str) -> Batch:
    made = make_batch(model.spec, LENGTH, case.seed, device)
    prefix_B, documents_BT = made.get("prefix"), made.get("documents")
    return Batch(
        tokens_BT=made["tokens"],
        labels_BT=made["labels"],
        source_BS=made.get("source"),
        prefix_lengths_B=prefix_B,
        documents_BT=documents_BT,
    )


def _allowed(precision: Precision) -> float:
    rounding = precision.rounding
    if torch.finfo(rounding).bits >= 32:
        return FLOAT32_ALLOWED
    return float(ROUNDING_UNITS * torch.finfo(rounding).eps)


def _generation(case: Case, precision: Precision, device: torch.device | str) -> tuple[Check, ...]:
    """By the case's cache and compilation, against one eager pass over prompt and new tokens."""
    model = _model(case, precision, device)
    batch = _batch(model, case, device)
    encdec = batch.source_BS is not None
    prompt_BT = batch.tokens_BT[:, :1] if encdec else batch.tokens_BT
    length = LENGTH if batch.source_BS is None else batch.source_BS.shape[1]
    limit = prompt_BT.shape[1] + NEW_TOKENS - 1
    generator = Generator(model, batch=2, length=length, limit=limit, dtype=precision.compute)
    checks = []
    # Twice, since what is left of a text must not reach the next one.
    for number in range(2):
        with torch.inference_mode():
            tokens_BT, found_BTV = _generated(generator, batch)
            given = {} if model.spec.pattern.kind != "prefix" else {"prefix_lengths_B": _whole(prompt_BT)}
            text_BT = torch.cat((prompt_BT, tokens_BT[:, :-1]), dim=1)
            whole_BTV = model(text_BT, source_BS=batch.source_BS, **given)[:, prompt_BT.shape[1] - 1 :]
        what = f"logits of {NEW_TOKENS} tokens generated with cache {case.model.cache}, against one pass without"
        error = scaled_error(found_BTV, whole_BTV)
        checks.append(numeric_check(f"generation: text {number + 1}", error, _allowed(precision), what))
        batch = replace(batch, tokens_BT=batch.tokens_BT.flip(1))
        prompt_BT = batch.tokens_BT[:, :1] if encdec else batch.tokens_BT
    return tuple(checks)


def _generated(generator: Generator, batch: Batch) -> tuple[Tensor, Tensor]:
    token_B1, logits_BV = generator.first(batch)
    tokens, logits = [token_B1.clone()], [logits_BV.clone()]
    for _ in range(NEW_TOKENS - 1):
        token_B1, logits_BV = generator.next(token_B1)
        tokens.append(token_B1.clone())
        logits.append(logits_BV.clone())
    return torch.cat(tokens, dim=1), torch.stack(logits, dim=1)


def _whole(prompt_BT: Tensor) -> Tensor:
    return torch.full_like(prompt_BT[:, 0], prompt_BT.shape[1])


def _compilation(case: Case, precision: Precision, device: torch.device | str) -> tuple[Check, ...]:
    model = _model(case, precision, device)
    batch = _batch(model, case, device)
    eager = _step(model, batch, trains=case.workload.trains)
    wrap_parts(model, case.model.compile)
    compiled = _step(model, batch, trains=case.workload.trains)
    checks = []
    for name, x in eager.items():
        found = compiled[name]
        error = float((found - x).norm() / x.norm()) if x.norm() > 0 else float(found.norm())
        what = f"{name} of compiled code ({case.model.compile}) against the same code eager"
        checks.append(numeric_check(f"compilation: {name}", error, _allowed(precision), what))
    return tuple(checks)


def _step(model: Transformer, batch: Batch, *, trains: bool) -> dict[str, Tensor]:
    """Hidden states, loss and all gradients as one vector, in float64."""
    with torch.set_grad_enabled(trains):
        x_BTD = model.hidden(batch.tokens_BT, **batch.given)
        found = {"hidden": x_BTD.detach().double()}
        if trains:
            model.zero_grad(set_to_none=True)
            loss = model.loss(x_BTD, batch.labels_BT)
            loss.backward()  # type: ignore[no-untyped-call]
            gradients = [g.double().flatten() for g in logical_parameters(model, grad=True).values()]
            found |= {"loss": loss.detach().double(), "gradients": torch.cat(gradients)}
    return found


def _quantization(case: Case, precision: Precision, device: torch.device | str) -> tuple[Check, ...]:
    model = _model(case, precision, device)
    batch = _batch(model, case, device)
    with torch.inference_mode():
        exact_BTV = model(batch.tokens_BT, **batch.given).double()
        quantize(model, case.model.quant)
        found_BTV = model(batch.tokens_BT, **batch.given).double()
    error = float((found_BTV - exact_BTV).norm() / exact_BTV.norm())
    what = f"logits of the {case.model.quant} model against the unquantized one, an approximation"
    return (numeric_check("quantization: logits", error, ALLOWED_ERROR[case.model.quant], what),)
