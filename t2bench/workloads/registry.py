"""build: from a case to something that can be stepped, timed and counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from t2bench.models.precision import PRECISIONS
from t2bench.models.transformer import Transformer
from t2bench.models.transformer import build as build_model
from t2bench.spec.case import Case
from t2bench.workloads.attention import Attention
from t2bench.workloads.batches import Batch, cut
from t2bench.workloads.forward import Forward
from t2bench.workloads.train_step import TrainStep


class Workload(Protocol):
    """What a variant is made to do, ready to run. Every step is the same amount of work on the same kind of input.

    Attributes:
        phases: names of the parts of a step, in order.
        tokens: token positions per step.
        held: what the model holds apart from the work (parameters, tables); for `t2bench.meters.counters.count`.
    """

    phases: tuple[str, ...]
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
        The workload. Equal seeds give equal weights (where shapes allow) and equal batches.

    Raises:
        ValueError: no token stream, or one that is too short.
    """
    torch.manual_seed(case.seed)
    if case.workload.kind == "attention":
        return Attention(case, device, PRECISIONS[case.dtype].parameters)
    if tokens is None:
        raise ValueError(f"{case.id}: workload {case.workload.kind} needs a token stream")
    batches = cut(tokens, arch=case.model.arch, batch=case.batch, length=case.length, seed=case.seed, device=device)
    return around_model(case, model_for(case, device), batches)


def model_for(case: Case, device: torch.device) -> Transformer:
    """The case's model, initialised."""
    return build_model(case.model, device=device, dtype=PRECISIONS[case.dtype].parameters, seed=case.seed)


def around_model(case: Case, model: Transformer, batches: Sequence[Batch]) -> Workload:
    """The workload of a case that is not `attention`, around an existing model."""
    kind = TrainStep if case.workload.kind == "train_step" else Forward
    held = (*model.parameters(), *model.buffers(), *_position_tables(model, batches[0]))
    return kind(model, batches, tokens=case.tokens, held=held)


def _position_tables(model: Transformer, batch: Batch) -> tuple[Tensor, ...]:
    """The sines and cosines this length needs, made now, so that the first step does not make them."""
    if model.spec.recurrence != "none":
        return ()
    like = next(model.parameters())
    lengths = ((model.encoder, batch.tokens_BT if batch.source_BS is None else batch.source_BS),)
    found: list[Tensor] = []
    for stack, ids in (*lengths, (model.decoder, batch.tokens_BT)):
        if stack is None:
            continue
        found.extend(stack.tables.rotation(ids.shape[1], like) or ())
        sinusoid_TD = stack.tables.sinusoid(ids.shape[1], like)
        found.extend(() if sinusoid_TD is None else (sinusoid_TD,))
    return tuple(found)
