"""The properties notice mistakes in what continues, joins or cuts texts: caches, packing, documents, memories."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from t2bench.models import attention, bahdanau, cache, cellstack, layer, loss, recurrent, stack, view
from t2bench.parity.properties import check_properties
from t2bench.parity.subject import shrunk
from t2bench.spec.axes import PatternSpec, PositionSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.presets import preset

DECODER = shrunk(replace(preset("llama").model, attention="math"))
LSTM = shrunk(preset("lstm_bahdanau").model)
TXL = ModelSpec(arch="decoder", **{f: getattr(DECODER, f) for f in ("width", "heads", "ff", "dec_layers", "vocab")},
                position=PositionSpec(kind="txl"), memory=4)  # fmt: skip


def wrapped(owner: Any, name: str, wrong: Callable[..., Any]) -> tuple[Any, str, Any]:
    """owner.name replaced by a function that gets it as its first argument."""
    right = getattr(owner, name)
    return owner, name, lambda *args, **options: wrong(right, *args, **options)


def masked(**changes: Any) -> tuple[Any, str, Any]:
    return wrapped(attention, "attend", lambda right, q, k, v, mask, **o: right(q, k, v, replace(mask, **changes), **o))


def _one_behind(right: Any, self: Any, num_new: int) -> None:
    right(self, num_new)
    self.length -= 1


def _one_less(right: Any, self: Any, num_new: int) -> None:
    right(self, num_new - 1)


def _late(right: Any, self: Any, *args: Any) -> Any:
    states, contexts, last = right(self, *args)
    return states, contexts.roll(-1, dims=1), last


def _as_one(right: Any, *, query_lengths: Any, key_lengths: Any, nested: bool) -> Any:
    return right(query_lengths=(sum(query_lengths),), key_lengths=(sum(key_lengths),), nested=nested)


def _not_kept(right: Any, self: Any, k: Tensor, v: Tensor) -> Any:
    right(self, k, v)
    return k, v


def _over_all(right: Any, x_ND: Tensor, table_VD: Tensor, labels_N: Tensor, target: Any) -> Tensor:
    share = (labels_N != loss.IGNORE).float().mean()
    return share * right(x_ND, table_VD, labels_N, target)


def _without_dropout(right: Any, self: Any, *args: Any, **options: Any) -> None:
    right(self, *args, **options)
    self.dropout = 0.0


# name -> (spec, what is broken, the check that must fail)
MUTANTS: dict[str, tuple[ModelSpec, tuple[Any, str, Any], str]] = {
    "mean over labels that do not count": (DECODER, wrapped(loss, "dense", _over_all), "loss"),
    "no dropout of weights": (
        replace(DECODER, dropout=0.1, attention_dropout=0.1),
        wrapped(attention.Attention, "__init__", _without_dropout), "attention_dropout is felt",
    ),
    "no dropout at all": (
        replace(DECODER, dropout=0.1, attention_dropout=0.1),
        wrapped(torch.nn.functional, "dropout", lambda right, x, p, training=True: right(x, p, False)),
        "dropout is felt",
    ),
    "dropout that nobody asked for": (
        DECODER, wrapped(layer.Layer, "_branch", lambda right, self, *a: torch.dropout(right(self, *a), 0.1, True)),
        "no dropout",
    ),
    "cache's position one behind": (
        DECODER, wrapped(cache.GrowingCache, "advance", _one_behind), "cached decoding, growing",
    ),
    "static cache's position one behind": (
        DECODER, wrapped(cache.StaticCache, "advance", _one_less), "cached decoding, static",
    ),
    "window's cache one too short": (
        replace(DECODER, pattern=PatternSpec(kind="window", window=4)),
        wrapped(cache, "kept_windows", lambda right, spec: [w and w - 1 for w in right(spec)]),
        "cached decoding, growing",
    ),
    "earlier keys forgotten": (DECODER, wrapped(cache.GrowingLayer, "update", _not_kept), "cached decoding, growing"),
    "packed sequences leak": (DECODER, wrapped(view, "Packed", _as_one), "padding: packed"),
    "packed positions missing": (
        replace(DECODER, position=PositionSpec(kind="sinusoidal")),
        (view, "positions", lambda lengths, device: torch.zeros(sum(lengths), dtype=torch.int64)),
        "padding: packed",
    ),
    "documents leak": (
        DECODER, wrapped(view, "_with_pattern", lambda right, spec, full, *more: full), "shift invariance",
    ),
    "memory one short": (
        TXL, wrapped(stack.Memories, "keep", lambda right, self, x, length: right(self, x, length - 1)), "segments",
    ),
    "later tokens seen": (
        DECODER,
        masked(causal=False),
        "causality",
    ),
    "padding seen": (
        shrunk(preset("bert").model),
        masked(key_lengths_B=None),
        "padding ignored, 5 of 10",
    ),
    "recurrent state not kept": (
        shrunk(preset("lstm").model),
        wrapped(cellstack.CellStack, "forward", lambda right, self, x, start=None, **o: right(self, x, None, **o)),
        "cached decoding, recurrent",
    ),
    "Bahdanau's context of the next step": (
        LSTM, wrapped(bahdanau.AdditiveLayer, "forward", _late), "cached decoding, recurrent",
    ),
    "recurrent padding read": (
        shrunk(preset("lstm").model),
        wrapped(recurrent, "_reversed", lambda right, source, lengths: right(source, None)),
        "padding ignored, 6 of 12",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_property_notices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, (owner, attribute, wrong), check = MUTANTS[name]
    assert all(found.passed for found in check_properties(spec, device="cpu", dtype=torch.float64, seed=0))
    monkeypatch.setattr(owner, attribute, wrong)
    failed = [c.name for c in check_properties(spec, device="cpu", dtype=torch.float64, seed=0) if not c.passed]
    assert check in failed
