"""Refusals by the way of running: each rule where it begins and ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from t2bench.spec.axes import PatternSpec, PositionSpec
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.refusals import refusal
from t2bench.spec.refusals_modes import RULES

TRAIN, FORWARD, DECODE = WorkloadSpec(), WorkloadSpec(kind="forward"), WorkloadSpec(kind="decode", new_tokens=8)
LEARN = WorkloadSpec(kind="translate")
OPERATOR, RAGGED = WorkloadSpec(kind="attention"), WorkloadSpec(ragged=True)
PLAIN = ModelSpec(arch="decoder")
STATIC = replace(PLAIN, cache="static")
INT8 = replace(PLAIN, quant="int8wo")
PACKED = replace(PLAIN, padding="packed", attention="varlen")
DOCUMENTS = replace(PLAIN, pattern=PatternSpec(kind="document"))
MEMORY = replace(PLAIN, memory=16, position=PositionSpec(kind="txl"))
GRU = replace(PLAIN, recurrence="gru")


def case(model: ModelSpec = PLAIN, workload: WorkloadSpec = TRAIN, **changes: Any) -> Case:
    point = {"length": 64, "batch": 1, "dtype": "fp32", "device": "cpu"}
    return Case(variant="x", model=model, workload=workload, **{**point, **changes})


ROWS = [
    (case(dtype="tf32"), case(dtype="tf32", device="cuda"), "mode of NVIDIA"),
    (case(dtype="fp16"), case(dtype="bf16"), "CPUs convert fp16 for every operation"),
    (case(dtype="fp16"), case(dtype="fp16", device="cuda"), "use bf16 or fp32 there"),
    (case(dtype="fp16_autocast"), case(dtype="bf16_autocast"), "use bf16_autocast there"),
    (case(workload=OPERATOR, dtype="bf16_autocast"), case(workload=OPERATOR, dtype="bf16"), "use bf16"),
    (case(ModelSpec(arch="encoder"), DECODE), case(ModelSpec(arch="encoder"), FORWARD), "generates none"),
    (case(MEMORY, DECODE), case(PLAIN, DECODE), "memory: 0"),
    (case(DOCUMENTS, DECODE), case(DOCUMENTS, FORWARD), "use pattern: full"),
    (
        case(replace(PLAIN, compile="default"), DECODE),
        case(replace(STATIC, compile="default"), DECODE),
        "use cache: static",
    ),
    (case(replace(PLAIN, compile="default"), OPERATOR), case(workload=OPERATOR), "the attention operator alone"),
    (
        case(replace(PLAIN, compile="reduce-overhead")),
        case(replace(PLAIN, compile="max-autotune")),
        "compile: default under another name",
    ),
    (
        case(replace(PLAIN, compile="reduce-overhead")),
        case(replace(PLAIN, compile="reduce-overhead"), device="cuda"),
        "CUDA graphs",
    ),
    (
        case(replace(PACKED, compile="default"), RAGGED, device="cuda", dtype="bf16"),
        case(replace(PLAIN, compile="default"), RAGGED),
        "use padding: mask",
    ),
    (case(DOCUMENTS, RAGGED), case(DOCUMENTS, TRAIN), "pattern document divides"),
    (case(MEMORY, RAGGED), case(MEMORY, TRAIN), "segment memories continue"),
    (case(INT8, TRAIN), case(INT8, FORWARD), "use forward, prefill or decode"),
    (case(INT8, OPERATOR), case(INT8, DECODE), "no weights to quantize"),
    (case(replace(GRU, quant="int8dyn"), FORWARD), case(GRU, FORWARD), "recurrent cells"),
    (case(INT8, FORWARD, dtype="bf16_autocast"), case(INT8, FORWARD, dtype="bf16"), "not bf16_autocast"),
    (
        case(replace(PLAIN, quant="fp8"), FORWARD, dtype="bf16"),
        case(replace(PLAIN, quant="fp8"), FORWARD, dtype="bf16", device="cuda"),
        "Hopper generation",
    ),
    (
        case(replace(PLAIN, quant="int4wo"), FORWARD, device="cuda"),
        case(replace(PLAIN, quant="int4wo"), FORWARD, dtype="bf16", device="cuda"),
        "int4wo kernels take bf16",
    ),
    (
        case(replace(PLAIN, quant="int4wo"), FORWARD, dtype="bf16"),
        case(INT8, FORWARD, dtype="bf16"),
        "int4 kernels for CUDA only",
    ),
    (case(ModelSpec(arch="encoder"), LEARN), case(ModelSpec(), LEARN), "writes no text"),
    (case(MEMORY, LEARN), case(PLAIN, LEARN), "many short ones: memory: 0"),
    (case(DOCUMENTS, LEARN), case(PLAIN, LEARN), "a sentence pair is one text"),
    (case(workload=LEARN, dtype="bf16"), case(workload=LEARN, dtype="bf16_autocast"), "lose small updates"),
    (
        case(replace(PLAIN, compile="default"), LEARN),
        case(PLAIN, LEARN),
        "every batch of sentence pairs has another",
    ),
]


@pytest.mark.parametrize(("refused", "allowed", "words"), ROWS)
def test_each_rule_begins_and_ends_where_it_should(refused: Case, allowed: Case, words: str) -> None:
    assert words in (refusal(refused) or "")
    assert not any(rule(allowed) for rule in RULES)


def test_every_rule_is_tested_and_the_tests_concern_one_rule() -> None:
    fired = [[rule for rule in RULES if rule(refused)] for refused, _, _ in ROWS]
    assert all(len(rules) == 1 for rules in fired)
    assert {rule for rules in fired for rule in rules} == set(RULES)


def test_a_learned_table_must_hold_what_is_generated() -> None:
    """A prompt grows by all new tokens but the last, which is never read; a source does not grow."""
    decoder = replace(PLAIN, position=PositionSpec(kind="learned", max_len=71))
    assert refusal(case(decoder, DECODE, length=64)) is None
    assert "learned positions end" in (refusal(case(decoder, DECODE, length=65)) or "")
    assert refusal(case(replace(decoder, arch="encdec"), DECODE, length=71)) is None
