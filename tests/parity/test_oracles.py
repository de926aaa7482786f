"""The model is what the literature says: equal to trusted implementations, offline, with the same random weights.

Every oracle has a negative control; test_mutants.py breaks each axis on purpose.
"""

import pytest
import torch

from t2bench.parity.oracles import ORACLES, for_spec
from t2bench.spec.presets import preset


def _assert_passed(checks: tuple) -> None:
    assert checks
    assert [f"{c.name}: {c.detail}" for c in checks if not c.passed] == []


@pytest.mark.parametrize("backend", ["math", "sdpa_math", "sdpa_flash"])
@pytest.mark.parametrize("name", ORACLES)
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
