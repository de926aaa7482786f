"""What looks wrong about translations, said beside the numbers: none of these changes a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from t2bench.analysis.quality_records import Training
from t2bench.analysis.quality_results import Arm, Board, highest_floor
from t2bench.analysis.seeds import ONE_SEED, diverged

BREVITY, LENGTH_RATIO = 0.9, 1.1
# A decoder without a causal mask reached 0.17 nats and BLEU 0; healthy models of its size were above 2.6 nats.
TINY_LOSS, NO_BLEU = 1.0, 5.0
# Less than this is what two searches of one healthy model differ by.
BEAM_SLACK = 0.5


def arm_warnings(arm: Arm, members: Sequence[Training], floors: Mapping[str, float], *, primary: bool) -> Arm:
    """The arm with its warnings; those about the training only where the table is the `primary` one."""
    found = [*_outputs(arm, floors), *(_training(arm, members) if primary else ())]
    return replace(arm, warnings=tuple(found))


def _mean(arm: Arm, metric: str) -> float | None:
    values = arm.values.get(metric)
    return fmean(values) if values else None


def _outputs(arm: Arm, floors: Mapping[str, float]) -> Iterator[str]:
    bleu, brevity, ratio = (_mean(arm, name) for name in ("bleu", "brevity_penalty", "length_ratio"))
    total = arm.num_sentences * len(arm.seeds)
    floor = highest_floor(floors)
    if bleu is not None and floor is not None and bleu < floor.bleu:
        yield f"BLEU {bleu:.2f} is below the {floor.shown} of {floor.words}: it learned nothing that needs a model"
    long = ratio is not None and ratio > LENGTH_RATIO
    if ratio is not None and long:
        yield f"its outputs are {ratio:.2f} times as long as the references"
    if brevity is not None and brevity < BREVITY:
        which = "those of some seeds are" if long else "its outputs are"
        yield f"{which} too short (brevity penalty {brevity:.2f})"
    if arm.empty:
        yield f"{arm.empty} of {total} outputs are empty"
    if arm.cut:
        yield f"{arm.cut} of {total} outputs were cut at the length limit"


def _training(arm: Arm, members: Sequence[Training]) -> Iterator[str]:
    if arm.diverged:
        reasons = [t.record.reason for t in members if t.variant == arm.variant and t.diverged and t.record.reason]
        yield diverged(arm) + (f" ({reasons[0]})" if reasons else "")
    missing = arm.planned - len(arm.seeds) - len(arm.diverged)
    if missing > 0:
        yield f"{missing} of {arm.planned} seeds are missing"
    # Both on validation text: a test set may be of another kind, such as longer sentences than were trained on.
    loss, bleu = (_validated(arm, members, name) for name in ("val_loss", "val_bleu"))
    if loss is not None and bleu is not None and loss < TINY_LOSS and bleu < NO_BLEU:
        yield (
            f"its validation loss is tiny ({loss:.2f} nats) and its validation BLEU is {bleu:.1f}: it sees the words "
            "that it is to predict, as without a causal mask; a loss never proves a translation"
        )


def _validated(arm: Arm, members: Sequence[Training], metric: str) -> float | None:
    """Mean over finished seeds of a metric of the last validation; None if no record has it."""
    found = [
        entry.value
        for t in members
        if t.variant == arm.variant and t.finished
        for entry in (t.record.metrics.get(metric),)
        if entry is not None and entry.value is not None
    ]
    return fmean(found) if found else None


def board_warnings(boards: Sequence[Board]) -> Iterator[str]:
    """Warnings of all tables, told once each, with the variant and the table they are about."""
    for board in boards:
        where = f"{board.scope.test}, {board.scope.decoding}"
        for arm in board.arms:
            yield from (f"{arm.variant} ({where}): {text}" for text in arm.warnings)
        if board.primary and board.arms and max(len(arm.seeds) for arm in board.arms) == 1:
            yield f"{ONE_SEED}: no interval and no verdict in {board.scope.group}; quality.seeds asks for more"
        if board.primary and board.reference not in {arm.variant for arm in board.arms}:
            yield f"nothing is compared in {board.scope.group}: the reference {board.reference} has no score there"
        if board.primary and board.why_not and len(board.arms) > 1:
            yield f"no verdicts on {board.scope.test}, {board.scope.decoding}: {board.why_not}"
    yield from _beam_below_greedy(boards)


def _beam_below_greedy(boards: Sequence[Board]) -> Iterator[str]:
    """A wider search that scores less: a wrong length penalty, or a search with a fault."""
    greedy = {replace(b.scope, decoding=""): b for b in boards if b.scope.decoding == "greedy"}
    for board in boards:
        other = greedy.get(replace(board.scope, decoding=""))
        if other is None or not board.scope.decoding.startswith("beam"):
            continue
        base = {arm.variant: arm for arm in other.arms}
        for arm in board.arms:
            mine, theirs = _mean(arm, "bleu"), _mean(base[arm.variant], "bleu") if arm.variant in base else None
            if mine is not None and theirs is not None and mine < theirs - BEAM_SLACK:
                yield (
                    f"{arm.variant} ({board.scope.test}): {board.scope.decoding} scores {mine:.2f}, below greedy's "
                    f"{theirs:.2f}: look at the length penalty"
                )
