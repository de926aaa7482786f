"""What a recurrent model has not: axes of implementation that would be measured under a name without meaning.

One small rule each, as in `t2bench.spec.refusals`, which asks them all.
"""

from __future__ import annotations

from collections.abc import Callable

from t2bench.spec.case import Case

# Field -> (the only value, why there is no other).
FIXED: dict[str, tuple[str, str]] = {
    "attention": ("math", "attention over an encoder's states is part of a recurrent step and has no back ends"),
    "projections": ("separate", "a recurrent model has no query, key and value projections to fuse"),
    "padding": ("mask", "batches of a recurrent model are padded, and torch.nn skips the padding"),
    "compile": ("off", "torch.compile leaves recurrent cells as they are, and would unroll a loop over steps"),
    "checkpoint": ("off", "a recurrent stack is one operator, whose activations are not ours to drop"),
}


def attention_operator(case: Case) -> str | None:
    """The operator alone is the transformer's."""
    if case.model.recurrence == "none" or case.workload.kind != "attention":
        return None
    return "a recurrent model has no attention operator that could run alone; use forward or train_step"


def fixed_implementation(case: Case) -> str | None:
    """Implementation axes that recurrent models have one value of."""
    if case.model.recurrence == "none":
        return None
    for name, (only, why) in FIXED.items():
        value = getattr(case.model, name)
        if value != only:
            return f"{name} {value}: {why}; use {name}: {only}"
    return None


def static_states(case: Case) -> str | None:
    """The states of a recurrent model never grow."""
    if case.model.recurrence == "none" or case.model.cache != "static":
        return None
    return "the states of a recurrent model have a fixed size anyway; use cache: on"


RULES: tuple[Callable[[Case], str | None], ...] = (attention_operator, fixed_implementation, static_states)
