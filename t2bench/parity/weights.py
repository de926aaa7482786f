"""Random weights and inputs for comparisons with other libraries, and their parameters under our names.

Weights are drawn with a standard deviation of 0.3 (norms around 1), so that activations, attention and positions are
far from their linear beginnings: at the usual 0.02 most mistakes pass any sane tolerance. Every draw is rounded to
bfloat16, so that the same weights serve comparisons in 16 bits.

Shape letters: B batch, T length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

BATCH, LENGTH, SOURCE_LENGTH, VOCAB = 2, 11, 13, 40
STD = 0.3
Weights = dict[str, Tensor]


def draw(shape: tuple[int, ...] | torch.Size, *, norm: bool, generator: torch.Generator) -> Tensor:
    """One parameter: around 1 with a spread of 0.1 for a norm's weight, else around 0 with STD; exact in bfloat16."""
    x = torch.randn(shape, generator=generator)
    return (1 + 0.1 * x if norm else STD * x).bfloat16().float()


def randomise(model: nn.Module, *, keep: str = r"^$", norms_from_zero: bool = False) -> nn.Module:
    """Give every parameter whose name does not match `keep` a random value, and switch to evaluation.

    Args:
        model: any module, in float32.
        keep: regular expression of parameters to leave alone.
        norms_from_zero: the library adds 1 to a norm's weight (Gemma): draw around 0.
    """
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if not re.search(keep, name):
            norm = parameter.ndim == 1 and name.endswith(("weight", "gamma"))
            value = draw(parameter.shape, norm=norm, generator=generator)
            parameter.data = value - 1 if norm and norms_from_zero else value
    return model.eval()


def renamed(model: nn.Module, *rules: tuple[str, str]) -> Weights:
    """Parameters under our names; a rule is a regular expression and its replacement, an empty name drops."""
    found: Weights = {}
    for name, parameter in model.named_parameters():
        new = name
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        if new:
            found[new] = parameter.detach()
    return found


def split_qkv(weights: Mapping[str, Tensor], stacked: str = "qkv") -> Weights:
    """Parameters stacked as (q, k, v) along the first axis, one by one."""
    found: Weights = {}
    for name, tensor in weights.items():
        if f".{stacked}." in name:
            found |= {name.replace(f".{stacked}.", f".{p}."): x for p, x in zip("qkv", tensor.chunk(3), strict=True)}
        else:
            found[name] = tensor
    return found


def tokens(seed: int, length: int = LENGTH) -> Tensor:
    """Token ids (B, T) that are no special token of any library."""
    return torch.randint(3, VOCAB, (BATCH, length), generator=torch.Generator().manual_seed(seed))


def lengths_and_mask(length: int) -> tuple[Tensor, Tensor]:
    """Lengths of a batch whose last row is four tokens shorter, and which positions exist (B, T)."""
    lengths_B = torch.tensor([length, length - 4])
    return lengths_B, torch.arange(length) < lengths_B[:, None]
