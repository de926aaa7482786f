"""Initialisation and the logical names of parameters, in one place.

    parameter                     initial value
    matrices of layers            uniform +-sqrt(6 / (in + out))     Glorot & Bengio 2010, as tensor2tensor
    token and output tables       normal, std 1/sqrt(width) if embeddings are scaled by sqrt(width), else 0.02;
                                  rows that pad the vocabulary: 0
    learned positions             normal, std 0.02                   GPT-2
    T5's table of biases          normal, std 1/sqrt(width)          transformers, T5
    Transformer-XL's u and v      normal, std 0.02                   its authors' code
    v of additive scores          uniform +-1/sqrt(head_dim)         torch.nn.Linear(head_dim, 1), as in JoeyNMT
    norm weights / all biases     1 / 0
    biases of LSTM forget gates   1                                  Gers et al. 2000; Jozefowicz et al. 2015

A *logical* parameter is one matrix of the literature (W_q, W_k, ...), whichever larger matrix it is stacked into. Its
random numbers depend on the seed, its logical name and its shape alone. So implementation axes (fused projections, back
end, loss) never change the weights, and variants that share a matrix share its values.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from t2bench.models.cell import torch_parts
from t2bench.models.linear import FusedLinear
from t2bench.spec.model import ModelSpec

FORGET_BIAS = "input_f.bias"


def logical_parameters(model: nn.Module, *, grad: bool = False) -> dict[str, Tensor]:
    """Every parameter (or its gradient) under its logical name, as a view, sorted by name.

    `decoder.layers.0.self_attention.q.weight` means the same matrix in each layout of projections.

    Args:
        model: a Transformer or Recurrent.
        grad: return gradients; parameters that have none are left out.

    Returns:
        Logical name -> detached view: writing to it changes the model.
    """
    found: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            tensor = parameter.grad if grad else parameter.detach()
            if tensor is None:
                continue
            if isinstance(module, FusedLinear):
                owner = path.rsplit(".", 2)[0]  # "<attention>.project.<group>" -> "<attention>"
                found |= {f"{owner}.{part}.{name}": tensor[rows] for part, rows in module.rows()}
            elif isinstance(module, nn.RNNBase):
                found |= {f"{path}.{part}": tensor[rows] for part, rows in torch_parts(module, name)}
            else:
                found[f"{path}.{name}" if path else name] = tensor
    return dict(sorted(found.items()))


def load_logical(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Copy parameters in by logical name, whatever layout or dtype they come from.

    Raises:
        ValueError: the two sets of names differ.
    """
    own = logical_parameters(model)
    if own.keys() != values.keys():
        raise ValueError(f"parameters differ: {sorted(own.keys() ^ values.keys())}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(values[name])


def mixed_seed(seed: int, name: str) -> int:
    """A seed of 32 bits for one parameter: torch's CPU generator takes no notice of higher bits."""
    return zlib.crc32(f"{seed}/{name}".encode())


def initialise(model: nn.Module, spec: ModelSpec, seed: int) -> None:
    """Set every parameter of a Transformer as the table above says; drawn on the CPU, the same on every device."""
    table_std = spec.width**-0.5 if spec.embed_scale else 0.02
    std = {"table_VD": table_std, "table_NH": spec.width**-0.5, "positions_MD": 0.02, "u_HK": 0.02, "v_HK": 0.02}
    generator = torch.Generator()
    with torch.no_grad():
        for name, tensor in logical_parameters(model).items():
            if tensor.ndim == 1:
                is_one = ("norm" in name and name.endswith("weight")) or name.endswith(FORGET_BIAS)
                tensor.fill_(1.0 if is_one else 0.0)
                continue
            generator.manual_seed(mixed_seed(seed, name))
            draw = torch.empty(tensor.shape, dtype=torch.float32, device="cpu")
            std = {
                "table_VD": table_std,
                "table_NH": spec.width**-0.5,
                "positions_MD": 0.02,
                "u_HK": 0.02,
                "v_HK": 0.02,
            }
            last = name.rpartition(".")[2].removeprefix("source_").removeprefix("output_")
            if last in std:
                draw.normal_(0.0, std[last], generator=generator)
            else:
                limit = spec.dim_per_head**-0.5 if last == "score_HK" else math.sqrt(6.0 / sum(tensor.shape))
                draw.uniform_(-limit, limit, generator=generator)
            if last == "table_VD":
                draw[spec.vocab :] = 0.0
            tensor.copy_(draw)
