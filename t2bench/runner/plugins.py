"""Importing a user's code: in a measured process, when its first case needs it, and never without permission.

The scheduler never imports it. A process that measures none of its variants does not either, so that it can disturb
nobody else's numbers. What was imported is what was hashed: a file is read once, hashed, compiled and run.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from t2bench.models import factories
from t2bench.models.factories import FactoryError
from t2bench.spec.plugin import Plugin


class Plugins:
    """The code that a run is permitted to import.

    Args:
        permitted: `Plugin.to_dict()` of each.
    """

    def __init__(self, permitted: Sequence[Mapping[str, Any]] = ()) -> None:
        self._permitted = [Plugin(**plugin) for plugin in permitted]
        self._files: set[str] = set()
        self._identities: dict[str, dict[str, Any]] = {}  # factory -> where it came from

    def load(self, factory: str) -> None:
        """Import all plugins, in the suite's order, unless that has been done.

        Raises:
            FactoryError: a plugin has changed, is not there, or none defines this factory.
            Exception: whatever the user's code raises; `blame` says where.
        """
        while self._permitted:
            plugin = self._permitted.pop(0)
            before = set(factories.names())
            identity = self._import(plugin)
            for name in set(factories.names()) - before:
                self._identities[name] = identity
        factories.get(factory)

    def identity(self, factory: str) -> dict[str, Any] | None:
        """Name, version, path and hash of the code that defines a factory; None if it has not been imported."""
        return self._identities.get(factory)

    def blame(self, error: BaseException) -> str | None:
        """`FILE:LINE` of the user's code that an error comes from; None if it comes from elsewhere."""
        if isinstance(error, SyntaxError) and error.filename in self._files:
            return f"{error.filename}:{error.lineno}"
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in self._files]
        return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None

    def _import(self, plugin: Plugin) -> dict[str, Any]:
        module, digest = self._import_file(plugin) if plugin.path else self._import_module(plugin)
        if plugin.attribute:
            factories.register(plugin.factory, getattr(module, plugin.attribute))
        version = plugin.version or getattr(module, "__version__", "")
        return {"plugin": plugin.name, "version": str(version), "path": module.__file__, "sha256": digest}

    def _import_file(self, plugin: Plugin) -> tuple[ModuleType, str]:
        source = Path(plugin.path).read_bytes()
        digest = hashlib.sha256(source).hexdigest()
        if digest != plugin.sha256:
            raise FactoryError(f"{plugin.path} has changed since the run began; start a new run (--fresh)")
        self._files.add(plugin.path)
        code = compile(source, plugin.path, "exec", dont_inherit=True)
        module = ModuleType(f"t2bench_plugin_{digest[:12]}")
        module.__file__ = plugin.path
        sys.modules[module.__name__] = module  # dataclasses and pickles look their module up
        exec(code, module.__dict__)
        return module, digest

    def _import_module(self, plugin: Plugin) -> tuple[ModuleType, str]:
        try:
            module = importlib.import_module(plugin.module)
        except ModuleNotFoundError as error:
            if plugin.module.startswith(f"{error.name}"):
                raise FactoryError(f"plugin {plugin.name}: no module {error.name!r} is installed") from None
            raise
        files = _sources(module)
        self._files.update(map(str, files))
        return module, _digest(files)


def _sources(module: ModuleType) -> list[Path]:
    """The Python files of a module: its own, or all of a package."""
    if module.__file__ is None:
        return []
    own = Path(module.__file__)
    return sorted(own.parent.rglob("*.py")) if hasattr(module, "__path__") else [own]


def _digest(files: Sequence[Path]) -> str:
    """One hash for all files; their names count too."""
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
