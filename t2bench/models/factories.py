"""Users' own modules by name: filled by plugins, read by `t2bench.models.transformer.build`.

A factory is called with the ModelSpec and returns an `nn.Module`; `t2bench.models.own` says what the module must be
able to do. No torch here, so that `import t2bench` and `@t2bench.variant` cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from t2bench.spec.errors import did_you_mean, listing
from t2bench.spec.model import ModelSpec

if TYPE_CHECKING:
    from torch import nn

    Factory = Callable[[ModelSpec], nn.Module]

F = TypeVar("F", bound=Callable[..., object])

_factories: dict[str, Factory] = {}


class FactoryError(Exception):
    """A user's factory cannot be used; the message says why, for the user."""


def variant(name: str) -> Callable[[F], F]:
    """Register a factory: `@t2bench.variant("mine")` above a function of the spec, or above a class made from it.

    A suite's variant uses it by `set: {factory: mine}`.

    Args:
        name: how specs name it.

    Raises:
        FactoryError: the name is empty, or belongs to another factory.
    """

    def decorate(factory: F) -> F:
        register(name, factory)  # type: ignore[arg-type]
        return factory

    return decorate


def register(name: str, factory: Factory) -> None:
    """Register a factory; the same one again changes nothing.

    Raises:
        FactoryError: the name is empty, or belongs to another factory.
    """
    if not isinstance(name, str) or not name.strip():
        raise FactoryError(f"a factory's name is a text that is not empty, got {name!r}")
    if not callable(factory):
        raise FactoryError(f"factory {name!r} cannot be called, it is a {type(factory).__name__}")
    if _factories.get(name, factory) is not factory:
        raise FactoryError(f"factory {name!r} is defined twice: by {_origin(_factories[name])} and {_origin(factory)}")
    _factories[name] = factory


def get(name: str) -> Factory:
    """The factory of that name.

    Raises:
        FactoryError: no plugin that was loaded defines it.
    """
    if name not in _factories:
        known = f" (there are: {listing(_factories)})" if _factories else " (no plugin defines any)"
        raise FactoryError(f"no factory {name!r}{did_you_mean(name, _factories)}{known}")
    return _factories[name]


def names() -> tuple[str, ...]:
    """The names of all factories that are registered now."""
    return tuple(_factories)


def _origin(factory: Callable[..., object]) -> str:
    return str(getattr(factory, "__module__", type(factory).__module__))
