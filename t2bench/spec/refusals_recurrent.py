"""What a recurrent model has not: axes that would be measured under a name without meaning.

One small rule each, as in `t2bench.spec.refusals`, which asks them all.
"""

from __future__ import annotations

from collections.abc import Callable

from t2bench.spec.axes import NESTED
from t2bench.spec.case import Case
from t2bench.spec.model import ModelSpec

# Field -> (the only value, why there is no other).
FIXED: dict[str, tuple[str, str]] = {
    "attention": ("math", "attention over an encoder's states is part of a recurrent step and has no back ends"),
    "projections": ("separate", "a recurrent model has no query, key and value projections to fuse"),
    "padding": ("mask", "batches of a recurrent model are padded, and torch.nn skips the padding"),
    "compile": ("off", "torch.compile leaves recurrent cells as they are, and would unroll a loop over steps"),
    "checkpoint": ("off", "a recurrent stack is one operator, whose activations are not ours to drop"),
}

# Function axes of a transformer's layers. Sizes are left out: a suite's heads hold for the variants that have some.
ABSENT: dict[str, str] = {
    "position": "reads tokens in their order and needs no positions",
    "pattern": "has no self-attention that a pattern could thin out",
    "memory": "has no segments to remember",
    "attention_softcap": "has no cap on scores",
    "attention_dropout": "drops no attention weights",
    "activation": "has the activations of its cells",
    "gated": "has no feed-forward layers",
    "norm": "has no norms",
    "norm_place": "has no norms",
    "final_norm": "has no norms",
    "norm_eps": "has no norms",
    "qk_norm": "has no norms",
    "qk_norm_span": "has no norms",
    "embed_norm": "has no norms",
    "bias": "has the biases of its cells",
    "head_scale": "does not scale its hidden states",
    "logit_softcap": "has no cap on logits",
    "residual": "has no residual connections",
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


def absent_layers(case: Case) -> str | None:
    """Function axes that would change the name of a recurrent model and nothing else."""
    model, plain = case.model, ModelSpec()
    if model.recurrence == "none":
        return None
    for name, why in ABSENT.items():
        value, default = getattr(model, name), getattr(plain, name)
        if name in NESTED:
            value, default = value.kind, default.kind
        if value != default and (name, value) != ("position", "none"):
            label = f"{name}.kind" if name in NESTED else name
            return f"{label} {value}: a recurrent model {why}; leave {label} at {default}"
    return None


def bridge_of_a_transformer(case: Case) -> str | None:
    """How a recurrent decoder hears its source; a transformer has cross-attention."""
    if case.model.recurrence != "none" or case.model.bridge == ModelSpec().bridge:
        return None
    return f"bridge {case.model.bridge}: a transformer hears its source by cross-attention; leave bridge at attention"


def scores_of_nothing(case: Case) -> str | None:
    """Scores belong to attention over a source."""
    model = case.model
    if model.recurrence == "none" or model.attends or model.score == ModelSpec().score:
        return None
    return (
        f"score {model.score}: without a source to attend to there are no scores; set arch: encdec, bridge: attention"
    )


def static_states(case: Case) -> str | None:
    """The states of a recurrent model never grow."""
    if case.model.recurrence == "none" or case.model.cache != "static":
        return None
    return "the states of a recurrent model have a fixed size anyway; use cache: on"


RULES: tuple[Callable[[Case], str | None], ...] = (
    attention_operator,
    fixed_implementation,
    absent_layers,
    bridge_of_a_transformer,
    scores_of_nothing,
    static_states,
)
