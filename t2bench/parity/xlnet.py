"""XLNet as `transformers` has it: Transformer-XL's relative attention and segment memory (Dai et al. 2019)."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from t2bench.models.stack import Memories
from t2bench.parity.encdecs import EVERYWHERE_BT, transformers
from t2bench.parity.oracle import Expected
from t2bench.parity.weights import VOCAB, randomise, renamed, tokens
from t2bench.spec.model import ModelSpec


def xlnet(spec: ModelSpec) -> Expected:
    """XLNet (Yang et al. 2019), one stream, causal: the second of two segments, which sees a memory of the first.

    Its attention has no biases but u and v, so ours are zero; its segment embeddings are not used.
    """
    config = transformers().XLNetConfig(
        vocab_size=VOCAB, d_model=spec.width, n_layer=spec.dec_layers, n_head=spec.heads, d_inner=spec.ff,
        ff_activation=spec.activation, attn_type="uni", layer_norm_eps=spec.norm_eps, dropout=0.0,
        mem_len=spec.memory, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    library = randomise(transformers().XLNetModel(config))
    found = renamed(
        library,
        (r"^mask_emb|^.*seg_embed|^.*r_s_bias", ""),
        (r"^word_embedding\.weight", "table_VD"),
        (r"^layer\.", "decoder.layers."),
        (r"rel_attn\.layer_norm", "self_norm"),
        (r"rel_attn\.r_w_bias", "self_attention.txl.u_HK"),
        (r"rel_attn\.r_r_bias", "self_attention.txl.v_HK"),
        (r"rel_attn\.r$", "self_attention.txl.r.weight"),
        (r"rel_attn\.o$", "self_attention.out.weight"),
        (r"rel_attn\.([qkv])$", r"self_attention.\1.weight"),
        (r"ff\.layer_norm", "ff_norm"),
        (r"ff\.layer_1", "feed_forward.up"),
        (r"ff\.layer_2", "feed_forward.down"),
    )
    weights = {}
    for name, tensor in found.items():
        if tensor.ndim == 3:  # (width, head, feature)
            flat = tensor.flatten(1)
            weights[name] = flat if ".out." in name else flat.T
        else:
            weights[name] = tensor
        if spec.bias and re.search(r"self_attention\.(q|k|v|out)\.weight", name):
            weights[name.replace("weight", "bias")] = torch.zeros(spec.width)
    first_BT, second_BT = tokens(2), tokens(0)

    def call(module: nn.Module) -> Tensor:
        before = module(first_BT, use_mems=True) if spec.memory else None
        hidden_BTD: Tensor = module(
            second_BT, mems=None if before is None else before.mems, use_mems=bool(spec.memory)
        ).last_hidden_state
        return hidden_BTD

    def drive(model: Any) -> Tensor:
        memories = Memories() if spec.memory else None
        if spec.memory:
            model.hidden(first_BT, memories=memories)
        hidden_BTD: Tensor = model.hidden(second_BT, memories=memories)
        return hidden_BTD

    return Expected(
        weights=weights, module=library, call=call, inputs={"tokens_BT": second_BT}, valid_BT=EVERYWHERE_BT, drive=drive
    )
