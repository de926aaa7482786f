"""The witness tells every back end apart, and is not taken in by torch's own choice."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from t2bench.attention.dispatch import attend
from t2bench.attention.mask import Mask
from t2bench.attention.verify import backend_checks
from t2bench.attention.witness import observe

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none here")


def inputs(device: str = "cpu", dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(2, 4, 16, 64, device=device, dtype=dtype, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("mask", [Mask(), Mask(causal=True), Mask(key_lengths_B=torch.tensor([16, 3]))])
@pytest.mark.parametrize("backend", ["math", "sdpa_math", "sdpa_flash"])
def test_cpu_backends_are_told_apart(backend: str, mask: Mask) -> None:
    with observe() as seen:
        o_BHTK = attend(*inputs(), mask, backend=backend)
        assert seen.backends == {backend}
        assert seen.backward_backends == frozenset()
        o_BHTK.sum().backward()
    assert seen.backends == {backend}
    assert seen.backward_backends == {backend}
    assert seen.kernels[0] in ("_softmax", "_safe_softmax", "_scaled_dot_product_flash_attention_for_cpu")
    assert all(check.passed for check in backend_checks(backend, seen, backward=True))


def test_sees_the_choice_that_torch_makes() -> None:
    with observe() as seen:
        F.scaled_dot_product_attention(*inputs())
    assert seen.backends == {"sdpa_flash"}
    with observe() as seen:
        F.scaled_dot_product_attention(*inputs(), dropout_p=0.1).sum().backward()
    assert seen.backends == {"sdpa_math"}
    assert seen.backward_backends == {"sdpa_math"}
    (forward, backward) = backend_checks("sdpa_flash", seen, backward=True)
    assert not forward.passed
    assert not backward.passed
    assert "sdpa_flash was requested, sdpa_math ran" in forward.detail


def test_sees_without_gradients_too() -> None:
    for mode in (torch.no_grad(), torch.inference_mode()):
        for backend in ("math", "sdpa_math", "sdpa_flash"):
            with mode, observe() as seen:
                attend(*inputs(), Mask(), backend=backend)
            assert seen.backends == {backend}


def test_several_backends_are_all_reported() -> None:
    with observe() as seen:
        attend(*inputs(), Mask(), backend="math")
        attend(*inputs(), Mask(), backend="sdpa_flash")
    assert seen.backends == {"math", "sdpa_flash"}
    assert not backend_checks("math", seen, backward=False)[0].passed


def test_other_operators_are_not_mistaken_for_attention() -> None:
    with observe() as seen:
        F.cross_entropy(torch.randn(4, 5, requires_grad=True), torch.tensor([0, 1, 2, 3])).backward()
    assert seen.kernels == ()
    assert not backend_checks("math", seen, backward=False)[0].passed
    assert "nothing recognisable" in backend_checks("math", seen, backward=False)[0].detail


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("backend", ["math", "sdpa_math", "sdpa_flash", "sdpa_efficient", "sdpa_cudnn"])
def test_cuda_backends_are_told_apart(backend: str) -> None:
    with observe() as seen:
        attend(*inputs("cuda", torch.bfloat16), Mask(causal=True), backend=backend).sum().backward()
    assert seen.backends == {backend}
    assert seen.backward_backends == {backend}
