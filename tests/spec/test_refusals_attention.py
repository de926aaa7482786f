"""Every combination that an attention back end cannot do is refused with its reason, and its neighbour is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from t2bench.spec import refusals_attention
from t2bench.spec.axes import BACKENDS, PatternKind, PatternSpec, PositionKind, PositionSpec
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.plan import attention_only
from t2bench.spec.refusals import refusal
from t2bench.spec.refusals_attention import RULES

TRAIN, FORWARD = WorkloadSpec(kind="train_step"), WorkloadSpec(kind="forward")
RAGGED = WorkloadSpec(kind="forward", ragged=True)
DECODE = WorkloadSpec(kind="decode")
DECODER = ModelSpec(arch="decoder", position=PositionSpec(kind="none"))
ENCODER = replace(DECODER, arch="encoder")
WINDOW = PatternSpec(kind="window", window=16)
GLOBAL = replace(WINDOW, global_tokens=2)
PREFIX, DOCUMENT = PatternSpec(kind="prefix"), PatternSpec(kind="document")
ON_CUDA = {"device": "cuda", "dtype": "bf16"}


def case(backend: str, model: ModelSpec = DECODER, *, workload: WorkloadSpec = FORWARD, **changes: Any) -> Case:
    point = {"device": "cpu", "dtype": "fp32"} | {
        key: changes.pop(key) for key in ("device", "dtype") if key in changes
    }
    position = changes.pop("position", model.position.kind)
    model = replace(model, attention=backend, position=PositionSpec(kind=position), **changes)
    return Case(variant="x", model=model, workload=workload, length=64, batch=1, **point)


# (refused, its allowed neighbour, words of the reason)
ROWS: list[tuple[Case, Case, str]] = [
    (case("sdpa_efficient"), case("sdpa_efficient", **ON_CUDA), "no memory-efficient attention kernel for CPUs"),
    (case("sdpa_cudnn"), case("sdpa_cudnn", **ON_CUDA), "no cuDNN attention kernel for CPUs"),
    (case("varlen"), case("varlen", **ON_CUDA), "no kernel for CPUs"),
    *((case(name), case(name, **ON_CUDA), "CUDA only") for name in ("fa2", "fa3", "fa4")),
    *(
        (case(name, device="cuda"), case(name, **ON_CUDA), "bf16 and fp16 only")
        for name in ("sdpa_flash", "sdpa_cudnn", "varlen", "fa2", "fa3", "fa4")
    ),
    (case("varlen", device="cuda", dtype="tf32"), case("varlen", device="cuda", dtype="fp16"), "bf16 and fp16 only"),
    (case("sdpa_flash", heads=1, **ON_CUDA), case("sdpa_flash", heads=2, **ON_CUDA), "at most 256 features"),
    (case("fa4", heads=2, **ON_CUDA), case("fa4", heads=4, **ON_CUDA), "at most 128 features"),
    *(
        (
            case(name, workload=TRAIN, attention_dropout=0.1, **ON_CUDA),
            case(name, workload=FORWARD, attention_dropout=0.1, **ON_CUDA),
            "has no dropout",
        )
        for name in ("flex", "varlen", "fa3", "fa4")
    ),
    (
        case("sdpa_flash", workload=TRAIN, attention_dropout=0.1),
        case("sdpa_flash", workload=TRAIN, attention_dropout=0.1, **ON_CUDA),
        "silently run math",
    ),
    (
        case("fa2", workload=TRAIN, attention_dropout=0.1, attention_softcap=30.0, **ON_CUDA),
        case("fa2", workload=TRAIN, attention_dropout=0.1, **ON_CUDA),
        "dropout or a soft cap, not both",
    ),
    *(
        (case(name, score="additive", **ON_CUDA), case(name, score="dot", **ON_CUDA), "use attention: math")
        for name in BACKENDS
        if name != "math"
    ),
    *(
        (case(name, attention_softcap=30.0, **ON_CUDA), case(name, **ON_CUDA), "no soft cap")
        for name in ("sdpa", "sdpa_math", "sdpa_flash", "sdpa_efficient", "sdpa_cudnn", "varlen")
    ),
    *(
        (case(name, position="shaw", **ON_CUDA), case("math", position="shaw", **ON_CUDA), "values as well")
        for name in BACKENDS
        if name != "math"
    ),
    *(
        (case(name, position="txl", **ON_CUDA), case("flex", position="txl", **ON_CUDA), "each query a bias of its own")
        for name in BACKENDS
        if name not in ("math", "flex")
    ),
    *(
        (case(name, position=kind, **ON_CUDA), case("sdpa_efficient", position=kind, **ON_CUDA), "takes no bias")
        for name in ("sdpa_flash", "varlen", "fa3", "fa4")
        for kind in ("alibi", "t5_bias")
    ),
    (case("fa2", position="t5_bias", **ON_CUDA), case("fa2", position="alibi", **ON_CUDA), "takes no bias"),
    (
        case("fa2", position="alibi", attention_softcap=9.0, **ON_CUDA),
        case("fa2", attention_softcap=9.0, **ON_CUDA),
        "caps the scores before",
    ),
    (
        case("sdpa_flash", position="t5_bias", workload=TRAIN),
        case("sdpa_flash", position="t5_bias"),
        "no gradient for a trained bias: it would silently run math",
    ),
    (
        case("sdpa_flash", position="t5_bias", workload=TRAIN),
        case("sdpa_flash", position="alibi", workload=TRAIN),
        "use attention: math",
    ),
    (
        case("sdpa_cudnn", position="t5_bias", workload=TRAIN, **ON_CUDA),
        case("sdpa_cudnn", position="alibi", workload=TRAIN, **ON_CUDA),
        "cuDNN's kernel makes no gradient",
    ),
    *(
        (case("sdpa_flash", pattern=pattern, **ON_CUDA), case("sdpa_flash", pattern=pattern), "takes none")
        for pattern in (WINDOW, GLOBAL, PREFIX, DOCUMENT)
    ),
    *(
        (case(name, pattern=pattern, **ON_CUDA), case(name, pattern=allowed, **ON_CUDA), "takes none")
        for name in ("varlen", "fa2", "fa3", "fa4")
        for pattern, allowed in ((GLOBAL, WINDOW), (PREFIX, DOCUMENT))
    ),
    *(
        (
            case(name, workload=DECODE, cache="static", **ON_CUDA),
            case(name, workload=DECODE, cache="on", **ON_CUDA),
            "cache static",
        )
        for name in ("sdpa_flash", "varlen", "fa2", "fa3", "fa4")
    ),
    *(
        (
            case(name, ENCODER, workload=RAGGED, **ON_CUDA),
            case(name, ENCODER, workload=RAGGED, padding="packed", **ON_CUDA),
            "takes no padding mask; use padding: packed",
        )
        for name in ("sdpa_flash", "varlen", "fa2", "fa3", "fa4")
    ),
    (
        case("sdpa_flash", ENCODER, workload=RAGGED, **ON_CUDA),
        case("sdpa_flash", workload=RAGGED, **ON_CUDA),
        "no padding mask",
    ),
    (case("math", pattern=GLOBAL, padding="packed"), case("math", pattern=WINDOW, padding="packed"), "global tokens"),
    (
        case("flex", position="alibi", padding="packed", **ON_CUDA),
        case("math", position="alibi", padding="packed", **ON_CUDA),
        "within packed sequences",
    ),
    (case("math", ENCODER, padding="nested"), case("sdpa", ENCODER, padding="nested"), "scaled_dot_product_attention"),
    (
        case("sdpa", ENCODER, padding="nested", pattern=WINDOW),
        case("sdpa", ENCODER, padding="packed", pattern=WINDOW),
        "which window needs",
    ),
    (
        case("sdpa", ENCODER, padding="nested", position="alibi"),
        case("sdpa", ENCODER, padding="packed", position="alibi"),
        "which alibi needs",
    ),
    (case("sdpa", padding="nested"), case("sdpa", padding="nested", **ON_CUDA), "no causal mask"),
    (
        case("sdpa_flash", ENCODER, padding="nested"),
        case("sdpa_flash", ENCODER, padding="nested", **ON_CUDA),
        "only its math kernel for nested tensors",
    ),
    (case("flex", workload=TRAIN), case("flex"), "no backward pass on CPUs"),
    (case("flex", workload=TRAIN), case("flex", workload=TRAIN, **ON_CUDA), "no backward pass on CPUs"),
    (case("flex", workload=DECODE), case("flex", workload=WorkloadSpec(kind="prefill")), "compiled anew"),
]


@pytest.fixture(autouse=True)
def every_package_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals_attention, "installed", lambda backend: True)


@pytest.mark.parametrize(("refused", "allowed", "words"), ROWS)
def test_each_rule_begins_and_ends_where_it_should(refused: Case, allowed: Case, words: str) -> None:
    assert words in (refusal(refused) or "")
    assert refusal(allowed) is None


def test_every_rule_is_needed() -> None:
    fired = {rule.__name__ for refused, _, _ in ROWS for rule in RULES if rule(refused)}
    assert fired == {rule.__name__ for rule in RULES} - {"not_installed"}


@pytest.mark.parametrize("backend", ["fa2", "fa3", "fa4"])
def test_a_package_that_is_missing_is_named(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals_attention, "installed", lambda name: name != backend)
    reason = refusal(case(backend, **ON_CUDA))
    assert reason is not None
    assert reason.startswith(f"{backend} needs the package flash-attn")
    assert "not installed; pip install it" in reason


def test_every_reason_names_a_cure() -> None:
    for refused, _, _ in ROWS:
        reason = refusal(refused)
        assert reason is not None
        assert any(word in reason for word in ("; use ", "; set ")), reason


def test_another_module_has_no_back_end_to_refuse() -> None:
    assert refusal(replace(case("varlen"), model=replace(DECODER, factory="mine", attention="math"))) is None


def test_the_operator_keeps_what_it_depends_on() -> None:
    spec = replace(
        DECODER,
        position=PositionSpec(kind="t5_bias", buckets=8, max_distance=16),
        pattern=replace(WINDOW, layers="SL"),
        score="dot",
        attention_softcap=20.0,
        attention_dropout=0.1,
    )
    kept = attention_only(spec)
    assert kept.position == spec.position
    assert kept.pattern == WINDOW
    assert (kept.score, kept.attention_softcap, kept.attention_dropout) == ("dot", 20.0, 0.1)
    assert attention_only(replace(spec, position=PositionSpec(kind="rope"))).position.kind == "none"


@pytest.mark.parametrize("pattern", ["full", "window", "prefix", "document"])
@pytest.mark.parametrize("position", ["alibi", "t5_bias", "shaw", "txl"])
def test_every_operator_stands_alone(pattern: PatternKind, position: PositionKind) -> None:
    if (pattern, position) == ("prefix", "txl"):
        pytest.skip("no such model: txl has no distances ahead")
    spec = replace(DECODER, pattern=PatternSpec(kind=pattern), position=PositionSpec(kind=position))
    assert attention_only(spec).pattern.kind == pattern
    assert attention_only(spec).position.kind == position
