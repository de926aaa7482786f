"""Presets: the built-in variants, as data in `presets/*.yaml`.

A preset is `base` + `set` (+ `scale`): another preset's name and what differs from it. A root has no base and starts
from the defaults of `ModelSpec`. Lists of whole configurations drift apart; single deltas cannot.

How a variant resolves, also for those that a suite defines:

1. the `set` of every preset in the chain, from the root up; a nested axis (`position`, `pattern`) is merged key by key;
2. the suite's `model:`, which holds for all variants;
3. the `set` of the variants that the suite itself defines, from the root up;
4. `scale`, which states a size relative to what steps 1 to 3 gave, so that it survives a suite's other width:
   `ff: 2/3` multiplies `ff`, rounded to the nearest multiple of 8 (a gated layer has three matrices instead of two);
   `kv_heads: 1/4` is that share of `heads`, lowered to the nearest divisor, at least 1.
   A later `set` of the same field is absolute and ends the scale; the suite's `model:` is not (that is its purpose).

The result is a `ModelSpec`, which is absolute throughout. A matrix key behaves like `model:`: see `at_point`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from t2bench.spec.axes import NESTED
from t2bench.spec.model import ModelSpec
from t2bench.spec.suite import Variant

SCALABLE = ("ff", "kv_heads")
FF_MULTIPLE = 8
LADDER = (
    "vanilla",
    "vanilla+flash",
    "prenorm",
    "prenorm+gelu",
    "transformer2",
    "transformer2+rmsnorm",
    "transformer2_head",
    "transformer2_head+gqa",
    "modern",
    "modern+compile",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A variant as written: what it changes in its base.

    Attributes:
        name: the variant's name.
        base: name of the recipe it starts from; empty for a root.
        set: model fields and their absolute values.
        scale: `ff` or `kv_heads` -> a fraction such as "2/3".
        recipe: how its training differs from the suite's.
        summary: one line for listings.
        source: the paper or project it comes from.
        group: of a preset, the name of its file.
    """

    name: str
    base: str = ""
    set: Mapping[str, Any] = field(default_factory=dict)
    scale: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""
    source: str = ""
    group: str = ""


# Groups of presets in the order of listings, a line each.
GROUPS = {
    "ladder": "from 2017 to today: each rung is the one before it and one change",
    "siblings": "one step aside from a rung of the ladder",
    "positions": "how a model may know where a token stands",
    "families": "well-known models, at their own sizes",
    "table3": "the rows of table 3 of Vaswani et al. 2017, each against vanilla",
    "recurrent": "what the transformer replaced, and what replaces it",
}


def preset_groups() -> dict[str, tuple[str, ...]]:
    """Group -> names of its presets, in the order of listings."""
    names = _presets()
    found: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name in (*LADDER, *(name for name in names if name not in LADDER)):
        found.setdefault(names[name].group, []).append(name)
    return {group: tuple(names) for group, names in found.items() if names}


def preset_names() -> tuple[str, ...]:
    """All built-in variants: the ladder first, then group by group."""
    return tuple(name for names in preset_groups().values() for name in names)


def recipe(name: str) -> Entry:
    """A preset as written.

    Raises:
        KeyError: there is no such preset.
    """
    return _presets()[name]


@functools.cache
def preset(name: str) -> Variant:
    """A preset, resolved at its own geometry.

    Raises:
        KeyError: there is no such preset.
    """
    return resolve(preset_chain(name))


def preset_chain(name: str) -> tuple[Entry, ...]:
    """The recipes that lead to a preset, root first."""
    found = [recipe(name)]
    while found[-1].base:
        found.append(recipe(found[-1].base))
    return tuple(reversed(found))


def resolve(chain: Sequence[Entry], *, shared: Mapping[str, Any] | None = None, own: Sequence[Entry] = ()) -> Variant:
    """Resolve a variant as the module's docstring says.

    Args:
        chain: the presets that lead to it, root first; empty if the suite's own variants start from scratch.
        shared: the suite's `model:`.
        own: the suite's variants that lead to it, root first.

    Raises:
        ValueError: the fields do not make a model (the message names them).
    """
    values: dict[str, Any] = {}
    scale: dict[str, str] = {}
    _apply(values, scale, chain)
    _merge(values, shared or {})
    _apply(values, scale, own)
    for name, cls in NESTED.items():
        values[name] = cls(**values.get(name, {}))
    values.update(_scaled(scale, values, SCALABLE))
    last = (*chain, *own)[-1]
    return Variant(
        name=last.name,
        model=ModelSpec(**values),
        base=last.base,
        summary=last.summary,
        scale=MappingProxyType(scale),
        recipe=MappingProxyType({key: value for each in own for key, value in each.recipe.items()}),
    )


def at_point(variant: Variant, fields: Mapping[str, Any]) -> ModelSpec:
    """The variant's model with some fields replaced, as a matrix point does: sizes it states by `scale` follow.

    Raises:
        ValueError: the fields do not make a model.
    """
    values = dict(fields)
    for name in NESTED.keys() & values.keys():
        values[name] = replace(getattr(variant.model, name), **values[name])
    followers = [name for name, leader in (("ff", "ff"), ("kv_heads", "heads")) if leader in fields]
    if "kv_heads" in fields:
        followers = [name for name in followers if name != "kv_heads"]
    values.update(_scaled(variant.scale, values, followers))
    return replace(variant.model, **values)


def _apply(values: dict[str, Any], scale: dict[str, str], recipes: Iterable[Entry]) -> None:
    for each in recipes:
        _merge(values, each.set)
        for name in each.set:
            scale.pop(name, None)
        scale.update(each.scale)


def _merge(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        values[name] = {**values.get(name, {}), **value} if isinstance(value, Mapping) else value


def _scaled(scale: Mapping[str, str], values: Mapping[str, Any], names: Iterable[str]) -> dict[str, int]:
    """The fields among `names` that are stated by a scale, as absolute sizes."""
    found: dict[str, int] = {}
    for name in names:
        if name not in scale:
            continue
        share = Fraction(scale[name])
        if name == "ff":
            size = values.get("ff", ModelSpec.__dataclass_fields__["ff"].default) * share
            found["ff"] = max(FF_MULTIPLE, round(size / FF_MULTIPLE) * FF_MULTIPLE)
        else:
            heads = values.get("heads", ModelSpec.__dataclass_fields__["heads"].default)
            largest = max(1, int(heads * share))
            found["kv_heads"] = next((n for n in range(largest, 0, -1) if heads % n == 0), 1)
    return found


@functools.cache
def _presets() -> Mapping[str, Entry]:
    """Every preset by name. The files lie beside this module, so a checkout needs no installation."""
    found: dict[str, Entry] = {}
    for path in sorted(Path(__file__).with_name("presets").glob("*.yaml")):
        for name, body in yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader).items():
            found[name] = Entry(name=name, group=path.stem, **body)
    return MappingProxyType(found)
