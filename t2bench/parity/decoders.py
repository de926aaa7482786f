"""Decoders of other libraries: GPT-2, Llama, Qwen 3 and their descendants, as `transformers` has them.

Each function takes the spec that the library's model must be, and reads from it only what the registry calls free.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from t2bench.parity.encdecs import EVERYWHERE_BT, transformers
from t2bench.parity.oracle import Expected
from t2bench.parity.weights import Weights, randomise, renamed, split_qkv, tokens
from t2bench.spec.axes import PositionSpec
from t2bench.spec.model import ModelSpec

# What Llama's descendants call things.
LLAMA_NAMES = (
    (r"^model\.embed_tokens\.weight", "table_VD"),
    (r"^lm_head\.weight", "output_table_VD"),
    (r"^model\.norm", "decoder.final_norm"),
    (r"^model\.", "decoder."),
    (r"self_attn\.(\w)_proj", r"self_attention.\1"),
    (r"self_attn", "self_attention"),
    (r"self_attention\.o\.", "self_attention.out."),
    (r"mlp\.(\w+)_proj", r"feed_forward.\1"),
    (r"input_layernorm", "self_norm"),
    (r"post_attention_layernorm", "ff_norm"),
)


def _decode(library: nn.Module, weights: Weights) -> Expected:
    inputs = {"tokens_BT": tokens(0)}

    def call(module: nn.Module) -> Tensor:
        logits_BTV: Tensor = module(inputs["tokens_BT"], use_cache=False).logits
        return logits_BTV

    return Expected(weights=weights, module=library, call=call, inputs=inputs, valid_BT=EVERYWHERE_BT)


def _llama_sizes(spec: ModelSpec) -> dict[str, Any]:
    return {
        "vocab_size": spec.vocab, "hidden_size": spec.width, "intermediate_size": spec.ff,
        "num_hidden_layers": spec.dec_layers, "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.num_kv_heads, "head_dim": spec.dim_per_head, "rms_norm_eps": spec.norm_eps,
        "rope_parameters": _rope(spec.position),
        "tie_word_embeddings": not spec.has_output_table, "attn_implementation": "eager", "pad_token_id": 0,
    }  # fmt: skip


def _rope(position: PositionSpec) -> dict[str, Any]:
    """How `transformers` says what rope is."""
    kind = "default" if position.scaling == "none" else position.scaling
    found: dict[str, Any] = {
        "rope_type": kind,
        "rope_theta": position.theta,
        "partial_rotary_factor": position.fraction,
    }
    if kind != "default":
        found |= {"factor": position.scaling_factor, "original_max_position_embeddings": position.original_len}
    if kind == "llama3":
        found |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    return found


def llama(spec: ModelSpec) -> Expected:
    """Llama (Touvron et al. 2023): RoPE in halves, grouped queries, SwiGLU, RMS pre-norm."""
    library = randomise(transformers().LlamaForCausalLM(transformers().LlamaConfig(**_llama_sizes(spec))))
    return _decode(library, renamed(library, *LLAMA_NAMES))


def mistral(spec: ModelSpec) -> Expected:
    """Mistral (Jiang et al. 2023): Llama with a sliding window."""
    config = transformers().MistralConfig(**_llama_sizes(spec), sliding_window=spec.pattern.window)
    library = randomise(transformers().MistralForCausalLM(config))
    return _decode(library, renamed(library, *LLAMA_NAMES))


def olmo2(spec: ModelSpec) -> Expected:
    """OLMo 2 (2025): norms on what sub-layers return, and on queries and keys over all heads together."""
    library = randomise(transformers().Olmo2ForCausalLM(transformers().Olmo2Config(**_llama_sizes(spec))))
    weights = renamed(
        library,
        (r"post_attention_layernorm", "self_norm"),
        (r"post_feedforward_layernorm", "ff_norm"),
        *LLAMA_NAMES,
    )
    return _decode(library, weights)


def gemma2(spec: ModelSpec) -> Expected:
    """Gemma 2 (2024): soft caps on scores and logits, norms on both sides of sub-layers, every other layer a window.

    Its norms multiply by 1 + weight, so ours is their weight plus 1.
    """
    config = transformers().Gemma2Config(
        **_llama_sizes(spec), query_pre_attn_scalar=spec.dim_per_head, sliding_window=spec.pattern.window,
        attn_logit_softcapping=spec.attention_softcap, final_logit_softcapping=spec.logit_softcap,
    )  # fmt: skip
    library = randomise(transformers().Gemma2ForCausalLM(config), norms_from_zero=True)
    weights = renamed(
        library,
        (r"post_attention_layernorm", "self_out_norm"),
        (r"pre_feedforward_layernorm", "ff_norm"),
        (r"post_feedforward_layernorm", "ff_out_norm"),
        *LLAMA_NAMES,
    )
    return _decode(library, {name: 1 + x if "norm" in name else x for name, x in weights.items()})


def qwen3(spec: ModelSpec) -> Expected:
    """Qwen 3: Llama with RMS norms on queries and keys, per head, before RoPE."""
    library = randomise(transformers().Qwen3ForCausalLM(transformers().Qwen3Config(**_llama_sizes(spec))))
    return _decode(library, renamed(library, *LLAMA_NAMES))


def gpt2(spec: ModelSpec) -> Expected:
    """GPT-2 (Radford et al. 2019): learned positions, tanh GELU, pre-norm, fused QKV."""
    config = transformers().GPT2Config(
        vocab_size=spec.vocab, n_positions=spec.position.max_len, n_embd=spec.width, n_layer=spec.dec_layers,
        n_head=spec.heads, n_inner=spec.ff, attn_implementation="eager", resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, layer_norm_epsilon=spec.norm_eps,
    )  # fmt: skip
    library = randomise(transformers().GPT2LMHeadModel(config))
    weights = renamed(
        library,
        (r"^transformer\.wte\.weight", "table_VD"),
        (r"^transformer\.wpe\.weight", "decoder.embedding.positions_MD"),
        (r"^transformer\.ln_f", "decoder.final_norm"),
        (r"^transformer\.h", "decoder.layers"),
        (r"attn\.c_attn", "self_attention.qkv"),
        (r"attn\.c_proj", "self_attention.out"),
        (r"mlp\.c_fc", "feed_forward.up"),
        (r"mlp\.c_proj", "feed_forward.down"),
        (r"ln_1", "self_norm"),
        (r"ln_2", "ff_norm"),
    )
    # GPT-2 stores its matrices (in, out).
    weights = {name: x.T if x.ndim == 2 and ".layers." in name else x for name, x in weights.items()}
    return _decode(library, split_qkv(weights))


def gpt_neox(spec: ModelSpec) -> Expected:
    """GPT-NeoX (Black et al. 2022): attention and feed-forward in parallel, RoPE on a part of each head."""
    config = transformers().GPTNeoXConfig(
        vocab_size=spec.vocab, hidden_size=spec.width, num_hidden_layers=spec.dec_layers,
        num_attention_heads=spec.heads, intermediate_size=spec.ff, hidden_act=spec.activation,
        layer_norm_eps=spec.norm_eps, use_parallel_residual=True, rope_parameters=_rope(spec.position),
        attn_implementation="eager",
    )  # fmt: skip
    library = randomise(transformers().GPTNeoXForCausalLM(config))
    weights = renamed(
        library,
        (r"^gpt_neox\.embed_in\.weight", "table_VD"),
        (r"^(lm_head|embed_out)\.weight", "output_table_VD"),
        (r"^gpt_neox\.", "decoder."),
        (r"attention\.query_key_value", "self_attention.qkv"),
        (r"attention\.dense", "self_attention.out"),
        (r"mlp\.dense_h_to_4h", "feed_forward.up"),
        (r"mlp\.dense_4h_to_h", "feed_forward.down"),
        (r"input_layernorm", "self_norm"),
        (r"post_attention_layernorm", "ff_norm"),
        (r"final_layer_norm", "final_norm"),
    )
    return _decode(library, split_qkv(_unstack_heads(weights, spec)))


def bloom(spec: ModelSpec) -> Expected:
    """BLOOM (2022): ALiBi (Press et al. 2021), normed embeddings, tanh GELU, pre-norm."""
    config = transformers().BloomConfig(
        vocab_size=spec.vocab, hidden_size=spec.width, n_layer=spec.dec_layers, n_head=spec.heads, hidden_dropout=0.0,
        attention_dropout=0.0, layer_norm_epsilon=spec.norm_eps,
    )  # fmt: skip
    library = randomise(transformers().BloomForCausalLM(config))
    weights = renamed(
        library,
        (r"^transformer\.word_embeddings\.weight", "table_VD"),
        (r"^transformer\.word_embeddings_layernorm", "decoder.embedding.norm"),
        (r"^transformer\.ln_f", "decoder.final_norm"),
        (r"^transformer\.h", "decoder.layers"),
        (r"self_attention\.query_key_value", "self_attention.qkv"),
        (r"self_attention\.dense", "self_attention.out"),
        (r"mlp\.dense_h_to_4h", "feed_forward.up"),
        (r"mlp\.dense_4h_to_h", "feed_forward.down"),
        (r"input_layernorm", "self_norm"),
        (r"post_attention_layernorm", "ff_norm"),
    )
    return _decode(library, split_qkv(_unstack_heads(weights, spec)))


def _unstack_heads(weights: Weights, spec: ModelSpec) -> Weights:
    """From (q, k, v) within each head to all heads of q, then k, then v."""
    found = dict(weights)
    for name, stacked in weights.items():
        if ".qkv." in name:
            by_head = stacked.reshape(spec.heads, 3, spec.dim_per_head, *stacked.shape[1:])
            found[name] = by_head.transpose(0, 1).flatten(0, 2)
    return found
