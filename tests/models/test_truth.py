"""The check before speed: it passes what is right and catches what is wrong, in words."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import t2bench.attention.dispatch
import t2bench.attention.verify
import t2bench.models.attention
import t2bench.models.layer
import t2bench.models.loss
import t2bench.models.view
from t2bench.attention import math, sdpa
from t2bench.attention.mask import Mask
from t2bench.attention.scores import Scores
from t2bench.models import truth
from t2bench.models.trial import shrunk
from t2bench.models.truth import check, check_case
from t2bench.spec.axes import PositionSpec
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.presets import preset, preset_names

MATH = ModelSpec(width=32, heads=4, kv_heads=2, ff=48, enc_layers=2, dec_layers=2, vocab=60)
FLASH = replace(
    MATH, attention="sdpa_flash", projections="fused_qkv", loss="chunked", norm="rms", norm_place="pre",
    final_norm=True, gated=True, activation="silu", qk_norm=True, position=PositionSpec(kind="rope"),
)  # fmt: skip


def failures(spec: ModelSpec, dtype: torch.dtype = torch.float32, **options: Any) -> list[str]:
    checks = check(spec, device="cpu", dtype=dtype, seed=0, length=20, **options)
    return [f"{c.name}: {c.detail}" for c in checks if not c.passed]


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_preset_passes_at_a_small_width(name: str, dtype: torch.dtype) -> None:
    spec = preset(name).model
    if spec.attention in ("sdpa_efficient", "sdpa_cudnn"):
        pytest.skip("this kernel has no CPU form")
    small = replace(spec, width=64, heads=4, kv_heads=spec.kv_heads and 2, head_dim=None, ff=96, vocab=100)
    assert failures(small, dtype) == []


@pytest.mark.parametrize("arch", ["encdec", "encoder", "decoder"])
@pytest.mark.parametrize("seed", range(3))
def test_passes_for_other_seeds(arch: str, seed: int) -> None:
    for spec in (MATH, FLASH):
        for dtype in (torch.float32, torch.bfloat16):
            checks = check(replace(spec, arch=arch), device="cpu", dtype=dtype, seed=seed, length=20)
            assert [c.detail for c in checks if not c.passed] == []
            assert ("causality" in [c.name for c in checks]) == (arch != "encoder")


def test_inference_is_checked_without_gradients() -> None:
    checks = check(FLASH, device="cpu", dtype=torch.float32, seed=0, length=20, trains=False)
    assert all(c.passed for c in checks)
    names = [c.name for c in checks]
    assert "backend: forward" in names
    assert "backend: backward" not in names
    assert "numerics: gradients" not in names


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_kernel_that_cannot_run_is_a_failed_check() -> None:
    (found,) = failures(replace(FLASH, attention_dropout=0.1))
    assert found.startswith("backend: forward: sdpa_flash was requested")
    assert failures(replace(FLASH, attention_dropout=0.1), trains=False) == []


def test_dropout_does_not_disturb_the_numbers() -> None:
    assert failures(replace(MATH, dropout=0.2, attention_dropout=0.2)) == []


def test_check_case_knows_the_workloads() -> None:
    case = Case(
        variant="v", model=FLASH, workload=WorkloadSpec(kind="attention", causal=True, backward=True), length=33,
        batch=2, dtype="bf16", device="cpu",
    )  # fmt: skip
    operator = check_case(case, device="cpu")
    assert all(c.passed for c in operator)
    assert operator[0].name == "attention output"
    model = check_case(replace(case, workload=WorkloadSpec(kind="forward")), device="cpu")
    assert all(c.passed for c in model)
    assert model[0].name == "numerics: logits"


def _fallback(q: Tensor, k: Tensor, v: Tensor, mask: Mask, *, backend: str, **options: Any) -> Tensor:
    return _math(q, k, v, mask, **options)


def _patched(function: Callable[..., Any], **changes: Any) -> Callable[..., Any]:
    return lambda *args, **options: function(*args, **{**options, **changes})


class _SeesNext(Mask):
    def is_flag(self, num_queries: int, num_keys: int) -> bool:
        return False

    def _build(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor:
        visible_BHTS = Mask(key_lengths_B=self.key_lengths_B)._build(num_queries, num_keys, device)
        return visible_BHTS & torch.ones(num_queries, num_keys).tril(1).bool() if self.causal else visible_BHTS


class _Unpadded(Mask):
    def _build(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor:
        return Mask(causal=self.causal)._build(num_queries, num_keys, device)


class _PaddedOffByOne(Mask):
    def _build(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor:
        lengths_B = None if self.key_lengths_B is None else self.key_lengths_B + 1
        return Mask(causal=self.causal, key_lengths_B=lengths_B)._build(num_queries, num_keys, device)


_scale_of_width = {"scores": Scores(scale=32**-0.5)}
_math, _sdpa = math.attention, sdpa.attention
_dense = t2bench.models.loss.dense
_real_heads = t2bench.models.attention.Attention._heads


def _swapped(self: Any, x: Tensor, names: str) -> tuple[Tensor, ...]:
    found = _real_heads(self, x, names)
    return (found[0], found[2], found[1]) if self.project.keys() == {"qkv"} else found


def _wrong_gqa(q: Tensor, k: Tensor, v: Tensor, mask: Mask, **options: Any) -> Tensor:
    repeats = q.shape[1] // k.shape[1]
    return _sdpa(q, k.repeat(1, repeats, 1, 1), v.repeat(1, repeats, 1, 1), mask, **options)


def _detached(q: Tensor, k: Tensor, v: Tensor, mask: Mask, **options: Any) -> Tensor:
    return _sdpa(q, k.detach(), v, mask, **options)


def _half_precision(q: Tensor, k: Tensor, v: Tensor, mask: Mask, **options: Any) -> Tensor:
    return _sdpa(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask, **options).to(q.dtype)


def _ignores_ignored(x_ND: Tensor, table_VD: Tensor, labels_N: Tensor, _: object, *, chunk_tokens: int) -> Tensor:
    return _dense(x_ND, table_VD, labels_N.clamp(min=0))


def _mean_of_means(x_ND: Tensor, table_VD: Tensor, labels_N: Tensor, _: object, *, chunk_tokens: int) -> Tensor:
    parts = zip(x_ND.split(chunk_tokens), labels_N.split(chunk_tokens), strict=True)
    losses = [_dense(x, table_VD, labels) for x, labels in parts]
    return torch.stack(losses).mean()


def _last_chunk_lost(x_ND: Tensor, table_VD: Tensor, labels_N: Tensor, _: object, *, chunk_tokens: int) -> Tensor:
    whole = len(x_ND) // chunk_tokens * chunk_tokens
    return _dense(x_ND[:whole], table_VD, labels_N[:whole])


# What is broken: (object, attribute, replacement), and a spec that it concerns.
MUTANTS: dict[str, tuple[Any, str, Any, ModelSpec]] = {
    "math: scale": (math, "attention", _patched(math.attention, **_scale_of_width), MATH),
    "math: no scale": (math, "attention", _patched(math.attention, scores=Scores(scale=1.0)), MATH),
    "sdpa: scale": (sdpa, "attention", _patched(sdpa.attention, **_scale_of_width), FLASH),
    "sdpa: no scale": (sdpa, "attention", _patched(sdpa.attention, scores=Scores(scale=1.0)), FLASH),
    "sdpa: default kernel": (sdpa, "attention", _patched(sdpa.attention, backend="sdpa_math"), FLASH),
    "sdpa: silent fallback": (sdpa, "attention", _fallback, FLASH),
    "sdpa: head order": (sdpa, "attention", _wrong_gqa, FLASH),
    "sdpa: no gradient for keys": (sdpa, "attention", _detached, FLASH),
    "sdpa: half precision": (sdpa, "attention", _half_precision, FLASH),
    "causal mask off by one, math": (t2bench.models.view, "Mask", _SeesNext, MATH),
    "causal mask off by one, flash": (t2bench.models.view, "Mask", _SeesNext, FLASH),
    "causal mask off by one, decoder": (t2bench.models.view, "Mask", _SeesNext, replace(FLASH, arch="decoder")),
    "causal flag never set": (Mask, "is_flag", lambda self, t, s: False, FLASH),
    "causal flag always set": (Mask, "is_flag", lambda self, t, s: t == s, FLASH),
    "causal flag where T and S differ": (Mask, "is_flag", lambda self, t, s: self.key_lengths_B is None, FLASH),
    "padding ignored, math": (t2bench.models.view, "Mask", _Unpadded, MATH),
    "padding ignored, flash": (t2bench.models.view, "Mask", _Unpadded, FLASH),
    "padding off by one": (t2bench.models.view, "Mask", _PaddedOffByOne, FLASH),
    "padding off by one, encoder": (t2bench.models.view, "Mask", _PaddedOffByOne, replace(MATH, arch="encoder")),
    "keys and values swapped": (t2bench.models.attention.Attention, "_heads", _swapped, FLASH),
    "loss: ignored labels count": (t2bench.models.loss, "chunked", _ignores_ignored, FLASH),
    "loss: mean of means": (t2bench.models.loss, "chunked", _mean_of_means, FLASH),
    "loss: last chunk lost": (t2bench.models.loss, "chunked", _last_chunk_lost, FLASH),
}  # fmt: skip
# Slower, not wrong: a mask tensor that says the same as the flag.
EQUIVALENT = {"causal flag never set"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mutants_are_caught(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    survivors = []
    for label, (owner, name, broken, spec) in MUTANTS.items():
        if dtype == torch.bfloat16 and label == "sdpa: half precision":
            continue
        monkeypatch.setattr(owner, name, broken)
        if not failures(spec, dtype):
            survivors.append(label)
        monkeypatch.undo()
    assert set(survivors) == EQUIVALENT


def test_says_which_backend_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdpa, "attention", _fallback)
    found = failures(FLASH)
    assert not any(text.startswith("numerics") for text in found)
    assert any("sdpa_flash was requested, math ran forward" in text for text in found)
    assert any("sdpa_flash was requested, math ran backward" in text for text in found)


def test_nan_is_not_within_any_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdpa, "attention", lambda q, *rest, **options: q * float("nan"))
    assert any(text.startswith("numerics: logits") for text in failures(FLASH))


def test_relies_on_no_code_of_the_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle must not share a mistake with what it judges."""
    for module, name in ((F, "softmax"), (torch.Tensor, "softmax"), (F, "scaled_dot_product_attention")):
        monkeypatch.setattr(module, name, lambda *args, **options: pytest.fail("the oracle used a back end"))
    oracle = t2bench.attention.dispatch.REFERENCE
    x = torch.ones(1, 2, 3, 4)
    assert torch.allclose(t2bench.attention.dispatch.attend(x, x, x, Mask(causal=True), backend=oracle), x)


def test_the_operator_is_checked_in_the_dtype_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 is float32 with products of ten bits: not sixteen-bit attention, and not held to float32's rounding."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(truth, "check_attention", lambda backend, **options: asked.append(options) or ())
    spec = shrunk(preset("gpt2").model, 8)
    given = {"device": "cpu", "seed": 0, "length": 8, "trains": False}
    truth.check(spec, dtype=torch.float32, rounding=torch.float16, **given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        truth.check(spec, dtype=torch.float32, rounding=torch.bfloat16, **given)
    assert [(one["dtype"], one["rounding"]) for one in asked] == [
        (torch.float32, torch.float16),
        (torch.bfloat16, torch.bfloat16),
    ]
