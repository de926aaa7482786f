"""Libraries that the model is compared with: how to make them offline, with random weights under our names.

Weights are drawn with a standard deviation of 0.3 (norms around 1), so that activations, attention and positions are
far from their linear beginnings: at the usual 0.02 most mutants of test_library_parity.py would pass.
"""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from torch import Tensor

from t2bench.spec.axes import PositionSpec
from t2bench.spec.model import ModelSpec

B, T, S, V = 2, 11, 13, 40
SMALL = {"width": 32, "heads": 4, "ff": 48, "enc_layers": 2, "dec_layers": 2, "vocab": V}
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Expected:
    """What a library computes from `inputs`, at the positions marked valid."""

    weights: Weights
    output: Tensor
    inputs: dict[str, Tensor]
    valid: Tensor
    hidden: bool


def randomise(model: torch.nn.Module, keep: str = r"^$") -> torch.nn.Module:
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if re.search(keep, name):
            continue
        draw = torch.randn(parameter.shape, generator=generator)
        is_norm = parameter.ndim == 1 and name.endswith("weight")
        parameter.data = 1 + 0.1 * draw if is_norm else 0.3 * draw
    return model.eval()


def renamed(model: torch.nn.Module, *rules: tuple[str, str]) -> Weights:
    """Parameters under our names; a rule is a regular expression and its replacement, an empty name drops."""
    found = {}
    for name, parameter in model.named_parameters():
        new = name
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        if new:
            found[new] = parameter.detach()
    return found


def split_qkv(weights: Weights, stacked: str = "qkv") -> Weights:
    found = {}
    for name, tensor in weights.items():
        if f".{stacked}." in name:
            found |= {name.replace(f".{stacked}.", f".{p}."): x for p, x in zip("qkv", tensor.chunk(3), strict=True)}
        else:
            found[name] = tensor
    return found


def tokens(seed: int, length: int) -> Tensor:
    return torch.randint(3, V, (B, length), generator=torch.Generator().manual_seed(seed))


def lengths_and_mask(length: int) -> tuple[Tensor, Tensor]:
    lengths_B = torch.tensor([length, length - 4])
    return lengths_B, torch.arange(length) < lengths_B[:, None]


def nn_transformer(spec: ModelSpec) -> Expected:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that pre-norm has no fast path, which is off anyway
        library = torch.nn.Transformer(
            32, 4, 2, 2, 48, 0.0, spec.activation, batch_first=True, norm_first=spec.norm_place == "pre"
        )
    randomise(library)
    weights = split_qkv(
        renamed(
            library,
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
    weights["table_VD"] = 0.3 * torch.randn(V, 32, generator=torch.Generator().manual_seed(4))
    tokens_BT, source_BS = tokens(0, T), tokens(1, S)
    lengths_B, exists_BS = lengths_and_mask(S)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    output = library(
        weights["table_VD"][source_BS],
        weights["table_VD"][tokens_BT],
        tgt_mask=torch.ones(T, T, dtype=torch.bool).triu(1),
        src_key_padding_mask=~exists_BS,
        memory_key_padding_mask=~exists_BS,
    )
    torch.backends.mha.set_fastpath_enabled(fast_path)
    inputs = {"tokens_BT": tokens_BT, "source_BS": source_BS, "source_lengths_B": lengths_B}
    return Expected(weights, output, inputs, torch.ones(B, T, dtype=torch.bool), hidden=True)


def marian(spec: ModelSpec) -> Expected:
    tf = pytest.importorskip("transformers")
    sizes = {f"{side}_{k}": v for side in ("encoder", "decoder") for k, v in
             (("layers", 2), ("attention_heads", 4), ("ffn_dim", 48))}  # fmt: skip
    config = tf.MarianConfig(
        vocab_size=V, d_model=32, **sizes, activation_function="relu", scale_embedding=True, pad_token_id=0,
        max_position_embeddings=64, dropout=0.0, attn_implementation="eager",
    )  # fmt: skip
    library = randomise(tf.MarianMTModel(config), keep="embed_positions")
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
    tokens_BT, source_BS = tokens(0, T), tokens(1, S)
    lengths_B, exists_BS = lengths_and_mask(S)
    output = library(input_ids=source_BS, attention_mask=exists_BS.long(), decoder_input_ids=tokens_BT).logits
    inputs = {"tokens_BT": tokens_BT, "source_BS": source_BS, "source_lengths_B": lengths_B}
    return Expected(weights, output, inputs, torch.ones(B, T, dtype=torch.bool), hidden=False)


def llama_like(spec: ModelSpec) -> Expected:
    tf = pytest.importorskip("transformers")
    config_class, model_class = (
        (tf.Qwen3Config, tf.Qwen3ForCausalLM) if spec.qk_norm else (tf.LlamaConfig, tf.LlamaForCausalLM)
    )
    config = config_class(
        vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=spec.num_kv_heads, head_dim=spec.dim_per_head, rms_norm_eps=spec.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": spec.position.theta}, tie_word_embeddings=False,
        attn_implementation="eager",
    )  # fmt: skip
    library = randomise(model_class(config))
    weights = renamed(
        library,
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
    tokens_BT = tokens(0, T)
    valid = torch.ones(B, T, dtype=torch.bool)
    return Expected(weights, library(tokens_BT).logits, {"tokens_BT": tokens_BT}, valid, hidden=False)


def gpt2(spec: ModelSpec) -> Expected:
    tf = pytest.importorskip("transformers")
    config = tf.GPT2Config(
        vocab_size=V, n_positions=32, n_embd=32, n_layer=2, n_head=4, n_inner=48, attn_implementation="eager",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    library = randomise(tf.GPT2LMHeadModel(config))
    raw = renamed(
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
    raw = {n: x.T if x.ndim == 2 and ".layers." in n else x for n, x in raw.items()}
    tokens_BT = tokens(0, T)
    valid = torch.ones(B, T, dtype=torch.bool)
    return Expected(split_qkv(raw), library(tokens_BT).logits, {"tokens_BT": tokens_BT}, valid, hidden=False)


def bert_like(spec: ModelSpec) -> Expected:
    tf = pytest.importorskip("transformers")
    rope = spec.position.kind == "rope"
    config_class, model_class = (tf.RoFormerConfig, tf.RoFormerModel) if rope else (tf.BertConfig, tf.BertModel)
    config = config_class(
        vocab_size=V, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, hidden_act="gelu",
        attn_implementation="eager", layer_norm_eps=spec.norm_eps, **({"embedding_size": 32} if rope else {}),
    )  # fmt: skip
    library = randomise(model_class(config), keep="embed_positions")
    if rope:
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
    if not rope:  # every token is of type 0, which only moves all positions alike
        type_D = library.embeddings.token_type_embeddings.weight.detach()[0]
        weights["encoder.embedding.positions_MD"] = weights["encoder.embedding.positions_MD"] + type_D
    tokens_BT = tokens(0, T)
    lengths_B, exists_BT = lengths_and_mask(T)
    output = library(tokens_BT, attention_mask=exists_BT.long()).last_hidden_state
    return Expected(weights, output, {"tokens_BT": tokens_BT, "lengths_B": lengths_B}, exists_BT, hidden=True)


def _encdec(**axes: object) -> ModelSpec:
    return ModelSpec(**SMALL, position=PositionSpec(kind="none"), embed_scale=False, final_norm=True, **axes)


def _llama(**axes: object) -> ModelSpec:
    return ModelSpec(
        arch="decoder", **SMALL, kv_heads=2, norm="rms", norm_place="pre", final_norm=True, bias=False, tie="none",
        embed_scale=False, gated=True, activation="silu", norm_eps=1e-6, **axes,
    )  # fmt: skip


_HALVES = PositionSpec(kind="rope", layout="halves")
_ENCODER = ModelSpec(arch="encoder", **SMALL, activation="gelu", embed_norm=True, embed_scale=False, norm_eps=1e-12)
ORACLES: dict[str, tuple[ModelSpec, Callable[[ModelSpec], Expected]]] = {
    "nn.Transformer post relu": (_encdec(), nn_transformer),
    "nn.Transformer pre relu": (_encdec(norm_place="pre"), nn_transformer),
    "nn.Transformer post gelu": (_encdec(activation="gelu"), nn_transformer),
    "nn.Transformer pre gelu": (_encdec(activation="gelu", norm_place="pre"), nn_transformer),
    "MarianMT": (ModelSpec(**SMALL, position=PositionSpec(layout="halves")), marian),
    "Llama": (_llama(position=_HALVES), llama_like),
    "Qwen3": (_llama(position=replace(_HALVES, theta=1e6), qk_norm=True, head_dim=12), llama_like),
    "GPT-2": (
        ModelSpec(
            arch="decoder", **SMALL, position=PositionSpec(kind="learned", max_len=32), activation="gelu_tanh",
            norm_place="pre", final_norm=True, embed_scale=False,
        ),
        gpt2,
    ),
    "BERT": (replace(_ENCODER, position=PositionSpec(kind="learned", max_len=32)), bert_like),
    "RoFormer": (replace(_ENCODER, position=PositionSpec(kind="rope", layout="interleaved")), bert_like),
}  # fmt: skip


@dataclass(frozen=True)
class Oracle:
    """A library model and the spec that claims to be the same function."""

    name: str
    spec: ModelSpec
    make: Callable[[ModelSpec], Expected]

    @property
    def expected(self) -> Expected:
        return _computed(self)


@cache
def _computed(oracle: Oracle) -> Expected:
    with torch.no_grad():
        return oracle.make(oracle.spec)


@pytest.fixture(params=ORACLES)
def oracle(request: pytest.FixtureRequest) -> Oracle:
    return Oracle(request.param, *ORACLES[request.param])
