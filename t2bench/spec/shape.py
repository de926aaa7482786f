"""Does a suite file have the right shape? Every unknown key and ill-typed value, in our words and with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from t2bench.spec.axes import NESTED
from t2bench.spec.errors import SpecError, did_you_mean, listing, show
from t2bench.spec.gate import share_of
from t2bench.spec.schema import KEYS_BELOW, RANGES, adapter
from t2bench.spec.yamltree import Node

Path = tuple[str | int, ...]


def normalise(node: Node, key: str = "") -> None:
    """Write out the shorthands in place: a single matrix value is a list of one, `position: rope` a mapping."""
    for name, child in node.items():
        if name in ("tolerance", "detect", "alpha"):
            child.value = share_of(child.value)
        if key in ("matrix", "match") or (key == "include" and name == "variant"):
            if not isinstance(child.value, list):
                node.value[name] = Node([child], child.mark, implied=True)
            for each in node.value[name].elements():
                _expand_nested(name, each)
        else:
            _expand_nested(name, child)
        normalise(node.value[name], name)
    for child in node.elements():
        normalise(child, key)


def _expand_nested(name: str, node: Node) -> None:
    if name in NESTED and isinstance(node.value, str):
        node.value = {"kind": Node(node.value, node.mark)}
        node.key_marks = {"kind": node.mark}


def check_shape(tree: Node) -> list[SpecError]:
    """Every unknown key and ill-typed value. The offending parts are taken out of the tree, so that what is left can
    be checked further; whole numbers in fields of real numbers become floats.
    """
    try:
        adapter().validate_json(json.dumps(tree.plain()))
    except ValidationError as error:
        faults = [fault for detail in error.errors(include_url=False) for fault in _faults(tree, detail)]
    else:
        faults = []
    for path, _ in sorted(faults, key=lambda fault: [str(step).rjust(9, "0") for step in fault[0]], reverse=True):
        _prune(tree, path)
    for holder in (tree, tree.get("profiles", "cpu"), tree.get("profiles", "cuda")):
        if holder is not None:
            _drop_incomplete(holder)
    _to_floats(tree)
    return [error for _, error in faults]


def _faults(tree: Node, detail: Mapping[str, Any]) -> Iterator[tuple[Path, SpecError]]:
    """A pydantic error in our words, with the path of what must go."""
    path = tuple(step for step in detail["loc"] if step not in ("<name>", "<entry>"))
    kind = detail["type"]
    if kind in ("missing", "missing_argument"):
        place = tree.get(*path[:-1]) or tree
        yield path[:-1], SpecError(place.mark, spell(tree, path[:-1]), f"missing key {path[-1]}")
        return
    parent, node = tree.get(*path[:-1]), tree.get(*path)
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        mark = parent.key_marks.get(str(path[-1]), parent.mark) if parent else tree.mark
        yield path, SpecError(mark, spell(tree, path), _unknown_key(path))
        return
    mark = node.mark if node else tree.mark
    value = node.plain() if node else None
    yield (
        path,
        SpecError(
            mark, spell(tree, path), f"expected {_expected(path, detail)}, got {show(value)}" + _near(detail, value)
        ),
    )


def _unknown_key(path: Path) -> str:
    container = next((step for step in reversed(path[:-1]) if isinstance(step, str)), "")
    allowed = KEYS_BELOW.get(container, ())
    return f"unknown key{did_you_mean(path[-1], allowed)} (allowed: {listing(allowed)})"


def _expected(path: Path, detail: Mapping[str, Any]) -> str:
    kind = detail["type"]
    name = next((step for step in reversed(path) if isinstance(step, str)), "")
    if kind in ("too_short", "string_too_short"):
        return "at least one value" if kind == "too_short" else "some text"
    if kind == "literal_error":
        return _literal_words(detail)
    if kind in ("list_type", "tuple_type"):
        return "a list"
    if kind in ("dataclass_type", "dict_type"):
        return "a mapping (key: value)"
    if kind == "bool_type":
        return "true or false"
    if kind == "string_type":
        return 'a fraction in quotes or plain, such as "2/3"' if "scale" in path else "text"
    if name in RANGES:
        known = RANGES[name]
        return f"a number of at most {known.cap}" if kind == "less_than_equal" and known.cap else known.words
    return str(detail["msg"]).removeprefix("Input should be ")


def _choices(detail: Mapping[str, Any]) -> list[str]:
    return re.findall(r"'([^']*)'", str(detail.get("ctx", {}).get("expected", "")))


def _literal_words(detail: Mapping[str, Any]) -> str:
    choices = _choices(detail)
    return f"one of {listing(choices)}" if choices else str(detail["ctx"]["expected"])


def _near(detail: Mapping[str, Any], value: Any) -> str:
    return did_you_mean(value, _choices(detail)) if detail["type"] == "literal_error" else ""


def spell(tree: Node, path: Sequence[str | int]) -> str:
    """The path as a user writes it: `variants[1].set.ff`."""
    text = ""
    node: Node | None = tree
    for step in path:
        if isinstance(step, str):
            text += f".{step}" if text else step
        elif node is None or not node.implied:
            text += f"[{step}]"
        node = node.get(step) if node else None
    return text


def _prune(tree: Node, path: Path) -> None:
    parent = tree.get(*path[:-1])
    if not path or parent is None:
        return
    last = path[-1]
    if isinstance(last, int):
        if isinstance(parent.value, list) and last < len(parent.value):
            del parent.value[last]
    elif isinstance(parent.value, dict):
        parent.value.pop(last, None)


def _drop_incomplete(suite: Node) -> None:
    """Entries that lost a key they must have are of no further use."""
    for key, required in (("variants", {"name"}), ("exclude", {"match", "reason"})):
        node = suite.get(key)
        if node is not None and isinstance(node.value, list):
            node.value = [
                each for each in node.value if not isinstance(each.value, dict) or required <= each.value.keys()
            ]


def _to_floats(node: Node, key: str = "") -> None:
    for name, child in node.items():
        _to_floats(child, name)
    for child in node.elements():
        _to_floats(child, key)
    if key in RANGES and not RANGES[key].whole and isinstance(node.value, int):
        node.value = float(node.value)
