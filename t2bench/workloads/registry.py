"""build: from a case to something that can be stepped, timed and counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from t2bench.models.precision import PRECISIONS
from t2bench.models.quantize import quantize
from t2bench.models.transformer import Transformer
from t2bench.models.transformer import build as build_model
from t2bench.models.view import make_view
from t2bench.spec.case import Case
from t2bench.workloads.arrange import arrange, num_tokens
from t2bench.workloads.attention import Attention
from t2bench.workloads.batches import Batch, cut
from t2bench.workloads.decode import Decode
from t2bench.workloads.forward import Forward
from t2bench.workloads.generation import Generator
from t2bench.workloads.latency import Latencies
from t2bench.workloads.train_step import TrainStep


class Workload(Protocol):
    """What a variant is made to do, ready to run. Every step is the same amount of work on the same kind of input.

    Attributes:
        phases: names of the parts of a step, in order.
        latencies: metrics that are a phase's time divided among tokens; a workload that has some reports them in the
            place of its phases' times.
        tokens: token positions per step, padding not counted.
        held: what the model holds apart from the work (parameters, tables); for `t2bench.meters.counters.count`.
    """

    phases: tuple[str, ...]
    latencies: Latencies
    tokens: int
    held: tuple[Tensor, ...]

    def step(self, mark: Callable[[str], None]) -> Tensor:
        """Run once, calling `mark(phase)` at the end of each phase.

        Returns:
            A scalar on the device, not waited for: the loss, or a checksum of the output.
        """
        ...


def build(case: Case, *, device: torch.device, tokens: Path | None) -> Workload:
    """Build the workload of a case: model, batches, optimizer.

    Args:
        case: what to run.
        device: where.
        tokens: token stream for the model's vocabulary; `attention` needs none.

    Returns:
        The workload. Equal seeds give equal weights (where shapes allow) and equal batches. Sets the process's
        precision of float32 products to the case's.

    Raises:
        ValueError: no token stream, or one that is too short.
        Unsupported: a quantization that this machine's software cannot do.
    """
    precision = PRECISIONS[case.dtype]
    precision.set_matmul()
    torch.manual_seed(case.seed)
    if case.workload.kind == "attention":
        return Attention(case, device, precision.compute)
    if tokens is None:
        raise ValueError(f"{case.id}: workload {case.workload.kind} needs a token stream")
    spec = case.model
    batches = cut(
        tokens,
        arch=spec.arch,
        batch=case.batch,
        length=case.length,
        seed=case.seed,
        device=device,
        consecutive=spec.memory > 0,
    )
    return around_model(case, model_for(case, device), arrange(case, batches))


def model_for(case: Case, device: torch.device) -> Transformer:
    """The case's model, initialised, and quantized if its spec says so."""
    model = build_model(case.model, device=device, dtype=PRECISIONS[case.dtype].parameters, seed=case.seed)
    quantize(model, case.model.quant)
    return model


def around_model(case: Case, model: Transformer, batches: Sequence[Batch]) -> Workload:
    """The workload of a case that is not `attention`, around an existing model."""
    precision, workload = PRECISIONS[case.dtype], case.workload
    held = (*model.parameters(), *model.buffers())
    if not workload.generates:
        held = (*held, *_position_tables(model, batches))
        kind = TrainStep if workload.kind == "train_step" else Forward
        return kind(model, batches, precision=precision, tokens=num_tokens(case), held=held)
    generator = Generator(
        model.eval(), batch=case.batch, length=case.length, limit=case.last_length, dtype=precision.compute
    )
    new_tokens = workload.new_tokens if workload.kind == "decode" else 1
    held = (*held, *generator.position_tables(case.length, new_tokens))
    return Decode(generator, batches, new_tokens=new_tokens, precision=precision, tokens=case.tokens, held=held)


def _position_tables(model: Transformer, batches: Sequence[Batch]) -> tuple[Tensor, ...]:
    """The tables of positions that one pass over a batch needs, made now, so that the first step does not make them."""
    if model.spec.recurrence != "none" or model.spec.factory:
        return ()
    spec, like = model.spec, next(model.parameters())
    found: list[Tensor] = []
    for batch in batches:
        if model.encoder is not None:
            decodes = model.decoder is not None
            tokens_BT = batch.tokens_BT if batch.source_BS is None else batch.source_BS
            lengths_B = batch.source_lengths_B if decodes else batch.lengths_B
            view = make_view(spec, tokens_BT.shape[1], like.device, causal=False, lengths_B=lengths_B)
            found.extend(model.encoder.prepare(view, like))
        if model.decoder is not None:
            view = make_view(
                spec,
                batch.tokens_BT.shape[1],
                like.device,
                causal=True,
                lengths_B=batch.lengths_B,
                num_remembered=spec.memory,
            )
            found.extend(model.decoder.prepare(view, like))
    return tuple(found)
