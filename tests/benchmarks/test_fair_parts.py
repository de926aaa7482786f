"""Our parts beside the obvious way to write them: each group is one comparison (`make bench`).

Elsewhere these run as tests: every contender of a group must give the same result.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from t2bench.attention.dispatch import attend
from t2bench.attention.mask import Mask
from t2bench.models.norm import Norm
from t2bench.models.position import PositionTables, rotate
from t2bench.spec.axes import PositionSpec
from t2bench.spec.model import ModelSpec

ROWS, WIDTH, HEADS, LENGTH = 1024, 512, 8, 512
HEAD_DIM = WIDTH // HEADS


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def forward_backward(function, *inputs):
    """A call that runs forward and backward and returns the output and the gradients."""

    def run():
        for value in inputs:
            value.grad = None
        out = function(*inputs)
        out.backward(torch.ones_like(out))
        return [out.detach(), *(value.grad for value in inputs)]

    return run


def assert_same(results, expected):
    for result, value in zip(results, expected, strict=True):
        torch.testing.assert_close(result, value, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("who", ["ours", "torch"])
@pytest.mark.benchmark(group="RMS norm, forward and backward, 1024 x 512")
def test_rms_norm(benchmark, who):
    norm = Norm("rms", WIDTH, 1e-5)
    nn.init.normal_(norm.weight)
    x = torch.randn(ROWS, WIDTH, requires_grad=True)

    def library(x, weight):
        return F.rms_norm(x, (WIDTH,), weight, 1e-5)

    contenders = {"ours": lambda x, _: norm(x), "torch": library}
    expected = forward_backward(library, x, norm.weight)()
    assert_same(benchmark(forward_backward(contenders[who], x, norm.weight)), [value.clone() for value in expected])


@pytest.mark.parametrize("who", ["ours", "textbook"])
@pytest.mark.parametrize("layout", ["interleaved", "halves"])
def test_rope(benchmark, layout, who):
    benchmark.group = f"RoPE in {layout}, forward and backward, 2 x 512 x 8 x 64"
    spec = ModelSpec(width=WIDTH, heads=HEADS, position=PositionSpec(kind="rope", layout=layout))
    x = torch.randn(2, LENGTH, HEADS, HEAD_DIM, requires_grad=True)
    table = PositionTables(spec).rotation(LENGTH, x)
    angle = torch.arange(LENGTH)[:, None] * 10000.0 ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]

    def textbook(x):
        if layout == "interleaved":
            a, b = x[..., ::2], x[..., 1::2]
            return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)

    contenders = {"ours": lambda x: rotate(x, table), "textbook": textbook}
    expected = [value.clone() for value in forward_backward(textbook, x)()]
    assert_same(benchmark(forward_backward(contenders[who], x)), expected)


@pytest.mark.parametrize("who", ["math", "sdpa_math", "sdpa_flash", "textbook"])
@pytest.mark.benchmark(group="causal attention, forward and backward, 2 x 8 x 512 x 64")
def test_attention(benchmark, who):
    q, k, v = (torch.randn(2, HEADS, LENGTH, HEAD_DIM, requires_grad=True) for _ in range(3))
    hidden = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)

    def textbook(q, k, v):
        scores = (q @ k.transpose(-2, -1) / HEAD_DIM**0.5).masked_fill(hidden, float("-inf"))
        return scores.softmax(-1) @ v

    def ours(q, k, v):
        return attend(q, k, v, Mask(causal=True), backend=who)

    contender = textbook if who == "textbook" else ours
    expected = [value.clone() for value in forward_backward(textbook, q, k, v)()]
    assert_same(benchmark(forward_backward(contender, q, k, v)), expected)
