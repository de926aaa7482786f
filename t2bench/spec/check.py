"""Does a well-shaped suite make sense? Names that must exist, cycles, duplicates, keys that need one another."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction

from t2bench.spec.case import LEARNING, WORKLOADS, WorkloadSpec
from t2bench.spec.errors import Mark, SpecError, did_you_mean, listing, show
from t2bench.spec.presets import preset_names
from t2bench.spec.quality import MADE, TASKS, Decoding
from t2bench.spec.yamltree import Node

MAX_NAME = 60
MAX_WORDS = 10_000  # of a sentence: no text has longer ones, and making them would take hours
SAFE_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}")
WORKLOAD_LABELS = (
    *WORKLOADS,
    *("attention+causal", "attention+backward", "attention+causal+backward"),
    *("forward+ragged", "train_step+ragged"),
)
DECODE_LABEL = re.compile(r"decode\+[1-9][0-9]*")
# Options of a workload -> the kinds that have them.
OPTIONS: dict[str, tuple[str, ...]] = {
    "causal": ("attention",),
    "backward": ("attention",),
    "new_tokens": ("decode",),
    "ragged": ("forward", "train_step"),
}


def check_meaning(tree: Node, broken: Collection[str]) -> list[SpecError]:
    """Every fault that concerns more than one value.

    Args:
        tree: the suite as it holds for one device, without what the shape check found wrong.
        broken: top-level keys in which the shape check found faults: nothing that would only follow is reported.
    """
    checker = _Checker(tree, frozenset(broken))
    for check in (
        checker.identity,
        checker.variants,
        checker.references,
        checker.matrix,
        checker.include_and_exclude,
        checker.measure,
        checker.quality,
    ):
        check()
    return checker.errors


class _Checker:
    def __init__(self, tree: Node, broken: frozenset[str]) -> None:
        self.tree = tree
        self.broken = broken
        self.errors: list[SpecError] = []
        self.names = self._variant_names()

    def add(self, mark: Mark, where: str, message: str) -> None:
        self.errors.append(SpecError(mark, where, message))

    def _variant_names(self) -> list[str]:
        found = []
        for node in self._items("variants"):
            name = node.value if isinstance(node.value, str) else node.value["name"].value
            found.append(name)
        return found

    def _items(self, key: str) -> Sequence[Node]:
        node = self.tree.get(key)
        return node.elements() if node else ()

    def identity(self) -> None:
        """The keys that every suite has, and its name."""
        for key in ("schema", "name", "variants", "matrix"):
            if self.tree.get(key) is None and key not in self.broken:
                self.add(self.tree.mark, "", f"missing key {key}")
        name = self.tree.get("name")
        if name and not SAFE_NAME.fullmatch(name.value):
            words = f"letters, digits, '.', '_' and '-', beginning with a letter or digit, at most {MAX_NAME}"
            self.add(name.mark, "name", f"expected {words}, got {show(name.value)}")

    def variants(self) -> None:
        """Names, bases, scales."""
        presets = preset_names()
        own: dict[str, Node] = {}
        seen: set[str] = set()
        for index, (node, name) in enumerate(zip(self._items("variants"), self.names, strict=True)):
            where = f"variants[{index}]"
            if name in seen:
                self.add(node.mark, where, f"the name {show(name)} is used twice")
            seen.add(name)
            if isinstance(node.value, str):
                if name not in presets:
                    hint = did_you_mean(name, presets)
                    self.add(node.mark, where, f"unknown variant {show(name)}{hint} (there are: {listing(presets)})")
                continue
            own[name] = node
            self._entry(node, name, where, presets)
        for index, node in enumerate(self._items("variants")):
            if isinstance(node.value, dict):
                self._base(node, own, f"variants[{index}].base")

    def _entry(self, node: Node, name: str, where: str, presets: Collection[str]) -> None:
        mark = node.value["name"].mark
        if fault := _bad_variant_name(name):
            self.add(mark, f"{where}.name", fault)
        whole = node.get("model") is not None
        if name in presets and not whole:
            self.add(mark, f"{where}.name", f"{show(name)} is the name of a built-in variant; choose another")
        if whole and node.get("set") is not None:
            self.add(node.value["set"].mark, f"{where}.set", "give either model (everything) or set (the difference)")
        scale = node.get("scale")
        for key, share in scale.items() if scale else ():
            if share.value is not None and (fault := _bad_share(share.value)):
                self.add(share.mark, f"{where}.scale.{key}", fault)

    def _base(self, node: Node, own: Mapping[str, Node], where: str) -> None:
        """The base exists, and following bases ends."""
        base = node.get("base")
        if base is None or base.value is None or node.get("model") is not None:
            return
        choices = [*own, *preset_names()]
        if base.value not in choices:
            if "variants" in self.broken:
                return
            hint = did_you_mean(base.value, choices)
            self.add(base.mark, where, f"unknown variant {show(base.value)}{hint} (there are: {listing(choices)})")
            return
        trail = [node.value["name"].value]
        step: Node | None = base
        while step is not None and isinstance(step.value, str) and step.value in own:
            if step.value in trail:
                self.add(base.mark, where, f"goes round in a circle: {' -> '.join([*trail, step.value])}")
                return
            trail.append(step.value)
            step = own[step.value].get("base")

    def references(self) -> None:
        """Variant names in `reference` and `ladder`."""
        reference = self.tree.get("reference")
        if reference and reference.value is not None:
            self._must_be_variant(reference, "reference")
        rungs = self._items("ladder")
        for index, node in enumerate(rungs):
            self._must_be_variant(node, f"ladder[{index}]")
            if node.value in [other.value for other in rungs[:index]]:
                self.add(node.mark, f"ladder[{index}]", f"{show(node.value)} is on the ladder twice")
        if len(rungs) == 1:
            self.add(rungs[0].mark, "ladder", "a ladder has at least two rungs")

    def _must_be_variant(self, node: Node, where: str) -> None:
        if node.value in self.names or "variants" in self.broken or not self.names:
            return
        hint = did_you_mean(node.value, self.names)
        self.add(
            node.mark, where, f"{show(node.value)} is not among the suite's variants{hint} ({listing(self.names)})"
        )

    def matrix(self) -> None:
        """Values given twice, keys that need another."""
        matrix = self.tree.get("matrix")
        if matrix is None:
            return
        for key, node in matrix.items():
            plain = [child.plain() for child in node.elements()]
            for index, child in enumerate(node.elements()):
                if any(type(plain[index]) is type(other) and plain[index] == other for other in plain[:index]):
                    self.add(child.mark, f"matrix.{key}[{index}]", f"{show(plain[index])} is given twice")
        if "length" not in dict(matrix.items()) and "matrix" not in self.broken:
            self.add(matrix.mark, "matrix", "missing key length")
        workloads = matrix.get("workload")
        kinds = [_kind(node) for node in workloads.elements()] if workloads else ["train_step"]
        for key in ("causal", "backward"):
            if matrix.get(key) and set(kinds) != {"attention"} and "matrix" not in self.broken:
                words = f"only the attention workload has it; write {{kind: attention, {key}: true}} under workload"
                self.add(matrix.key_marks.get(key, matrix.mark), f"matrix.{key}", words)
        for index, node in enumerate(workloads.elements() if workloads else ()):
            self._flags(node, f"matrix.workload[{index}]")

    def _flags(self, node: Node, where: str) -> None:
        for key, kinds in OPTIONS.items():
            option = node.get(key)
            if option and option.value not in (None, getattr(WorkloadSpec(), key)) and _kind(node) not in kinds:
                words = f"only the {' and '.join(kinds)} workload has it, not {_kind(node)}"
                self.add(option.mark, f"{where}.{key}", words)

    def include_and_exclude(self) -> None:
        """Names of variants and workloads."""
        for index, entry in enumerate(self._items("include")):
            for node, place in _elements(entry, "variant"):
                self._must_be_variant(node, f"include[{index}].{place}")
            if workload := entry.get("workload"):
                self._flags(workload, f"include[{index}].workload")
        for index, entry in enumerate(self._items("exclude")):
            match = entry.value["match"]
            where = f"exclude[{index}].match"
            if not match.value and "exclude" not in self.broken:
                self.add(match.mark, where, "an empty match would exclude everything")
            for node, place in _elements(match, "variant"):
                self._must_be_variant(node, f"{where}.{place}")
            for node, place in _elements(match, "workload"):
                if node.value not in WORKLOAD_LABELS and not DECODE_LABEL.fullmatch(str(node.value)):
                    hint = did_you_mean(node.value, WORKLOAD_LABELS)
                    message = f"unknown workload {show(node.value)}{hint} (there are: {listing(WORKLOAD_LABELS)})"
                    self.add(node.mark, f"{where}.{place}", message)

    def measure(self) -> None:
        """Bounds that must not cross."""
        low, high = self.tree.get("measure", "rounds"), self.tree.get("measure", "max_rounds")
        if low and high and high.value < low.value:
            self.add(
                high.mark, "measure.max_rounds", f"must be at least measure.rounds ({low.value}), got {high.value}"
            )

    def quality(self) -> None:
        """Settings of training that nothing trains by, ranges that are none, ways of decoding given twice."""
        quality, learning = self.tree.get("quality"), self._learning()
        if "quality" in self.broken or "matrix" in self.broken:
            return
        if not learning:
            entries = enumerate(self._items("variants"))
            own = [(f"variants[{index}].recipe", node.get("recipe")) for index, node in entries]
            for where, node in [("quality", quality), *own]:
                if node is not None:
                    words = f"changes nothing: no workload learns; add {' or '.join(LEARNING)} to matrix.workload"
                    self.add(node.mark, where, words)
            return
        corpus = quality.get("corpus") if quality else None
        name = corpus.get("name") if corpus else None
        mark = name.mark if name else quality.mark if quality else self.tree.mark
        chosen = str(name.value) if name else MADE[0]
        if "recall" in learning and chosen not in TASKS:
            self.add(mark, "quality.corpus.name", f"workload recall needs one of {listing(TASKS)}, got {show(chosen)}")
        ranges = corpus.get("test_lengths") if corpus else None
        if "extrapolate" in learning and chosen not in MADE and not (ranges and ranges.elements()):
            words = "workload extrapolate needs quality.corpus.test_lengths, for example [[1, 30], [31, 60]]"
            self.add(corpus.mark if corpus else mark, "quality.corpus", words)
        self._ranges(corpus)
        self._decoding(quality)

    def _learning(self) -> set[str]:
        """Kinds of workloads in the suite that train to a quality."""
        workloads = self.tree.get("matrix", "workload")
        nodes = [*(workloads.elements() if workloads else ())]
        nodes += [node for entry in self._items("include") if (node := entry.get("workload"))]
        return {_kind(node) for node in nodes} & set(LEARNING)

    def _ranges(self, corpus: Node | None) -> None:
        lengths = corpus.get("lengths") if corpus else None
        tests = corpus.get("test_lengths") if corpus else None
        places = [("quality.corpus.lengths", lengths)] if lengths and lengths.elements() else []
        places += [(f"quality.corpus.test_lengths[{i}]", n) for i, n in enumerate(tests.elements() if tests else ())]
        for where, node in places:
            bounds = node.plain()
            if len(bounds) != 2 or not 1 <= bounds[0] <= bounds[1] <= MAX_WORDS:
                words = f"expected [fewest, most] words up to {MAX_WORDS}, for example [1, 30], got {show(bounds)}"
                self.add(node.mark, where, words)

    def _decoding(self, quality: Node | None) -> None:
        entries = quality.get("decode") if quality else None
        seen: set[str] = set()
        for index, node in enumerate(entries.elements() if entries else ()):
            plain = node.plain()
            decoding = Decoding(**({"method": plain} if isinstance(plain, str) else plain))
            label = decoding.label
            for name in decoding.idle:
                if getattr(decoding, name) != getattr(Decoding(), name):
                    words = f"changes nothing: the method is {decoding.method}"
                    self.add(node.mark, f"quality.decode[{index}].{name}", words)
            if decoding.method == "mbr" and decoding.samples < 1:
                self.add(node.mark, f"quality.decode[{index}].samples", "mbr needs at least 1 draw, better 16")
            if label in seen:
                self.add(node.mark, f"quality.decode[{index}]", f"{label} is given twice")
            seen.add(label)


def _elements(node: Node, key: str) -> list[tuple[Node, str]]:
    """The values of a list, each with its place as the user wrote it."""
    child = node.get(key)
    found = child.elements() if child else []
    implied = child is not None and child.implied
    return [(each, key if implied else f"{key}[{index}]") for index, each in enumerate(found)]


def _kind(node: Node) -> str:
    kind = node.get("kind") if isinstance(node.value, dict) else node
    return str(kind.value) if kind else "train_step"


def _bad_variant_name(name: str) -> str:
    """What is wrong with a variant's name; it is part of case ids, tables and file names."""
    if not name or len(name) > MAX_NAME:
        return f"expected 1 to {MAX_NAME} characters, got {len(name)}"
    if not name.isprintable() or name != name.strip():
        return f"expected printable characters without spaces around them, got {show(name)}"
    taken = [character for character in "/@" if character in name]
    return f"{taken[0]!r} is not allowed in a variant's name (it separates the parts of a case id)" if taken else ""


def _bad_share(text: str) -> str:
    words = f"expected a fraction above 0 and at most 8, such as 2/3, got {show(text)}"
    if not re.fullmatch(r"[0-9]{1,6}(/[0-9]{1,6}|\.[0-9]{1,6})?", text):
        return words
    try:
        return "" if 0 < Fraction(text) <= 8 else words
    except ZeroDivisionError:
        return words
