"""Properties that every registered variant must have, whatever its axes; cheap, and no oracle needed."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from t2bench.models import init
from t2bench.models.transformer import build
from t2bench.parity.properties import check_properties
from t2bench.parity.subject import BATCH as B
from t2bench.parity.subject import LENGTH as T
from t2bench.parity.subject import large_weights, random_batch, shrunk
from t2bench.spec.axes import PositionSpec
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.cost import num_params
from t2bench.spec.model import ModelSpec
from t2bench.spec.presets import preset, preset_names
from t2bench.spec.refusals import refusal

PRESETS = preset_names()


def runs_here(spec: ModelSpec, kind: str = "train_step") -> bool:
    """Whether a CPU can run it, and torch without compiling it first."""
    case = Case(
        variant="small", model=spec, workload=WorkloadSpec(kind=kind), length=T, batch=B, dtype="fp32", device="cpu"
    )
    return refusal(case) is None and spec.attention != "flex"


def on_cpu(spec: ModelSpec) -> ModelSpec:
    """The variant as a CPU can run it: with plain attention where its own kernel needs something else."""
    plain = replace(spec, quant="none", compile="off", attention_dropout=0.0)
    return plain if runs_here(plain) else replace(plain, attention="math")


def distinct() -> dict[str, ModelSpec]:
    """Presets by name at a small size; of those that differ in size only, the first."""
    found: dict[str, ModelSpec] = {}
    for name in PRESETS:
        spec = replace(on_cpu(shrunk(preset(name).model)), dropout=0.0)
        if spec not in found.values():
            found[name] = spec
    return found


SPECS = distinct()


def batch(spec: ModelSpec) -> dict[str, Tensor]:
    return random_batch(spec)


def close(x: Tensor, y: Tensor) -> bool:
    return torch.allclose(x, y, rtol=1e-9, atol=1e-9)


@pytest.fixture(params=SPECS)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    return SPECS[request.param]


def test_has_every_property(spec: ModelSpec) -> None:
    checks = check_properties(spec, device="cpu", dtype=torch.float64, seed=0)
    assert len(checks) >= 10
    assert [f"{c.name}: {c.detail}" for c in checks if not c.passed] == []


def test_everything_else_is_seen(spec: ModelSpec) -> None:
    """The first token reaches the last position; in an encoder and from a source, the last also reaches the first."""
    if spec.pattern.kind == "window":
        pytest.skip("a window hides what is far; the property of windows says how far")
    model, inputs = large_weights(spec), batch(spec)
    with torch.no_grad():
        before = model(**inputs)
        for name, x in inputs.items():
            for at in (0, -1):
                changed = {**inputs, name: x.clone()}
                changed[name][:, at] = (changed[name][:, at] + 1) % spec.vocab
                moved = (model(**changed) - before).abs().amax(dim=(0, 2)) > 1e-9
                assert moved[-1]
                if spec.arch == "encoder" or name == "source_BS":
                    assert moved.all()


def results(spec: ModelSpec) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    model, inputs = large_weights(spec), batch(spec)
    model.chunk_tokens = 7
    hidden = model.hidden(**inputs)
    labels_BT = inputs["tokens_BT"].roll(-1, dims=1)
    labels_BT[0, :4] = -100
    loss = model.train().loss(hidden, labels_BT)
    loss.backward()
    return hidden.detach(), loss.detach(), init.logical_parameters(model, grad=True)


PLAIN = {"attention": "math", "projections": "separate", "loss": "dense", "checkpoint": "off"}
EQUIVALENT = {
    "attention": ("sdpa", "sdpa_math", "sdpa_flash"),
    "projections": ("fused_kv", "fused_qkv"),
    "loss": ("chunked", "fused"),
    "checkpoint": ("selective", "full"),
}


def test_implementation_axes_do_not_change_the_function(spec: ModelSpec) -> None:
    hidden, loss, gradients = results(replace(spec, **PLAIN))
    scale = max(g.abs().max() for g in gradients.values())
    for axis, values in EQUIVALENT.items():
        for value in values:
            other = replace(spec, **{**PLAIN, axis: value})
            if not runs_here(other):
                continue
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
            other = replace(spec, **axes)
            if spec.recurrence != "none" and "attention_dropout" in axes:
                continue
            model = build(other)
            assert not torch.allclose(model.train()(**inputs), model.train()(**inputs))
            assert torch.allclose(model.eval()(**inputs), plain(**inputs), atol=1e-5)


def test_too_long_for_learned_positions(spec: ModelSpec) -> None:
    if spec.memory or spec.recurrence != "none":
        pytest.skip("no room for learned positions")
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
