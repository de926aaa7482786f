"""Any combination of axes that a spec admits is a model: what the equations say, counted right, and consistent."""

from dataclasses import replace
from typing import Any

import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from t2bench.models.truth import check
from t2bench.parity.changes import SIZES
from t2bench.parity.equations import transformer
from t2bench.parity.oracle import difference
from t2bench.parity.oracles import at_oracle_size
from t2bench.parity.properties import check_properties
from t2bench.parity.subject import shrunk
from t2bench.spec.axes import PatternSpec, PositionSpec
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.refusals import refusal

POSITIONS = st.builds(
    PositionSpec,
    kind=st.sampled_from(["sinusoidal", "learned", "none", "rope", "alibi", "t5_bias", "shaw", "txl"]),
    layout=st.sampled_from(["interleaved", "halves"]),
    theta=st.sampled_from([100.0, 10000.0]),
    fraction=st.sampled_from([1.0, 0.5]),
    scaling=st.sampled_from(["none", "linear", "ntk", "yarn", "llama3"]),
    scaling_factor=st.sampled_from([2.0, 4.0]),
    original_len=st.sampled_from([8, 64]),
    max_len=st.just(32),
    buckets=st.sampled_from([6, 8]),
    max_distance=st.sampled_from([8, 12]),
)
PATTERNS = st.builds(
    PatternSpec,
    kind=st.sampled_from(["full", "window", "prefix", "document"]),
    window=st.integers(1, 5),
    global_tokens=st.integers(0, 2),
    layers=st.sampled_from(["", "S", "SL"]),
)
AXES: dict[str, st.SearchStrategy[Any]] = {
    "arch": st.sampled_from(["encdec", "encoder", "decoder"]),
    "kv_heads": st.sampled_from([None, 1, 2]),
    "head_dim": st.sampled_from([None, 10]),
    "vocab_multiple": st.sampled_from([1, 8]),
    "tie": st.sampled_from(["all", "decoder", "source", "none"]),
    "position": POSITIONS,
    "pattern": PATTERNS,
    "memory": st.sampled_from([0, 0, 4]),
    "score": st.sampled_from(["scaled_dot", "scaled_dot", "dot", "additive"]),
    "attention_softcap": st.sampled_from([None, None, 3.0]),
    "logit_softcap": st.sampled_from([None, 5.0]),
    "activation": st.sampled_from(["relu", "gelu", "gelu_tanh", "silu", "relu2"]),
    "gated": st.booleans(),
    "norm": st.sampled_from(["layer", "rms"]),
    "norm_place": st.sampled_from(["post", "pre", "sandwich", "inner"]),
    "residual": st.sampled_from(["serial", "serial", "parallel", "none"]),
    "final_norm": st.booleans(),
    "qk_norm": st.booleans(),
    "qk_norm_span": st.sampled_from(["head", "width"]),
    "embed_norm": st.booleans(),
    "bias": st.booleans(),
    "embed_scale": st.booleans(),
    "head_scale": st.booleans(),
    "dropout": st.sampled_from([0.0, 0.1]),
    "attention": st.sampled_from(["math", "sdpa", "sdpa_math", "sdpa_flash"]),
    "projections": st.sampled_from(["separate", "fused_kv", "fused_qkv"]),
    "loss": st.sampled_from(["dense", "chunked", "fused"]),
    "checkpoint": st.sampled_from(["off", "selective", "full"]),
}


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    """A spec that is possible and that a CPU can train."""
    values = {name: draw(strategy) for name, strategy in AXES.items()}
    if values["pattern"].kind != "window":
        values["pattern"] = replace(values["pattern"], global_tokens=0)
    if values["pattern"].kind == "full":
        values["pattern"] = PatternSpec()
    try:
        spec = ModelSpec(**SIZES, **values)
    except ValueError:  # axes that contradict each other
        reject()
    case = Case(
        variant="random", model=spec, workload=WorkloadSpec(kind="train_step"), length=20, batch=2, dtype="fp32",
        device="cpu",
    )  # fmt: skip
    return spec if refusal(case) is None else replace(spec, attention="math")


@given(spec=specs(), seed=st.integers(0, 1000), length=st.integers(1, 20))
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_every_combination_passes_the_truth_check(spec: ModelSpec, seed: int, length: int) -> None:
    checks = check(spec, device="cpu", dtype=torch.float32, seed=seed, length=length)
    assert [f"{c.name}: {c.detail}" for c in checks if not c.passed] == []


@given(spec=specs(), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_every_combination_has_the_properties(spec: ModelSpec, seed: int) -> None:
    checks = check_properties(shrunk(spec), device="cpu", dtype=torch.float64, seed=seed)
    assert [f"{c.name}: {c.detail}" for c in checks if not c.passed] == []


@given(spec=specs())
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_every_combination_is_what_the_equations_say(spec: ModelSpec) -> None:
    small = replace(at_oracle_size(spec), projections=spec.projections, attention=spec.attention)
    assert difference(small, transformer(small), dtype=torch.float64) <= 1e-9
