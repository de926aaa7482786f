"""docs/variants.md is what the registry says now, and every value of every axis has its equation and paper."""

from __future__ import annotations

from dataclasses import fields

import pytest

from t2bench.parity import document
from t2bench.spec.axes import NESTED
from t2bench.spec.model import ModelSpec
from t2bench.spec.presets import preset_names

CURE = "run `make docs`"


def places() -> list[str]:
    own = [f.name for f in fields(ModelSpec) if f.name not in NESTED]
    return own + [f"{axis}.{f.name}" for axis, cls in NESTED.items() for f in fields(cls)]


def test_the_page_is_up_to_date() -> None:
    assert document.PAGE.read_text(encoding="utf-8") == document.page(document.read_figures()), CURE


def test_every_preset_was_held_to_an_oracle_as_it_is_now() -> None:
    figures = document.read_figures()
    assert [name for name in preset_names() if not document.is_current(name, figures)] == [], CURE
    assert set(figures) == set(preset_names()), CURE
    for name, found in figures.items():
        assert found["passed"], name
        assert float(found["error"]) <= float(found["allowed"]) < float(found["mistake"]), name


def test_a_changed_figure_changes_the_page() -> None:
    figures = document.read_figures()
    broken = {**figures, "vanilla": {**figures["vanilla"], "passed": False}}
    assert "**contradicted** by" in document.page(broken)
    assert "**contradicted** by" not in document.page(figures)
    assert not document.is_current("vanilla", {"vanilla": {**figures["vanilla"], "digest": "other"}})


@pytest.mark.parametrize("place", places())
def test_the_literature_names_exactly_the_values_of_each_axis(place: str) -> None:
    known = document.literature().get(place, {})
    values = document.choices(place)
    if place in ("bias", "final_norm", "embed_norm", "embed_scale", "head_scale"):  # on or off; the docstring says it
        assert not known
        return
    assert set(known) == set(values)
    assert all(entry["equation"] and entry["paper"] for entry in known.values())


def test_the_literature_names_no_axis_that_is_not() -> None:
    assert set(document.literature()) <= set(places())
