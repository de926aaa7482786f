"""The parties of the peers' table: one architecture with the same weights, from us and from other libraries.

Each party has the same three abilities: logits of a batch (hidden states for encoders), the loss of a batch, and greedy
generation. What a library lacks (token tables, positions, the output table) is added in the plainest way.

Shape letters: B batch, T length, S source length, D width, V vocabulary, H heads, K head dim.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2bench.models.init import load_logical
from t2bench.models.position import PositionTables
from t2bench.models.transformer import build
from t2bench.parity import decoders, encdecs, encoders
from t2bench.spec.model import ModelSpec
from t2bench.spec.presets import preset
from t2bench.workloads.batches import Batch
from t2bench.workloads.generation import Generator

Weights = dict[str, Tensor]
SIZES: dict[str, Any] = {"width": 256, "heads": 4, "kv_heads": None, "head_dim": None, "ff": 1024, "vocab": 8192}
SHRINK = 0.1  # from the large random weights of the parity oracles to a trained model's spread


class Party(Protocol):
    """One contender. `module` is what is trained and cast."""

    module: nn.Module

    def outputs(self, batch: Batch) -> Tensor:
        """Logits (B, T, V), or for an encoder hidden states (B, T, D)."""

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of the batch's labels."""

    def generate(self, batch: Batch, new_tokens: int) -> Tensor:
        """The new tokens (B, N), greedily, the end of a text ignored."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One row group of the table.

    Attributes:
        spec: ours, at the table's size.
        library: builds the party whose weights all others get.
        peers: name -> what makes the party of a spec and weights.
    """

    spec: ModelSpec
    library: Callable[[ModelSpec], Any]
    peers: Mapping[str, Callable[[ModelSpec, Weights, nn.Module], Party]]


def shared_weights(architecture: Architecture) -> tuple[Weights, nn.Module]:
    """Weights under our names, and the library's module that has them: of moderate size, all biases zero."""
    torch.manual_seed(0)
    expected = architecture.library(architecture.spec)
    weights = {
        name: x.clone() if "norm" in name and name.endswith("weight") else x * (SHRINK if x.ndim > 1 else 0.0)
        for name, x in expected.weights.items()
    }
    with torch.no_grad():
        for name, parameter in expected.module.named_parameters():
            if "embed_positions" not in name and not (parameter.ndim == 1 and name.endswith("weight")):
                parameter.mul_(SHRINK if parameter.ndim > 1 else 0.0)
    return weights, expected.module


def cast(module: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """Parameters in the dtype; buffers keep theirs, as libraries have their tables of angles in float32."""
    module.to(device)
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
    return module


def cross_entropy(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """The loss that peers get: over all logits at once, scored in float32."""
    return F.cross_entropy(logits_BTV.flatten(0, 1).float(), labels_BT.flatten())


class Ours:
    """Our model under one choice of implementation axes."""

    def __init__(self, spec: ModelSpec, weights: Weights, dtype: torch.dtype, device: torch.device) -> None:
        self.module = build(spec, dtype=dtype, device=device)
        load_logical(self.module, weights)

    def outputs(self, batch: Batch) -> Tensor:
        """See Party."""
        model = self.module if self.module.spec.arch != "encoder" else self.module.hidden
        return model(batch.tokens_BT, **batch.given)

    def loss(self, batch: Batch) -> Tensor:
        """See Party."""
        return self.module.loss(self.module.hidden(batch.tokens_BT, **batch.given), batch.labels_BT)

    def generate(self, batch: Batch, new_tokens: int) -> Tensor:
        """See Party."""
        rows, prompt = batch.tokens_BT.shape
        begun = 1 if batch.source_BS is not None else prompt
        generator = Generator(
            self.module, batch=rows, length=prompt, limit=begun + new_tokens, dtype=next(self.module.parameters()).dtype
        )
        token_B1, _ = generator.first(batch)
        found = [token_B1]
        for _ in range(new_tokens - 1):
            token_B1, _ = generator.next(token_B1)
            found.append(token_B1)
        return torch.cat(found, dim=1)


class HuggingFace:
    """A model of `transformers` with SDPA attention and its own `generate`."""

    def __init__(self, spec: ModelSpec, weights: Weights, library: nn.Module) -> None:
        self.module = library
        self._arch = spec.arch
        self._table_VD = weights["table_VD"].clone() if spec.arch == "encoder" else None
        if spec.arch == "encoder":
            library.pooler = None
            library.table_VD = library.embeddings.word_embeddings.weight
        if getattr(library, "_supports_sdpa", False):
            library.set_attn_implementation("sdpa")

    def outputs(self, batch: Batch) -> Tensor:
        """See Party."""
        if self._arch == "encoder":
            return self.module(batch.tokens_BT).last_hidden_state
        if self._arch == "decoder":
            return self.module(batch.tokens_BT, use_cache=False).logits
        return self.module(input_ids=batch.source_BS, decoder_input_ids=batch.tokens_BT, use_cache=False).logits

    def loss(self, batch: Batch) -> Tensor:
        """See Party."""
        out = self.outputs(batch)
        return cross_entropy(F.linear(out, self.module.table_VD) if self._arch == "encoder" else out, batch.labels_BT)

    def generate(self, batch: Batch, new_tokens: int) -> Tensor:
        """See Party."""
        from transformers import GenerationConfig

        config = GenerationConfig(
            max_new_tokens=new_tokens, do_sample=False, num_beams=1, use_cache=True, pad_token_id=0, eos_token_id=None,
            bos_token_id=None, decoder_start_token_id=0,
        )  # fmt: skip
        if self._arch == "decoder":
            mask = torch.ones_like(batch.tokens_BT)
            found = self.module.generate(batch.tokens_BT, attention_mask=mask, generation_config=config)
            return found[:, batch.tokens_BT.shape[1] :]
        mask = torch.ones_like(batch.source_BS)
        start = {"decoder_input_ids": batch.tokens_BT[:, :1]}
        return self.module.generate(batch.source_BS, attention_mask=mask, generation_config=config, **start)[:, 1:]


class TorchModule(nn.Module):
    """torch's stacks with token table, positions and output table."""

    def __init__(self, spec: ModelSpec, weights: Weights) -> None:
        super().__init__()
        self.spec = spec
        shape = {
            "d_model": spec.width, "nhead": spec.heads, "dim_feedforward": spec.ff, "dropout": 0.0,
            "activation": spec.activation, "batch_first": True, "layer_norm_eps": spec.norm_eps,
        }  # fmt: skip
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**shape), spec.enc_layers)
        self.decoder = None
        if spec.arch == "encdec":
            self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**shape), spec.dec_layers)
        self.table_VD = nn.Parameter(torch.empty(spec.vocab, spec.width))
        self.positions_MD = self.norm = None
        self.tables = PositionTables(spec)
        if spec.position.kind == "learned":
            self.positions_MD = nn.Parameter(torch.empty(spec.position.max_len, spec.width))
            self.norm = nn.LayerNorm(spec.width, spec.norm_eps)
        self._load(weights)

    def _load(self, weights: Weights) -> None:
        rules = (
            (r"self_attn\.in_proj_", "self_attention.qkv."), (r"multihead_attn\.in_proj_", "cross_attention.qkv."),
            (r"self_attn\.out_proj", "self_attention.out"), (r"multihead_attn\.out_proj", "cross_attention.out"),
            (r"linear1", "feed_forward.up"), (r"linear2", "feed_forward.down"),
            (r"(layers.*)norm1", r"\1self_norm"), (r"(encoder.layers.*)norm2", r"\1ff_norm"),
            (r"(decoder.*)norm2", r"\1cross_norm"), (r"norm3", "ff_norm"),
            (r"^positions_MD", "encoder.embedding.positions_MD"), (r"^norm", "encoder.embedding.norm"),
        )  # fmt: skip
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                new = _renamed(name, rules)
                parts = [new.replace(".qkv.", f".{p}.") for p in "qkv"] if ".qkv." in new else [new]
                parameter.copy_(torch.cat([weights[part] for part in parts]))

    def _embedded(self, tokens_BT: Tensor) -> Tensor:
        x_BTD = F.embedding(tokens_BT, self.table_VD)
        if self.positions_MD is not None:
            return self.norm(x_BTD + self.positions_MD[: tokens_BT.shape[1]])
        return x_BTD * self.spec.width**0.5 + self.tables.sinusoid(tokens_BT.shape[1], x_BTD)

    def encode(self, source_BS: Tensor) -> Tensor:
        return self.encoder(self._embedded(source_BS))

    def decode(self, tokens_BT: Tensor, memory_BSD: Tensor) -> Tensor:
        mask_TT = nn.Transformer.generate_square_subsequent_mask(
            tokens_BT.shape[1], device=memory_BSD.device, dtype=memory_BSD.dtype
        )
        return self.decoder(self._embedded(tokens_BT), memory_BSD, tgt_mask=mask_TT, tgt_is_causal=True)

    def logits(self, x_BTD: Tensor) -> Tensor:
        return F.linear(x_BTD, self.table_VD)


class Torch:
    """torch.nn.TransformerEncoder, and TransformerDecoder if there is one; its fast path is on, it has no cache."""

    def __init__(self, spec: ModelSpec, weights: Weights, _library: nn.Module) -> None:
        self.module = TorchModule(spec, weights)

    def outputs(self, batch: Batch) -> Tensor:
        """See Party."""
        if batch.source_BS is None:
            return self.module.encode(batch.tokens_BT)
        return self.module.logits(self.module.decode(batch.tokens_BT, self.module.encode(batch.source_BS)))

    def loss(self, batch: Batch) -> Tensor:
        """See Party."""
        out = self.outputs(batch)
        return cross_entropy(self.module.logits(out) if batch.source_BS is None else out, batch.labels_BT)

    def generate(self, batch: Batch, new_tokens: int) -> Tensor:
        """See Party."""
        memory_BSD, text_BT = self.module.encode(batch.source_BS), batch.tokens_BT[:, :1]
        for _ in range(new_tokens):
            x_BTD = self.module.decode(text_BT, memory_BSD)
            token_B1 = self.module.logits(x_BTD[:, -1:]).argmax(-1)
            text_BT = torch.cat((text_BT, token_B1), dim=1)
        return text_BT[:, 1:]


class XTransformers:
    """A TransformerWrapper of x-transformers with flash attention."""

    def __init__(self, spec: ModelSpec, weights: Weights, _library: nn.Module) -> None:
        from x_transformers import AutoregressiveWrapper, Decoder, Encoder, TransformerWrapper

        shape = {"dim": spec.width, "heads": spec.heads, "attn_dim_head": spec.dim_per_head, "attn_flash": True}
        shape["norm_add_unit_offset"] = False
        shape |= {
            "ff_mult": spec.ff / spec.width,
            "use_rmsnorm": spec.norm == "rms",
            "pre_norm": spec.norm_place == "pre",
        }
        kind = spec.position.kind
        if kind == "rope":
            shape |= {"rotary_pos_emb": True, "rotary_emb_dim": spec.rotary_dim}
        elif kind == "alibi":
            shape |= {"alibi_pos_bias": True, "alibi_num_heads": spec.heads}
        if spec.gated:
            shape |= {"ff_glu": True, "ff_swish": spec.activation == "silu", "ff_no_bias": not spec.bias}
        elif spec.activation == "gelu_tanh":
            shape["ff_custom_activation"] = nn.GELU("tanh")
        encoder = spec.arch == "encoder"
        layers = Encoder(depth=spec.enc_layers, **shape) if encoder else Decoder(depth=spec.dec_layers, **shape)
        self.module = TransformerWrapper(
            num_tokens=spec.vocab, max_seq_len=spec.position.max_len, attn_layers=layers,
            use_abs_pos_emb=kind == "learned", post_emb_norm=spec.embed_norm, tie_embedding=spec.tie != "none",
        )  # fmt: skip
        self._encoder = encoder
        if spec.tie != "none":  # it would divide logits by sqrt(width)
            self.module.to_logits = lambda x_BTD: F.linear(x_BTD, self.module.token_emb.emb.weight)
        self._autoregressive = None if encoder else AutoregressiveWrapper(self.module)
        self._load(spec, weights)

    def _load(self, spec: ModelSpec, weights: Weights) -> None:
        stack, norm = ("encoder" if self._encoder else "decoder"), (0 if spec.norm_place == "pre" else 2)
        rules = (
            (r"^token_emb\.emb\.weight", "table_VD"), (r"^to_logits\.weight", "output_table_VD"),
            (r"^pos_emb\.emb\.weight", f"{stack}.embedding.positions_MD"),
            (r"^post_emb_norm", f"{stack}.embedding.norm"),
            (r"attn_layers\.final_norm", f"{stack}.final_norm"),
            (r"attn_layers\.layers\.(\d+)\.", lambda m: f"{stack}.layers.{int(m[1]) // 2}.{'ab'[int(m[1]) % 2]}."),
            (rf"a\.0\.{norm}\.", "self_norm."), (rf"b\.0\.{norm}\.", "ff_norm."), (r"\.(g|gamma)$", ".weight"),
            (r"a\.1\.to_(\w+)", r"self_attention.\1"), (r"b\.1\.ff\.0(\.0|\.proj)", "feed_forward.up"),
            (r"b\.1\.ff\.2", "feed_forward.down"),
        )  # fmt: skip
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                new = _renamed(name, rules)
                if new.endswith(".bias"):
                    value = torch.zeros_like(parameter)  # shared weights have no others
                elif ".up." in new and spec.gated:
                    value = torch.cat((weights[new], weights[new.replace(".up.", ".gate.")]))
                elif spec.position.layout == "halves" and re.search(r"attention\.[qk]\.", new):
                    value = weights[new].unflatten(0, (spec.heads, 2, -1)).transpose(1, 2).flatten(0, 2)
                else:
                    value = weights[new] * (spec.width**0.5 if "positions_MD" in new else 1.0)
                parameter.copy_(value)

    def outputs(self, batch: Batch) -> Tensor:
        """See Party."""
        return self.module(batch.tokens_BT, return_embeddings=self._encoder)

    def loss(self, batch: Batch) -> Tensor:
        """See Party."""
        out = self.outputs(batch)
        logits_BTV = F.linear(out, self.module.token_emb.emb.weight) if self._encoder else out
        return cross_entropy(logits_BTV, batch.labels_BT)

    def generate(self, batch: Batch, new_tokens: int) -> Tensor:
        """See Party."""
        return self._autoregressive.generate(batch.tokens_BT, new_tokens, temperature=0.0, cache_kv=True)


def _renamed(name: str, rules: Any) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _sized(name: str, **more: Any) -> ModelSpec:
    spec = preset(name).model
    layers = 4 if spec.arch == "encdec" else 8
    return replace(spec, **SIZES, enc_layers=layers, dec_layers=layers, **more)


def _long(spec: ModelSpec) -> ModelSpec:
    return replace(spec, position=replace(spec.position, max_len=2048))


ARCHITECTURES: dict[str, Architecture] = {
    "vanilla": Architecture(
        spec=_sized("vanilla"), library=encdecs.marian, peers={"MarianMT": HuggingFace, "nn.Transformer": Torch}
    ),
    "t5": Architecture(spec=_sized("t5"), library=encdecs.t5, peers={"T5": HuggingFace}),
    "bert": Architecture(
        spec=_long(_sized("bert", norm_eps=1e-5)),
        library=encoders.bert,
        peers={"BERT": HuggingFace, "nn.TransformerEncoder": Torch, "x-transformers": XTransformers},
    ),
    "gpt2": Architecture(spec=_long(_sized("gpt2")), library=decoders.gpt2, peers={"GPT-2": HuggingFace}),
    "llama": Architecture(
        spec=_long(_sized("llama", norm_eps=1e-9)),
        library=decoders.llama,
        peers={"Llama": HuggingFace, "x-transformers": XTransformers},
    ),
    "bloom": Architecture(
        spec=_long(_sized("bloom")),
        library=decoders.bloom,
        peers={"BLOOM": HuggingFace, "x-transformers": XTransformers},
    ),
}
