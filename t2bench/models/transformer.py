"""Transformer: one model for every variant. `build` turns a ModelSpec into it.

    encoder   tokens -> Stack (every token sees every token)           -> logits
    decoder   tokens -> Stack (a token sees itself and earlier ones)   -> logits
    encdec    source -> encoder Stack -> decoder Stack over tokens, each layer also attending to the source -> logits

The vocabulary may be padded (`vocab_multiple`). Padded rows are ordinary rows that no token and no label names, as in
nanoGPT: they take part in the softmax, start at zero, and training pushes their probability down.

Shape letters: B batch, T length, S source length, D width, V vocabulary (padded).
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2bench.attention.mask import Mask
from t2bench.models import loss
from t2bench.models.init import initialise
from t2bench.models.layer import Stack
from t2bench.models.own import build_own
from t2bench.models.position import PositionTables
from t2bench.spec.model import ModelSpec


class Transformer(nn.Module):
    """A transformer language or translation model, as its spec says. Make one with `build`.

    Args:
        spec: the variant.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        tables = PositionTables(spec)
        encdec, tied = spec.arch == "encdec", spec.tie != "none"

        def token_table() -> nn.Parameter:
            return nn.Parameter(torch.empty(spec.padded_vocab, spec.width))

        self.table_VD = token_table()
        self.source_table_VD = token_table() if encdec and spec.tie != "all" else None
        self.output_table_VD = None if tied else token_table()
        self.encoder = self.decoder = None
        if spec.arch != "decoder":
            self.encoder = Stack(spec, tables, num_layers=spec.enc_layers, cross=False)
        if spec.arch != "encoder":
            self.decoder = Stack(spec, tables, num_layers=spec.dec_layers, cross=encdec)
        self.chunk_tokens = loss.CHUNK_TOKENS

    @property
    def head_VD(self) -> Tensor:
        """The output table: its own, or the token table when tied."""
        return self.table_VD if self.output_table_VD is None else self.output_table_VD

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        source_BS: Tensor | None = None,
        lengths_B: Tensor | None = None,
        source_lengths_B: Tensor | None = None,
    ) -> Tensor:
        """Logits for every position.

        Args:
            tokens_BT: token ids, int64; for `encdec` the target side, shifted right by the caller.
            source_BS: source token ids, int64; for `encdec` only.
            lengths_B: number of real tokens in each row, int64, the rest being padding on the right; None means all.
                What comes out at padded positions is unspecified.
            source_lengths_B: the same for the source.

        Returns:
            logits_BTV in the model's dtype, V = spec.padded_vocab.

        Raises:
            ValueError: a source is missing or unexpected, or the input is longer than a learned position table.
        """
        x_BTD = self.hidden(tokens_BT, source_BS=source_BS, lengths_B=lengths_B, source_lengths_B=source_lengths_B)
        return F.linear(x_BTD, self.head_VD)

    def hidden(
        self,
        tokens_BT: Tensor,
        *,
        source_BS: Tensor | None = None,
        lengths_B: Tensor | None = None,
        source_lengths_B: Tensor | None = None,
    ) -> Tensor:
        """Hidden states x_BTD before the output table; arguments and errors as in `forward`."""
        encdec = self.spec.arch == "encdec"
        if encdec != (source_BS is not None):
            raise ValueError(f"arch {self.spec.arch} {'needs' if encdec else 'takes no'} source_BS")
        if self.decoder is None:
            assert self.encoder is not None
            x_BTD: Tensor = self.encoder(tokens_BT, self.table_VD, Mask(key_lengths_B=lengths_B))
            return x_BTD
        source_BSD, source_mask = None, None
        if self.encoder is not None:
            source_mask = Mask(key_lengths_B=source_lengths_B)
            source_table_VD = self.table_VD if self.source_table_VD is None else self.source_table_VD
            source_BSD = self.encoder(source_BS, source_table_VD, source_mask)
        # Padding stands on the right, where no earlier query looks: causality alone keeps it out, no mask tensor.
        y_BTD: Tensor = self.decoder(tokens_BT, self.table_VD, Mask(causal=True), source_BSD, source_mask)
        return y_BTD

    def loss(self, x_BTD: Tensor, labels_BT: Tensor) -> Tensor:
        """Mean cross-entropy.

        Args:
            x_BTD: hidden states from `hidden`.
            labels_BT: token ids to predict, int64; -100 where there is nothing to predict.

        Returns:
            Scalar, float32 (float64 for a float64 model); NaN if no label counts.
        """
        x_ND, labels_N = x_BTD.flatten(0, 1), labels_BT.flatten()
        if self.spec.loss == "chunked":
            return loss.chunked(x_ND, self.head_VD, labels_N, chunk_tokens=self.chunk_tokens)
        return loss.dense(x_ND, self.head_VD, labels_N)


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
        model = Transformer(spec)
    # Memory is taken once, in the final dtype: building has no higher peak than the parameters themselves.
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(torch.empty(parameter.shape, dtype=dtype, device=device)))
    if torch.device(device).type != "meta":
        initialise(model, spec, seed)
    return model
