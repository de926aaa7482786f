"""Plugins: code of a user's own that a suite names, and the permission that it needs to run.

Reading a suite, planning it or listing what it holds imports none of that code. It is found, read and hashed here, as
text; `t2bench.runner.plugins` imports it, in a measured process, and only where `--allow-code` permitted it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from t2bench.spec.errors import Mark, SpecError, SuiteErrors, did_you_mean, listing, show
from t2bench.spec.plugin import Plugin
from t2bench.spec.suite import Suite
from t2bench.spec.yamltree import Node

GROUP = "t2bench.variants"  # of the entry points of packages
MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
MAX_SOURCE_BYTES = 1 << 20
PERMISSION = "code runs with all your rights: read it, then give --allow-code"


def find_plugins(tree: Node) -> tuple[dict[str, str], list[SpecError]]:
    """The `plugins:` of a suite, as written -> absolute path or module; and what is wrong with them."""
    node = tree.get("plugins")
    found: dict[str, str] = {}
    errors = []
    for index, each in enumerate(node.elements() if node else ()):
        fault, place = _place(each)
        if not fault and place in found.values():
            fault = f"{show(each.value)} is given twice"
        if fault:
            errors.append(SpecError(each.mark, f"plugins[{index}]", fault))
        else:
            found[each.value] = place
    return found, errors


def _place(node: Node) -> tuple[str, str]:
    """What is wrong with a plugin's name, and the plugin's place."""
    text: str = node.value
    if MODULE.fullmatch(text) and not text.endswith(".py"):
        return "", text
    if not text.endswith(".py") or "\0" in text or len(text) > 1000:
        return f"expected a .py file in this file's folder or below, or a module's name, got {show(text)}", ""
    # What --set says is about the current folder, what a file says about the file's.
    folder = (Path(node.mark.source).parent if node.mark.line else Path()).resolve()
    target = (folder / text).resolve()
    if Path(text).is_absolute() or not target.is_relative_to(folder):
        return f"{show(text)} is outside this file's folder, where plugins must be", ""
    if not target.is_file():
        return f"{show(text)}: no such file", ""
    return "", str(target)


def permitted(suite: Suite, *, allow_code: bool) -> tuple[Plugin, ...]:
    """All code that a suite needs, if it may run.

    Args:
        suite: the suite.
        allow_code: whether the user has said so.

    Raises:
        SuiteErrors: it needs code and may not run it, or it names a factory that nothing can define.
    """
    points = [suite.matrix.get("factory", ()), *([entry["factory"]] for entry in suite.include if "factory" in entry)]
    used = {variant.model.factory for variant in suite.variants}.union(*points) - {""}
    return needed(suite.plugins, sorted(used), allow_code=allow_code, source=suite.source or suite.name)


def needed(
    plugins: Mapping[str, str], factories: Sequence[str], *, allow_code: bool, source: str
) -> tuple[Plugin, ...]:
    """The plugins of a suite and the installed packages that provide `factories`; errors as in `permitted`.

    Args:
        plugins: as `find_plugins` returns them.
        factories: names of the factories that are used.
        allow_code: whether the user has said so.
        source: where the plugins are named, for messages.
    """
    if not plugins and not factories:
        return ()
    if not allow_code:
        names = [f"plugin {name}" for name in plugins] or [f"factory {name}" for name in factories]
        raise SuiteErrors([SpecError(Mark(source), "", f"{listing(names)}: {PERMISSION}")])
    installed = {point.name: point for point in entry_points(group=GROUP)}
    for name in factories if not plugins else ():
        if name not in installed:
            known = f" (installed: {listing(installed)})" if installed else ""
            words = f"no factory {show(name)}{did_you_mean(name, installed)}{known}; name its code under plugins:"
            raise SuiteErrors([SpecError(Mark(source), "", words)])
    packages = [_of_package(installed[name]) for name in factories if name in installed]
    return (*(_plugin(name, place, source) for name, place in plugins.items()), *packages)


def _plugin(name: str, place: str, source: str) -> Plugin:
    if not place.endswith(".py"):
        return Plugin(name=name, module=place)
    try:
        text = Path(place).read_bytes()
    except OSError as error:
        raise SuiteErrors([SpecError(Mark(source), "plugins", f"{place}: {error.strerror or error}")]) from error
    if len(text) > MAX_SOURCE_BYTES:
        raise SuiteErrors([SpecError(Mark(source), "plugins", f"{place}: larger than {MAX_SOURCE_BYTES} bytes")])
    return Plugin(name=name, path=place, sha256=hashlib.sha256(text).hexdigest())


def _of_package(point: EntryPoint) -> Plugin:
    distribution = point.dist
    return Plugin(
        name=distribution.name if distribution else point.module,
        module=point.module,
        factory=point.name,
        attribute=point.attr,
        version=distribution.version if distribution else "",
    )
