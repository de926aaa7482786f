"""Transformer: one model for every variant. `build` turns a ModelSpec into it.

    encoder   tokens -> Stack (every token sees every token)           -> logits
    decoder   tokens -> Stack (a token sees itself and earlier ones)   -> logits
    encdec    source -> encoder Stack -> decoder Stack over tokens, each layer also attending to the source -> logits

The vocabulary may be padded (`vocab_multiple`). Padded rows are ordinary rows that no token and no label names, as in
nanoGPT: they take part in the softmax, start at zero, and training pushes their probability down.

Shape letters: B batch, T length, S source length, D width, V vocabulary (padded).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2bench.models import loss
from t2bench.models.cache import Cache
from t2bench.models.init import initialise
from t2bench.models.own import build_own
from t2bench.models.position import PositionTables
from t2bench.models.recurrent import Recurrent
from t2bench.models.stack import Memories, Stack
from t2bench.models.view import View, make_view
from t2bench.spec.model import ModelSpec


@dataclass(frozen=True, slots=True)
class Source:
    """An encoded source, which any number of passes of the decoder may use.

    Attributes:
        states_BSD: the encoder's output.
        view: what it was made of.
    """

    states_BSD: Tensor
    view: View

    def reordered(self, rows_B: Tensor) -> Source:
        """Row i becomes row `rows_B[i]` (int64), of more or fewer rows if need be."""
        return Source(self.states_BSD.index_select(0, rows_B), self.view.reordered(rows_B))


class Transformer(nn.Module):
    """A transformer language or translation model, as its spec says. Make one with `build`.

    Args:
        spec: the variant.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        tables = PositionTables(spec)
        encdec = spec.arch == "encdec"

        def token_table() -> nn.Parameter:
            return nn.Parameter(torch.empty(spec.padded_vocab, spec.width))

        self.table_VD = token_table()
        self.source_table_VD = token_table() if spec.has_source_table else None
        self.output_table_VD = token_table() if spec.has_output_table else None
        self.encoder = self.decoder = None
        if spec.arch != "decoder":
            self.encoder = Stack(spec, tables, num_layers=spec.enc_layers, causal=False, cross=False)
        if spec.arch != "encoder":
            self.decoder = Stack(spec, tables, num_layers=spec.dec_layers, causal=True, cross=encdec)
        self.chunk_tokens = loss.CHUNK_TOKENS

    @property
    def head_VD(self) -> Tensor:
        """The output table: its own, or the token table when tied."""
        return self.table_VD if self.output_table_VD is None else self.output_table_VD

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        source_BS: Tensor | Source | None = None,
        lengths_B: Tensor | None = None,
        source_lengths_B: Tensor | None = None,
        prefix_lengths_B: Tensor | None = None,
        documents_BT: Tensor | None = None,
        memories: Memories | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Logits for every position.

        Args:
            tokens_BT: token ids, int64; for `encdec` the target side, shifted right by the caller.
            source_BS: source token ids, int64, or what `encode` made of them; for `encdec` only. With a cache it is
                needed at the first step only.
            lengths_B: number of real tokens in each row, int64, the rest being padding on the right; None means all.
                What comes out at padded positions is unspecified. With `padding` packed or nested: the lengths of the
                sequences that stand one after the other in a single row (see `t2bench.models.packing`), best on the
                host; an encoder-decoder then needs those of the source as well.
            source_lengths_B: the same for the source.
            prefix_lengths_B: for pattern `prefix`: leading tokens of each row that all others see; None means 0.
            documents_BT: for pattern `document`: the document of each token, int64; None means one document a row.
            memories: what the segments before left behind, for `memory` > 0; replaced by what this one leaves.
            cache: keys and values of the tokens before, whose positions these tokens continue; takes theirs.

        Returns:
            logits_BTV in the model's dtype, V = spec.padded_vocab.

        Raises:
            ValueError: a source is missing or unexpected, an argument does not fit the spec, or the input is longer
                than a learned position table.
        """
        x_BTD = self.hidden(
            tokens_BT,
            source_BS=source_BS,
            lengths_B=lengths_B,
            source_lengths_B=source_lengths_B,
            prefix_lengths_B=prefix_lengths_B,
            documents_BT=documents_BT,
            memories=memories,
            cache=cache,
        )
        return self.logits(x_BTD)

    def logits(self, x_BTD: Tensor) -> Tensor:
        """Logits (B, T, V) of hidden states from `hidden`."""
        logits_BTV = F.linear(self._scaled(x_BTD), self.head_VD)
        cap = self.spec.logit_softcap
        return logits_BTV if cap is None else cap * torch.tanh(logits_BTV / cap)

    def hidden(
        self,
        tokens_BT: Tensor,
        *,
        source_BS: Tensor | Source | None = None,
        lengths_B: Tensor | None = None,
        source_lengths_B: Tensor | None = None,
        prefix_lengths_B: Tensor | None = None,
        documents_BT: Tensor | None = None,
        memories: Memories | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Hidden states x_BTD before the output table; arguments and errors as in `forward`."""
        self._check(prefix_lengths_B, documents_BT, memories, cache)
        source = self._source(source_BS, source_lengths_B, cache)
        view = make_view(
            self.spec,
            tokens_BT.shape[1],
            tokens_BT.device,
            causal=self.decoder is not None,
            lengths_B=lengths_B,
            prefix_lengths_B=prefix_lengths_B,
            documents_BT=documents_BT,
            num_remembered=0 if memories is None else memories.length,
            cache=cache,
        )
        if self.decoder is None:
            assert self.encoder is not None
            x_BTD: Tensor = self.encoder(tokens_BT, self.table_VD, view)
            return x_BTD
        y_BTD: Tensor = self.decoder(
            tokens_BT,
            self.table_VD,
            view,
            None if source is None else source.states_BSD,
            None if source is None else view.mask_of_source(source.view),
            memories,
            cache,
        )
        if cache is not None:
            cache.advance(tokens_BT.shape[1])
        return y_BTD

    def encode(self, source_BS: Tensor, source_lengths_B: Tensor | None = None) -> Source:
        """Encode a source once, for many passes of the decoder; arguments as in `forward`."""
        assert self.encoder is not None
        source_table_VD = self.table_VD if self.source_table_VD is None else self.source_table_VD
        length, device = source_BS.shape[1], source_BS.device
        view = make_view(self.spec, length, device, causal=False, lengths_B=source_lengths_B)
        return Source(self.encoder(source_BS, source_table_VD, view), view)

    def _source(
        self, source_BS: Tensor | Source | None, source_lengths_B: Tensor | None, cache: Cache | None
    ) -> Source | None:
        """The source, encoded now unless it already is."""
        encdec = self.spec.arch == "encdec"
        if source_BS is None and cache is not None:
            source_BS = cache.source
        if encdec != (source_BS is not None):
            raise ValueError(f"arch {self.spec.arch} {'needs' if encdec else 'takes no'} source_BS")
        if isinstance(source_BS, Tensor):
            source_BS = self.encode(source_BS, source_lengths_B)
        if cache is not None:
            cache.source = source_BS
        return source_BS

    def _check(
        self,
        prefix_lengths_B: Tensor | None,
        documents_BT: Tensor | None,
        memories: Memories | None,
        cache: Cache | None,
    ) -> None:
        """Arguments that the spec has no use for are refused rather than overlooked."""
        pattern = self.spec.pattern.kind
        given = {
            "prefix_lengths_B": prefix_lengths_B is not None and pattern != "prefix",
            "documents_BT": documents_BT is not None and pattern != "document",
            "memories": memories is not None and not self.spec.memory,
        }
        for name, unexpected in given.items():
            if unexpected:
                raise ValueError(f"{name} was given, but the spec has pattern {pattern} and memory {self.spec.memory}")
        if cache is not None and (memories is not None or documents_BT is not None or self.decoder is None):
            raise ValueError("a cache is for decoding one text a row: no memories, no documents_BT, no encoder")

    def _scaled(self, x_BTD: Tensor) -> Tensor:
        """Hidden states as the output table reads them."""
        return x_BTD / math.sqrt(self.spec.width) if self.spec.head_scale else x_BTD

    def loss(self, x_BTD: Tensor, labels_BT: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy.

        Args:
            x_BTD: hidden states from `hidden`.
            labels_BT: token ids to predict, int64; -100 where there is nothing to predict.
            label_smoothing: share of each target that is spread over the vocabulary, see `t2bench.models.loss`.

        Returns:
            Scalar, float32 (float64 for a float64 model); NaN if no label counts.
        """
        spec = self.spec
        return loss.mean(
            spec.loss,
            self._scaled(x_BTD).flatten(0, 1),
            self.head_VD,
            labels_BT.flatten(),
            softcap=spec.logit_softcap,
            smoothing=label_smoothing,
            vocab=spec.vocab,
            chunk_tokens=self.chunk_tokens,
        )


def build(
    spec: ModelSpec,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Transformer:
    """Make and initialise the model of a spec.

    Args:
        spec: the variant.
        device: where the parameters live; `meta` allocates nothing and initialises nothing.
        dtype: dtype of all parameters.
        seed: of the weights, see `t2bench.models.init`.

    Returns:
        The model in training mode; with `spec.factory` a user's module behind the same interface.
    """
    if spec.factory:
        return cast(Transformer, build_own(spec, device=device, dtype=dtype, seed=seed))
    with torch.device("meta"):
        model = Transformer(spec) if spec.recurrence == "none" else cast(Transformer, Recurrent(spec))
    # Memory is taken once, in the final dtype: building has no higher peak than the parameters themselves.
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(torch.empty(parameter.shape, dtype=dtype, device=device)))
    if torch.device(device).type != "meta":
        initialise(model, spec, seed)
    if isinstance(model, Recurrent):
        model.flatten()
    return model
