"""On a GPU: which kernel serves each combination of mask, bias, heads, dropout and dtype, and is it right."""

import warnings
from typing import Any

import pytest
import torch

from t2bench.attention.dispatch import attend
from t2bench.attention.features import Features
from t2bench.attention.mask import Mask
from t2bench.attention.packed import Packed
from t2bench.attention.rows import check_rows
from t2bench.attention.scores import Scores
from t2bench.attention.verify import check_attention
from t2bench.attention.witness import observe
from t2bench.spec.axes import BACKENDS, PatternSpec, PositionSpec
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.refusals import refusal

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none here"),
]

PATTERNS = {
    "full": PatternSpec(),
    "window": PatternSpec(kind="window", window=100),
    "global": PatternSpec(kind="window", window=100, global_tokens=4),
    "prefix": PatternSpec(kind="prefix"),
    "document": PatternSpec(kind="document"),
}
POSITIONS = ("none", "alibi", "t5_bias", "shaw", "txl")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def spec_of(backend: str, **changes: Any) -> ModelSpec:
    position = PositionSpec(kind=changes.pop("position", "none"), max_distance=32, buckets=16)
    return ModelSpec(arch="decoder", width=256, heads=4, attention=backend, position=position, **changes)


def run_or_skip(spec: ModelSpec, *, dtype: str = "bf16", backward: bool = True, length: int = 300) -> list[str]:
    """Details of the checks that fail; a combination that our rules refuse is skipped."""
    workload = WorkloadSpec(kind="attention", causal=True, backward=backward)
    case: dict[str, Any] = {"workload": workload, "length": length, "batch": 2, "dtype": dtype, "device": "cuda"}
    if reason := refusal(Case(variant="x", model=spec, **case)):
        pytest.skip(reason)
    if spec.attention in ("fa2", "fa3", "fa4"):
        lowest = {"fa2": 8, "fa3": 9, "fa4": 9}[spec.attention]
        if torch.cuda.get_device_capability()[0] < lowest:
            pytest.skip("no kernel for this device")
    options: dict[str, Any] = {
        "heads": spec.heads, "kv_heads": spec.num_kv_heads, "head_dim": spec.dim_per_head, "causal": True,
        "backward": backward, "dtype": DTYPES[dtype], "device": "cuda", "features": Features.of(spec),
    }  # fmt: skip
    checks = (*check_attention(spec.attention, length=length, **options),
              *check_rows(spec.attention, length=length, **options))  # fmt: skip
    return [check.detail for check in checks if not check.passed]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kv_heads", [4, 1])
@pytest.mark.parametrize("head_dim", [32, 64, 96, 128])
def test_plain_attention(backend: str, dtype: str, kv_heads: int, head_dim: int) -> None:
    assert run_or_skip(spec_of(backend, kv_heads=kv_heads, head_dim=head_dim), dtype=dtype) == []


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(backend: str, pattern: str) -> None:
    assert run_or_skip(spec_of(backend, pattern=PATTERNS[pattern])) == []


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("position", POSITIONS[1:])
def test_biases(backend: str, position: str, backward: bool) -> None:
    assert run_or_skip(spec_of(backend, position=position), backward=backward) == []


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("changes", [{"score": "dot"}, {"score": "additive"}, {"attention_softcap": 3.0}], ids=str)
def test_scores(backend: str, changes: dict[str, Any]) -> None:
    assert run_or_skip(spec_of(backend, **changes)) == []


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("padding", ["packed", "nested"])
@pytest.mark.parametrize("pattern", ["full", "window"])
def test_packed_batches(backend: str, padding: str, pattern: str) -> None:
    assert run_or_skip(spec_of(backend, padding=padding, pattern=PATTERNS[pattern])) == []


def test_packed_cross_attention() -> None:
    queries, keys = (50, 7, 100), (64, 30, 63)
    generator = torch.Generator("cuda").manual_seed(0)
    q, k, v = (
        torch.randn(1, heads, 157, 64, generator=generator, device="cuda", dtype=torch.bfloat16) for heads in (4, 2, 2)
    )
    mask = Mask(packed=Packed(query_lengths=queries, key_lengths=keys))
    want = attend(q, k, v, mask, backend="reference").double()
    for backend in ("math", "sdpa", "sdpa_flash", "varlen", "flex"):
        assert (attend(q, k, v, mask, backend=backend).double() - want).abs().max() < 0.03, backend


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("bias", ["none", "mask", "alibi", "t5_bias"])
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_each_forced_kernel_serves_what_our_rules_allow(dtype: str, kv_heads: int, bias: str, dropout: float) -> None:
    """A kernel that our rules allow runs, forward and backward, and is the one that is seen."""
    for backend in ("sdpa_math", "sdpa_flash", "sdpa_efficient", "sdpa_cudnn"):
        pattern = PATTERNS["prefix"] if bias == "mask" else PatternSpec()
        position = bias if bias in POSITIONS else "none"
        spec = spec_of(backend, kv_heads=kv_heads, position=position, pattern=pattern, attention_dropout=dropout)
        workload = WorkloadSpec(kind="attention", causal=True, backward=True)
        case: dict[str, Any] = {"workload": workload, "length": 128, "batch": 2, "dtype": dtype, "device": "cuda"}
        if refusal(Case(variant="x", model=spec, **case)):
            continue
        features, generator = Features.of(spec), torch.Generator("cuda").manual_seed(0)
        q, k, v = (
            torch.randn(2, n, 128, 64, generator=generator, device="cuda").to(DTYPES[dtype]).requires_grad_()
            for n in (4, kv_heads, kv_heads)
        )
        tables = features.tables(heads=4, head_dim=64, length=128, causal=True, generator=generator)
        tables = tuple(table.to(DTYPES[dtype]).requires_grad_() for table in tables)
        scores = features.scores(q, tables, length=128, causal=True)
        mask = features.mask(batch=2, length=128, causal=True, device="cuda")
        with observe() as seen:
            attend(q, k, v, mask, backend=backend, scores=scores, dropout_p=dropout).sum().backward()
        assert seen.backends == {backend}
        assert seen.backward_backends == {backend}


@pytest.mark.parametrize("mask", [Mask(), Mask(causal=True), Mask(key_lengths_B=torch.tensor([0, 5]))], ids=str)
def test_rows_without_keys_are_zero_with_finite_gradients(mask: Mask) -> None:
    for backend in ("math", "sdpa", "sdpa_math", "sdpa_efficient", "sdpa_cudnn", "flex"):
        inputs = [torch.randn(2, 2, 64, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = attend(*inputs, mask, backend=backend)
            out.sum().backward()
        if mask.key_lengths_B is not None:
            assert (out[0] == 0).all(), backend
        assert out.isfinite().all(), backend
        assert all(x.grad is not None and x.grad.isfinite().all() for x in inputs), backend


def test_flex_trains_with_a_table_and_a_cap() -> None:
    spec = spec_of("flex", position="t5_bias", attention_softcap=5.0, pattern=PATTERNS["window"], kv_heads=2)
    assert run_or_skip(spec, length=1000) == []


def test_sdpa_says_what_it_chose() -> None:
    inputs = [torch.randn(2, 4, 128, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    with observe() as seen:
        attend(*inputs, Mask(causal=True), backend="sdpa", scores=Scores())
    assert len(seen.backends) == 1
    assert seen.backends <= {"sdpa_flash", "sdpa_cudnn", "sdpa_efficient"}
