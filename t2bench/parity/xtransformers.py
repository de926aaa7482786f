"""x-transformers (Phil Wang): a decoder with rotary or ALiBi positions, plain or flash attention."""

from __future__ import annotations

import importlib
import re
from typing import Any

import torch
from torch import Tensor, nn

from t2bench.parity.encdecs import EVERYWHERE_BT
from t2bench.parity.oracle import Expected
from t2bench.parity.weights import VOCAB, Weights, randomise, renamed, tokens
from t2bench.spec.model import ModelSpec

MAX_LEN = 64


def plain(spec: ModelSpec) -> Expected:
    """Its attention in plain operations."""
    return _decoder(spec, flash=False)


def flash(spec: ModelSpec) -> Expected:
    """Its attention by torch's scaled_dot_product_attention."""
    return _decoder(spec, flash=True)


def _decoder(spec: ModelSpec, *, flash: bool) -> Expected:
    """Layers 0, 2, ... attend there, layers 1, 3, ... feed forward.

    Its attention and norms have no biases, so ours are zero; its norms multiply by 1 + weight.
    """
    importlib.import_module("loguru").logger.remove()  # it remarks that the heads are small
    library: Any = importlib.import_module("x_transformers")
    rope = spec.position.kind == "rope"
    layers = library.Decoder(
        dim=spec.width, depth=spec.dec_layers, heads=spec.heads, attn_dim_head=spec.dim_per_head,
        ff_mult=spec.ff / spec.width, attn_flash=flash, rotary_pos_emb=rope, alibi_pos_bias=not rope,
        **({"rotary_emb_dim": spec.rotary_dim} if rope else {}),
    )  # fmt: skip
    model = library.TransformerWrapper(num_tokens=VOCAB, max_seq_len=MAX_LEN, use_abs_pos_emb=False, attn_layers=layers)
    found = renamed(
        randomise(model, norms_from_zero=True),
        (r"^token_emb\.emb\.weight", "table_VD"),
        (r"^to_logits\.weight", "output_table_VD"),
        (r"^attn_layers\.final_norm\.gamma", "decoder.final_norm.weight"),
        (r"^attn_layers\.layers\.", "decoder.layers."),
        (r"1\.to_([qkv])", r"self_attention.\1"),
        (r"1\.to_out", "self_attention.out"),
        (r"1\.ff\.0\.0", "feed_forward.up"),
        (r"1\.ff\.2", "feed_forward.down"),
    )
    weights: Weights = {}
    for name, tensor in found.items():
        new = re.sub(r"layers\.(\d+)\.", lambda match: f"layers.{int(match[1]) // 2}.", name)
        if name.endswith("0.0.gamma"):
            attends = int(name.split(".")[2]) % 2 == 0
            new = new.replace("0.0.gamma", "self_norm.weight" if attends else "ff_norm.weight")
        weights[new] = 1 + tensor if "norm" in new else tensor
    for name in [n for n in weights if "norm.weight" in n or "self_attention" in n]:
        weights[name.replace("weight", "bias")] = torch.zeros(len(weights[name]))
    inputs = {"tokens_BT": tokens(0)}

    def call(module: nn.Module) -> Tensor:
        # In 16 bits parts of its attention stay in float32; autocast brings them together again.
        dtype = next(module.parameters()).dtype
        low = dtype != torch.float32
        with torch.autocast("cpu", dtype=dtype if low else torch.bfloat16, enabled=low):
            logits_BTV: Tensor = module(inputs["tokens_BT"])
        return logits_BTV

    return Expected(weights=weights, module=model, call=call, inputs=inputs, valid_BT=EVERYWHERE_BT)
