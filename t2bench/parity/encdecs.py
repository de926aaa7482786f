"""Encoder-decoders of other libraries: torch.nn.Transformer, MarianMT, T5 v1.0 and v1.1.

Each function takes the spec that the library's model must be, and reads from it only what the registry calls free.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from t2bench.parity.oracle import Expected
from t2bench.parity.weights import (
    BATCH,
    LENGTH,
    SOURCE_LENGTH,
    Weights,
    lengths_and_mask,
    randomise,
    renamed,
    split_qkv,
    tokens,
)
from t2bench.spec.model import ModelSpec

EVERYWHERE_BT = torch.ones(BATCH, LENGTH, dtype=torch.bool)


def transformers() -> Any:
    """The library `transformers`, imported on first use; its remarks on small vocabularies are switched off."""
    library = importlib.import_module("transformers")
    library.logging.set_verbosity_error()
    return library


def _pair() -> tuple[dict[str, Tensor], Tensor]:
    """Our inputs, and which source positions exist."""
    lengths_B, exists_BS = lengths_and_mask(SOURCE_LENGTH)
    inputs = {"tokens_BT": tokens(0), "source_BS": tokens(1, SOURCE_LENGTH), "source_lengths_B": lengths_B}
    return inputs, exists_BS


class _Torch(nn.Module):
    """torch.nn.Transformer with a token table, which it has not."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that pre-norm has no fast path, which is off anyway
            self.model = nn.Transformer(
                spec.width, spec.heads, spec.enc_layers, spec.dec_layers, spec.ff, 0.0, spec.activation,
                batch_first=True, norm_first=spec.norm_place == "pre", layer_norm_eps=spec.norm_eps,
            )  # fmt: skip
        self.table_VD = nn.Parameter(torch.empty(spec.vocab, spec.width))


def nn_transformer(spec: ModelSpec) -> Expected:
    """Vaswani et al. 2017 as in torch: post- or pre-norm, ReLU or GELU; positions are the caller's business there."""
    library = randomise(_Torch(spec))
    weights = split_qkv(
        renamed(
            library,
            (r"^model\.", ""),
            (r"self_attn\.in_proj_", "self_attention.qkv."),
            (r"multihead_attn\.in_proj_", "cross_attention.qkv."),
            (r"self_attn\.out_proj", "self_attention.out"),
            (r"multihead_attn\.out_proj", "cross_attention.out"),
            (r"linear1", "feed_forward.up"),
            (r"linear2", "feed_forward.down"),
            (r"norm1", "self_norm"),
            (r"(encoder.*)norm2", r"\1ff_norm"),
            (r"(decoder.*)norm2", r"\1cross_norm"),
            (r"norm3", "ff_norm"),
            (r"coder\.norm", "coder.final_norm"),
        )
    )
    inputs, exists_BS = _pair()

    def call(module: nn.Module) -> Tensor:
        assert isinstance(module, _Torch)
        fast_path = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        output_BTD: Tensor = module.model(
            module.table_VD[inputs["source_BS"]],
            module.table_VD[inputs["tokens_BT"]],
            tgt_mask=torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1),
            src_key_padding_mask=~exists_BS,
            memory_key_padding_mask=~exists_BS,
        )
        torch.backends.mha.set_fastpath_enabled(fast_path)
        return output_BTD

    return Expected(weights=weights, module=library, call=call, inputs=inputs, valid_BT=EVERYWHERE_BT, hidden=True)


def _translate(library: nn.Module, weights: Weights) -> Expected:
    inputs, exists_BS = _pair()

    def call(module: nn.Module) -> Tensor:
        output_BTV: Tensor = module(
            input_ids=inputs["source_BS"],
            attention_mask=exists_BS.long(),
            decoder_input_ids=inputs["tokens_BT"],
            use_cache=False,
        ).logits
        return output_BTV

    return Expected(weights=weights, module=library, call=call, inputs=inputs, valid_BT=EVERYWHERE_BT)


def marian(spec: ModelSpec) -> Expected:
    """MarianMT (Junczys-Dowmunt et al. 2018): sinusoids in halves, scaled and tied embeddings, post-norm.

    Where the spec has interleaved sinusoids, the columns of Marian's table are put into that order.
    """
    sizes = {
        f"{side}_{name}": size
        for side, layers in (("encoder", spec.enc_layers), ("decoder", spec.dec_layers))
        for name, size in (("layers", layers), ("attention_heads", spec.heads), ("ffn_dim", spec.ff))
    }
    config = transformers().MarianConfig(
        vocab_size=spec.vocab, d_model=spec.width, **sizes, activation_function=spec.activation, scale_embedding=True,
        pad_token_id=0, max_position_embeddings=spec.position.max_len, dropout=0.0, attn_implementation="eager",
    )  # fmt: skip
    library = randomise(transformers().MarianMTModel(config), keep="embed_positions")
    if spec.position.layout == "interleaved":
        for side in ("encoder", "decoder"):
            table_MD = library.get_parameter(f"model.{side}.embed_positions.weight")
            table_MD.data = torch.stack(table_MD.data.chunk(2, dim=1), dim=-1).flatten(1)
    weights = renamed(
        library,
        (r"^.*embed_positions.*$", ""),
        (r"^model\.shared\.weight", "table_VD"),
        (r"^model\.", ""),
        (r"self_attn\.(\w)_proj", r"self_attention.\1"),
        (r"encoder_attn\.(\w)_proj", r"cross_attention.\1"),
        (r"self_attn\.out_proj", "self_attention.out"),
        (r"encoder_attn\.out_proj", "cross_attention.out"),
        (r"self_attn_layer_norm", "self_norm"),
        (r"encoder_attn_layer_norm", "cross_norm"),
        (r"final_layer_norm", "ff_norm"),
        (r"fc1", "feed_forward.up"),
        (r"fc2", "feed_forward.down"),
    )
    return _translate(library, weights)


def t5(spec: ModelSpec) -> Expected:
    """T5 (Raffel et al. 2020): a learned bias per bucket of distance, RMS pre-norm, no scale; gated and untied in v1.1.

    In v1.0 the output table is the token table, and what it reads is divided by sqrt(width).
    """
    config = transformers().T5Config(
        vocab_size=spec.vocab, d_model=spec.width, d_kv=spec.dim_per_head, d_ff=spec.ff, num_heads=spec.heads,
        num_layers=spec.enc_layers, num_decoder_layers=spec.dec_layers, dropout_rate=0.0,
        relative_attention_num_buckets=spec.position.buckets, layer_norm_epsilon=spec.norm_eps,
        relative_attention_max_distance=spec.position.max_distance, pad_token_id=0, decoder_start_token_id=0,
        feed_forward_proj="gated-gelu" if spec.gated else "relu", tie_word_embeddings=not spec.has_output_table,
    )  # fmt: skip
    library = transformers().T5ForConditionalGeneration(config)
    if spec.has_output_table:
        library.lm_head.weight = nn.Parameter(torch.empty(spec.vocab, spec.width))
    weights = renamed(
        randomise(library),
        (r"^shared\.weight", "table_VD"),
        (r"^lm_head\.weight", "output_table_VD" if spec.has_output_table else ""),
        (r"\.block\.", ".layers."),
        (r"layers\.0\.layer\.0\.SelfAttention\.relative_attention_bias\.weight", "bias.table_NH"),
        (r"layer\.0\.SelfAttention\.o", "self_attention.out"),
        (r"layer\.0\.SelfAttention", "self_attention"),
        (r"layer\.0\.layer_norm", "self_norm"),
        (r"layer\.1\.EncDecAttention\.o", "cross_attention.out"),
        (r"layer\.1\.EncDecAttention", "cross_attention"),
        (r"(decoder.*)layer\.1\.layer_norm", r"\1cross_norm"),
        (r"layer\.\d\.layer_norm", "ff_norm"),
        (r"layer\.\d\.DenseReluDense\.wi_0", "feed_forward.gate"),
        (r"layer\.\d\.DenseReluDense\.wi(_1)?", "feed_forward.up"),
        (r"layer\.\d\.DenseReluDense\.wo", "feed_forward.down"),
        (r"final_layer_norm", "final_norm"),
    )
    return _translate(library, weights)
