"""What cannot work, or would silently be something else: one small rule each, with the reason in words.

A refused case is a row of the report with its reason; it is never run, and never dropped. Each reason names the cure.
The rules of attention back ends, of modes, of a user's own modules and of recurrent models have files of their own.
"""

from __future__ import annotations

from collections.abc import Callable

from t2bench.spec import refusals_attention, refusals_modes, refusals_own, refusals_recurrent
from t2bench.spec.case import Case

MAX_ELEMENTS = 1 << 50  # with 4 bytes each and thousands of them, still within 64 bits


def refusal(case: Case) -> str | None:
    """Why a case must not be run, or None."""
    for rule in (
        *RULES,
        *refusals_attention.RULES,
        *refusals_modes.RULES,
        *refusals_own.RULES,
        *refusals_recurrent.RULES,
    ):
        if reason := rule(case):
            return reason
    return None


def tensor_too_large(case: Case) -> str | None:
    """Sizes whose products no machine holds, and torch cannot even count."""
    model, positions = case.model, case.batch * case.length
    elements = {
        "attention scores": positions * case.length * model.heads,
        "queries": positions * model.heads * model.dim_per_head,
        "logits": positions * model.padded_vocab,
        "feed-forward activations": positions * model.ff * 2,
        "token table": model.padded_vocab * model.width,
        "projection": model.width * max(2 * model.ff, 3 * model.heads * model.dim_per_head),
        "positions": model.position.max_len * model.width,
    }
    name, largest = max(elements.items(), key=lambda item: item[1])
    if largest <= MAX_ELEMENTS:
        return None
    return f"its {name} would have {largest:.0e} numbers, more than any machine holds; use smaller sizes"


def learned_table_too_short(case: Case) -> str | None:
    """Learned positions end with their table."""
    position = case.model.position
    if case.workload.kind == "attention" or position.kind != "learned" or case.last_length <= position.max_len:
        return None
    return (
        f"learned positions end at max_len {position.max_len}, and the length is {case.last_length}; "
        "raise position.max_len or use another position"
    )


RULES: tuple[Callable[[Case], str | None], ...] = (
    tensor_too_large,
    learned_table_too_short,
)
