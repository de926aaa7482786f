"""Properties that a variant must have whatever its numbers are: what may be seen, and what may not.

Each changes some tokens and looks at logits that must, or must not, change.

Shape letters: B batch, T length, V vocabulary (padded).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from t2bench.attention.dispatch import takes_mask_tensor
from t2bench.attention.verify import Check, numeric_check, scaled_error
from t2bench.models.own import Own
from t2bench.models.transformer import Transformer
from t2bench.models.trial import Batch, can_be_ragged, logits


def property_checks(model: Transformer, batch: Batch, allowed: float) -> Iterator[Check]:
    """One verdict for each property that the variant has.

    Args:
        model: in evaluation mode.
        batch: of `t2bench.models.trial.make_batch`, without lengths.
        allowed: scaled error of logits that ought to be equal.
    """
    pattern = model.spec.pattern
    if model.decoder is not None:
        yield causality(model, batch, allowed)
    if pattern.kind == "window" and not pattern.layers and not pattern.global_tokens:
        yield from _window(model, batch, allowed)
    if pattern.kind == "prefix" and any(pattern.applies(layer) for layer in range(model.spec.num_dec_layers)):
        yield from _prefix(model, batch)
    if pattern.kind == "document" and not pattern.layers:
        yield from _documents(model, batch, allowed)
    if model.spec.memory and not (pattern.kind == "window" and pattern.window == 1):
        yield _memory(model, batch)
    yield from padding(model, batch, allowed)


def changed(model: Transformer | Own, batch: Batch, name: str, where: Tensor | slice) -> Batch:
    """The batch with other tokens at some positions, a bool (B, T) or a slice of all rows."""
    index = where if isinstance(where, Tensor) else (slice(None), where)
    tokens_BT = batch[name].clone()
    tokens_BT[index] = (tokens_BT[index] + 1) % model.spec.vocab
    return {**batch, name: tokens_BT}


def causality(model: Transformer | Own, batch: Batch, allowed: float) -> Check:
    """Changing all tokens from a position on leaves earlier logits alone, and does change later ones.

    At two positions without a common divisor: one is inside of any block that code may look ahead in. A prefix may look
    ahead, so both are behind it. Arguments as in `property_checks`; a user's own module will do.
    """
    length = batch["tokens"].shape[1]
    start = int(batch["prefix"].max()) if "prefix" in batch else 0
    third = (length - start - 1) // 3
    before_BTV = logits(model, batch)
    found = []
    for cut in (start + third + 1, start + 2 * third + 1):
        after_BTV = logits(model, changed(model, batch, "tokens", slice(cut, None)))
        if cut < length and torch.equal(after_BTV[:, cut:], before_BTV[:, cut:]):
            return Check(name="causality", passed=False, detail="changing tokens changes no logits, not even their own")
        error = scaled_error(after_BTV[:, :cut], before_BTV[:, :cut])
        what = f"earlier logits after tokens from position {cut} on changed"
        found.append(numeric_check("causality", error, allowed, what))
    return next((check for check in found if not check.passed), found[-1])


def _window(model: Transformer, batch: Batch, allowed: float) -> Iterator[Check]:
    """Each layer lets a token reach window - 1 positions further, and no more."""
    spec = model.spec
    layers = spec.num_dec_layers if model.decoder is not None else spec.num_enc_layers
    reach = layers * (spec.pattern.window - 1)
    if batch["tokens"].shape[1] <= reach + 1:
        return
    before_BTV = logits(model, batch)
    after_BTV = logits(model, changed(model, batch, "tokens", slice(0, 1)))
    error = scaled_error(after_BTV[:, reach + 1 :], before_BTV[:, reach + 1 :])
    what = f"logits beyond position {reach}, the reach of {layers} windows, after the first token changed"
    yield numeric_check("window", error, allowed, what)


def _prefix(model: Transformer, batch: Batch) -> Iterator[Check]:
    """Tokens of a prefix see those after them."""
    end = int(batch["prefix"].min())
    if end < 2:
        return
    after_BTV = logits(model, changed(model, batch, "tokens", slice(end - 1, end)))
    moved = not torch.equal(after_BTV[:, : end - 1], logits(model, batch)[:, : end - 1])
    detail = f"logits before position {end - 1} of a prefix {'' if moved else 'do not '}change with its token there"
    yield Check(name="prefix", passed=moved, detail=detail)


def _documents(model: Transformer, batch: Batch, allowed: float) -> Iterator[Check]:
    """A document's tokens do not reach another document."""
    last_BT = batch["documents"] == batch["documents"].max()
    if bool(last_BT.all()):
        return
    before_BTV = logits(model, batch)
    after_BTV = logits(model, changed(model, batch, "tokens", ~last_BT))
    error = scaled_error(after_BTV[last_BT], before_BTV[last_BT])
    yield numeric_check("documents", error, allowed, "logits of the last document after another one changed")


def _memory(model: Transformer, batch: Batch) -> Check:
    """The segment before is seen."""
    moved = not torch.equal(logits(model, changed(model, batch, "before", slice(-1, None))), logits(model, batch))
    detail = f"logits {'' if moved else 'do not '}change with the last token of the segment before"
    return Check(name="memory", passed=moved, detail=detail)


def padding(model: Transformer | Own, batch: Batch, allowed: float) -> Iterator[Check]:
    """What stands in padding does not matter, and a padded sequence equals the same one unpadded.

    Arguments as in `property_checks`; a user's own module will do.
    """
    spec = model.spec
    if spec.padding != "mask" and not can_be_ragged(spec):
        return  # refused as a ragged batch
    device = batch["tokens"].device
    side = "source" if spec.arch == "encdec" else "tokens"
    if (why := _never_padded(model, device)) is not None:
        yield Check(name="padding", passed=True, detail=f"does not apply: {why}")
        return
    full, length = batch[side].shape[1], batch["tokens"].shape[1]
    kept = max(1, full - 5)
    valid = slice(None) if spec.arch == "encdec" else slice(kept)
    # Packed batches want lengths on the host, others where the tokens are.
    lengths_B = torch.tensor([full, kept], device=device if spec.padding == "mask" else "cpu")
    short = {**batch, "source_lengths" if spec.arch == "encdec" else "lengths": lengths_B}
    if spec.arch == "encdec" and spec.padding != "mask":
        short["lengths"] = torch.tensor([length, length])
    alone = {name: tensor[1:] for name, tensor in batch.items()}
    for name in {side, "documents"} & alone.keys():
        alone[name] = alone[name][:, :kept]
    beyond_BT = torch.arange(full, device=device) >= lengths_B.to(device)[:, None]
    padded_TV = logits(model, short)[1, valid]
    other_TV = logits(model, changed(model, short, side, beyond_BT))[1, valid]
    alone_TV = logits(model, alone)[0, : length if spec.arch == "encdec" else kept]
    ignored, unpadded = scaled_error(other_TV, padded_TV), scaled_error(alone_TV, padded_TV)
    yield numeric_check("padding: ignored", ignored, allowed, "logits with other padding")
    yield numeric_check("padding: unpadded", unpadded, allowed, "logits without padding")


def _never_padded(model: Transformer | Own, device: torch.device) -> str | None:
    """Why batches of this variant have no padding, if so."""
    spec = model.spec
    if isinstance(model, Own):
        argument = "source_lengths_B" if spec.arch == "encdec" else "lengths_B"
        takes = argument in model.takes
        return None if takes else f"forward takes no {argument}, so its batches are never padded"
    masks = spec.attends and spec.arch != "decoder" and spec.padding == "mask"
    if not masks or takes_mask_tensor(spec.attention, device.type):
        return None
    return f"{spec.attention} takes no padding mask on {device.type}, so batches have none"
