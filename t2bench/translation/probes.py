"""Structural probes: before a model is trained, does it see what it must see, and nothing that it must not?

On a copy with random weights one thing is changed, and logits must, or must not, change with it:

    causality            later target tokens                     must change no earlier logits
    source               tokens of the source                    must change logits
    order of the source  the same tokens in another order        must change logits, if the model has positions
    padding              more padding behind the source          must change nothing
    generation           tokens one by one with the cache        must have the logits of one pass over the whole text

In a decoder that translates by itself the prompt is the source; it has no padding of its own, since nothing before it
looks there.

A model that fails would still train, and its loss may look better than ever: one that sees the next word reaches a
perplexity near 1 and translates nothing. What the probes cannot see is a wrong number in the right place, such as
attention whose scores are not scaled. Variants of our own are compared with their float64 definition for that (see
`t2bench.models.truth`); of a user's own module only training can tell.

Shape letters: B batch, T target length, S source length.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from t2bench.attention.verify import Check, numeric_check, scaled_error
from t2bench.models.attention import Attention
from t2bench.models.precision import PRECISIONS
from t2bench.models.transformer import Transformer
from t2bench.models.trial import Batch, logits
from t2bench.models.truth_properties import causality, padding
from t2bench.spec.model import ModelSpec
from t2bench.workloads import batches
from t2bench.workloads.truth_modes import generation_checks

SOURCE_LENGTH, TARGET_LENGTH = 12, 8
SHARE = 0.5  # of a unit of variance: what is added to weights
VECTOR_STD = 0.1
# In float64 what is equal differs by rounding only, some 1e-14, and what is not by 1e-4 or more.
EXACT = 1e-9
# A user's own module may compute in float32 inside, whatever it is given, or know nothing else.
OWN = 1e-4
FLOAT32_ALLOWED = 2e-3
ROUNDING_UNITS = 32  # in 16 bits; with many layers and scores that nothing scales down, rounding adds up

CONSEQUENCES = {
    "causality": "sees the future",
    "source": "does not hear the source",
    "order of the source": "does not know the order of the source",
    "padding": "reads padding",
    "generation": "generates otherwise than it is trained",
}


def probe(model: Transformer, *, vocab: int, device: torch.device | str, dtype: str, seed: int) -> tuple[Check, ...]:
    """Probe a model that is about to be trained; it is left as it is.

    The first round is in float64 without back ends, where what is equal and what is not are far apart: 16 bits round
    away more than a fresh model's positions do. The second is in the dtype and by the back ends of the training, and
    asks only for what must be equal.

    Args:
        model: `encdec` or `decoder`, of any variant, or a user's own module, not compiled yet.
        vocab: ids below this may occur; at most the spec's.
        device: where the model lives.
        dtype: a name of `t2bench.spec.case.Dtype`, that of the training.
        seed: of tokens, and of what is added to the weights.

    Returns:
        One verdict for each probe that applies; the second round's names end in the dtype, and it is left out where
        the first has failed.

    Raises:
        FactoryError: a user's own module does not have the interface that is asked for.
        Exception: whatever the model's code raises.
    """
    batch = _batch(model.spec, vocab, seed, device)
    shaken = _shaken(model, seed)
    exact, allowed = _exact(shaken, batch)
    checks = [*_hearing(exact, batch, vocab, allowed), *_equalities(exact, batch, torch.float64, allowed)]
    if not all(check.passed for check in checks):
        return tuple(_worded(check) for check in checks)
    precision = PRECISIONS[dtype]
    bits = torch.finfo(precision.rounding)
    with precision.forward(torch.device(device).type):
        rounded = FLOAT32_ALLOWED if bits.bits >= 32 else ROUNDING_UNITS * bits.eps
        again = list(_equalities(shaken, batch, precision.compute, rounded))
    checks += [replace(check, name=f"{check.name}, {dtype}") for check in again]
    return tuple(_worded(check) for check in checks)


def _worded(check: Check) -> Check:
    """With what a failure means in front of its figures."""
    if check.passed:
        return check
    consequence = next(words for name, words in CONSEQUENCES.items() if check.name.startswith(name))
    return replace(check, detail=f"{consequence}: {check.detail}")


def _batch(spec: ModelSpec, vocab: int, seed: int, device: torch.device | str) -> Batch:
    """Two texts, no token twice in one if there are enough: the same tokens in another order are another text."""
    generator = torch.Generator().manual_seed(seed)

    def draw(length: int) -> Tensor:
        rows = [torch.randperm(max(vocab, length), generator=generator)[:length] % vocab for _ in range(2)]
        return torch.stack(rows).to(device)

    if spec.arch == "encdec":
        return {"tokens": draw(TARGET_LENGTH), "source": draw(SOURCE_LENGTH)}
    found = {"tokens": draw(SOURCE_LENGTH + TARGET_LENGTH)}
    if spec.pattern.kind == "prefix":
        found["prefix"] = torch.full((2,), SOURCE_LENGTH, device=device)
    return found


def _shaken(model: Transformer, seed: int) -> Transformer:
    """A copy in evaluation mode, to be run as it is written, with something added to every weight.

    Tables and layers that begin at zero would hide what they do, and attention that begins uniform where tokens stand.
    """
    shaken = copy.deepcopy(model).eval()
    shaken.spec = replace(model.spec, compile="off")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in shaken.parameters():
            draw = torch.empty(parameter.shape).normal_(generator=generator)
            std = SHARE * parameter[0].numel() ** -0.5 if parameter.ndim > 1 else VECTOR_STD
            parameter.add_((std * draw).to(parameter.device, parameter.dtype))
    return shaken


def _exact(model: Transformer, batch: Batch) -> tuple[Transformer, float]:
    """A copy in float64, by plain attention without packing, and what it may be off by.

    A user's own module that does not run in float64 is taken in float32.
    """
    exact = copy.deepcopy(model).double()
    if not model.spec.factory:
        exact.spec = replace(model.spec, padding="mask", attention="math")
        for module in exact.modules():
            if isinstance(module, Attention):
                module.backend = "math"
        return exact, EXACT
    try:
        logits(exact, batch)
    except RuntimeError:
        exact = copy.deepcopy(model).float()
    return exact, OWN


def _hearing(model: Transformer, batch: Batch, vocab: int, allowed: float) -> Iterator[Check]:
    """What must change logits."""
    if "source" in batch:
        side, end, heard = "source", batch["source"].shape[1], slice(None)
    else:
        end = batch["tokens"].shape[1] - TARGET_LENGTH
        side, heard = "tokens", slice(end, None)
    before_BTV = logits(model, batch)

    def moved(source_BS: Tensor) -> float:
        text_BS = torch.cat((source_BS, batch[side][:, end:]), dim=1)
        return scaled_error(logits(model, {**batch, side: text_BS})[:, heard], before_BTV[:, heard])

    source_BS = batch[side][:, :end]
    half = end // 2
    other_BS = torch.cat((source_BS[:, :half], (source_BS[:, half:] + 1) % vocab), dim=1)
    yield _felt("source", moved(other_BS), allowed, "another source")
    yield _order(model.spec, moved(source_BS.roll(end // 3, dims=1)), allowed)


def _order(spec: ModelSpec, error: float, allowed: float) -> Check:
    """Whether the source's order is felt, where it must be, and is not where there is nothing to feel it by."""
    name, what = "order of the source", "the source's tokens in another order"
    if spec.position.kind != "none" or spec.recurrence != "none":
        return _felt(name, error, allowed, what)
    if spec.factory or spec.arch != "encdec" or spec.pattern.kind != "full":
        detail = "does not apply: the spec says position none, so that only masks or the module itself may tell it"
        return Check(name=name, passed=True, detail=detail)
    return numeric_check(name, error, allowed, f"as expected of position none, logits after {what}")


def _felt(name: str, error: float, allowed: float, what: str) -> Check:
    passed = allowed < error < float("inf")
    return Check(name=name, passed=passed, detail=f"{what} changes logits by {error:.2g} of the largest", error=error)


def _equalities(model: Transformer, batch: Batch, dtype: torch.dtype, allowed: float) -> Iterator[Check]:
    """What must change nothing."""
    yield causality(model, batch, allowed)
    if model.spec.arch == "encdec":
        yield from padding(model, batch, allowed)
    if model.spec.factory or model.spec.cache == "off":
        return
    source_BS = batch.get("source")
    prompt_BT = batch["tokens"] if source_BS is not None else batch["tokens"][:, :-TARGET_LENGTH]
    text = batches.Batch(tokens_BT=prompt_BT, labels_BT=prompt_BT, source_BS=source_BS)
    yield from generation_checks(model, text, dtype=dtype, allowed=allowed)
