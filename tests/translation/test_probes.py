"""The probes find what is broken on purpose, each by the probe that is about it, and nothing where nothing is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from t2bench.attention import math
from t2bench.attention.mask import Mask
from t2bench.attention.scores import Scores
from t2bench.attention.verify import Check
from t2bench.models import cache, cellstack, factories, recurrent, truth
from t2bench.models.attention import CrossAttention, SelfAttention
from t2bench.models.position import PositionTables
from t2bench.models.precision import PRECISIONS
from t2bench.models.shared import Shared
from t2bench.models.transformer import Transformer, build
from t2bench.parity.subject import VOCAB, shrunk
from t2bench.spec.axes import PatternSpec, PositionSpec
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.presets import preset, preset_names
from t2bench.spec.refusals import refusal
from t2bench.translation.probes import probe


def runs_here(spec: ModelSpec) -> bool:
    workload = WorkloadSpec(kind="train_step")
    case = Case(variant="small", model=spec, workload=workload, length=20, batch=2, dtype="fp32", device="cpu")
    return refusal(case) is None and spec.attention != "flex"


def small(name: str) -> ModelSpec:
    """A preset at a small size, with plain attention where a CPU does not have its own."""
    spec = replace(shrunk(preset(name).model), quant="none")
    return spec if runs_here(replace(spec, compile="off")) else replace(spec, attention="math")


TRANSLATORS = [name for name in preset_names() if preset(name).model.arch != "encoder"]
VANILLA, LLAMA = small("vanilla"), replace(small("llama"), attention="math")
PREFIX = replace(LLAMA, pattern=PatternSpec(kind="prefix"))
BAHDANAU, SUTSKEVER = small("lstm_bahdanau"), replace(small("lstm_bahdanau"), bridge="state")


def probed(model: Transformer, dtype: str = "fp32", seed: int = 0) -> tuple[Check, ...]:
    return probe(model, vocab=VOCAB, device="cpu", dtype=dtype, seed=seed)


def failed(model: Transformer, **how: Any) -> set[str]:
    return {check.name for check in probed(model, **how) if not check.passed}


@pytest.mark.parametrize("name", TRANSLATORS)
def test_every_preset_passes(name: str) -> None:
    spec = small(name)
    checks = probed(build(spec))
    assert [f"{check.name}: {check.detail}" for check in checks if not check.passed] == []
    wanted = {"causality", "causality, fp32", "source", "order of the source"}
    wanted |= {"padding: ignored", "padding: unpadded"} if spec.arch == "encdec" else set()
    wanted |= {"generation: text 1", "generation: text 2"} if spec.cache != "off" else set()
    assert wanted <= {check.name for check in checks}


@pytest.mark.parametrize("spec", [VANILLA, small("t5"), PREFIX, BAHDANAU])
def test_no_false_alarm(spec: ModelSpec) -> None:
    for seed in range(18):
        dtype = ("fp32", "bf16", "bf16_autocast")[seed % 3]
        model = build(spec, dtype=PRECISIONS[dtype].parameters, seed=seed)
        assert failed(model, dtype=dtype, seed=seed) == set()


def test_the_model_is_left_as_it_is() -> None:
    model = build(VANILLA)
    weights = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    probed(model)
    assert model.training
    assert model.spec == VANILLA
    assert all(torch.equal(x, weights[name]) for name, x in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_tables_that_begin_at_zero_are_no_alarm() -> None:
    model = build(replace(small("t5"), dec_layers=1))
    with torch.no_grad():
        for stack in (model.encoder, model.decoder):
            stack.bias.table_NH.zero_()  # type: ignore[union-attr]
        model.head_VD.zero_()
    assert failed(model) == set()


# What breaks a model that is built. The class is changed, not the object: a copy is broken in the same way.


class SeesAll(SelfAttention):
    def forward(self, x_BTD: Tensor, shared: Shared, **options: Any) -> Tensor:
        mask = Mask(key_lengths_B=shared.mask.key_lengths_B)
        return super().forward(x_BTD, replace(shared, mask=mask, full_mask=mask), **options)


class Whispers(SelfAttention):
    """A millionth of the next token comes through: little, and enough to learn from."""

    def forward(self, x_BTD: Tensor, shared: Shared, **options: Any) -> Tensor:
        return super().forward(x_BTD, shared, **options) + 1e-6 * x_BTD.roll(-1, dims=1)


class ReadsPadding(CrossAttention):
    def _attended(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, *more: Any) -> Tensor:
        return super()._attended(q, k, v, replace(mask, key_lengths_B=None), *more)


class Deaf(CrossAttention):
    def forward(self, x_BTD: Tensor, *_: Any, **__: Any) -> Tensor:
        return torch.zeros_like(x_BTD)


def of_class(right: type, wrong: type) -> Callable[[Transformer], None]:
    def break_it(model: Transformer) -> None:
        for module in model.modules():
            if type(module) is right:
                module.__class__ = wrong

    return break_it


def without_positions(model: Transformer) -> None:
    for stack in (model.encoder, model.decoder):
        if stack is not None:
            stack.tables.kind = "none"


class Alone(SelfAttention):
    """A token hears itself only."""

    def forward(self, x_BTD: Tensor, shared: Shared, **options: Any) -> Tensor:
        return torch.zeros_like(x_BTD)


PADDING = {"padding: ignored", "padding: unpadded"}
NO_SOURCE = {"source", "order of the source"}
GENERATION = {"generation: text 1", "generation: text 2"}
SEES_AHEAD = {"causality"} | GENERATION

BROKEN: dict[str, tuple[ModelSpec, Callable[[Transformer], None], set[str]]] = {
    "no positions": (VANILLA, without_positions, {"order of the source"}),
    "no causal mask": (VANILLA, of_class(SelfAttention, SeesAll), SEES_AHEAD),
    "no causal mask, decoder": (LLAMA, of_class(SelfAttention, SeesAll), SEES_AHEAD),
    "no causal mask, prefix": (PREFIX, of_class(SelfAttention, SeesAll), SEES_AHEAD),
    "a leak in the causal mask": (LLAMA, of_class(SelfAttention, Whispers), SEES_AHEAD),
    "no padding mask": (VANILLA, of_class(CrossAttention, ReadsPadding), PADDING),
    "no cross-attention": (VANILLA, of_class(CrossAttention, Deaf), NO_SOURCE),
    "no attention, decoder": (LLAMA, of_class(SelfAttention, Alone), NO_SOURCE),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_is_found_by_the_right_probe(name: str) -> None:
    spec, break_it, wanted = BROKEN[name]
    model = build(spec)
    assert failed(model) == set()
    break_it(model)
    assert failed(model) == wanted
    for check in probed(model):
        if not check.passed:
            assert check.detail.startswith(("sees ", "does not ", "reads ", "generates "))


def _one_behind(self: Any, num_new: int) -> None:
    self.length += num_new - 1


def _stateless(right: Any) -> Any:
    return lambda self, x, start=None, **options: right(self, x, None, **options)


CODE: dict[str, tuple[ModelSpec, tuple[Any, str, Any], set[str]]] = {
    "cache one behind": (VANILLA, (cache.GrowingCache, "advance", _one_behind), GENERATION),
    "cache one behind, decoder": (LLAMA, (cache.GrowingCache, "advance", _one_behind), GENERATION),
    "static cache forgets": (
        replace(VANILLA, cache="static"),
        (cache.StaticLayer, "update", lambda self, k, v: (k, v)), GENERATION,
    ),
    "state not kept": (
        SUTSKEVER,
        (cellstack.CellStack, "forward", _stateless(cellstack.CellStack.forward)),
        NO_SOURCE | GENERATION,
    ),
    "padding read by cells": (
        SUTSKEVER, (recurrent, "_reversed", lambda source, lengths: source.flip(1)), PADDING,
    ),
    "no positions": (VANILLA, (PositionTables, "sinusoid", lambda *_: None), {"order of the source"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CODE)
def test_broken_code_is_found_by_the_right_probe(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, patch, wanted = CODE[name]
    monkeypatch.setattr(*patch)
    assert failed(build(spec)) == wanted


def test_without_positions_order_must_not_matter() -> None:
    spec = replace(VANILLA, position=PositionSpec(kind="none"))
    (check,) = (check for check in probed(build(spec)) if check.name == "order of the source")
    assert check.passed
    assert check.detail.startswith("as expected of position none")
    model = build(VANILLA)
    model.spec = spec
    assert failed(model) == {"order of the source"}


class Own(nn.Module):
    """A user's translator: one layer of attention on each side."""

    positions = causal = masks = hears = True

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.table = nn.Embedding(spec.vocab, 32)
        self.read, self.write, self.listen = (nn.MultiheadAttention(32, 4, batch_first=True) for _ in range(3))
        self.register_buffer("places_MD", torch.randn(64, 32))
        self.out = nn.Linear(32, spec.vocab)

    def embed(self, tokens: Tensor) -> Tensor:
        x_BTD = self.table(tokens)
        return x_BTD + self.places_MD[: tokens.shape[1]] if self.positions else x_BTD

    def forward(self, tokens_BT: Tensor, *, source_BS: Tensor, source_lengths_B: Tensor | None = None) -> Tensor:
        hidden_BS = None
        if source_lengths_B is not None and self.masks:
            hidden_BS = torch.arange(source_BS.shape[1]) >= source_lengths_B[:, None]
        s_BSD, x_BTD = self.embed(source_BS), self.embed(tokens_BT)
        s_BSD = s_BSD + self.read(s_BSD, s_BSD, s_BSD, key_padding_mask=hidden_BS)[0]
        length = tokens_BT.shape[1]
        ahead_TT = torch.ones(length, length, dtype=torch.bool).triu(1) if self.causal else None
        x_BTD = x_BTD + self.write(x_BTD, x_BTD, x_BTD, attn_mask=ahead_TT)[0]
        if self.hears:
            x_BTD = x_BTD + self.listen(x_BTD, s_BSD, s_BSD, key_padding_mask=hidden_BS)[0]
        out_BTV: Tensor = self.out(x_BTD.tanh())
        return out_BTV


class Float32Only(Own):
    def embed(self, tokens: Tensor) -> Tensor:
        return super().embed(tokens) @ torch.eye(32)


def own(factory: Callable[[ModelSpec], nn.Module], monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> Transformer:
    monkeypatch.setitem(factories._factories, "mine", factory)
    return build(replace(VANILLA, factory="mine"), seed=seed)


@pytest.mark.parametrize("honest", [Own, Float32Only])
@pytest.mark.parametrize(
    ("lacks", "wanted"),
    [
        ("", set()),
        ("positions", {"order of the source"}),
        ("causal", {"causality"}),
        ("masks", {"padding: unpadded", "padding: ignored"}),
        ("hears", NO_SOURCE),
    ],
)
def test_users_own_modules(honest: type[Own], lacks: str, wanted: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    factory = type("Mine", (honest,), {lacks: False} if lacks else {})
    for seed in range(5):
        assert failed(own(factory, monkeypatch, seed), seed=seed) == wanted


def test_an_own_module_without_positions_may_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model = own(type("Mine", (Own,), {"positions": False}), monkeypatch)
    model.spec = replace(model.spec, position=PositionSpec(kind="none"))
    assert failed(model) == set()


def test_scores_that_nothing_scales_are_for_the_float64_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    right = math.attention
    unscaled = {"scores": Scores(scale=1.0)}
    monkeypatch.setattr(math, "attention", lambda *given, **options: right(*given, **{**options, **unscaled}))
    assert failed(build(VANILLA)) == set()
    checks = truth.check(VANILLA, device="cpu", dtype=torch.float32, seed=0, length=16)
    assert "numerics: logits" in {check.name for check in checks if not check.passed}
