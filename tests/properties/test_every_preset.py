"""Properties that every registered variant must have, whatever its axes; cheap, and no oracle needed."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from t2bench.attention.mask import Mask
from t2bench.models import init
from t2bench.models.shared import Shared
from t2bench.models.transformer import Transformer, build
from t2bench.spec.axes import PositionSpec
from t2bench.spec.cost import num_params
from t2bench.spec.model import ModelSpec
from t2bench.spec.presets import preset, preset_names

B, T, S, V = 3, 10, 12, 60
CUDA_ONLY = {"sdpa_efficient", "sdpa_cudnn"}


def shrunk(name: str) -> ModelSpec:
    """The preset at a width that tests in milliseconds; its axes are untouched, kernels without a CPU form excepted."""
    spec = preset(name).model
    position = replace(spec.position, max_len=16)
    backend = "sdpa_flash" if spec.attention in CUDA_ONLY else spec.attention
    kv_heads = None if spec.kv_heads is None else max(1, 4 * spec.kv_heads // spec.heads)
    return replace(
        spec, width=32, heads=4, kv_heads=kv_heads, head_dim=None, ff=48, enc_layers=2, dec_layers=2, vocab=V,
        vocab_multiple=min(spec.vocab_multiple, 8), position=position, attention=backend,
    )  # fmt: skip


PRESETS = preset_names()
SPECS = {name: shrunk(name) for name in PRESETS}


def large_weights(spec: ModelSpec, dtype: torch.dtype = torch.float64) -> Transformer:
    """In float64, so that equal means equal; with weights that make every axis matter."""
    model = build(spec, dtype=dtype).eval()
    model.chunk_tokens = 7
    for name, tensor in init.logical_parameters(model).items():
        generator = torch.Generator().manual_seed(len(name) + sum(map(ord, name)))
        draw = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        tensor.copy_(1 + 0.1 * draw if "norm" in name and name.endswith("weight") else 0.3 * draw)
    return model


def batch(spec: ModelSpec, length: int = T) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(0, V, (B, length), generator=generator)
    if spec.arch != "encdec":
        return {"tokens_BT": tokens_BT}
    return {"tokens_BT": tokens_BT, "source_BS": torch.randint(0, V, (B, S), generator=generator)}


def close(x: Tensor, y: Tensor) -> bool:
    return torch.allclose(x, y, rtol=1e-9, atol=1e-9)


@pytest.fixture(params=PRESETS)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    return SPECS[request.param]


def test_causality(spec: ModelSpec) -> None:
    if spec.arch == "encoder":
        pytest.skip("an encoder sees everything")
    model, inputs = large_weights(spec), batch(spec)
    changed = {**inputs, "tokens_BT": inputs["tokens_BT"].clone()}
    changed["tokens_BT"][:, 6:] = (changed["tokens_BT"][:, 6:] + 1) % V
    with torch.no_grad():
        before, after = model(**inputs), model(**changed)
    assert close(before[:, :6], after[:, :6])
    assert not close(before[:, 6:], after[:, 6:])


def test_everything_else_is_seen(spec: ModelSpec) -> None:
    """The first token reaches the last position; in an encoder and from a source, the last also reaches the first."""
    model, inputs = large_weights(spec), batch(spec)
    with torch.no_grad():
        before = model(**inputs)
        for name, x in inputs.items():
            for at in (0, -1):
                changed = {**inputs, name: x.clone()}
                changed[name][:, at] = (changed[name][:, at] + 1) % V
                moved = (model(**changed) - before).abs().amax(dim=(0, 2)) > 1e-6
                assert moved[-1]
                if spec.arch == "encoder" or name == "source_BS":
                    assert moved.all()


def test_padding_does_not_matter(spec: ModelSpec) -> None:
    model, inputs = large_weights(spec), batch(spec)
    side = "source_BS" if spec.arch == "encdec" else "tokens_BT"
    full = inputs[side].shape[1]
    lengths_B = torch.tensor([full, 5, 1])
    lengths = {"source_lengths_B" if spec.arch == "encdec" else "lengths_B": lengths_B}
    changed = {**inputs, side: inputs[side].clone()}
    for row, length in enumerate(lengths_B.tolist()):
        changed[side][row, length:] = 7
    with torch.no_grad():
        one, other = model(**inputs, **lengths), model(**changed, **lengths)
        for row, length in enumerate(lengths_B.tolist()):
            alone = {name: x[row : row + 1] for name, x in inputs.items()}
            alone[side] = alone[side][:, :length]
            valid = slice(None) if spec.arch == "encdec" else slice(length)
            assert close(one[row, valid], other[row, valid])
            assert close(one[row, valid], model(**alone)[0])
    if spec.arch != "decoder":
        with torch.no_grad():
            assert not close(one[2, 0], model(**inputs)[2, 0])  # the lengths were not simply overlooked


def test_batch_invariance(spec: ModelSpec) -> None:
    model, inputs = large_weights(spec), batch(spec)
    with torch.no_grad():
        together = model(**inputs)
        for row in range(B):
            assert close(together[row], model(**{name: x[row : row + 1] for name, x in inputs.items()})[0])


def results(spec: ModelSpec) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    model, inputs = large_weights(spec), batch(spec)
    hidden = model.hidden(**inputs)
    labels_BT = inputs["tokens_BT"].roll(-1, dims=1)
    labels_BT[0, :4] = -100
    loss = model.loss(hidden, labels_BT)
    loss.backward()
    return hidden.detach(), loss.detach(), init.logical_parameters(model, grad=True)


def test_implementation_axes_do_not_change_the_function(spec: ModelSpec) -> None:
    hidden, loss, gradients = results(replace(spec, attention="math", projections="separate", loss="dense"))
    scale = max(g.abs().max() for g in gradients.values())
    for axis, values in {
        "attention": ("sdpa_math", "sdpa_flash"),
        "projections": ("fused_kv", "fused_qkv"),
        "loss": ("chunked",),
    }.items():
        for value in values:
            other = replace(spec, **{"attention": "math", "projections": "separate", "loss": "dense", axis: value})
            hidden_2, loss_2, gradients_2 = results(other)
            assert close(hidden, hidden_2), value
            assert close(loss, loss_2), value
            assert gradients.keys() == gradients_2.keys()
            for name, g in gradients.items():
                assert (g - gradients_2[name]).abs().max() <= 1e-9 * scale, (value, name)


def test_same_seed_same_weights_in_every_layout(spec: ModelSpec) -> None:
    plain = init.logical_parameters(build(replace(spec, projections="separate"), seed=5))
    for projections in ("fused_kv", "fused_qkv"):
        fused = init.logical_parameters(build(replace(spec, projections=projections), seed=5))
        assert plain.keys() == fused.keys()
        assert all(torch.equal(plain[name], fused[name]) for name in plain)
    other = init.logical_parameters(build(spec, seed=6))
    assert not torch.equal(plain["table_VD"], other["table_VD"])


def test_parameters_counted(spec: ModelSpec) -> None:
    assert sum(p.numel() for p in build(spec).parameters()) == num_params(spec).total


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_counted_at_full_size_on_meta(name: str) -> None:
    model = build(preset(name).model, device="meta")
    assert all(p.device.type == "meta" for p in model.parameters())
    assert sum(p.numel() for p in model.parameters()) == num_params(preset(name).model).total


def test_meta_forward_has_the_right_shape(spec: ModelSpec) -> None:
    model = build(spec, device="meta")
    logits_BTV = model(**{name: x.to("meta") for name, x in batch(spec).items()})
    assert logits_BTV.shape == (B, T, spec.padded_vocab)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_and_backward_are_finite_and_reach_every_parameter(spec: ModelSpec, dtype: torch.dtype) -> None:
    model, inputs = build(spec, dtype=dtype), batch(spec)
    hidden = model.hidden(**inputs)
    loss = model.loss(hidden, inputs["tokens_BT"])
    loss.backward()
    assert hidden.dtype == dtype
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    assert 0.2 * 4.1 < loss < 2.5 * 4.1  # near log(60) = 4.1: no axis spoils the initial scale
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_state_dict_round_trip(spec: ModelSpec) -> None:
    model = build(spec, seed=1)
    other = build(spec, seed=2)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    with torch.no_grad():
        assert torch.equal(model.eval()(**batch(spec)), other.eval()(**batch(spec)))


def test_state_moves_between_layouts(spec: ModelSpec) -> None:
    model = large_weights(replace(spec, projections="separate"))
    for projections in ("fused_kv", "fused_qkv"):
        other = build(replace(spec, projections=projections), dtype=torch.float64, seed=9).eval()
        init.load_logical(other, init.logical_parameters(model))
        with torch.no_grad():
            assert close(model(**batch(spec)), other(**batch(spec)))


def test_dropout_is_on_in_training_and_off_in_evaluation(spec: ModelSpec) -> None:
    inputs = batch(spec)
    plain = build(replace(spec, dropout=0.0)).eval()
    with torch.no_grad():
        for axes in ({"dropout": 0.3}, {"attention_dropout": 0.3, "attention": "math"}):
            model = build(replace(spec, **axes))
            assert not torch.allclose(model.train()(**inputs), model.train()(**inputs))
            assert torch.allclose(model.eval()(**inputs), plain(**inputs), atol=1e-5)


def test_positions(spec: ModelSpec) -> None:
    """Without positions an encoder cannot tell the order of its input; with positions it can."""
    encoder = replace(spec, arch="encoder")
    order = torch.randperm(T, generator=torch.Generator().manual_seed(1))
    tokens_BT = batch(encoder)["tokens_BT"]
    for kind in ("none", encoder.position.kind):
        model = large_weights(replace(encoder, position=replace(encoder.position, kind=kind)))
        with torch.no_grad():
            same = close(model(tokens_BT)[:, order], model(tokens_BT[:, order]))
        assert same == (kind == "none")


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_rope_knows_distances_only(spec: ModelSpec, layout: str, fraction: float) -> None:
    """Shift invariance: with RoPE, more tokens in front of all queries and keys change nothing but what they say."""
    position = PositionSpec(kind="rope", layout=layout, fraction=fraction)
    model = large_weights(replace(spec, position=position))
    stack = model.encoder if model.decoder is None else model.decoder
    attention = stack.layers[0].self_attention
    x_BTD = torch.randn(B, T, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    tables = stack.tables.rotation(T + 5, x_BTD)
    with torch.no_grad():
        here, there, nowhere = (
            attention(x_BTD, Shared(mask=Mask(), full_mask=Mask(), rotation=rotation, key_rotation=rotation))
            for rotation in (tuple(t[:T] for t in tables), tuple(t[5:] for t in tables), None)
        )
    assert close(here, there)
    assert not close(here, nowhere)


def test_too_long_for_learned_positions(spec: ModelSpec) -> None:
    learned = replace(spec, position=PositionSpec(kind="learned", max_len=8))
    with pytest.raises(ValueError, match="max_len 8"):
        build(learned)(**batch(learned))


def test_source_is_required_or_refused(spec: ModelSpec) -> None:
    inputs = batch(spec)
    wrong = {"tokens_BT": inputs["tokens_BT"]}
    if spec.arch != "encdec":
        wrong["source_BS"] = inputs["tokens_BT"]
    with pytest.raises(ValueError, match="source_BS"):
        build(spec)(**wrong)
