"""The suite file's shape follows the dataclasses: a new field is accepted, ranged and documented without more ado."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args, get_type_hints

import pytest

from t2bench.spec.axes import PositionSpec
from t2bench.spec.case import WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.schema import KEYS_BELOW, RANGES, attribute_docs, json_schema, values_of
from t2bench.spec.suite import Limits, Measure

SPECS = (ModelSpec, PositionSpec, Measure, Limits)


@pytest.mark.parametrize("cls", SPECS)
def test_every_number_has_a_range_that_holds_its_default(cls: type) -> None:
    hints = get_type_hints(cls)
    for each in fields(cls):
        hint = hints[each.name]
        numbers = {int, float} & {hint, *get_args(hint)}
        if numbers:
            span = RANGES[each.name]
            assert numbers == {int if span.whole else float}
            if each.default is not None:
                assert span.low < each.default or (not span.low_open and span.low == each.default)
                assert span.high is None or each.default <= span.high


@pytest.mark.parametrize("cls", [*SPECS, WorkloadSpec])
def test_every_field_is_documented(cls: type) -> None:
    names = [each.name for each in fields(cls)]
    assert list(attribute_docs(cls)) == names
    assert all(attribute_docs(cls).values())


def test_every_axis_says_what_it_may_hold() -> None:
    assert values_of(ModelSpec, "norm_place") == "post, pre, sandwich, inner"
    assert values_of(ModelSpec, "bias") == "true, false"
    assert values_of(ModelSpec, "kv_heads") == "a whole number of at least 1, or null"
    assert values_of(ModelSpec, "dropout") == "a number of at least 0 and below 1"


def test_the_keys_we_suggest_are_the_keys_that_are_valid() -> None:
    schema = json_schema()
    definitions = schema["$defs"]
    by_name = {"matrix": "Matrix", "include": "Include", "match": "Match", "measure": "Measure", "limits": "Limits",
               "model": "Model", "workload": "WorkloadEntry", "exclude": "ExcludeEntry", "variants": "VariantEntry",
               "scale": "Scale", "cpu": "ProfileFields", "profiles": "Profiles"}  # fmt: skip
    assert set(KEYS_BELOW[""]) == set(schema["properties"])
    for key, definition in by_name.items():
        assert set(KEYS_BELOW[key]) == set(definitions[definition]["properties"]), key
    assert set(KEYS_BELOW["position"]) == set(definitions["Position"]["anyOf"][1]["properties"])
