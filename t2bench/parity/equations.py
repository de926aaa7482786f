"""The papers' equations as oracles: `t2bench.parity.definition` with random weights, for any spec.

Shape letters: B batch, T length, S source length, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from t2bench.models.init import logical_parameters
from t2bench.models.stack import Memories
from t2bench.models.transformer import build
from t2bench.parity.definition import Definition
from t2bench.parity.encdecs import EVERYWHERE_BT
from t2bench.parity.oracle import Expected
from t2bench.parity.weights import BATCH, LENGTH, SOURCE_LENGTH, draw, lengths_and_mask, tokens
from t2bench.spec.model import ModelSpec

PREFIXES = (4, 7)
DOCUMENT_ENDS = ((3, 8, LENGTH), (6, 7, LENGTH))


class Equations(nn.Module):
    """Weights under our logical names, a dot being written as a slash."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        for name, like in logical_parameters(build(spec, device="meta")).items():
            value = draw(like.shape, norm="norm" in name and name.endswith("weight"), generator=generator)
            self.register_parameter(name.replace(".", "/"), nn.Parameter(value.double(), requires_grad=False))

    @property
    def weights(self) -> dict[str, Tensor]:
        """Logical name -> parameter."""
        return {name.replace("/", "."): parameter for name, parameter in self.named_parameters()}


def transformer(spec: ModelSpec) -> Expected:
    """The papers' equations of a transformer, in float64."""
    inputs = {"tokens_BT": tokens(0)}
    lengths, source_lengths = [LENGTH] * BATCH, [SOURCE_LENGTH] * BATCH
    valid_BT = EVERYWHERE_BT
    readings: list[dict[str, Any]] = [{} for _ in range(BATCH)]
    if spec.arch == "encdec":
        inputs |= {"source_BS": tokens(1, SOURCE_LENGTH)}
        inputs["source_lengths_B"], _ = lengths_and_mask(SOURCE_LENGTH)
        source_lengths = inputs["source_lengths_B"].tolist()
    else:
        inputs["lengths_B"], valid_BT = lengths_and_mask(LENGTH)
        lengths = inputs["lengths_B"].tolist()
    if spec.pattern.kind == "prefix":
        inputs["prefix_lengths_B"] = torch.tensor(PREFIXES)
        readings = [{"prefix": prefix} for prefix in PREFIXES]
    if spec.pattern.kind == "document":
        ends_BN = torch.tensor(DOCUMENT_ENDS)
        inputs["documents_BT"] = (torch.arange(LENGTH)[None, :, None] >= ends_BN[:, None, :]).sum(-1)
        readings = [{"documents": row} for row in inputs["documents_BT"].tolist()]
    rows_BT, before_BT = inputs["tokens_BT"].tolist(), tokens(2)

    def call(module: nn.Module) -> Tensor:
        assert isinstance(module, Equations)
        definition = Definition(spec, module.weights)
        found: list[Tensor] = []
        for row, length, source, reading in zip(
            rows_BT, lengths, _sources(inputs, source_lengths), readings, strict=True
        ):
            remembered = []
            if spec.memory:
                remembered = definition.memories(before_BT[len(found)].tolist())
            logits_TV = definition.logits(row[:length], source, remembered=remembered, **reading)
            found.append(nn.functional.pad(logits_TV, (0, 0, 0, LENGTH - length)))
        return torch.stack(found)

    def drive(model: Any) -> Tensor:
        memories = Memories()
        model(before_BT, memories=memories)
        logits_BTV: Tensor = model(inputs["tokens_BT"], memories=memories)
        return logits_BTV

    module = Equations(spec)
    return Expected(
        weights=module.weights,
        module=module,
        call=call,
        inputs=inputs,
        valid_BT=valid_BT,
        drive=drive if spec.memory else None,
    )


def _sources(inputs: dict[str, Tensor], lengths: list[int]) -> list[list[int]]:
    if "source_BS" not in inputs:
        return [[] for _ in lengths]
    return [row[:length] for row, length in zip(inputs["source_BS"].tolist(), lengths, strict=True)]
