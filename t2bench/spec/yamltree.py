"""Strict YAML with positions: a suite file as a tree of `Node`, each knowing where it was written.

Read by PyYAML's pure Python scanner and composer, never by a constructor, so no tag can build an object. Different from
plain PyYAML (YAML 1.1): duplicate keys are errors, `1e-3` is a number, only `true` and `false` are booleans, there are
no dates, octal or sexagesimal numbers, no tags, and size, depth and alias expansion are limited.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from t2bench.spec.errors import Mark, SpecError, SuiteErrors, show

MAX_BYTES = 1 << 20
MAX_DEPTH = 50
MAX_NODES = 20_000  # written or expanded from aliases
MAX_DIGITS = 18

_SCALARS = {
    "null": (re.compile(r"^(?:~|null|)$"), ["~", "n", ""]),
    "bool": (re.compile(r"^(?:true|false)$"), list("tf")),
    "int": (re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")),
    "float": (
        re.compile(r"^[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+|(?:0|[1-9][0-9]*)(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
        list("-+.0123456789"),
    ),
}


@dataclass(slots=True)
class Node:
    """One value of the tree.

    Attributes:
        value: dict of nodes, list of nodes, or a scalar (str, int, float, bool, None).
        mark: where the value begins.
        key_marks: for a dict, where each key begins.
        implied: a list that the user wrote as its single value.
    """

    value: Any
    mark: Mark
    key_marks: dict[str, Mark] = field(default_factory=dict)
    implied: bool = False

    def plain(self) -> Any:
        """The tree as dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def get(self, *path: str | int) -> Node | None:
        """The node at a path, or None."""
        node: Node | None = self
        for step in path:
            if node is None:
                return None
            if isinstance(step, int):
                node = node.value[step] if isinstance(node.value, list) and step < len(node.value) else None
            else:
                node = node.value.get(step) if isinstance(node.value, dict) else None
        return node

    def items(self) -> Iterator[tuple[str, Node]]:
        """Keys and nodes of a mapping; nothing for anything else."""
        return iter(self.value.items() if isinstance(self.value, dict) else ())

    def elements(self) -> list[Node]:
        """Nodes of a list; nothing for anything else."""
        return list(self.value) if isinstance(self.value, list) else []


def read_yaml(data: bytes, source: str) -> Node:
    """The tree of one YAML document.

    Args:
        data: the file's bytes; at most `MAX_BYTES` of them are looked at.
        source: the file's name for messages.

    Raises:
        SuiteErrors: the bytes are not one plain YAML document within the limits.
    """
    text = _decode(data, source)
    problems: list[SpecError] = []
    try:
        loader = _Loader(text)
        document = loader.get_single_node()
    except _LimitError as error:
        raise _refuse(source, str(error.problem), error.problem_mark) from error
    except yaml.MarkedYAMLError as error:
        words = ": ".join(part for part in ("not YAML", error.context, error.problem) if part)
        raise _refuse(source, words, error.problem_mark or error.context_mark) from error
    except yaml.reader.ReaderError as error:
        mark = _position(source, text, error.position)
        raise SuiteErrors([SpecError(mark, "", f"character U+{error.character:04X} is not allowed")]) from error
    except (ValueError, OverflowError) as error:
        raise _refuse(source, "an escape in a quoted text is not a character", None) from error
    if document is None:
        raise _refuse(source, "the file is empty", None)
    tree = _Converter(source, problems).convert(document, 0)
    if problems:
        raise SuiteErrors(problems)
    return tree


def _decode(data: bytes, source: str) -> str:
    if len(data) > MAX_BYTES:
        raise _refuse(source, f"larger than {MAX_BYTES >> 10} KiB: not a suite file", None)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _refuse(source, "the file is UTF-16; save it as UTF-8", None)
    if data.startswith(b"\xef\xbb\xbf"):
        raise _refuse(source, "the file begins with a byte order mark; save it as UTF-8 without one", None)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        mark = _position(source, data[: error.start].decode("utf-8"), error.start)
        raise SuiteErrors([SpecError(mark, "", f"byte 0x{data[error.start]:02x} is not UTF-8")]) from error
    if "\0" in text:
        mark = _position(source, text, text.index("\0"))
        raise SuiteErrors([SpecError(mark, "", "the file holds a NUL character: not a text file")])
    return text


def _position(source: str, text: str, offset: int) -> Mark:
    before = text[:offset]
    return Mark(source, before.count("\n") + 1, len(before) - before.rfind("\n"))


def _refuse(source: str, message: str, mark: yaml.Mark | None) -> SuiteErrors:
    place = Mark(source, mark.line + 1, mark.column + 1) if mark else Mark(source)
    return SuiteErrors([SpecError(place, "", message)])


class _LimitError(yaml.MarkedYAMLError):
    """One of our limits, rather than YAML's grammar."""


class _Loader(yaml.SafeLoader):
    """PyYAML's scanner, parser and composer with our scalars, and limits that hold while composing."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's way of configuring a loader)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.count = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self.depth += 1
        self.count += 1
        problem = ""
        if self.depth > MAX_DEPTH:
            problem = f"nested deeper than {MAX_DEPTH} levels"
        elif self.count > MAX_NODES:
            problem = f"more than {MAX_NODES} values"
        elif getattr(event, "tag", None) is not None:
            problem = f"tags are not allowed ({show(event.tag)})"
        if problem:
            raise _LimitError(None, None, problem, event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _kind, (_pattern, _starts) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _pattern, _starts)


class Dumper(yaml.SafeDumper):
    """Writes what `read_yaml` and YAML 1.1 readers alike read back as the same values."""

    def ignore_aliases(self, data: Any) -> bool:
        """Repeat equal values rather than refer to them."""
        return True


for _kind, (_pattern, _starts) in _SCALARS.items():
    Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _pattern, _starts)


class _Converter:
    """PyYAML's node graph as a tree of our nodes, collecting every fault on the way."""

    def __init__(self, source: str, problems: list[SpecError]) -> None:
        self.source = source
        self.problems = problems
        self.count = 0

    def convert(self, node: yaml.Node, depth: int) -> Node:
        mark = self.mark(node)
        self.count += 1
        # An alias may repeat, or contain, what holds it: the written file is small, its expansion need not be.
        if depth > MAX_DEPTH or self.count > MAX_NODES:
            raise SuiteErrors(
                [SpecError(mark, "", f"aliases expand to more than {MAX_NODES} values, or to themselves")]
            )
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, mark, depth)
        if isinstance(node, yaml.SequenceNode):
            return Node([self.convert(child, depth + 1) for child in node.value], mark)
        return Node(self.scalar(node, mark), mark)

    def mapping(self, node: yaml.MappingNode, mark: Mark, depth: int) -> Node:
        tree = Node({}, mark)
        for key_node, value_node in node.value:
            key_mark = self.mark(key_node)
            key = self.scalar(key_node, key_mark) if isinstance(key_node, yaml.ScalarNode) else None
            value = self.convert(value_node, depth + 1)
            if not isinstance(key, str):
                self.problem(key_mark, "", "keys must be text (quote it if it is meant as a name)")
            elif key in tree.value:
                first = tree.key_marks[key]
                self.problem(
                    key_mark, key, f"duplicate key (first on line {first.line})" if first.line else "duplicate key"
                )
            else:
                tree.value[key] = value
                tree.key_marks[key] = key_mark
        return tree

    def scalar(self, node: yaml.Node, mark: Mark) -> Any:
        kind = node.tag.rpartition(":")[2]
        text: str = node.value
        if kind == "null":
            return None
        if kind == "bool":
            return text == "true"
        if kind == "int":
            if len(text) <= MAX_DIGITS:
                return int(text)
            self.problem(mark, "", f"{show(text)} is too large a number")
            return 0
        if kind == "float":
            if abs(float(text)) < float("inf"):
                return float(text)
            self.problem(mark, "", f"{show(text)} is too large a number")
            return 0.0
        if any("\ud800" <= c <= "\udfff" for c in text):
            self.problem(mark, "", "half of a surrogate pair is not a character")
            return ""
        return text

    def mark(self, node: yaml.Node) -> Mark:
        return Mark(self.source, node.start_mark.line + 1, node.start_mark.column + 1)

    def problem(self, mark: Mark, where: str, message: str) -> None:
        self.problems.append(SpecError(mark, where, message))
