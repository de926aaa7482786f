"""Greedy generation with fixed work: what `prefill` and `decode` have in common.

    first   read the prompt (encdec: encode the source, and read the token before the target), take the likeliest token
    next    read the token just taken, take the likeliest after it

By the variant's cache: `on` and `static` read each token once; `off` reads everything again for each new token, but
encodes a source once, as a model without a cache still would. The tables' padding is never taken. Texts of a batch end
together, whatever they say: work is fixed.

Shape letters: B batch, T prompt length, S source length, D width, V vocabulary (padded).
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor

from t2bench.models.cache import Cache, GrowingCache, StaticCache
from t2bench.models.compiled import wrap
from t2bench.models.recurrent import RecurrentCache
from t2bench.models.transformer import Transformer
from t2bench.models.view import make_view
from t2bench.spec.model import ModelSpec
from t2bench.workloads.batches import Batch


class Step(Protocol):
    """Part of a generation: tokens in, the next token (B, 1) and the logits that it was taken from (B, V) out."""

    def __call__(self, tokens_BT: Tensor, cache: Any, **given: Any) -> tuple[Tensor, Tensor]: ...  # noqa: D102


class Generator:
    """Generates with one model, one batch after the other.

    Args:
        model: in evaluation mode.
        batch: rows B.
        length: tokens of a prompt, or of a source.
        limit: tokens that a row may grow to.
        dtype: of keys and values, where the cache makes room for them beforehand.
    """

    def __init__(self, model: Transformer, *, batch: int, length: int, limit: int, dtype: torch.dtype) -> None:
        self._model = model
        self._spec: ModelSpec = model.spec
        self._limit = limit
        self._dtype = dtype
        self._static: StaticCache | None = None
        mode = self._spec.compile
        if self._spec.cache == "static" and self._spec.recurrence == "none":
            like = next(model.parameters()).new_empty(0, dtype=dtype)
            source_length = length if self._spec.arch == "encdec" else 0
            self._static = StaticCache(self._spec, batch=batch, limit=limit, source_length=source_length, like=like)
            if mode != "off":
                for tensor in self._static.tensors:
                    torch._dynamo.mark_static_address(tensor)
        self._unprimed = mode != "off"
        self._read: Step = wrap(self._step, mode, graphs=False)
        self._next: Step = wrap(self._step, mode)
        # What a CUDA graph returns, its next replay overwrites.
        self._keeps = mode in ("reduce-overhead", "max-autotune")

    @property
    def held(self) -> tuple[Tensor, ...]:
        """What is there before the first step: the buffers of a static cache."""
        return () if self._static is None else self._static.tensors

    def position_tables(self, length: int, new_tokens: int) -> tuple[Tensor, ...]:
        """The tables of positions that a generation needs, made now, so that the first one does not make them.

        Args:
            length: tokens of a prompt, or of a source.
            new_tokens: that will be generated.
        """
        if self._spec.recurrence != "none" or self._spec.factory:
            return ()
        spec, like, found = self._spec, next(self._model.parameters()), list[Tensor]()
        assert self._model.decoder is not None
        prompt = length
        if self._model.encoder is not None:
            prompt = 1
            found.extend(self._model.encoder.prepare(make_view(spec, length, like.device, causal=False), like))
        cache = self._new_cache()
        for index in range(new_tokens):
            num_read = prompt + index if cache is None else (1 if index else prompt)
            view = make_view(spec, num_read, like.device, causal=True, cache=cast(Cache | None, cache))
            found.extend(self._model.decoder.prepare(view, like))
            if cache is not None:
                cast(Cache, cache).advance(num_read)
        return tuple({table.untyped_storage()._cdata: table for table in found}.values())

    def first(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Begin: the first new token (B, 1) and its logits (B, V)."""
        self._cache = self._new_cache()
        given: dict[str, Any] = {}
        tokens_BT = batch.tokens_BT
        if batch.source_BS is not None:
            tokens_BT = tokens_BT[:, :1]
            once = self._cache is None and not self._spec.factory
            given["source_BS"] = self._model.encode(batch.source_BS) if once else batch.source_BS
        elif self._spec.pattern.kind == "prefix":
            given["prefix_lengths_B"] = torch.full_like(tokens_BT[:, 0], tokens_BT.shape[1])
        self._given = given
        if self._unprimed:
            self._prime(tokens_BT)
        token_B1, logits_BV = self._read(tokens_BT, self._cache, **given)
        self._text_BT = tokens_BT
        return self._taken(token_B1, logits_BV)

    def next(self, token_B1: Tensor) -> tuple[Tensor, Tensor]:
        """Continue with the token just taken: the next one and its logits."""
        if self._cache is None:
            self._text_BT = torch.cat((self._text_BT, token_B1), dim=1)
            return self._step(self._text_BT, None, **self._given)
        return self._taken(*self._next(token_B1, self._cache))

    def _prime(self, tokens_BT: Tensor) -> None:
        """Let the model make its position tables before it is compiled: they must not be part of a graph."""
        self._unprimed = False
        token_B1, _ = self._step(tokens_BT, self._cache, **self._given)
        self._step(token_B1, self._cache)
        self._cache = self._new_cache()

    def _new_cache(self) -> Cache | RecurrentCache | None:
        if self._spec.recurrence != "none":
            return None if self._spec.cache == "off" else RecurrentCache()
        if self._static is not None:
            self._static.reset()
            return self._static
        return None if self._spec.cache == "off" else GrowingCache(self._spec, self._limit, self._dtype)

    def _step(self, tokens_BT: Tensor, cache: Any, **given: Any) -> tuple[Tensor, Tensor]:
        if self._spec.factory:  # a user's own module makes logits of all tokens, and has no cache
            logits_BV = self._model(tokens_BT, **given)[:, -1]
        else:
            x_BTD = self._model.hidden(tokens_BT, cache=cache, **given)
            logits_BV = self._model.logits(x_BTD[:, -1:])[:, 0]
        return logits_BV[:, : self._spec.vocab].argmax(dim=-1, keepdim=True), logits_BV

    def _taken(self, token_B1: Tensor, logits_BV: Tensor) -> tuple[Tensor, Tensor]:
        return (token_B1.clone(), logits_BV.clone()) if self._keeps else (token_B1, logits_BV)
