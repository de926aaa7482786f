"""The model is what the literature says: equal to trusted implementations, offline, with the same random weights.

Every oracle has a negative control; test_mutants.py breaks each axis on purpose.
"""

from dataclasses import replace

import pytest
import torch

from t2bench.parity.oracles import ORACLES, for_spec
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.presets import preset
from t2bench.spec.refusals import refusal


def _assert_passed(checks: tuple) -> None:
    assert checks
    assert [f"{c.name}: {c.detail}" for c in checks if not c.passed] == []


def _runs_here(spec: ModelSpec, backend: str) -> bool:
    case = Case(
        variant="oracle", model=replace(spec, attention=backend), workload=WorkloadSpec(kind="forward"), length=16,
        batch=2, dtype="fp32", device="cpu",
    )  # fmt: skip
    return refusal(case) is None


PAIRS = [
    (name, backend)
    for name, oracle in ORACLES.items()
    for backend in ("math", "sdpa", "sdpa_math", "sdpa_flash")
    if _runs_here(oracle.spec, backend)
]


@pytest.mark.parametrize(("name", "backend"), PAIRS)
def test_equal_to_library_and_control_fails(name: str, backend: str) -> None:
    _assert_passed(ORACLES[name].check(backend=backend))


@pytest.mark.parametrize("name", ORACLES)
def test_equal_in_16_bits_by_the_rule_of_twice_the_reference_error(name: str) -> None:
    _assert_passed(ORACLES[name].check(dtype=torch.bfloat16))


@pytest.mark.parametrize(
    ("variant", "oracle"),
    [("vanilla", "MarianMT, interleaved"), ("gpt2", "GPT-2"), ("bert", "BERT"), ("llama", "Llama")],
)
def test_an_oracle_vouches_for_the_preset_of_its_name(variant: str, oracle: str) -> None:
    found = for_spec(variant)
    assert found is not None
    assert found.name == oracle
    assert found.spec.norm_eps == preset(variant).model.norm_eps
    _assert_passed(found.check())
