"""Every back end against the float64 definition, and the definition against a loop written from the equation."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from t2bench.attention import reference
from t2bench.attention.dispatch import attend
from t2bench.attention.features import Features
from t2bench.attention.mask import Mask
from t2bench.attention.scores import Scores
from t2bench.attention.verify import check_attention
from t2bench.spec.axes import PositionSpec

CPU_BACKENDS = ["math", "sdpa_math", "sdpa_flash"]
CUDA_BACKENDS = ["math", "sdpa_math", "sdpa_flash", "sdpa_efficient", "sdpa_cudnn"]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none here")


def qkv(heads: int = 4, groups: int = 2, queries: int = 7, keys: int = 7, dim: int = 8) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, heads, queries, dim), (2, groups, keys, dim), (2, groups, keys, dim))
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


def looped(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, lengths: list[int], scale: float) -> Tensor:
    """The equation, one number at a time."""
    batch, heads, num_queries, dim = q.shape
    num_keys = k.shape[2]
    out = torch.zeros_like(q)
    for b in range(batch):
        for h in range(heads):
            g = h * k.shape[1] // heads
            for t in range(num_queries):
                seen = [
                    s for s in range(num_keys) if s < lengths[b] and (not causal or s <= t + num_keys - num_queries)
                ]
                scores = [scale * sum(float(q[b, h, t, i] * k[b, g, s, i]) for i in range(dim)) for s in seen]
                total = sum(math.exp(z) for z in scores)
                for s, z in zip(seen, scores, strict=True):
                    out[b, h, t] += math.exp(z) / total * v[b, g, s]
    return out


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(4, 4), (3, 5), (5, 3), (1, 4)])
@pytest.mark.parametrize("lengths", [None, [3, 0]])
@pytest.mark.parametrize("backend", ["reference", *CPU_BACKENDS])
def test_masks_against_a_loop(backend: str, causal: bool, queries: int, keys: int, lengths: list[int] | None) -> None:
    q, k, v = qkv(queries=queries, keys=keys)
    mask = Mask(causal=causal, key_lengths_B=None if lengths is None else torch.tensor(lengths))
    want = looped(q, k, v, causal=causal, lengths=lengths or [keys, keys], scale=0.3)
    assert torch.allclose(attend(q, k, v, mask, backend=backend, scores=Scores(scale=0.3)), want, atol=1e-12)


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_grouped_heads_and_gradients(backend: str, heads: int, groups: int) -> None:
    if groups > heads:
        pytest.skip("no more key/value heads than query heads")
    inputs = qkv(heads=heads, groups=groups)
    weight = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for mask in (Mask(), Mask(causal=True), Mask(key_lengths_B=torch.tensor([7, 0]))):
        grads = []
        for function in (reference.attention, lambda *x: attend(*x, backend=backend)):
            leaves = [x.clone().requires_grad_() for x in inputs]
            grads.append(torch.autograd.grad(function(*leaves, mask), leaves, weight))
        for found, want in zip(*grads, strict=True):
            assert found.isfinite().all()
            assert torch.allclose(found, want, atol=1e-11)


@pytest.mark.parametrize("backend", ["reference", *CPU_BACKENDS])
def test_a_query_that_sees_nothing_gets_zero(backend: str) -> None:
    q, k, v = (x.float() for x in qkv())
    o_BHTK = attend(q, k, v, Mask(key_lengths_B=torch.tensor([0, 7])), backend=backend)
    assert (o_BHTK[0] == 0).all()
    assert (o_BHTK[1] != 0).any()
    o_BHTK = attend(q, k[:, :, :3], v[:, :, :3], Mask(causal=True), backend=backend)
    assert (o_BHTK[:, :, :4] == 0).all()
    assert (o_BHTK[:, :, 4:] != 0).any()


def test_default_scale_is_that_of_the_head() -> None:
    q, k, v = qkv(dim=8)
    for backend in CPU_BACKENDS:
        default = attend(q, k, v, Mask(), backend=backend)
        assert torch.allclose(default, attend(q, k, v, Mask(), backend=backend, scores=Scores(scale=8**-0.5)))
        assert not torch.allclose(default, attend(q, k, v, Mask(), backend=backend, scores=Scores(scale=1.0)))


def test_dropout_of_weights_keeps_the_mean() -> None:
    q, k, v = (x.float() for x in qkv(heads=2, groups=2, queries=64, keys=64))
    exact = attend(q, k, v, Mask(), backend="math")
    torch.manual_seed(0)
    draws = torch.stack([attend(q, k, v, Mask(), backend="math", dropout_p=0.5) for _ in range(200)])
    assert (draws[0] - draws[1]).abs().max() > 0.01
    assert (draws.mean(0) - exact).abs().mean() < 0.02


def test_mask_tensors_are_built_once() -> None:
    mask, device = Mask(causal=True, key_lengths_B=torch.tensor([3, 2])), torch.device("cpu")
    assert mask.visible(4, 4, device) is mask.visible(4, 4, device)
    assert mask.hidden(4, 4, device, 2) is mask.hidden(4, 4, device, 2)


def test_no_tensor_where_a_flag_serves() -> None:
    device = torch.device("cpu")
    assert Mask().visible(4, 4, device) is None
    assert Mask(causal=True).visible(1, 4, device) is None
    assert Mask(causal=True).is_flag(4, 4)
    assert not Mask(causal=True).is_flag(3, 4)
    assert not Mask(causal=True, key_lengths_B=torch.tensor([4])).is_flag(4, 4)


def test_mask_made_without_gradients_serves_training() -> None:
    mask = Mask(causal=True, key_lengths_B=torch.tensor([7, 5]))
    inputs = [x.requires_grad_() for x in qkv()]
    with torch.inference_mode():
        attend(*inputs, mask, backend="math")
    attend(*inputs, mask, backend="math").sum().backward()
    assert inputs[0].grad is not None


def test_errors() -> None:
    q, k, v = qkv(heads=4, groups=3)
    with pytest.raises(ValueError, match="multiple"):
        attend(q, k, v, Mask(), backend="math")
    q, k, v = qkv()
    with pytest.raises(ValueError, match="unknown attention back end 'flash'"):
        attend(q, k, v, Mask(), backend="flash")
    with pytest.raises(ValueError, match="no dropout"):
        attend(q, k, v, Mask(), backend="reference", dropout_p=0.1)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_silent_fallback() -> None:
    q, k, v = qkv()
    with pytest.raises(RuntimeError, match="No available kernel"):
        attend(q, k, v, Mask(), backend="sdpa_flash", dropout_p=0.1)
    if not torch.cuda.is_available():
        for backend in ("sdpa_efficient", "sdpa_cudnn"):
            with pytest.raises(RuntimeError):
                attend(q, k, v, Mask(), backend=backend)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_check_attention_passes(backend: str, dtype: torch.dtype, causal: bool) -> None:
    checks = check_attention(
        backend, heads=4, kv_heads=2, head_dim=32, causal=causal, backward=True, dtype=dtype, device="cpu", length=70
    )
    assert [check.detail for check in checks if not check.passed] == []
    assert [check.name for check in checks][-2:] == ["backend: forward", "backend: backward"]


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [(4, 4), (8, 2)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", CUDA_BACKENDS)
def test_check_attention_passes_on_cuda(backend: str, dtype: torch.dtype, heads: tuple[int, int], causal: bool) -> None:
    options: dict[str, Any] = {"head_dim": 64, "backward": True, "device": "cuda", "length": 300}
    checks = check_attention(backend, heads=heads[0], kv_heads=heads[1], causal=causal, dtype=dtype, **options)
    assert [check.detail for check in checks if not check.passed] == []


def test_sharp_scores_may_have_more_of_float32s_rounding() -> None:
    """At three tokens a softmax may be all but saturated, and its gradient a difference of equal numbers."""
    for score in ("scaled_dot", "dot"):
        features = Features(position=PositionSpec(kind="txl"), score=score)
        for seed in range(48, 54):
            checks = check_attention(
                "math", heads=4, kv_heads=4, head_dim=64, causal=True, backward=True, dtype=torch.float32,
                device="cpu", features=features, length=3, seed=seed,
            )  # fmt: skip
            assert [check.detail for check in checks if not check.passed] == []
