"""Can every planned case's vocabulary spell the text that the case reads? Said when the suite is read, at its place."""

from __future__ import annotations

from collections.abc import Iterator

from t2bench.spec.case import MIN_TEXT_VOCAB, Plan
from t2bench.spec.errors import SpecError, listing
from t2bench.spec.shape import Path, spell
from t2bench.spec.yamltree import Node


def too_few_tokens(plan: Plan, tree: Node) -> list[SpecError]:
    """Vocabularies below MIN_TEXT_VOCAB in cases that read text: one fault for each place that states one.

    Args:
        plan: what the suite comes to; cases that it leaves out need no vocabulary.
        tree: the suite as written, with the places.
    """
    variants: dict[tuple[Path, int], dict[str, None]] = {}
    for case in plan.cases:
        size = case.model.vocab
        if case.workload.reads_text and size < MIN_TEXT_VOCAB and not case.ghost:
            variants.setdefault((_place(tree, case.variant, size), size), {})[case.variant] = None
    return [
        SpecError(
            (tree.get(*path) or tree).mark,
            spell(tree, path),
            f"{listing(names)}: workloads that read text need a vocab of at least {MIN_TEXT_VOCAB}, got {size}",
        )
        for (path, size), names in variants.items()
    ]


def _place(tree: Node, variant: str, size: int) -> Path:
    """Where the size was written, or the whole suite."""
    for path in _candidates(tree, variant):
        node = tree.get(*path)
        if node is not None and node.value == size:
            return path
    return ()


def _candidates(tree: Node, variant: str) -> Iterator[Path]:
    """Where a variant's vocabulary may be stated: what wins comes first; its bases are variants too."""
    for index, _ in enumerate(_elements(tree, "include")):
        yield ("include", index, "vocab")
    for index, _ in enumerate(_elements(tree, "matrix", "vocab")):
        yield ("matrix", "vocab", index)
    entries = [(index, each.get("name")) for index, each in enumerate(_elements(tree, "variants"))]
    for index, _ in sorted(entries, key=lambda entry: entry[1] is None or entry[1].value != variant):
        yield ("variants", index, "set", "vocab")
        yield ("variants", index, "model", "vocab")
    yield ("model", "vocab")


def _elements(tree: Node, *path: str) -> list[Node]:
    node = tree.get(*path)
    return list(node.elements()) if node else []
