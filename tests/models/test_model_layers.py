"""Norm places, residuals, caps, scales and activations against their formulas; stretched rope; checkpointing."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from t2bench.meters.counters import count
from t2bench.models.feedforward import ACTIVATIONS
from t2bench.models.init import logical_parameters
from t2bench.models.position import PositionTables
from t2bench.models.stack import Memories
from t2bench.models.stretch import stretched
from t2bench.models.transformer import Transformer, build
from t2bench.spec.axes import PatternSpec, PositionSpec
from t2bench.spec.model import ModelSpec

B, T, V = 2, 7, 30
SMALL = ModelSpec(
    arch="decoder", width=16, heads=2, ff=24, dec_layers=2, enc_layers=2, vocab=V, position=PositionSpec(kind="rope")
)
TOKENS = torch.randint(0, V, (B, T), generator=torch.Generator().manual_seed(0))


def made(spec: ModelSpec) -> Transformer:
    model = build(spec, dtype=torch.float64).eval()
    for name, tensor in logical_parameters(model).items():
        generator = torch.Generator().manual_seed(sum(map(ord, name)))
        draw = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        tensor.copy_(1 + 0.3 * draw if "norm" in name and name.endswith("weight") else 0.4 * draw)
    return model


Parts = dict[str, Callable[[Tensor], Tensor]]
FORMULAS: dict[tuple[str, str], Callable[[Tensor, Parts], Tensor]] = {
    ("post", "serial"): lambda x, f: f["n2"]((y := f["n1"](x + f["a"](x))) + f["f"](y)),
    ("pre", "serial"): lambda x, f: (y := x + f["a"](f["n1"](x))) + f["f"](f["n2"](y)),
    ("sandwich", "serial"): lambda x, f: (y := x + f["m1"](f["a"](f["n1"](x)))) + f["m2"](f["f"](f["n2"](y))),
    ("inner", "serial"): lambda x, f: (y := x + f["n1"](f["a"](x))) + f["n2"](f["f"](y)),
    ("pre", "parallel"): lambda x, f: x + f["a"](f["n1"](x)) + f["f"](f["n2"](x)),
    ("post", "none"): lambda x, f: f["n2"](f["f"](f["n1"](f["a"](x)))),
    ("pre", "none"): lambda x, f: f["f"](f["n2"](f["a"](f["n1"](x)))),
    ("sandwich", "none"): lambda x, f: f["m2"](f["f"](f["n2"](f["m1"](f["a"](f["n1"](x)))))),
    ("inner", "none"): lambda x, f: f["n2"](f["f"](f["n1"](f["a"](x)))),
}


@pytest.mark.parametrize(("place", "residual"), FORMULAS)
def test_norm_places_and_residuals(place: str, residual: str) -> None:
    model = made(replace(SMALL, norm_place=place, residual=residual))
    layer = model.decoder.layers[1]
    seen: list[Tensor] = []
    layer.register_forward_hook(lambda module, args, out: seen.extend((*args[:2], out)))
    with torch.no_grad():
        model(TOKENS)
        x, shared, found = seen
        parts: Parts = {
            "a": lambda h: layer.self_attention(h, shared), "f": layer.feed_forward, "n1": layer.self_norm,
            "n2": layer.ff_norm, "m1": layer.self_out_norm, "m2": layer.ff_out_norm,
        }  # fmt: skip
        want = FORMULAS[place, residual](x, parts)
    assert torch.allclose(found, want, atol=1e-12)


def test_pre_norm_reads_the_memory_through_the_same_norm() -> None:
    """A remembered position is to a layer what it was to it in its own segment."""
    for place in ("pre", "sandwich", "post", "inner"):
        spec = replace(SMALL, norm_place=place, memory=T)
        model = made(spec)
        with torch.no_grad():
            memories = Memories()
            parts = [model(part, memories=memories) for part in TOKENS.split([3, 4], dim=1)]
            assert torch.allclose(torch.cat(parts, dim=1), model(TOKENS), atol=1e-10)


def test_query_and_key_norm_over_the_whole_width() -> None:
    attention = made(replace(SMALL, qk_norm=True, qk_norm_span="width", kv_heads=1)).decoder.layers[0].self_attention
    x = torch.randn(B, T, 16, dtype=torch.float64)
    for name, norm, size in (("q", attention.q_norm, 16), ("k", attention.k_norm, 8)):
        y = x @ attention.project[name].weight.T + attention.project[name].bias
        want = y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight
        (found,) = attention._heads(x, name)
        assert norm.weight.shape == (size,)
        assert torch.allclose(found.flatten(-2), want, atol=1e-12)


def test_logits_are_scaled_and_capped() -> None:
    spec = replace(SMALL, head_scale=True, logit_softcap=3.0)
    model = made(spec)
    labels = TOKENS.roll(-1, dims=1)
    with torch.no_grad():
        x = model.hidden(TOKENS)
        want = 3 * torch.tanh(x @ model.table_VD.T / math.sqrt(16) / 3)
        assert torch.allclose(model(TOKENS), want, atol=1e-12)
        for kind in ("dense", "chunked", "fused"):
            other = made(replace(spec, loss=kind))
            entropy = torch.nn.functional.cross_entropy(want.flatten(0, 1), labels.flatten())
            assert torch.allclose(other.loss(x, labels), entropy, atol=1e-12)


def test_attention_scores_are_capped() -> None:
    plain, capped, loose = (made(replace(SMALL, attention_softcap=cap)) for cap in (None, 0.5, 1e9))
    with torch.no_grad():
        assert torch.allclose(plain(TOKENS), loose(TOKENS), atol=1e-6)
        assert not torch.allclose(plain(TOKENS), capped(TOKENS), atol=1e-2)


def test_squared_relu() -> None:
    x = torch.tensor([-2.0, 0.0, 0.5, 3.0])
    assert ACTIVATIONS["relu2"](x).tolist() == [0.0, 0.0, 0.25, 9.0]


def _frequencies(position: PositionSpec, features: int = 32) -> tuple[list[float], float]:
    pair = torch.arange(0, features, 2, dtype=torch.float64)
    found, factor = stretched(position.theta ** (-pair / features), position)
    return found.tolist(), factor


def test_linear_and_ntk_stretching() -> None:
    plain, _ = _frequencies(PositionSpec(kind="rope"))
    linear, _ = _frequencies(PositionSpec(kind="rope", scaling="linear", scaling_factor=4.0))
    assert linear == pytest.approx([f / 4 for f in plain])
    ntk, factor = _frequencies(PositionSpec(kind="rope", scaling="ntk", scaling_factor=4.0))
    assert factor == 1.0
    assert ntk[0] == plain[0]
    assert ntk[-1] == pytest.approx(plain[-1] / 4)
    theta = 10000.0 * 4 ** (32 / 30)
    assert ntk == pytest.approx([theta ** (-2 * i / 32) for i in range(16)])


def test_llama3_stretching() -> None:
    """By wavelength: shorter than original / 4 kept, longer than original divided, in between blended."""
    position = PositionSpec(kind="rope", theta=500000.0, scaling="llama3", scaling_factor=8.0, original_len=8192)
    plain, _ = _frequencies(replace(position, scaling="none"), 128)
    found, factor = _frequencies(position, 128)
    assert factor == 1.0
    for f, g in zip(plain, found, strict=True):
        wavelength = 2 * math.pi / f
        if wavelength < 8192 / 4:
            assert g == pytest.approx(f)
        elif wavelength > 8192:
            assert g == pytest.approx(f / 8)
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            assert g == pytest.approx((1 - smooth) * f / 8 + smooth * f)


def test_yarn_stretching() -> None:
    """NTK-by-parts (Peng et al. 2023, eq. 17 to 23): by how often a pair turns in the original length."""
    position = PositionSpec(kind="rope", scaling="yarn", scaling_factor=16.0, original_len=4096)
    plain, _ = _frequencies(replace(position, scaling="none"), 128)
    found, factor = _frequencies(position, 128)
    assert factor == pytest.approx(0.1 * math.log(16) + 1)
    for f, g in zip(plain, found, strict=True):
        turns = 4096 * f / (2 * math.pi)
        if turns > 32 * 1.2:
            assert g == pytest.approx(f)
        elif turns < 1 / 1.2:
            assert g == pytest.approx(f / 16)
        else:
            assert f / 16 <= g <= f


def test_yarn_lengthens_queries_and_keys() -> None:
    spec = replace(SMALL, position=PositionSpec(kind="rope", scaling="yarn", scaling_factor=4.0, original_len=64))
    (table,) = PositionTables(spec).rotation(5, torch.zeros((), dtype=torch.float64))
    assert torch.allclose(table.abs(), torch.full((), 0.1 * math.log(4) + 1, dtype=torch.float64))


@pytest.mark.parametrize("backend", ["math", "sdpa_flash"])
@pytest.mark.parametrize("kind", ["rope", "t5_bias"])
def test_checkpointing_keeps_less_and_changes_nothing(backend: str, kind: str) -> None:
    if backend == "sdpa_flash" and kind == "t5_bias":
        pytest.skip("flash has no learned bias")
    spec = replace(SMALL, dec_layers=4, dropout=0.1, attention=backend, position=PositionSpec(kind=kind))
    peaks, flops, gradients = {}, {}, {}
    for checkpoint in ("off", "selective", "full"):
        model = build(replace(spec, checkpoint=checkpoint))

        def step(model: Transformer = model) -> None:
            torch.manual_seed(0)  # the same dropout, in the repetition as well
            model.loss(model.hidden(TOKENS.repeat(1, 20)), TOKENS.repeat(1, 20)).backward()

        counts = count(step, held=tuple(model.parameters()))
        peaks[checkpoint], flops[checkpoint] = counts.peak_bytes, counts.executed_flops
        gradients[checkpoint] = logical_parameters(model, grad=True)
    assert peaks["full"] < peaks["selective"] < peaks["off"]
    assert flops["off"] <= flops["selective"] < flops["full"]
    for checkpoint in ("selective", "full"):
        for name, gradient in gradients["off"].items():
            assert torch.allclose(gradient, gradients[checkpoint][name], atol=1e-6), (checkpoint, name)


def test_patterns_by_layer() -> None:
    """SSL: a change of the first token passes windows of 2 slowly, and a layer that sees everything at once."""

    def first_change(layers: str) -> list[bool]:
        pattern = PatternSpec(kind="window", window=2, layers=layers)
        model = made(replace(SMALL, dec_layers=3, pattern=pattern))
        changed = TOKENS.clone()
        changed[:, 0] = (changed[:, 0] + 1) % V
        with torch.no_grad():
            return ((model(TOKENS) - model(changed)).abs().amax((0, 2)) > 1e-9).tolist()

    assert first_change("") == [True] * 4 + [False] * 3
    assert first_change("SSS") == first_change("S")
    assert first_change("SSL") == [True] * T
    assert first_change("L") == [True] * T
