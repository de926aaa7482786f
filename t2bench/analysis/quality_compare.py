"""Translations of two runs, or of two variants: compared only where corpus, direction, test text and metric are one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from t2bench.analysis import seeds
from t2bench.analysis.index import Index
from t2bench.analysis.quality import boards_of, same_function_by
from t2bench.analysis.quality_records import Training, trainings
from t2bench.analysis.quality_results import Arm, Board, Claim, QualityRow


def between_runs(baseline: Index, candidate: Index) -> tuple[QualityRow, ...]:
    """Every variant on every test set that either run has, with a claim where both may be compared."""
    old, new = boards_of(baseline), boards_of(candidate)
    rows: list[QualityRow] = []
    for board in new:
        twin = _twin(board, old)
        rows += _rows(board, twin, _difference(board, twin) if twin is not None else "not in the baseline")
    rows += [row for board in old if _twin(board, new) is None for row in _lost(board)]
    return tuple(rows)


def between_variants(index: Index, variant: str, reference: str) -> tuple[QualityRow, ...]:
    """One variant against another on every test set of a run; Holm's rule over all variants of a table."""
    found = []
    for board in boards_of(index):
        arms = {arm.variant: arm for arm in board.arms}
        if variant not in arms or reference not in arms:
            continue
        base, same = arms[reference], same_function_by(index, trainings(index, board.scope.group))
        against = [
            seeds.claim(arm, base, margin=board.margin, agrees_by=board.agrees_by, same_function=same(arm, base))
            for name, arm in arms.items()
            if name != reference
        ]
        judged = {
            each.variant: each for each in seeds.with_verdicts(against, arms, why_not=board.why_not, floor=board.floor)
        }
        found.append(_row(board, arms[reference], arms[variant], variant, judged_as=judged[variant]))
    return tuple(found)


def other_trainings(baseline: Index, candidate: Index) -> Iterator[str]:
    """Cases of one name that were trained or judged another way, in words."""
    old, new = _by_case(baseline), _by_case(candidate)
    for case in new:
        if case in old:
            for what, before, after in _otherwise(old[case], new[case]):
                yield f"case {case}: {what}: {before} -> {after}"


def _by_case(index: Index) -> dict[str, list[Training]]:
    found: dict[str, list[Training]] = {}
    for group in index.groups:
        if index.is_quality(group):
            for training in trainings(index, group):
                found.setdefault(training.record.case, []).append(training)
    return found


def _otherwise(old: Sequence[Training], new: Sequence[Training]) -> Iterator[tuple[str, object, object]]:
    """What differs between the trainings of a case, and its values in the two runs."""
    before, after = old[-1].spec.recipe, new[-1].spec.recipe
    for key in after.__dataclass_fields__:
        if getattr(before, key) != getattr(after, key):
            yield f"recipe.{key}", getattr(before, key), getattr(after, key)
    if old[-1].tokenizer != new[-1].tokenizer:
        yield "tokenizer", old[-1].tokenizer, new[-1].tokenizer
    seeds_before, seeds_after = (sorted({training.seed for training in side}) for side in (old, new))
    shared = set(seeds_before) & set(seeds_after)
    if len(shared) < 2 and seeds_before != seeds_after:
        only = f", {shared.pop()} alone is shared" if shared else ""
        yield f"seeds (not paired{only})", ", ".join(map(str, seeds_before)), ", ".join(map(str, seeds_after))


def _twin(board: Board, others: Sequence[Board]) -> Board | None:
    """The table of the other run that bears the same names."""
    scope = board.scope
    names = (scope.group, scope.test, scope.decoding)
    found = [b for b in others if (b.scope.group, b.scope.test, b.scope.decoding) == names]
    # Where the text under one name differs within a run, the table of the same text is the twin.
    return next((b for b in found if b.scope == scope), found[0] if found else None)


def _difference(board: Board, twin: Board) -> str:
    """Why the two may not be compared, in one line; empty if they may."""
    before, after = twin.scope.comparable, board.scope.comparable
    changed = [f"{name}: {before[name]} -> {after[name]}" for name in after if before[name] != after[name]]
    return f"not compared: {'; '.join(changed)}" if changed else ""


def _rows(board: Board, twin: Board | None, note: str) -> list[QualityRow]:
    theirs = {arm.variant: arm for arm in twin.arms} if twin is not None else {}
    mine = {arm.variant: arm for arm in board.arms}
    names = list(dict.fromkeys([*mine, *theirs]))
    pairs = [name for name in names if name in mine and name in theirs and not note]
    renamed = {name: replace(arm, variant=_baseline(name)) for name, arm in theirs.items()}
    claims = [seeds.claim(mine[name], renamed[name], margin=board.margin, agrees_by=board.agrees_by) for name in pairs]
    arms = {**mine, **{arm.variant: arm for arm in renamed.values()}}
    judged = dict(
        zip(
            pairs,
            seeds.with_verdicts(claims, arms, why_not=board.why_not, floor=board.floor),
            strict=True,
        )
    )
    return [
        replace(
            _row(board, theirs.get(name), mine.get(name), name, judged_as=judged.get(name)),
            note=note or _absent(name, mine, theirs),
        )
        for name in names
    ]


def _absent(name: str, mine: Mapping[str, Arm], theirs: Mapping[str, Arm]) -> str:
    if name in mine and name in theirs:
        return ""
    return "not in the baseline" if name in mine else "not in the candidate"


def _baseline(name: str) -> str:
    return f"{name} of the baseline"


def _lost(board: Board) -> list[QualityRow]:
    return [replace(_row(board, arm, None, arm.variant), note="not in the candidate") for arm in board.arms]


def _row(
    board: Board, baseline: Arm | None, candidate: Arm | None, variant: str, *, judged_as: Claim | None = None
) -> QualityRow:
    return QualityRow(
        case=f"{board.scope.group}/{variant}",
        scope=board.scope,
        baseline=baseline.spreads.get("bleu") if baseline is not None else None,
        candidate=candidate.spreads.get("bleu") if candidate is not None else None,
        claim=judged_as,
    )
