"""Decoders of other libraries: GPT-2, Llama, Qwen 3 and their descendants, as `transformers` has them.

Each function takes the spec that the library's model must be, and reads from it only what the registry calls free.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from t2bench.parity.encdecs import EVERYWHERE_BT, transformers
from t2bench.parity.oracle import Expected
from t2bench.parity.weights import VOCAB, Weights, randomise, renamed, split_qkv, tokens
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
        "vocab_size": VOCAB, "hidden_size": spec.width, "intermediate_size": spec.ff,
        "num_hidden_layers": spec.dec_layers, "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.num_kv_heads, "head_dim": spec.dim_per_head, "rms_norm_eps": spec.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": spec.position.theta},
        "tie_word_embeddings": spec.tie != "none", "attn_implementation": "eager", "pad_token_id": 0,
    }  # fmt: skip


def llama(spec: ModelSpec) -> Expected:
    """Llama (Touvron et al. 2023): RoPE in halves, grouped queries, SwiGLU, RMS pre-norm."""
    library = randomise(transformers().LlamaForCausalLM(transformers().LlamaConfig(**_llama_sizes(spec))))
    return _decode(library, renamed(library, *LLAMA_NAMES))


def qwen3(spec: ModelSpec) -> Expected:
    """Qwen 3: Llama with RMS norms on queries and keys, per head, before RoPE."""
    library = randomise(transformers().Qwen3ForCausalLM(transformers().Qwen3Config(**_llama_sizes(spec))))
    return _decode(library, renamed(library, *LLAMA_NAMES))


def gpt2(spec: ModelSpec) -> Expected:
    """GPT-2 (Radford et al. 2019): learned positions, tanh GELU, pre-norm, fused QKV."""
    config = transformers().GPT2Config(
        vocab_size=VOCAB, n_positions=spec.position.max_len, n_embd=spec.width, n_layer=spec.dec_layers,
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
