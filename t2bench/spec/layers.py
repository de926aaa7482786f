"""The layers of a suite: the files it extends, the device's profile and `--set` arguments, laid over one another.

Later layers win: base file, file, profile of the device, `--set`. Mappings are merged key by key; anything else,
lists included, is replaced whole. Every value keeps the place where it was written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from t2bench.spec.errors import Mark, SpecError, SuiteErrors, did_you_mean, listing, show
from t2bench.spec.yamltree import MAX_BYTES, Node, read_yaml

SUFFIXES = (".yaml", ".yml")
MAX_EXTENDS = 10


def suite_folder() -> Path:
    """Where the built-in suites are: `suites/` of a checkout, or the copy inside an installed package."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_suites"
    return installed if installed.is_dir() else package.parent / "suites"


def suite_names() -> tuple[str, ...]:
    """Names of the built-in suites; one in a subfolder is named `folder/name`."""
    root = suite_folder()
    return tuple(sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml")))


def find_suite(path_or_name: str | os.PathLike[str]) -> Path:
    """The file of a built-in suite, or the path itself.

    Raises:
        SuiteErrors: there is no such file or built-in suite.
    """
    text = os.fspath(path_or_name)
    if not text.strip():
        raise _lone("suite", f"an empty name (there are: {listing(suite_names())}; or give a file)")
    if text in suite_names():
        return _relative(suite_folder() / f"{text}.yaml")
    path = Path(text)
    try:
        if "\0" not in text and path.is_file():
            return path
        exists = "\0" not in text and path.exists()
    except OSError:  # for example a name too long for any file
        exists = False
    if exists:
        raise _lone(text, f"not a suite file ({'a directory' if path.is_dir() else 'not a regular file'})")
    if text.endswith(SUFFIXES):
        raise _lone(text, "no such file")
    raise _lone(text, _unknown_suite(text))


def _unknown_suite(name: str) -> str:
    return f"no such file or built-in suite{did_you_mean(name, suite_names())} (there are: {listing(suite_names())})"


def _relative(path: Path) -> Path:
    """A path as short as a message wants it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _lone(source: str, message: str) -> SuiteErrors:
    return SuiteErrors([SpecError(Mark(source), "", message)])


def read_layers(path: Path) -> Node:
    """The file at `path`, laid over the files that it extends.

    Raises:
        SuiteErrors: a file cannot be read, lies outside the extending file's folder, or extends itself.
    """
    layers: list[Node] = []
    trail: list[Path] = []
    step: Path | None = path
    while step is not None:
        tree = _read(step)
        trail.append(step.resolve())
        layers.append(tree)
        extends = tree.get("extends")
        step = None
        if extends is not None and isinstance(extends.value, str):
            step = _base_path(extends, trail[-1])
            if step.resolve() in trail or len(trail) > MAX_EXTENDS:
                names = " -> ".join(each.name for each in (*trail, step))
                raise SuiteErrors([SpecError(extends.mark, "extends", f"goes round in a circle: {names}")])
    merged = layers.pop()
    while layers:
        merged = merge(merged, layers.pop())
    return merged


def _read(path: Path) -> Node:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _lone(str(path), f"cannot be read ({error.strerror})") from error
    tree = read_yaml(data, str(path))
    if not isinstance(tree.value, dict):
        raise SuiteErrors([SpecError(tree.mark, "", "expected a mapping (key: value) at the top of the file")])
    return tree


def _base_path(extends: Node, file: Path) -> Path:
    """The file that `extends` names: a built-in suite, or a file in the extending file's folder or below."""
    text: str = extends.value

    def refuse(message: str) -> SuiteErrors:
        return SuiteErrors([SpecError(extends.mark, "extends", message)])

    if not text.endswith(SUFFIXES):
        if text in suite_names():
            return suite_folder() / f"{text}.yaml"
        raise refuse(f"{show(text)} is neither a .yaml file nor a built-in suite{did_you_mean(text, suite_names())}")
    if "\0" in text or len(text) > 1000:
        raise refuse(f"{show(text)} is not a path")
    target = (file.parent / text).resolve()
    if Path(text).is_absolute() or not target.is_relative_to(file.parent):
        raise refuse(f"{show(text)} is outside this file's folder, where bases must be")
    if not target.is_file():
        raise refuse(f"{show(text)}: no such file")
    return _relative(target)


def merge(base: Node, top: Node) -> Node:
    """`top` laid over `base`."""
    if not isinstance(base.value, dict) or not isinstance(top.value, dict):
        return top
    values = dict(base.value)
    for key, child in top.value.items():
        values[key] = merge(values[key], child) if key in values else child
    mark = top.mark if top.mark.line else base.mark
    return Node(values, mark, {**base.key_marks, **top.key_marks})


def for_device(tree: Node, device: str) -> Node:
    """The suite with the profile of a device kind laid over it, and without the keys that were for layering."""
    profile = tree.get("profiles", device)
    bare = Node(
        {key: child for key, child in tree.items() if key not in ("profiles", "extends")}, tree.mark, tree.key_marks
    )
    return merge(bare, profile) if profile is not None and isinstance(profile.value, dict) else bare


def read_overrides(arguments: Sequence[str]) -> Node:
    """`--set key.path=value` arguments as one tree; values are YAML.

    Raises:
        SuiteErrors: an argument is not of that form.
    """
    tree = Node({}, Mark("--set"))
    for argument in arguments:
        source = f"--set {argument}"
        path, equals, text = argument.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise _lone(source, "expected key=value, for example --set measure.rounds=5")
        if keys[0] in ("profiles", "extends"):
            raise _lone(source, f"{keys[0]} belongs in a file; set the key itself")
        try:
            value = read_yaml(text.encode(), source) if text.strip() else Node(None, Mark(source))
        except UnicodeEncodeError as error:
            raise _lone(source, "not text") from error
        except SuiteErrors as error:
            raise SuiteErrors([SpecError(Mark(source), "", each.message) for each in error.errors]) from error
        _move(value, Mark(source))
        for key in reversed(keys):
            value = Node({key: value}, Mark(source), {key: Mark(source)})
        tree = merge(tree, value)
    return tree


def _move(node: Node, mark: Mark) -> None:
    """A line and column inside an argument would only confuse."""
    node.mark = mark
    node.key_marks = dict.fromkeys(node.key_marks, mark)
    for _, child in node.items():
        _move(child, mark)
    for child in node.elements():
        _move(child, mark)
