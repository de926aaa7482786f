"""The variants that a suite names or defines, resolved; and what is wrong with them, each fault at its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from t2bench.spec.errors import Mark, SpecError, listing
from t2bench.spec.presets import Entry, preset_chain, preset_names, resolve
from t2bench.spec.suite import Variant
from t2bench.spec.yamltree import Node


def variants_of(tree: Node) -> tuple[tuple[Variant, ...], list[SpecError]]:
    """The suite's variants, resolved; and those that make no model."""
    node = tree.get("variants")
    shared = tree.get("model")
    shared_fields = shared.plain() if shared else {}
    entries = node.elements() if node else []
    own = {entry.value["name"].value: entry for entry in entries if isinstance(entry.value, dict)}
    found = []
    faults = Faults()
    for index, entry in enumerate(entries):
        try:
            found.append(_variant(entry, own, shared_fields))
        except ValueError as error:
            name = entry.value if isinstance(entry.value, str) else entry.value["name"].value
            places = {f"variants[{index}].{key}": entry.get(key) for key in ("model", "set")} | {"model": shared}
            mark, where = _place(str(error), places) or (entry.mark, f"variants[{index}]")
            faults.add(mark, where, str(error), name)
    return tuple(found), faults.errors()


class Faults:
    """Faults of variants: one line for all variants that share a fault."""

    def __init__(self) -> None:
        self.names: dict[tuple[Mark, str, str], list[str]] = {}

    def add(self, mark: Mark, where: str, message: str, variant: str) -> None:
        """One more variant with a fault."""
        self.names.setdefault((mark, where, message), []).append(variant)

    def errors(self) -> list[SpecError]:
        """All of them."""
        return [
            SpecError(mark, where, f"{listing(names)}: {message}")
            for (mark, where, message), names in self.names.items()
        ]


def _place(message: str, places: Mapping[str, Node | None]) -> tuple[Mark, str] | None:
    """Where a field that the message names was written; an argument is suspected before a file."""
    found = [
        (node.mark, f"{where}.{word}")
        for where, place in places.items()
        for word in re.findall(r"[a-z_]+", message)
        if place is not None and (node := place.get(word)) is not None
    ]
    return min(found, key=lambda each: each[0].line > 0, default=None)


def _variant(entry: Node, own: Mapping[str, Node], shared: Mapping[str, Any]) -> Variant:
    if isinstance(entry.value, str):
        return resolve(preset_chain(entry.value), shared=shared)
    body = entry.plain()
    if body.get("model") is not None:
        variant = resolve([Entry(name=body["name"], set=body["model"])])
        return replace(
            variant,
            base=body.get("base") or "",
            summary=body.get("summary") or "",
            scale=_stated(body, "scale"),
            recipe=_stated(body, "recipe"),
        )
    chain = [_entry(body)]
    while chain[0].base in own:
        chain.insert(0, _entry(own[chain[0].base].plain()))
    presets = preset_chain(chain[0].base) if chain[0].base in preset_names() else ()
    return resolve(presets, shared=shared, own=chain)


def _entry(body: Mapping[str, Any]) -> Entry:
    return Entry(
        name=body["name"],
        base=body.get("base") or "",
        set=body.get("set") or body.get("model") or {},
        scale=_stated(body, "scale"),
        recipe=_stated(body, "recipe"),
        summary=body.get("summary") or "",
    )


def _stated(body: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in (body.get(key) or {}).items() if value is not None}
