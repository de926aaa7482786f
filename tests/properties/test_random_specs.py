"""Any combination of axes that a spec admits is a model: it builds, is counted right, and passes the truth check."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from t2bench.models.transformer import build
from t2bench.models.truth import check
from t2bench.spec.axes import PositionSpec
from t2bench.spec.cost import num_params
from t2bench.spec.model import ModelSpec

SPECS = st.builds(
    ModelSpec,
    arch=st.sampled_from(["encdec", "encoder", "decoder"]),
    width=st.sampled_from([16, 24]),
    heads=st.just(4),
    kv_heads=st.sampled_from([None, 1, 2]),
    head_dim=st.sampled_from([None, 8, 10]),
    ff=st.sampled_from([8, 40]),
    enc_layers=st.integers(1, 2),
    dec_layers=st.integers(1, 2),
    vocab=st.sampled_from([17, 40]),
    vocab_multiple=st.sampled_from([1, 8]),
    tie=st.sampled_from(["all", "decoder", "none"]),
    position=st.builds(
        PositionSpec,
        kind=st.sampled_from(["sinusoidal", "learned", "none", "rope"]),
        layout=st.sampled_from(["interleaved", "halves"]),
        theta=st.sampled_from([100.0, 10000.0]),
        max_len=st.just(32),
    ),
    activation=st.sampled_from(["relu", "gelu", "gelu_tanh", "silu"]),
    gated=st.booleans(),
    norm=st.sampled_from(["layer", "rms"]),
    norm_place=st.sampled_from(["post", "pre"]),
    final_norm=st.booleans(),
    qk_norm=st.booleans(),
    embed_norm=st.booleans(),
    bias=st.booleans(),
    embed_scale=st.booleans(),
    dropout=st.sampled_from([0.0, 0.1]),
    attention=st.sampled_from(["math", "sdpa_math", "sdpa_flash"]),
    projections=st.sampled_from(["separate", "fused_kv", "fused_qkv"]),
    loss=st.sampled_from(["dense", "chunked"]),
)


@given(spec=SPECS, seed=st.integers(0, 1000), length=st.integers(1, 20))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_every_combination_holds(spec: ModelSpec, seed: int, length: int) -> None:
    assert sum(p.numel() for p in build(spec, device="meta").parameters()) == num_params(spec).total
    checks = check(spec, device="cpu", dtype=torch.float32, seed=seed, length=length)
    assert [f"{c.name}: {c.detail}" for c in checks if not c.passed] == []
