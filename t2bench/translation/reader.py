"""Reader: a batch of sources that a model continues token by token, whatever the variant.

    encoder-decoders    the source is encoded once; the text begins with the begin id
    decoders            the prompt is source, end id, begin id: a prefix language model, whose batches hold sources of
                        one length, so that the caches of all rows stay aligned

By the variant's cache: `on` and `static` read each token once, `off` reads everything again for each token. A user's
own module is asked for the logits of everything so far. Decoding is never compiled: each batch has another shape.

Shape letters: B rows, T prompt length, S source length, V vocabulary (padded).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from t2bench.models.cache import Cache, GrowingCache, StaticCache
from t2bench.models.recurrent import RecurrentCache
from t2bench.models.transformer import Transformer
from t2bench.quality.tokenizer import BOS
from t2bench.spec.model import ModelSpec


class Reader:
    """Continues one batch of sources.

    Args:
        model: in evaluation mode.
        source_BS: int64; every source with its end id, padded on the right.
        lengths_B: int64; of the sources, end id included; None where nothing is padded.
        limit: new tokens at most.
        dtype: of keys and values.
    """

    def __init__(
        self, model: Transformer, source_BS: Tensor, lengths_B: Tensor | None, *, limit: int, dtype: torch.dtype
    ) -> None:
        self._model = model
        self._spec: ModelSpec = model.spec
        rows, source_length = source_BS.shape
        begin_B1 = source_BS.new_full((rows, 1), BOS)
        self._given: dict[str, Any] = {}
        if self._spec.arch == "encdec":
            self._text_BT = begin_B1
            self._given["source_BS"] = source_BS
            if self._spec.factory:
                self._given |= {} if lengths_B is None else {"source_lengths_B": lengths_B}
            else:
                self._given["source_BS"] = model.encode(source_BS, lengths_B)
        else:
            self._text_BT = torch.cat((source_BS, begin_B1), dim=1)
            if self._spec.pattern.kind == "prefix" and not self._spec.factory:
                self._given["prefix_lengths_B"] = torch.full_like(begin_B1[:, 0], self._text_BT.shape[1])
        self._cache = self._new_cache(limit, source_length, dtype)

    @property
    def keeps_shape(self) -> bool:
        """Whether rows that have ended are better kept than dropped: buffers of fixed size."""
        return isinstance(self._cache, StaticCache)

    def first(self) -> Tensor:
        """Read the prompt: logits of the first new token, (B, V), in a tensor that the caller may change."""
        return self._logits(self._text_BT)

    def next(self, token_B: Tensor) -> Tensor:
        """Read a token (int64) for each row: logits of the one after it, (B, V)."""
        token_B1 = token_B[:, None]
        if self._cache is not None:
            self._given = {}  # the cache has the source, and a new token sees everything before it
            return self._logits(token_B1)
        self._text_BT = torch.cat((self._text_BT, token_B1), dim=1)
        return self._logits(self._text_BT)

    def reorder(self, rows_B: Tensor, *, same_source: bool = False) -> None:
        """Row i becomes what row `rows_B[i]` was; see `t2bench.models.cache.Cache.reorder`."""
        if self._cache is not None:
            self._cache.reorder(rows_B, same_source=same_source)
            return
        self._text_BT = self._text_BT.index_select(0, rows_B)
        if not same_source:
            self._given = {
                name: x.index_select(0, rows_B) if isinstance(x, Tensor) else x.reordered(rows_B)
                for name, x in self._given.items()
            }

    def _new_cache(self, limit: int, source_length: int, dtype: torch.dtype) -> Cache | RecurrentCache | None:
        spec = self._spec
        if spec.cache == "off" or spec.factory:
            return None
        if spec.recurrence != "none":
            return RecurrentCache()
        rows, prompt = self._text_BT.shape
        capacity = prompt + limit
        if spec.cache == "on":
            return GrowingCache(spec, capacity, dtype)
        like = torch.empty(0, dtype=dtype, device=self._text_BT.device)
        cross = source_length if spec.arch == "encdec" else 0
        return StaticCache(spec, batch=rows, limit=capacity, source_length=cross, like=like)

    def _logits(self, tokens_BT: Tensor) -> Tensor:
        model = self._model
        if self._spec.factory:
            # A module may return a view of something that it keeps.
            logits_BTV: Tensor = model(tokens_BT, **self._given)
            return logits_BTV[:, -1].float().clone()
        # The class's method: that of the instance may be compiled, for batches of training.
        hidden = type(model).hidden
        x_BTD = hidden(model, tokens_BT, cache=cast(Any, self._cache), **self._given)
        return model.logits(x_BTD[:, -1:])[:, 0].float()
