"""Each axis is broken on purpose, in the spec or in the code, and the tolerance of the oracles must notice."""

from collections import defaultdict
from collections.abc import Iterator

import pytest
from code_mutants import CODE_MUTANTS
from spec_mutants import SPEC_MUTANTS

from t2bench.parity.oracle import FLOAT32_TOLERANCE, Oracle, difference
from t2bench.parity.oracles import ORACLES
from t2bench.spec.model import ModelSpec

# Broken in words only: what is changed cannot be felt in these models. Mutant -> what the oracles' names begin with.
EQUIVALENT: dict[str, tuple[str, ...]] = {
    # Padding is the last document, which no other looks at.
    "padding mask dropped": ("equations: documents encoder",),
}
LEAST_CAUGHT = 0.95

# mutant -> oracles that noticed it, and that did not
caught: dict[str, list[str]] = defaultdict(list)
missed: dict[str, list[str]] = defaultdict(list)


def wrong_specs(spec: ModelSpec) -> Iterator[tuple[str, ModelSpec]]:
    for label, (applies, change) in SPEC_MUTANTS.items():
        try:
            wrong = change(spec)
        except ValueError:  # what is broken contradicts another axis
            continue
        if applies(spec) and wrong != spec:
            yield label, wrong


def judge(label: str, oracle: Oracle, spec: ModelSpec) -> None:
    if oracle.name.startswith(EQUIVALENT.get(label, ("-",))):
        return
    found = caught if difference(spec, oracle.expected, strict=False) > FLOAT32_TOLERANCE else missed
    found[label].append(oracle.name)


@pytest.mark.parametrize("name", ORACLES)
def test_mutants_of_a_spec_and_of_the_code(name: str) -> None:
    oracle = ORACLES[name]
    if oracle.spec.recurrence != "none":
        pytest.skip("recurrent models have mutants of their own")
    for label, wrong in wrong_specs(oracle.spec):
        judge(label, oracle, wrong)
    for label, (applies, break_it) in CODE_MUTANTS.items():
        if applies(oracle.spec):
            with pytest.MonkeyPatch.context() as patch:
                break_it(patch)
                judge(label, oracle, oracle.spec)


def test_nearly_all_mutants_are_caught() -> None:
    """Runs after the others, on what they found; by itself, on one oracle."""
    if not caught:
        test_mutants_of_a_spec_and_of_the_code("Llama")
    num_caught, num_missed = sum(map(len, caught.values())), sum(map(len, missed.values()))
    print(f"\n{len(caught)} mutants, {num_caught} of {num_caught + num_missed} uses caught")
    for label, names in missed.items():
        print(f"missed: {label}: {', '.join(names)}")
    assert [label for label in missed if label not in caught] == []
    assert num_caught >= LEAST_CAUGHT * (num_caught + num_missed)
