"""What PyTorch itself does where our rules refuse: each reason that a CPU can show, shown."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.varlen import varlen_attn

from t2bench.attention.dispatch import attend
from t2bench.attention.mask import Mask
from t2bench.attention.scores import RelativeBias, Scores, Unsupported
from t2bench.attention.verify import backend_checks
from t2bench.attention.witness import observe, observe_compiled


def qkv(queries: int = 8, keys: int = 8, **options: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 2, n, 16, generator=generator, **options) for n in (queries, keys, keys)]


def ran(function: Callable[[], object]) -> frozenset[str]:
    with observe() as seen:
        function()
    return seen.backends


def test_left_alone_sdpa_leaves_flash_without_a_word() -> None:
    inputs = qkv(requires_grad=True)
    bias_TS = torch.zeros(8, 8)
    assert ran(lambda: F.scaled_dot_product_attention(*inputs)) == {"sdpa_flash"}
    assert ran(lambda: F.scaled_dot_product_attention(*inputs, attn_mask=bias_TS)) == {"sdpa_flash"}
    trained = bias_TS.requires_grad_()
    assert ran(lambda: F.scaled_dot_product_attention(*inputs, attn_mask=trained)) == {"sdpa_math"}
    assert ran(lambda: F.scaled_dot_product_attention(*inputs, dropout_p=0.1)) == {"sdpa_math"}
    assert ran(lambda: F.scaled_dot_product_attention(*(x[0] for x in inputs))) == {"sdpa_math"}


@pytest.mark.filterwarnings("ignore")
def test_a_trained_bias_is_refused_by_flash_and_recorded_by_sdpa() -> None:
    values_BHTR = torch.zeros(1, 2, 1, 9, requires_grad=True)
    scores = Scores(relative=RelativeBias(values_BHTR=values_BHTR, left=4, right=4))
    with pytest.raises(RuntimeError, match="No available kernel"):
        attend(*qkv(), Mask(), backend="sdpa_flash", scores=scores)
    with observe() as seen:
        attend(*qkv(), Mask(), backend="sdpa", scores=scores).sum().backward()
    forward, backward = backend_checks("sdpa", seen, backward=True)
    assert forward.passed
    assert backward.passed
    assert "sdpa was requested, sdpa_math ran forward" in forward.detail
    assert values_BHTR.grad is not None
    with torch.no_grad():
        assert ran(lambda: attend(*qkv(), Mask(), backend="sdpa_flash", scores=scores)) == {"sdpa_flash"}


def test_math_is_not_what_sdpa_may_choose() -> None:
    with observe() as seen:
        attend(*qkv(), Mask(), backend="math")
    assert not backend_checks("sdpa", seen, backward=False)[0].passed
    with observe() as seen:
        attend(*qkv(), Mask(), backend="sdpa")
    assert backend_checks("sdpa", seen, backward=False)[0].passed
    assert not backend_checks("sdpa_math", seen, backward=False)[0].passed


def test_a_mask_and_the_causal_flag_are_combined_by_one_kernel_and_rejected_by_the_other() -> None:
    visible_TS = torch.ones(8, 8, dtype=torch.bool)
    visible_TS[:, 1] = False
    both = {"attn_mask": visible_TS, "is_causal": True}
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        combined = F.scaled_dot_product_attention(*qkv(), **both)
    assert torch.allclose(combined, F.scaled_dot_product_attention(*qkv(), attn_mask=visible_TS.tril()), atol=1e-5)
    with sdpa_kernel(SDPBackend.MATH), pytest.raises(RuntimeError, match="attn_mask"):
        F.scaled_dot_product_attention(*qkv(), **both)


def test_the_causal_flag_of_torch_is_aligned_at_the_top_left_and_our_mask_is_not() -> None:
    inputs = qkv(queries=3)
    with sdpa_kernel(SDPBackend.MATH):
        flag = F.scaled_dot_product_attention(*inputs, is_causal=True)
    ours = attend(*inputs, Mask(causal=True), backend="sdpa_math")
    bottom_right = torch.ones(3, 8, dtype=torch.bool).tril(5)
    assert torch.allclose(ours, F.scaled_dot_product_attention(*inputs, attn_mask=bottom_right), atol=1e-6)
    assert (ours - flag).abs().max() > 0.1


def test_a_row_without_keys_is_zero_and_its_gradients_are_finite() -> None:
    for backend in ("math", "sdpa", "sdpa_math", "sdpa_flash"):
        inputs = qkv(requires_grad=True)
        out = attend(*inputs, Mask(key_lengths_B=torch.tensor([0])), backend=backend)
        assert (out == 0).all()
        out.sum().backward()
        assert all(x.grad is not None and x.grad.isfinite().all() for x in inputs)
    hidden_TS = torch.full((8, 8), torch.finfo(torch.float32).min)
    mean = F.scaled_dot_product_attention(*qkv(), attn_mask=hidden_TS)
    assert torch.allclose(mean, qkv()[2].mean(2, keepdim=True).expand(-1, -1, 8, -1), atol=1e-5)


@pytest.mark.parametrize("backend", ["varlen", "fa2", "fa3", "fa4"])
def test_kernels_for_cuda_say_so(backend: str) -> None:
    with pytest.raises(Unsupported, match="CUDA kernels only"):
        attend(*qkv(), Mask(causal=True), backend=backend)


def test_torch_has_no_varlen_on_a_cpu() -> None:
    x_NHK, offsets = torch.randn(8, 2, 16), torch.tensor([0, 8], dtype=torch.int32)
    with pytest.raises((RuntimeError, NotImplementedError)):
        varlen_attn(x_NHK, x_NHK, x_NHK, offsets, offsets, 8, 8)


def test_kernels_for_sequences_refuse_what_they_cannot_express() -> None:
    bias = RelativeBias(values_BHTR=torch.zeros(1, 2, 1, 9), left=4, right=4)
    for backend in ("varlen", "fa3", "fa4"):
        for options in ({"dropout_p": 0.1}, {"scores": Scores(relative=bias)}):
            with pytest.raises(Unsupported):
                attend(*qkv(), Mask(), backend=backend, **options)  # type: ignore[arg-type]
    slopes = RelativeBias(values_BHTR=bias.values_BHTR, left=4, right=4, slopes_H=torch.ones(2))
    with pytest.raises(Unsupported, match="after the cap"):
        attend(*qkv(), Mask(), backend="fa2", scores=Scores(relative=slopes, softcap=2.0))


@pytest.mark.filterwarnings("ignore")
def test_the_profiler_sees_fused_kernels_and_hidden_softmax_in_compiled_code() -> None:
    inputs = qkv()
    for backend, names in (("sdpa_flash", {"sdpa_flash"}), ("math", {"math", "unfused, compiled", "sdpa_flash"})):
        compiled = torch.compile(lambda q, k, v, backend=backend: attend(q, k, v, Mask(causal=True), backend=backend))
        with torch.no_grad():
            compiled(*inputs)
            with observe_compiled() as seen:
                compiled(*inputs)
        assert seen.backends
        assert seen.backends <= names, seen.operators
