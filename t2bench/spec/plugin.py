"""Plugin: code of a user's own that defines factories. Standard library only, as workers import it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Plugin:
    """Code that defines factories.

    Attributes:
        name: as the suite writes it; of an entry point, the distribution's name.
        path: the file, absolute; empty for a module.
        module: dotted name of a module; empty for a file.
        factory: of an entry point, the name of the factory that it is; else whatever the code registers.
        attribute: of an entry point, what to take from the module.
        version: of an entry point's distribution; for others the code says it.
        sha256: of the file's bytes; empty for a module, whose files are hashed where it is imported.
    """

    name: str
    path: str = ""
    module: str = ""
    factory: str = ""
    attribute: str = ""
    version: str = ""
    sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For a message to a worker and for `environment.json`."""
        return asdict(self)
