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


def wrong_specs(spec: ModelSpec) -> Iterator[tuple[str, ModelSpec]]:
    for label, (applies, change) in SPEC_MUTANTS.items():
        try:
            wrong = change(spec)
        except ValueError:  # what is broken contradicts another axis
            continue
        if applies(spec) and wrong != spec:
            yield label, wrong


def noticed(oracle: Oracle, spec: ModelSpec) -> bool:
    return difference(spec, oracle.expected, strict=False) > FLOAT32_TOLERANCE


def verdicts(oracle: Oracle) -> Iterator[tuple[str, bool]]:
    """(mutant, whether this oracle notices it) for every mutant that applies to its spec."""
    for label, wrong in wrong_specs(oracle.spec):
        yield label, noticed(oracle, wrong)
    for label, (applies, break_it) in CODE_MUTANTS.items():
        if applies(oracle.spec) and not oracle.name.startswith(EQUIVALENT.get(label, ("-",))):
            with pytest.MonkeyPatch.context() as patch:
                break_it(patch)
                yield label, noticed(oracle, oracle.spec)


def test_nearly_all_mutants_are_caught() -> None:
    caught: dict[str, list[str]] = defaultdict(list)
    missed: dict[str, list[str]] = defaultdict(list)
    for oracle in ORACLES.values():
        for label, found in verdicts(oracle):
            (caught if found else missed)[label].append(oracle.name)
    num_caught, num_missed = sum(map(len, caught.values())), sum(map(len, missed.values()))
    print(f"\n{len(caught)} mutants, {num_caught} of {num_caught + num_missed} uses caught")
    for label, names in missed.items():
        print(f"missed: {label}: {', '.join(names)}")
    assert (SPEC_MUTANTS.keys() | CODE_MUTANTS.keys()) - caught.keys() == set()
    assert num_caught >= LEAST_CAUGHT * (num_caught + num_missed)
