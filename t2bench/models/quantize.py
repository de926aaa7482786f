"""Quantization: weights of the layers in 8 or 4 bits, through torchao, which is imported only when asked for.

    int8wo   weights int8, one scale a row; multiplied in the dtype of the activations     Dettmers et al. 2022, sec. 2
    int8dyn  the same, and activations int8 with a scale a token, found as they come       Dettmers et al. 2022, sec. 3
    int4wo   weights int4, one scale for every GROUP of a row; CUDA, bf16                  Frantar et al. 2022 (no GPTQ:
                                                                                           rounded to nearest)
    fp8      weights and activations float8 (e4m3), scales by row and by token             Micikevicius et al. 2022

What is quantized are the linear layers of attention and feed-forward. Tables (tokens, positions, output) stay as they
are, tied or not: a tied one is looked up, and an output table in low precision costs more quality than it saves.
Quantizing approximates: how far off it is, is measured and recorded before anything is timed.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from t2bench.models.linear import Linear
from t2bench.spec.axes import Quant
from t2bench.spec.case import Unsupported

GROUP = 128
# Relative Euclidean error of the logits that each may cause in a model of two layers with random weights, far below the
# 1.4 of two unrelated models. For int8 it is two to three times the largest error found over the presets (0.03, 0.04);
# for int4 and fp8 it is what their 4 bits and 3 bits of mantissa let expect of ten products in a row.
ALLOWED_ERROR: dict[Quant, float] = {"int8wo": 0.07, "int8dyn": 0.1, "int4wo": 0.5, "fp8": 0.3}


def quantize(model: nn.Module, quant: Quant) -> None:
    """Replace the weights of the model's linear layers by quantized ones, in place.

    Raises:
        Unsupported: torchao is missing, or has no such kernels for this device or these sizes.
    """
    if quant == "none":
        return
    try:
        from torchao.quantization import quantize_
    except ImportError as error:
        words = f"quant: {quant} needs torchao, which cannot be imported ({error}); install t2bench[quant]"
        raise Unsupported(words) from error
    model.requires_grad_(False)
    try:
        quantize_(model, _config(quant), filter_fn=lambda module, name: isinstance(module, (Linear, nn.Linear)))
    except (ImportError, AssertionError, NotImplementedError, ValueError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unsupported(f"torchao cannot do quant: {quant} here: {first_line}") from error


def _config(quant: Quant) -> Any:
    """Torchao's name for it."""
    from torchao import quantization as ao

    if quant == "int8wo":
        return ao.Int8WeightOnlyConfig()
    if quant == "int8dyn":
        return ao.Int8DynamicActivationInt8WeightConfig()
    if quant == "int4wo":
        # The one packing whose kernel is torch's own.
        return ao.Int4WeightOnlyConfig(group_size=GROUP, int4_packing_format="tile_packed_to_4d")
    return ao.Float8DynamicActivationFloat8WeightConfig(granularity=ao.PerRow())
