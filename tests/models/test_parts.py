"""The parts of the model against formulas written out here."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from t2bench.models import loss
from t2bench.models.init import load_logical, logical_parameters
from t2bench.models.norm import Norm
from t2bench.models.position import PositionTables, rotate, turned
from t2bench.models.transformer import build
from t2bench.spec.axes import Loss, PositionSpec
from t2bench.spec.model import ModelSpec

SMALL = ModelSpec(width=16, heads=2, ff=24, enc_layers=1, dec_layers=1, vocab=30)


def test_sinusoids_one_by_one() -> None:
    """PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos of the same (Vaswani et al. 2017, section 3.5)."""
    like = torch.zeros((), dtype=torch.float64)
    interleaved = PositionTables(replace(SMALL, position=PositionSpec(layout="interleaved"))).sinusoid(20, like)
    halves = PositionTables(replace(SMALL, position=PositionSpec(layout="halves"))).sinusoid(20, like)
    for pos in range(20):
        for i in range(8):
            angle = pos / 10000 ** (2 * i / 16)
            assert abs(interleaved[pos, 2 * i] - math.sin(angle)) < 1e-12
            assert abs(interleaved[pos, 2 * i + 1] - math.cos(angle)) < 1e-12
            assert abs(halves[pos, i] - math.sin(angle)) < 1e-12
            assert abs(halves[pos, i + 8] - math.cos(angle)) < 1e-12


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
def test_every_position_has_its_own_vector(layout: str) -> None:
    tables = PositionTables(replace(SMALL, position=PositionSpec(layout=layout)))
    table_TD = tables.sinusoid(2000, torch.zeros(()))
    assert torch.unique(table_TD, dim=0).shape[0] == 2000


@pytest.mark.parametrize("fraction", [1.0, 0.5])
@pytest.mark.parametrize("layout", ["interleaved", "halves"])
def test_rotation_one_pair_at_a_time(layout: str, fraction: float) -> None:
    """(a, b) -> (a cos - b sin, a sin + b cos) at angle m * theta^(-2i/R) (Su et al. 2021, eq. 34)."""
    spec = replace(SMALL, position=PositionSpec(kind="rope", layout=layout, fraction=fraction, theta=100.0))
    x = torch.randn(1, 6, 2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = rotate(x, PositionTables(spec).rotation(6, x))
    rotary = int(8 * fraction)
    want = x.clone()
    for m in range(6):
        for i in range(rotary // 2):
            first, second = (2 * i, 2 * i + 1) if layout == "interleaved" else (i, i + rotary // 2)
            turn = complex(math.cos(m * 100.0 ** (-2 * i / rotary)), math.sin(m * 100.0 ** (-2 * i / rotary)))
            for head in range(2):
                z = complex(x[0, m, head, first], x[0, m, head, second]) * turn
                want[0, m, head, first], want[0, m, head, second] = z.real, z.imag
    assert torch.allclose(found, want, atol=1e-12)


def test_plain_arithmetic_turns_as_complex_numbers_do() -> None:
    x = torch.randn(2, 6, 3, 8, dtype=torch.float64)
    rotation = PositionTables(replace(SMALL, position=PositionSpec(kind="rope"))).rotation(6, x)
    assert torch.allclose(turned(x.view(2, 6, 3, 4, 2), rotation[0]), rotate(x, rotation), atol=1e-15)


@pytest.mark.parametrize("kind", ["dense", "chunked", "fused"])
def test_all_products_of_a_loss_are_in_the_dtype_of_autocast(kind: Loss) -> None:
    factors = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "mm" in str(func):
                factors.update((str(func), x.dtype) for x in args)
            return func(*args, **(kwargs or {}))

    x, table = torch.randn(20, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
    with Watch():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss.mean(kind, x, table, torch.arange(20), chunk_tokens=10)
        value.backward()
    assert {dtype for _, dtype in factors} == {torch.bfloat16}
    assert value.dtype == x.grad.dtype == table.grad.dtype == torch.float32


def test_tables_are_computed_once_per_model() -> None:
    model = build(replace(SMALL, position=PositionSpec(kind="rope")))
    x = torch.zeros(1)
    assert model.encoder.tables is model.decoder.tables
    assert model.encoder.tables.rotation(5, x)[0] is model.decoder.tables.rotation(5, x)[0]


def test_model_used_without_gradients_can_still_train() -> None:
    for kind in ("rope", "sinusoidal"):
        model = build(replace(SMALL, arch="decoder", position=PositionSpec(kind=kind)))
        tokens_BT = torch.zeros(1, 4, dtype=torch.long)
        with torch.inference_mode():
            model(tokens_BT)
        model(tokens_BT).sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_norms(kind: str) -> None:
    norm = Norm(kind, 8, 1e-3)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(5, 8) * 0.1
    centred = x
    if kind == "layer":
        torch.nn.init.normal_(norm.bias)
        centred = x - x.mean(-1, keepdim=True)
    want = centred / (centred.square().mean(-1, keepdim=True) + 1e-3).sqrt() * norm.weight
    want = want + (norm.bias if kind == "layer" else 0)
    assert torch.allclose(norm(x), want, atol=1e-5)


@pytest.mark.parametrize("chunk_tokens", [1, 7, 23, 100])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("kind", ["chunked", "fused"])
def test_sliced_losses_are_the_cross_entropy(kind: str, softcap: float | None, chunk_tokens: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x_ND = torch.randn(23, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    table_VD = torch.randn(31, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    labels_N = torch.randint(0, 31, (23,), generator=generator)
    labels_N[::5] = -100
    scores = x_ND @ table_VD.T
    want = F.cross_entropy(scores if softcap is None else softcap * torch.tanh(scores / softcap), labels_N)
    found = loss.mean(kind, x_ND, table_VD, labels_N, softcap=softcap, chunk_tokens=chunk_tokens)
    assert torch.allclose(found, want)
    pairs = (torch.autograd.grad(3 * y, (x_ND, table_VD)) for y in (found, want))
    for g, h in zip(*pairs, strict=True):
        assert torch.allclose(g, h, atol=1e-12)
    with torch.no_grad():
        assert torch.allclose(loss.mean(kind, x_ND, table_VD, labels_N, softcap=softcap), want)


def test_fused_loss_can_go_backward_once() -> None:
    x_ND, table_VD = torch.randn(5, 4, requires_grad=True), torch.randn(6, 4, requires_grad=True)
    total = loss.fused(x_ND, table_VD, torch.arange(5))
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_chunked_loss_survives_extreme_logits() -> None:
    x_ND, table_VD = torch.full((4, 2), 100.0), torch.tensor([[100.0, 100.0], [-100.0, -100.0], [0.0, 0.0]])
    labels_N = torch.tensor([0, 1, 2, -100])
    for x in (x_ND, x_ND.bfloat16()):
        leaf = x.clone().requires_grad_()
        found = loss.chunked(leaf, table_VD.to(x.dtype), labels_N, chunk_tokens=3)
        found.backward()
        assert torch.allclose(found, F.cross_entropy((x @ table_VD.to(x.dtype).T).float(), labels_N))
        assert leaf.grad.isfinite().all()


def test_chunked_loss_never_holds_all_logits() -> None:
    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                Largest.elements = max(Largest.elements, out.numel())
            return out

    x_ND, table_VD = torch.randn(64, 4, requires_grad=True), torch.randn(50, 4, requires_grad=True)
    labels_N = torch.randint(0, 50, (64,))
    sliced = [(lambda *a, f=f: f(*a, chunk_tokens=8), 8) for f in (loss.chunked, loss.fused)]
    for function, rows in ((loss.dense, 64), *sliced):
        Largest.elements = 0
        with Largest():
            function(x_ND, table_VD, labels_N).backward()
        assert Largest.elements == max(rows * 50, 64 * 4)


@pytest.mark.parametrize(("kind", "products"), [("chunked", 4), ("fused", 3)])
def test_products_of_sliced_losses_are_counted(kind: str, products: int) -> None:
    """In-place products are seen by a FLOP counter: logits, two products for gradients, and chunked logits again."""
    x_ND, table_VD = torch.randn(64, 4, requires_grad=True), torch.randn(50, 4, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        loss.mean(kind, x_ND, table_VD, torch.randint(0, 50, (64,)), chunk_tokens=8).backward()
    assert counter.get_total_flops() == products * 2 * 64 * 50 * 4


def test_padded_rows_of_the_vocabulary_are_never_named() -> None:
    model = build(replace(SMALL, vocab=30, vocab_multiple=16, tie="none"))
    for table_VD in (model.table_VD, model.output_table_VD):
        assert table_VD.shape == (32, 16)
        assert (table_VD[30:] == 0).all()
        assert (table_VD[:30] != 0).all()


@pytest.mark.parametrize(("tie", "tables"), [("all", 1), ("decoder", 2), ("source", 2), ("none", 3)])
def test_tables_of_an_encoder_decoder(tie: str, tables: int) -> None:
    names = [n for n in logical_parameters(build(replace(SMALL, tie=tie))) if n.endswith("table_VD")]
    assert len(names) == tables


def test_attention_layout_of_projections() -> None:
    attention = build(replace(SMALL, projections="fused_qkv")).decoder.layers[0]
    assert list(attention.self_attention.project) == ["qkv"]
    assert list(attention.cross_attention.project) == ["q", "kv"]


def test_load_logical_refuses_other_parameters() -> None:
    with pytest.raises(ValueError, match="bias"):
        load_logical(build(SMALL), logical_parameters(build(replace(SMALL, bias=False))))


def test_build_is_repeatable_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    want = torch.rand(3)
    torch.manual_seed(0)
    first = build(SMALL, seed=3)
    assert torch.equal(torch.rand(3), want)
    second = build(SMALL, seed=3, dtype=torch.bfloat16)
    assert torch.equal(first.table_VD.bfloat16(), second.table_VD)


def test_build_and_step_under_fake_tensors() -> None:
    with FakeTensorMode():
        model = build(ModelSpec(loss="chunked", attention="sdpa_flash", position=PositionSpec(kind="rope")))
        tokens_BT = torch.zeros(2, 600, dtype=torch.long)
        model.loss(model.hidden(tokens_BT, source_BS=tokens_BT), tokens_BT).backward()
    assert model.table_VD.grad.shape == (37000, 512)
