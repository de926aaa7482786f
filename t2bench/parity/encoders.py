"""Encoders of other libraries: BERT and RoFormer, as `transformers` has them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from t2bench.parity.encdecs import transformers
from t2bench.parity.oracle import Expected
from t2bench.parity.weights import LENGTH, lengths_and_mask, randomise, renamed, tokens
from t2bench.spec.model import ModelSpec


def bert(spec: ModelSpec) -> Expected:
    """BERT (Devlin et al. 2018) without its segment embeddings, which are set to zero."""
    library = transformers().BertModel(transformers().BertConfig(**_sizes(spec)))
    return _encode(randomise(library))


def roformer(spec: ModelSpec) -> Expected:
    """RoFormer (Su et al. 2021): BERT with RoPE on neighbouring features."""
    config = transformers().RoFormerConfig(**_sizes(spec), embedding_size=spec.width)
    return _encode(randomise(transformers().RoFormerModel(config), keep="embed_positions"))


def _sizes(spec: ModelSpec) -> dict[str, Any]:
    return {
        "vocab_size": spec.vocab, "hidden_size": spec.width, "num_hidden_layers": spec.enc_layers,
        "num_attention_heads": spec.heads, "intermediate_size": spec.ff,
        "max_position_embeddings": spec.position.max_len,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "hidden_act": spec.activation,
        "attn_implementation": "eager", "layer_norm_eps": spec.norm_eps,
    }  # fmt: skip


def _encode(library: Any) -> Expected:
    library.embeddings.token_type_embeddings.weight.data.zero_()
    weights = renamed(
        library,
        (r"^pooler.*|^encoder\.embed_positions.*|^.*token_type.*", ""),
        (r"^embeddings\.word_embeddings\.weight", "table_VD"),
        (r"^embeddings\.position_embeddings\.weight", "encoder.embedding.positions_MD"),
        (r"^embeddings\.LayerNorm", "encoder.embedding.norm"),
        (r"^encoder\.layer\.", "encoder.layers."),
        (r"attention\.self\.(\w)(uery|ey|alue)", r"self_attention.\1"),
        (r"attention\.output\.dense", "self_attention.out"),
        (r"attention\.output\.LayerNorm", "self_norm"),
        (r"intermediate\.dense", "feed_forward.up"),
        (r"output\.dense", "feed_forward.down"),
        (r"output\.LayerNorm", "ff_norm"),
    )
    lengths_B, exists_BT = lengths_and_mask(LENGTH)
    inputs = {"tokens_BT": tokens(0), "lengths_B": lengths_B}

    def call(module: nn.Module) -> Tensor:
        hidden_BTD: Tensor = module(inputs["tokens_BT"], attention_mask=exists_BT.long()).last_hidden_state
        return hidden_BTD

    return Expected(weights=weights, module=library, call=call, inputs=inputs, valid_BT=exists_BT, hidden=True)
