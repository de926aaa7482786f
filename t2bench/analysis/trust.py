"""When a ratio that could be computed proves nothing: a wrong result's speed, a time that never settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from t2bench.analysis.index import Index
from t2bench.analysis.results import Effect

_WRONG = {"wrong_numerics": "computes wrong numbers", "wrong_backend": "did not run the back end it names"}


def weighed(effect: Effect, sides: Sequence[tuple[Index, str]]) -> Effect:
    """The effect without a verdict where a side's records forbid one, with a warning where launches are missing.

    Args:
        effect: variant / reference, before any family rule.
        sides: (run, case id) of the variant and of the reference.
    """
    timed = effect.metric.endswith(("_time_s", "_per_s"))
    if timed:
        planned = max(index.planned_launches for index, _ in sides)
        if effect.num_launches < planned:
            missing = f"only {effect.num_launches} of {planned} planned launches"
            effect = replace(effect, warnings=(*effect.warnings, missing))
    doubt = next(filter(None, (_doubt(index, case, timed=timed) for index, case in sides)), "")
    if not doubt:
        return effect
    return replace(
        effect, verdict="undecidable", mde=None, p_value=None, doubt=doubt, warnings=(doubt, *effect.warnings)
    )


def _doubt(index: Index, case: str, *, timed: bool) -> str:
    """Why nothing may be concluded from the case's numbers; empty if something may."""
    records = index.records.get(case, ())
    for record in records:
        if record.status in _WRONG:
            reason = f" ({record.reason})" if record.reason else ""
            return f"{record.variant} {_WRONG[record.status]}{reason}"
    for record in records:
        if timed and record.pass_ == "time" and record.status == "not_steady":
            return f"{record.variant} could not be measured steadily"
    return ""
