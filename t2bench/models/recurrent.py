"""Recurrent: the baselines that the transformer replaced, behind the interface of `Transformer`.

    decoder                     tokens -> cells -> logits                                          language model
    encoder                     tokens -> cells in both directions -> logits
    encdec, bridge `state`      source, read backwards -> cells -> last states -> cells over tokens -> logits
                                                                                     Sutskever et al. 2014
    encdec, bridge `attention`  source -> cells in both directions -> h_s;  s_0 = tanh(W h_1 of the backward direction)
        score `additive`        the bottom layer of the decoder looks at h_s before each step, its context enters the
                                cell; out = tanh(W_o [s; y; c])                      Bahdanau et al. 2015, appendix A
        score `dot`             after all layers: a = softmax(s . h), c = sum a h; out = tanh(W_c [c; s])
                                                                                     Luong et al. 2015, eq. 5 and 8

What is matched and what is chosen:

- The hidden size H is `spec.ff`. Encoders in both directions have H/2 features each way, so h_s has H, as s has.
- With several layers only the bottom one is in the loop over steps with additive attention, as in GNMT (Wu et al. 2016,
  section 3); those above it, and every other stack, run as one call of torch.nn.RNN, GRU or LSTM.
- `out` and every other last layer have the model's width, so that tables can be tied. The output layer of Bahdanau et
  al. has maxout in the place of tanh; Nematus (Sennrich et al. 2017) has tanh, as here. Alignments have the model's
  width.
- Bridge `state`: the top layers of the two stacks are paired; a decoder layer without a partner starts at zero, as
  does the memory of LSTMs with bridge `attention`, and their layers above the bottom one.
- Dropout is never between steps (Zaremba et al. 2014): on embeddings, between layers, on the output.

Shape letters: B batch, T length, S source length, D width, E width of the encoder's states (= H), H hidden size, N
alignment features, V vocabulary (padded).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2bench.models import loss
from t2bench.models.bahdanau import AdditiveLayer
from t2bench.models.cell import CELLS
from t2bench.models.cellstack import CellStack
from t2bench.models.linear import Linear
from t2bench.spec.model import ModelSpec

LayerStates = list[tuple[Tensor, ...]]  # one entry a layer, from the bottom: (B, H) each, hidden and memory


@dataclass(frozen=True, slots=True)
class RecurrentSource:
    """An encoded source, which any number of passes of the decoder may use.

    Attributes:
        start: states that the decoder starts from.
        states_BSE: the encoder's states, for bridge `attention`.
        padding_BS: true where they are padding; None if nowhere.
        keys_BSN: U_a h_s, for score `additive`.
    """

    start: LayerStates
    states_BSE: Tensor | None = None
    padding_BS: Tensor | None = None
    keys_BSN: Tensor | None = None

    def reordered(self, rows_B: Tensor) -> RecurrentSource:
        """Row i becomes row `rows_B[i]` (int64), of more or fewer rows if need be."""
        states = (self.states_BSE, self.padding_BS, self.keys_BSN)
        return RecurrentSource(
            _selected(self.start, rows_B), *(None if x is None else x.index_select(0, rows_B) for x in states)
        )


class RecurrentCache:
    """What a recurrent decoder keeps between steps of decoding: its states, of the same size however long the text.

    Attributes:
        states: of each layer, after the tokens so far; None before the first.
        length: tokens so far.
        source: the encoded source of an encoder-decoder, after the first step.
        limit: tokens that it can hold: no limit.
    """

    limit: int | None = None

    def __init__(self) -> None:
        self.states: LayerStates | None = None
        self.length = 0
        self.source: RecurrentSource | None = None

    def reorder(self, rows_B: Tensor, *, same_source: bool = False) -> None:
        """As `t2bench.models.cache.Cache.reorder`."""
        if self.states is not None:
            self.states = _selected(self.states, rows_B)
        if not same_source and self.source is not None:
            self.source = self.source.reordered(rows_B)


class Recurrent(nn.Module):
    """A recurrent language or translation model. Make one with `t2bench.models.transformer.build`.

    Args:
        spec: the variant; its `recurrence` is not `none`.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.attends = spec.attends

        def token_table() -> nn.Parameter:
            return nn.Parameter(torch.empty(spec.padded_vocab, spec.width))

        self.table_VD = token_table()
        self.source_table_VD = token_table() if spec.has_source_table else None
        self.output_table_VD = token_table() if spec.has_output_table else None
        self.encoder: CellStack | None = None
        self.decoder: CellStack | None = None
        self.bottom: AdditiveLayer | None = None
        self.start: Linear | None = None
        if spec.arch != "decoder":
            both = spec.arch == "encoder" or self.attends
            self.encoder = CellStack(spec, num_in=spec.width, num_layers=spec.enc_layers, both_directions=both)
        if spec.arch != "encoder":
            self._make_decoder(spec)
        if self.attends:
            self.start = Linear(spec.ff // 2, spec.ff, bias=True)
        num_out = spec.ff + (spec.ff if self.attends else 0) + (spec.width if self.bottom is not None else 0)
        self.out = Linear(num_out, spec.width, bias=True)
        self.embed_scale = math.sqrt(spec.width) if spec.embed_scale else 1.0
        self.chunk_tokens = loss.CHUNK_TOKENS

    def _make_decoder(self, spec: ModelSpec) -> None:
        if not (self.attends and spec.score == "additive"):
            self.decoder = CellStack(spec, num_in=spec.width, num_layers=spec.dec_layers)
            return
        self.bottom = AdditiveLayer(
            spec.recurrence, num_in=spec.width, hidden=spec.ff, source=spec.ff, alignment=spec.width
        )
        self.decoder = CellStack(spec, num_in=spec.ff, num_layers=spec.dec_layers - 1)

    def flatten(self) -> None:
        """Lay the cells' weights out as cuDNN wants them, once they are where they will stay; nothing on a CPU."""
        for module in self.modules():
            if isinstance(module, nn.RNNBase):
                module.flatten_parameters()

    @property
    def head_VD(self) -> Tensor:
        """The output table: its own, or the token table when tied."""
        return self.table_VD if self.output_table_VD is None else self.output_table_VD

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        source_BS: Tensor | RecurrentSource | None = None,
        lengths_B: Tensor | None = None,
        source_lengths_B: Tensor | None = None,
        cache: RecurrentCache | None = None,
    ) -> Tensor:
        """Logits for every position.

        Args:
            tokens_BT: token ids, int64; for `encdec` the target side, shifted right by the caller.
            source_BS: source token ids, int64, or what `encode` made of them; for `encdec` only. With a cache it is
                needed at the first step only.
            lengths_B: number of real tokens in each row (at least 1), int64, the rest being padding on the right; None
                means all. What comes out at padded positions is unspecified.
            source_lengths_B: the same for the source.
            cache: states after the tokens before, which these tokens continue; takes theirs.

        Returns:
            logits_BTV in the model's dtype, V = spec.padded_vocab.

        Raises:
            ValueError: a source is missing or unexpected, or an encoder was given a cache.
        """
        x_BTD = self.hidden(
            tokens_BT, source_BS=source_BS, lengths_B=lengths_B, source_lengths_B=source_lengths_B, cache=cache
        )
        return self.logits(x_BTD)

    def logits(self, x_BTD: Tensor) -> Tensor:
        """Logits (B, T, V) of hidden states from `hidden`."""
        return F.linear(x_BTD, self.head_VD)

    def hidden(
        self,
        tokens_BT: Tensor,
        *,
        source_BS: Tensor | RecurrentSource | None = None,
        lengths_B: Tensor | None = None,
        source_lengths_B: Tensor | None = None,
        cache: RecurrentCache | None = None,
    ) -> Tensor:
        """Hidden states x_BTD before the output table; arguments and errors as in `forward`."""
        source = self._source(source_BS, source_lengths_B, cache)
        y_BTD = self._embed(tokens_BT, self.table_VD)
        if self.decoder is None:
            assert self.encoder is not None
            if cache is not None:
                raise ValueError("a cache is for decoding, and arch is encoder")
            return self._output(self.encoder(y_BTD, lengths_B=lengths_B)[0])
        start = self._start_states(y_BTD, source, cache)
        if self.bottom is None:
            # Padding stands on the right, where no earlier step looks.
            states_BTH, last = self.decoder(y_BTD, start)
            x_BTD = self._output(states_BTH, *self._looked_up(states_BTH, source))
        else:
            assert source is not None
            states_BTH, contexts_BTE, last_bottom = self.bottom(
                y_BTD, source.keys_BSN, source.states_BSE, source.padding_BS, start[0]
            )
            states_BTH, last = self.decoder(self._dropped(states_BTH) if len(start) > 1 else states_BTH, start[1:])
            last = [last_bottom, *last]
            x_BTD = self._output(states_BTH, y_BTD, contexts_BTE)
        if cache is not None:
            cache.states, cache.source = last, source
            cache.length += tokens_BT.shape[1]
        return x_BTD

    def encode(self, source_BS: Tensor, source_lengths_B: Tensor | None = None) -> RecurrentSource:
        """Encode a source once, for many passes of the decoder; arguments as in `forward`."""
        assert self.encoder is not None
        table_VD = self.table_VD if self.source_table_VD is None else self.source_table_VD
        if self.start is None:
            backwards_BS = _reversed(source_BS, source_lengths_B)
            _, last = self.encoder(self._embed(backwards_BS, table_VD), lengths_B=source_lengths_B)
            return RecurrentSource(start=last)
        states_BSE, last = self.encoder(self._embed(source_BS, table_VD), lengths_B=source_lengths_B)
        states_BSE = states_BSE.contiguous()  # every step reads it
        first_BH = torch.tanh(self.start(last[-1][0]))
        bottom = (first_BH, torch.zeros_like(first_BH)) if CELLS[self.spec.recurrence].has_memory else (first_BH,)
        padding_BS = None
        if source_lengths_B is not None:
            padding_BS = torch.arange(source_BS.shape[1], device=source_BS.device) >= source_lengths_B[:, None]
        keys_BSN = None if self.bottom is None else self.bottom.key(states_BSE)
        return RecurrentSource([bottom], states_BSE, padding_BS, keys_BSN)

    def loss(self, x_BTD: Tensor, labels_BT: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy.

        Args:
            x_BTD: hidden states from `hidden`.
            labels_BT: token ids to predict, int64; -100 where there is nothing to predict.
            label_smoothing: share of each target that is spread over the vocabulary, see `t2bench.models.loss`.

        Returns:
            Scalar, float32 (float64 for a float64 model); NaN if no label counts.
        """
        return loss.mean(
            self.spec.loss,
            x_BTD.flatten(0, 1),
            self.head_VD,
            labels_BT.flatten(),
            smoothing=label_smoothing,
            vocab=self.spec.vocab,
            chunk_tokens=self.chunk_tokens,
        )

    def _embed(self, tokens_BT: Tensor, table_VD: Tensor) -> Tensor:
        x_BTD = F.embedding(tokens_BT, table_VD)
        return self._dropped(x_BTD * self.embed_scale if self.embed_scale != 1.0 else x_BTD)

    def _dropped(self, x_BTD: Tensor) -> Tensor:
        return F.dropout(x_BTD, self.spec.dropout, self.training) if self.spec.dropout > 0.0 else x_BTD

    def _source(
        self, source_BS: Tensor | RecurrentSource | None, source_lengths_B: Tensor | None, cache: RecurrentCache | None
    ) -> RecurrentSource | None:
        """The source, encoded now unless it already is."""
        encdec = self.spec.arch == "encdec"
        if source_BS is None and cache is not None:
            source_BS = cache.source
        if encdec != (source_BS is not None):
            raise ValueError(f"arch {self.spec.arch} {'needs' if encdec else 'takes no'} source_BS")
        return self.encode(source_BS, source_lengths_B) if isinstance(source_BS, Tensor) else source_BS

    def _start_states(self, y_BTD: Tensor, source: RecurrentSource | None, cache: RecurrentCache | None) -> LayerStates:
        """States of each decoder layer before these tokens."""
        if cache is not None and cache.states is not None:
            return cache.states
        given: LayerStates = [] if source is None else source.start[-self.spec.dec_layers :]
        zero_BH = y_BTD.new_zeros(y_BTD.shape[0], self.spec.ff)
        zeros: LayerStates = [(zero_BH, zero_BH) if CELLS[self.spec.recurrence].has_memory else (zero_BH,)]
        zeros *= self.spec.dec_layers - len(given)
        return given + zeros if self.attends else zeros + given

    def _looked_up(self, states_BTH: Tensor, source: RecurrentSource | None) -> tuple[Tensor, ...]:
        """Contexts by dot products, all at once (Luong et al. 2015, eq. 7 and 8); nothing without attention."""
        if source is None or source.states_BSE is None:
            return ()
        scores_BTS = torch.bmm(states_BTH, source.states_BSE.transpose(1, 2))
        if source.padding_BS is not None:
            scores_BTS = scores_BTS.masked_fill(source.padding_BS[:, None], -torch.inf)
        return (torch.bmm(scores_BTS.softmax(dim=-1), source.states_BSE),)

    def _output(self, *parts: Tensor) -> Tensor:
        """From the last layer's states, and what is added to them, to the model's width."""
        x_BTD = self.out(torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0])
        return self._dropped(torch.tanh(x_BTD) if self.attends else x_BTD)


def _selected(states: LayerStates, rows_B: Tensor) -> LayerStates:
    return [tuple(x_BH.index_select(0, rows_B) for x_BH in layer) for layer in states]


def _reversed(source_BS: Tensor, lengths_B: Tensor | None) -> Tensor:
    """Each row's tokens backwards; padding stays behind them."""
    if lengths_B is None:
        return source_BS.flip(1)
    position_S = torch.arange(source_BS.shape[1], device=source_BS.device)
    from_BS = lengths_B[:, None] - 1 - position_S
    return source_BS.gather(1, torch.where(from_BS < 0, position_S, from_BS))
