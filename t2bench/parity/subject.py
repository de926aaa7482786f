"""A model under test: small, with large random weights, and how exact it can be.

Shape letters: B batch, T length, S source length, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from t2bench.attention.verify import Check, numeric_check, scaled_error
from t2bench.models.init import load_logical, logical_parameters, mixed_seed
from t2bench.models.transformer import build
from t2bench.parity.weights import STD
from t2bench.spec.model import ModelSpec

BATCH, LENGTH, SOURCE_LENGTH, VOCAB = 3, 10, 12, 60
MAX_LEN = 32  # rows of a learned table
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4}
LOW_PRECISION_ROUNDING_UNITS = 32
FELT = 1e-3  # a change of inputs that moves outputs by less is no change

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A model under test and how exact it can be."""

    spec: ModelSpec
    model: nn.Module
    batch: Batch
    tolerance: float

    def logits(self, batch: Batch | None = None, **more: Any) -> Tensor:
        """(B, T, V), without gradients."""
        with torch.no_grad():
            out_BTV: Tensor = self.model(**(self.batch if batch is None else batch), **more)
        return out_BTV

    def variant(self, **changes: Any) -> Subject:
        """The same weights under a spec with some fields changed."""
        like = next(self.model.parameters())
        spec = replace(self.spec, **changes)
        model = build(spec, device=like.device, dtype=like.dtype).eval()
        load_logical(model, logical_parameters(self.model))
        return replace(self, spec=spec, model=model)


def shrunk(spec: ModelSpec) -> ModelSpec:
    """The variant at a width that computes in milliseconds, its reach within a few tokens; its axes are untouched."""
    return replace(
        within_reach(spec), width=32, heads=4, kv_heads=share_of_heads(spec, 4), head_dim=None, ff=48, enc_layers=2,
        dec_layers=2, vocab=VOCAB, vocab_multiple=min(spec.vocab_multiple, 8),
    )  # fmt: skip


def share_of_heads(spec: ModelSpec, heads: int) -> int | None:
    """Key/value heads in the variant's proportion to so many query heads."""
    return None if spec.kv_heads is None else max(1, heads * spec.kv_heads // spec.heads)


def within_reach(spec: ModelSpec) -> ModelSpec:
    """The variant with windows, distances, buckets, tables and memories that end within a few tokens."""
    position, pattern = spec.position, spec.pattern
    reach: dict[str, dict[str, Any]] = {
        "learned": {"max_len": MAX_LEN},
        "t5_bias": {"buckets": 8, "max_distance": 12},
        "shaw": {"max_distance": min(position.max_distance, 3)},
    }
    return replace(
        spec,
        position=replace(position, **reach.get(position.kind, {})),
        pattern=replace(pattern, window=min(pattern.window, 4), global_tokens=min(pattern.global_tokens, 2)),
        memory=min(spec.memory, 7),
    )


def large_weights(
    spec: ModelSpec, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64, seed: int = 0
) -> nn.Module:
    """The spec's model in evaluation mode, with weights that make every axis matter."""
    model = build(spec, device=device, dtype=dtype, seed=seed).eval()
    generator = torch.Generator()
    for name, tensor in logical_parameters(model).items():
        generator.manual_seed(mixed_seed(seed, name))
        draw = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        tensor.copy_(1 + 0.1 * draw if "norm" in name and name.endswith("weight") else STD * draw)
    return model


def random_batch(spec: ModelSpec, *, device: torch.device | str = "cpu", seed: int = 0, length: int = LENGTH) -> Batch:
    """Arguments of a forward pass."""
    generator = torch.Generator().manual_seed(seed)
    found = {"tokens_BT": torch.randint(0, spec.vocab, (BATCH, length), generator=generator).to(device)}
    if spec.arch == "encdec":
        source_BS = torch.randint(0, spec.vocab, (BATCH, SOURCE_LENGTH), generator=generator)
        found["source_BS"] = source_BS.to(device)
    return found


def equal(subject: Subject, name: str, found: Tensor, wanted: Tensor, what: str) -> list[Check]:
    """The Check that two outputs are equal within the subject's tolerance."""
    return [numeric_check(name, scaled_error(found, wanted), subject.tolerance, what)]
