"""Counters against arithmetic done by hand, on modules small enough to follow."""

import gc
import json
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from t2bench.attention.mask import Mask
from t2bench.meters.counters import count
from t2bench.models import recompute
from t2bench.models.shared import Shared
from t2bench.spec.axes import Checkpoint

FLOAT = 4


def test_matrix_products_cost_two_operations_per_multiply_add() -> None:
    a, b = torch.randn(3, 5), torch.randn(5, 7)

    counts = count(lambda: a @ b, held=())

    assert counts.executed_flops == 2 * 3 * 5 * 7
    assert counts.ops == 1
    assert counts.bytes_touched == FLOAT * (3 * 5 + 5 * 7 + 3 * 7)
    assert counts.peak_bytes == FLOAT * (3 * 5 + 5 * 7 + 3 * 7)
    assert counts.saved_bytes == 0
    assert counts.uncounted == ()


def test_inference_counts_composite_operators_too() -> None:
    layer, x = nn.Linear(5, 7), torch.randn(3, 5)

    def infer() -> None:
        with torch.inference_mode():
            layer(x)

    counts = count(infer, held=layer.parameters())

    assert counts.executed_flops == 2 * 3 * 5 * 7
    assert counts.uncounted == ()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_cpu_flash_is_counted_and_causal_is_half(causal: bool, kv_heads: int) -> None:
    q = torch.randn(2, 4, 16, 8, requires_grad=True)
    k, v = (torch.randn(2, kv_heads, 16, 8, requires_grad=True) for _ in range(2))

    def forward() -> torch.Tensor:
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=kv_heads != 4)

    full = 4 * 2 * 4 * 16 * 16 * 8
    expected = full // 2 if causal else full
    assert count(forward, held=()).executed_flops == expected
    assert count(lambda: forward().sum().backward(), held=()).executed_flops == expected + expected * 5 // 2


def test_flash_keeps_no_square_and_math_does() -> None:
    def saved(backend: SDPBackend, length: int) -> int:
        q, k, v = (torch.randn(1, 1, length, 8, requires_grad=True) for _ in range(3))

        def forward() -> None:
            with sdpa_kernel([backend]):
                kept.append(F.scaled_dot_product_attention(q, k, v))

        kept: list[torch.Tensor] = []
        return count(forward, held=()).saved_bytes

    flash = [saved(SDPBackend.FLASH_ATTENTION, length) for length in (64, 128, 256)]
    math = [saved(SDPBackend.MATH, length) for length in (64, 128, 256)]
    assert flash[2] - flash[1] == 2 * (flash[1] - flash[0])
    assert math[2] - math[1] > 3 * (math[1] - math[0])


def test_recomputation_is_counted() -> None:
    """A checkpointed product runs forward twice and keeps only its input."""
    layer, x = nn.Linear(16, 16, bias=False), torch.randn(8, 16, requires_grad=True)

    def twice(h: torch.Tensor) -> torch.Tensor:
        return layer(torch.relu(layer(h)))

    one = 2 * 8 * 16 * 16
    plain = count(lambda: twice(x).sum().backward(), held=layer.parameters())
    again = count(lambda: checkpoint(twice, x, use_reentrant=False).sum().backward(), held=layer.parameters())
    assert plain.executed_flops == 6 * one
    # early stopping: the second product's output is not needed again
    assert again.executed_flops in (7 * one, 8 * one)
    assert plain.saved_bytes == FLOAT * 2 * 8 * 16  # x, and the relu's output for relu and second layer alike
    assert again.saved_bytes == FLOAT * 8 * 16  # x


def test_what_selective_checkpointing_keeps_is_saved_until_it_is_used() -> None:
    """It keeps the input and what both products return; the second product's result nobody needs but its keeper."""
    first, second = (nn.Linear(16, 16, bias=False) for _ in range(2))
    x = torch.randn(8, 16, requires_grad=True)
    held = [*first.parameters(), *second.parameters()]

    def layer(h: torch.Tensor, *_: object) -> torch.Tensor:
        return second(torch.relu(first(h)))

    def saved(kind: Checkpoint, layers: int) -> int:
        def step() -> None:
            h = x
            for _ in range(layers):
                h = recompute.run(kind, layer, h, Shared(mask=Mask(), full_mask=Mask()))
            h.sum().backward()

        return count(step, held=held).saved_bytes

    each = FLOAT * 8 * 16
    assert saved("full", 1) == each
    assert saved("selective", 1) == 3 * each
    assert saved("selective", 3) == 7 * each  # what a layer returns is the input of the next: one storage


def test_saved_bytes_are_what_is_kept_at_one_moment() -> None:
    """Two forward-backward pairs one after the other keep what one keeps, not the sum."""
    w = torch.randn(4, 4, requires_grad=True)
    xs = [torch.randn(4, 4) for _ in range(2)]

    def pair(x: torch.Tensor) -> None:
        (x @ w).exp().sum().backward()

    once = count(lambda: pair(xs[0]), held=(w,)).saved_bytes
    both = count(lambda: [pair(x) for x in xs], held=(w,)).saved_bytes
    assert once == both == FLOAT * 2 * 16  # x for the product, exp's own output


def test_held_tensors_and_their_views_are_never_saved() -> None:
    w, x = nn.Parameter(torch.randn(8, 8)), torch.randn(8, 8, requires_grad=True)

    def step() -> torch.Tensor:
        return (x @ w.t()).sum()

    kept: list[torch.Tensor] = []
    assert count(lambda: kept.append(step()), held=(w,)).saved_bytes == FLOAT * 64
    assert count(lambda: kept.append(step()), held=()).saved_bytes == 2 * FLOAT * 64


def test_peak_follows_lifetimes_and_views_count_once() -> None:
    x = torch.zeros(100)

    def step() -> None:
        a = x + 1  # x a
        b = a + 1  # x a b
        del a
        view = b[:50].view(5, 10).t()  # x b
        c = view * 2  # x b c(50)
        del b, view
        d = c + 1  # x c d(50)
        assert d.numel() == 50

    assert count(step, held=()).peak_bytes == FLOAT * 300


def test_held_tensors_are_in_the_peak_even_if_untouched() -> None:
    x, idle = torch.zeros(10), torch.zeros(1000)

    assert count(lambda: x + 1, held=()).peak_bytes == FLOAT * 20
    assert count(lambda: x + 1, held=(idle,)).peak_bytes == FLOAT * 1020


def test_in_place_work_takes_no_room() -> None:
    x = torch.zeros(100)

    counts = count(lambda: x.add_(1).mul_(2), held=())

    assert counts.peak_bytes == FLOAT * 100
    assert counts.bytes_touched == 4 * FLOAT * 100


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (lambda: torch.mv(torch.ones(3, 4), torch.ones(4)), "aten.mv"),
        (lambda: torch.dot(torch.ones(4), torch.ones(4)), "aten.dot"),
    ],
)
def test_a_product_without_a_formula_is_named(operation: object, name: str) -> None:
    assert count(operation, held=()).uncounted == (name,)


def test_recurrent_layers_are_not_silently_free() -> None:
    layer, x = nn.LSTM(8, 8), torch.randn(5, 2, 8)

    counts = count(lambda: layer(x), held=layer.parameters())

    assert counts.uncounted or counts.executed_flops == 5 * 2 * 2 * (8 * 32 + 8 * 32)


def test_the_encoder_fast_path_is_not_silently_free() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()

    def infer() -> None:
        with torch.no_grad():
            layer(torch.ones(2, 4, 16))

    counts = count(infer, held=layer.parameters())
    assert counts.uncounted == ("aten._transformer_encoder_layer_fwd",)


def test_an_unknown_library_operator_is_named() -> None:
    with torch.library._scoped_library("t2bench_test", "DEF") as library:
        library.define("secret(Tensor x) -> Tensor")
        library.impl("secret", lambda x: x.clone(), "CPU")
        counts = count(lambda: torch.ops.t2bench_test.secret(torch.ones(2)), held=())
    assert counts.uncounted == ("t2bench_test.secret",)


def test_element_wise_work_is_no_suspect() -> None:
    def step() -> None:
        x = torch.ones(4, 8)
        F.layer_norm(F.rms_norm(torch.addcmul(x, x, x), (8,)), (8,)).softmax(-1).cumsum(0)

    counts = count(step, held=())
    assert counts.uncounted == ()
    assert counts.executed_flops == 0


def _train_step(width: int = 16) -> tuple[nn.Module, object]:
    model = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.LayerNorm(width))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    x = torch.randn(6, width)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(x).square().mean().backward()
        optimizer.step()

    return model, step


def test_fake_tensors_give_the_same_counts() -> None:
    model, step = _train_step()
    step()
    real = count(step, held=model.parameters())
    with FakeTensorMode():
        model, step = _train_step()
        step()
        assert count(step, held=model.parameters()) == real
    assert real.executed_flops == 3 * 2 * 2 * 6 * 16 * 64 - 2 * 6 * 16 * 64  # the input needs no gradient


def test_the_collector_is_left_as_it_was() -> None:
    def fails() -> None:
        assert not gc.isenabled()
        raise RuntimeError("inside")

    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="inside"):
        count(fails, held=())
    assert gc.isenabled()


_CHILD = """
import dataclasses, json, torch
from torch import nn
from t2bench.meters.counters import count
model = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
x = torch.ones(2, 8, 16)
result = dataclasses.asdict(count(lambda: model(x).sum().backward(), held=model.parameters()))
print(json.dumps(result))
"""


def test_counts_do_not_depend_on_the_process_or_its_hash_seed(capsys: pytest.CaptureFixture[str]) -> None:
    exec(_CHILD, {})
    here = json.loads(capsys.readouterr().out)
    environment = {**os.environ, "PYTHONHASHSEED": "1234", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", _CHILD], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == here
    assert here["executed_flops"] > 0
