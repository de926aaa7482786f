"""What cannot work with a user's own module, of which nothing is known but that it makes logits of tokens.

One small rule each, as in `t2bench.spec.refusals`, which asks them all.
"""

from __future__ import annotations

from collections.abc import Callable

from t2bench.spec.case import Case

# Axes that we apply to our own layers. A factory is free to read them, but nobody could tell whether it does.
OUR_LAYERS = {"checkpoint": "off", "quant": "none", "memory": 0}


def own_operator(case: Case) -> str | None:
    """The attention workload times our operator."""
    if not case.model.factory or case.workload.kind != "attention":
        return None
    return "the attention workload times our own operator, which a factory's module does not have; use forward"


def own_cache(case: Case) -> str | None:
    """A module that only maps tokens to logits keeps nothing between two tokens."""
    if not case.model.factory or not case.workload.generates or case.model.cache == "off":
        return None
    return (
        "a factory's module is asked for logits of all tokens so far, so it decodes without a cache; "
        "set cache: off to time that"
    )


def own_padding(case: Case) -> str | None:
    """Packed and nested batches are formats of our own layers."""
    if not case.model.factory or not case.workload.ragged or case.model.padding == "mask":
        return None
    return f"{case.model.padding} batches are a format of our own layers; with a factory use padding: mask"


def own_layers(case: Case) -> str | None:
    """What we do inside our own layers cannot be done inside another's."""
    if not case.model.factory:
        return None
    for axis, neutral in OUR_LAYERS.items():
        if getattr(case.model, axis) != neutral:
            return f"{axis} is applied to our own layers, not to a factory's module; leave it at {neutral}"
    return None


RULES: tuple[Callable[[Case], str | None], ...] = (own_operator, own_cache, own_padding, own_layers)
