"""The equations of recurrent models as an oracle: cells and additive attention one step and one text at a time.

Shape letters: B batch, T length, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from t2bench.models.init import logical_parameters
from t2bench.models.recurrent import Recurrent
from t2bench.models.recurrent_reference import by_definition
from t2bench.models.transformer import build
from t2bench.parity.encdecs import EVERYWHERE_BT
from t2bench.parity.oracle import Expected
from t2bench.parity.weights import LENGTH, SOURCE_LENGTH, draw, lengths_and_mask, tokens
from t2bench.spec.model import ModelSpec


def recurrent(spec: ModelSpec) -> Expected:
    """A recurrent model by the definition of its cells, in float64."""
    model: nn.Module = build(spec, dtype=torch.float64).eval()
    generator = torch.Generator().manual_seed(3)
    for tensor in logical_parameters(model).values():
        tensor.copy_(draw(tensor.shape, norm=False, generator=generator))
    assert isinstance(model, Recurrent)
    by_definition(model)
    inputs, valid_BT = {"tokens_BT": tokens(0)}, EVERYWHERE_BT
    if spec.arch == "encdec":
        inputs["source_BS"] = tokens(1, SOURCE_LENGTH)
        inputs["source_lengths_B"], _ = lengths_and_mask(SOURCE_LENGTH)
    else:
        inputs["lengths_B"], valid_BT = lengths_and_mask(LENGTH)

    def call(module: nn.Module) -> Tensor:
        out_BTV: Tensor = module(**inputs)
        return out_BTV

    return Expected(weights=logical_parameters(model), module=model, call=call, inputs=inputs, valid_BT=valid_BT)
