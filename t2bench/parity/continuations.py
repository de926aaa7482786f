"""Properties of texts that are cut, joined or continued: decoding, packing, segments, documents and shifts.

Shape letters: B batch, T length, N tokens of a packed batch, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from t2bench.attention.verify import Check
from t2bench.models.cache import GrowingCache, StaticCache
from t2bench.models.packing import pack
from t2bench.models.recurrent import RecurrentCache
from t2bench.models.stack import Memories
from t2bench.parity.subject import BATCH, LENGTH, SOURCE_LENGTH, Batch, Subject, equal
from t2bench.spec.axes import PatternSpec
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.refusals import refusal

PIECES = [4, 1, 1, 3, 1]  # passes of cached decoding: a prompt, then mostly single tokens
SEGMENTS = [3, 4, 3]
RELATIVE = frozenset({"rope", "alibi", "t5_bias", "shaw", "txl", "none"})


def decoding(subject: Subject) -> list[Check]:
    """Tokens fed in pieces to a cache give the outputs of the whole text."""
    spec = subject.spec
    if spec.arch == "encoder" or spec.factory:
        return []
    whole_BTV = subject.logits(_with_prefix(subject))
    caches: dict[str, Any] = {"growing": GrowingCache(spec), "reserved": GrowingCache(spec, LENGTH)}
    if spec.recurrence != "none":
        caches = {"recurrent": RecurrentCache()}
    else:
        like = next(subject.model.parameters())
        source_length = SOURCE_LENGTH if spec.arch == "encdec" else 0
        caches["static"] = StaticCache(
            spec, batch=len(whole_BTV), limit=LENGTH, source_length=source_length, like=like.detach()
        )
    found = []
    for kind, cache in caches.items():
        given = _with_prefix(subject)
        pieces = []
        for tokens_BT in torch.split(given.pop("tokens_BT"), PIECES, dim=1):
            pieces.append(subject.logits({"tokens_BT": tokens_BT, **given}, cache=cache))
            given = {}
        found += equal(subject, f"cached decoding, {kind}", torch.cat(pieces, 1), whole_BTV, "outputs piece by piece")
    return found


def _with_prefix(subject: Subject) -> Batch:
    """The batch, with a prefix within the prompt if the spec has one."""
    given = dict(subject.batch)
    if subject.spec.pattern.kind == "prefix":
        given["prefix_lengths_B"] = torch.full_like(given["tokens_BT"][:, 0], PIECES[0])
    return given


def packing(subject: Subject) -> list[Check]:
    """A packed batch gives the outputs of each of its sequences alone."""
    spec = subject.spec
    if spec.recurrence != "none" or spec.factory or spec.memory or spec.pattern.kind == "prefix":
        return []
    lengths_B = torch.tensor([LENGTH, LENGTH // 2, 1])
    rows = {name: [x[:length] for x, length in zip(x_BT, lengths_B.tolist(), strict=True)]
            for name, x_BT in subject.batch.items()}  # fmt: skip
    packed: Batch = {name: pack(x_BT[:, :LENGTH], lengths_B) for name, x_BT in subject.batch.items()}
    packed |= {"lengths_B": lengths_B} | ({"source_lengths_B": lengths_B} if spec.arch == "encdec" else {})
    alone = [subject.logits({name: x[row][None] for name, x in rows.items()})[0] for row in range(len(lengths_B))]
    found = []
    for padding in ("packed", "nested"):
        for attention in dict.fromkeys((spec.attention, "sdpa")):
            packs = replace(spec, padding=padding, attention=attention)
            if refusal(_ragged(packs, packed["tokens_BT"].device.type)) is None:
                given = subject.variant(padding=padding, attention=attention).logits(packed)[0]
                found += equal(
                    subject, f"padding: {padding}", given, torch.cat(alone), f"{attention}, packed sequences"
                )
                break
    return found


def _ragged(spec: ModelSpec, device: Any) -> Case:
    return Case(
        variant="packed", model=spec, workload=WorkloadSpec(kind="forward", ragged=True), length=LENGTH, batch=BATCH,
        dtype="fp32", device=device,
    )  # fmt: skip


def documents(subject: Subject) -> list[Check]:
    """A document packed behind another one gives the outputs that it gives alone: isolation, and shift invariance."""
    spec = subject.spec
    relative = spec.position.kind in RELATIVE and spec.recurrence == "none"
    if spec.arch == "encdec" or not relative or spec.memory or spec.factory:
        return []
    other = subject.variant(pattern=PatternSpec(kind="document"))
    tokens_BT, border = subject.batch["tokens_BT"], LENGTH // 2
    documents_BT = (torch.arange(LENGTH, device=tokens_BT.device) >= border).long().expand_as(tokens_BT)
    together_BTV = other.logits({"tokens_BT": tokens_BT, "documents_BT": documents_BT})
    first_BTV, second_BTV = (other.logits({"tokens_BT": x}) for x in (tokens_BT[:, :border], tokens_BT[:, border:]))
    return [
        *equal(subject, "documents are apart", together_BTV[:, :border], first_BTV, "a document before another"),
        *equal(subject, "shift invariance", together_BTV[:, border:], second_BTV, "a document behind another"),
    ]


def segments(subject: Subject) -> list[Check]:
    """A memory that holds the whole past gives the outputs of the undivided text."""
    spec = subject.spec
    if not spec.memory:
        return []
    other, memories = subject.variant(memory=sum(SEGMENTS[:-1])), Memories()
    pieces = [
        other.logits({"tokens_BT": tokens_BT}, memories=memories)
        for tokens_BT in torch.split(subject.batch["tokens_BT"], SEGMENTS, dim=1)
    ]
    return equal(subject, "segments", torch.cat(pieces, 1), subject.logits(), "a text in segments")


def window(subject: Subject) -> list[Check]:
    """A token beyond the reach of all layers' windows does not matter, and the nearest one within reach does."""
    pattern, spec = subject.spec.pattern, subject.spec
    layers = max(spec.num_enc_layers, spec.num_dec_layers)
    if pattern.kind != "window" or pattern.global_tokens or spec.arch == "encdec":
        return []
    if not all(pattern.applies(index) for index in range(layers)):
        return []
    reach = layers * (pattern.window - 1)
    if reach + 1 >= LENGTH:
        return []
    tokens_BT = subject.batch["tokens_BT"]
    changed_BT = tokens_BT.clone()
    changed_BT[:, 0] = (changed_BT[:, 0] + 1) % spec.vocab
    before_BTV, after_BTV = subject.logits({"tokens_BT": tokens_BT}), subject.logits({"tokens_BT": changed_BT})
    moved = not torch.equal(before_BTV[:, reach], after_BTV[:, reach])
    return [
        *equal(subject, "window hides", after_BTV[:, reach + 1 :], before_BTV[:, reach + 1 :], "tokens out of reach"),
        Check(name="window shows", passed=moved, detail=f"a token {reach} back is {'felt' if moved else 'not felt'}"),
    ]
