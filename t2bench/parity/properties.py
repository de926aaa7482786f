"""What every variant must do, whatever its axes: properties that need no other implementation.

A model at a small size with large random weights is compared with itself: later tokens do not reach earlier outputs,
padding and the rest of the batch do not matter, parameters are as many as the formula says, and so on. A check that
does not apply to a variant is left out.

Shape letters: B batch, T length, S source length, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch

from t2bench.attention.dispatch import takes_mask_tensor
from t2bench.attention.verify import Check, numeric_check, scaled_error
from t2bench.models.loss import IGNORE
from t2bench.models.transformer import build
from t2bench.parity import continuations
from t2bench.parity.subject import (
    BATCH,
    FELT,
    LENGTH,
    LOW_PRECISION_ROUNDING_UNITS,
    TOLERANCE,
    Subject,
    equal,
    large_weights,
    random_batch,
)
from t2bench.spec.cost import num_params
from t2bench.spec.model import ModelSpec

CUT = 6  # tokens from here on are changed to test causality


def check_properties(
    spec: ModelSpec, *, device: torch.device | str, dtype: torch.dtype, seed: int
) -> tuple[Check, ...]:
    """Check a variant, at the size that its spec says (see `t2bench.parity.subject.shrunk`).

    Args:
        spec: the variant.
        device: where to run.
        dtype: of its parameters.
        seed: of weights and tokens.

    Returns:
        One verdict per property that applies.
    """
    subject = Subject(
        spec=spec,
        model=large_weights(spec, device=device, dtype=dtype, seed=seed),
        batch=random_batch(spec, device=device, seed=seed),
        tolerance=TOLERANCE.get(dtype, LOW_PRECISION_ROUNDING_UNITS * torch.finfo(dtype).eps),
    )
    return tuple(verdict for check in PROPERTIES for verdict in check(subject))


def _one(name: str, passed: bool, detail: str) -> list[Check]:
    return [Check(name=name, passed=passed, detail=detail)]


def causality(subject: Subject) -> list[Check]:
    """Later tokens change no earlier output, and do change later ones."""
    if subject.spec.arch == "encoder":
        return []
    changed = {**subject.batch, "tokens_BT": subject.batch["tokens_BT"].clone()}
    changed["tokens_BT"][:, CUT:] = (changed["tokens_BT"][:, CUT:] + 1) % subject.spec.vocab
    before_BTV, after_BTV = subject.logits(), subject.logits(changed)
    felt = scaled_error(after_BTV[:, CUT:], before_BTV[:, CUT:]) > FELT
    what = f"earlier outputs after tokens from position {CUT} on changed"
    return [
        *equal(subject, "causality", after_BTV[:, :CUT], before_BTV[:, :CUT], what),
        *_one("tokens are read", felt, "changed tokens change their own outputs" if felt else "tokens change nothing"),
    ]


def padding(subject: Subject) -> list[Check]:
    """What stands in padding does not matter, and a padded sequence equals the same one without padding."""
    spec, device = subject.spec, subject.batch["tokens_BT"].device
    if spec.arch != "decoder" and not takes_mask_tensor(spec.attention, device.type):
        return []
    source = spec.arch == "encdec"
    side, argument = ("source_BS", "source_lengths_B") if source else ("tokens_BT", "lengths_B")
    full = subject.batch[side].shape[1]
    lengths = [full, full // 2, 1]
    lengths_B = torch.tensor(lengths, device=device)
    changed = {**subject.batch, side: subject.batch[side].clone()}
    for row, length in enumerate(lengths):
        changed[side][row, length:] = 7
    one_BTV, other_BTV = (subject.logits(b, **{argument: lengths_B}) for b in (subject.batch, changed))
    found: list[Check] = []
    for row, length in enumerate(lengths[1:], start=1):
        valid = slice(None) if source else slice(length)
        alone = {name: x[row : row + 1] for name, x in subject.batch.items()}
        alone[side] = alone[side][:, :length]
        one_TV, other_TV, alone_TV = one_BTV[row, valid], other_BTV[row, valid], subject.logits(alone)[0]
        found += equal(subject, f"padding ignored, {length} of {full}", other_TV, one_TV, "outputs with other padding")
        found += equal(subject, f"padding as if absent, {length} of {full}", one_TV, alone_TV, "outputs with padding")
    return found


def batch_invariance(subject: Subject) -> list[Check]:
    """A sequence's output does not depend on the other sequences of its batch."""
    alone = [subject.logits({name: x[row : row + 1] for name, x in subject.batch.items()}) for row in range(BATCH)]
    return equal(subject, "batch invariance", torch.cat(alone), subject.logits(), "sequences alone and in a batch")


def permutation(subject: Subject) -> list[Check]:
    """An encoder without positions permutes its outputs as its inputs; with positions it does not."""
    spec = subject.spec
    if spec.arch != "encoder" or spec.recurrence != "none" or spec.pattern.kind != "full":
        return []
    order_T = torch.randperm(LENGTH, generator=torch.Generator().manual_seed(1)).to(subject.batch["tokens_BT"].device)
    permuted = {"tokens_BT": subject.batch["tokens_BT"][:, order_T]}
    error = scaled_error(subject.logits(permuted), subject.logits()[:, order_T])
    if spec.position.kind == "none":
        return [numeric_check("permutation equivariance", error, subject.tolerance, "outputs of permuted inputs")]
    return _one("positions are felt", error > FELT, f"permuted inputs change outputs by {error:.2g}")


def parameters(subject: Subject) -> list[Check]:
    """The formula of `t2bench.spec.cost` counts what is there; the meta device builds the same."""
    if subject.spec.factory:
        return []
    formula = num_params(subject.spec).total
    there = sum(p.numel() for p in subject.model.parameters())
    meta = build(subject.spec, device="meta")
    on_meta = sum(p.numel() for p in meta.parameters() if p.device.type == "meta")
    return [
        *_one("parameters counted", there == formula, f"the formula says {formula}, the model has {there}"),
        *_one("meta device", on_meta == there, f"{on_meta} of {there} parameters are on the meta device"),
    ]


def gradients(subject: Subject) -> list[Check]:
    """Forward and backward are finite and reach every parameter."""
    model = copy.deepcopy(subject.model)
    inputs = dict(subject.batch)
    hidden_BTD = model.hidden(inputs.pop("tokens_BT"), **inputs)  # type: ignore[operator]
    loss = model.loss(hidden_BTD, subject.batch["tokens_BT"])  # type: ignore[operator]
    loss.backward()
    bad = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.isfinite().all())]
    finite = bool(loss.isfinite()) and not bad
    return _one(
        "finite gradients", finite, f"loss {float(loss.detach()):.3g}; without a finite gradient: {bad or 'none'}"
    )


def loss(subject: Subject) -> list[Check]:
    """The loss is the cross-entropy of the model's own logits, over the labels that count."""
    labels_BT = subject.batch["tokens_BT"].roll(-1, dims=1)
    labels_BT[:, -1] = IGNORE
    labels_BT[0, : LENGTH // 2] = IGNORE
    inputs = dict(subject.batch)
    with torch.no_grad():
        hidden_BTD = subject.model.hidden(inputs.pop("tokens_BT"), **inputs)  # type: ignore[operator]
        found = subject.model.loss(hidden_BTD, labels_BT)  # type: ignore[operator]
    counts_BT = labels_BT != IGNORE
    logits_NV, labels_N = subject.logits().double()[counts_BT], labels_BT[counts_BT]
    wanted = logits_NV.logsumexp(dim=-1).sub(logits_NV.gather(1, labels_N[:, None])[:, 0]).mean()
    return equal(subject, "loss", found, wanted, f"the mean over {len(labels_N)} of {labels_BT.numel()} labels")


def dropout(subject: Subject) -> list[Check]:
    """Each kind of dropout that the spec has makes training random, by itself; without any it is not."""
    spec = subject.spec
    kinds = [name for name in ("dropout", "attention_dropout") if getattr(spec, name) > 0.0]
    found = []
    for kind in kinds or [""]:
        other = subject.variant(**{name: 0.0 for name in kinds if name != kind})
        other.model.train()
        error = scaled_error(other.logits(), other.logits())
        works = error > FELT if kind else error <= subject.tolerance
        detail = f"two passes in training differ by {error:.2g}"
        found += _one(f"{kind} is felt" if kind else "no dropout", works, detail)
    return found


def state_dict(subject: Subject) -> list[Check]:
    """Saving and loading the weights gives the same model."""
    dtype = next(subject.model.parameters()).dtype
    device = subject.batch["tokens_BT"].device
    other = build(subject.spec, device=device, dtype=dtype, seed=9).eval()
    other.load_state_dict(copy.deepcopy(subject.model.state_dict()))
    with torch.no_grad():
        same = torch.equal(other(**subject.batch), subject.logits())
    return _one("state dict", same, "weights saved and loaded give the same outputs" if same else "outputs differ")


PROPERTIES: tuple[Callable[[Subject], list[Check]], ...] = (
    causality,
    padding,
    batch_invariance,
    permutation,
    parameters,
    gradients,
    loss,
    dropout,
    state_dict,
    continuations.decoding,
    continuations.packing,
    continuations.documents,
    continuations.segments,
    continuations.window,
)
