"""From trainings to claims: tables of what may stand side by side, verdicts over seeds, costs, examples, warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean

from t2bench.analysis import seeds
from t2bench.analysis.index import Index
from t2bench.analysis.quality_costs import costs
from t2bench.analysis.quality_examples import Files, examples, sentence_tests
from t2bench.analysis.quality_records import SCORES, Score, Training, trainings
from t2bench.analysis.quality_results import (
    Arm,
    Board,
    Bucket,
    Claim,
    Curve,
    Floor,
    Quality,
    Scope,
    highest_floor,
)
from t2bench.analysis.quality_warnings import arm_warnings, board_warnings
from t2bench.analysis.seeds import MIN_SENTENCES
from t2bench.spec.errors import counted


def quality(index: Index) -> Quality | None:
    """Everything about translations; None for a run that trained nothing to a quality."""
    groups = tuple(group for group in index.groups if index.is_quality(group))
    if not groups:
        return None
    found = {group: trainings(index, group) for group in groups}
    files = Files()
    made = [sentence_tests(board, found[board.scope.group], files) for board in _boards(index, found)]
    told = [examples(board, found[board.scope.group], files) for board in made if board.primary]
    return Quality(
        groups=groups,
        boards=tuple(made),
        costs=tuple(cost for group in groups for cost in costs(index, group, found[group])),
        curves=tuple(_curves(found)),
        samples=tuple(each for sample, _, _ in told for each in sample),
        wins=tuple(each for _, win, _ in told for each in win),
        losses=tuple(each for _, _, loss in told for each in loss),
        warnings=(*board_warnings(made), *files.problems),
    )


def boards_of(index: Index) -> list[Board]:
    """Every table of a run, without what the details files add."""
    return _boards(index, {group: trainings(index, group) for group in index.groups if index.is_quality(group)})


def _boards(index: Index, found: Mapping[str, Sequence[Training]]) -> list[Board]:
    """Every table, primary ones first within their group."""
    made = []
    for members in found.values():
        primary = _primary_scopes(members)
        scopes = list(dict.fromkeys(score.scope for training in members for score in training.scores))
        for scope in sorted(scopes, key=lambda scope: scope not in primary):
            made.append(board(index, scope, members, primary=scope in primary))
    return made


def _primary_scopes(members: Iterable[Training]) -> set[Scope]:
    """What verdicts are about: the test set and decoding that the run itself put first."""
    return {training.scores[0].scope for training in members if training.scores}


def board(index: Index, scope: Scope, members: Sequence[Training], *, primary: bool) -> Board:
    """The one table of a scope: only outputs of exactly that scope get in."""
    scored = [(training, score) for training in members for score in training.scores if score.scope == scope]
    names = list(dict.fromkeys(training.variant for training in members))
    arms = {name: arm for name in names if (arm := _arm(index, name, members, scored)) is not None}
    claims = {}
    floors = _floors(score for _, score in scored)
    floor = highest_floor(floors)
    utility = _utility(scored)
    known = max((training.in_training(scope.test) for training in members), default=0)
    why_not = _why_not(scored, utility, known)
    margin = scored[0][0].spec.margin
    agrees = "ter" if utility == "chrf" else "chrf"
    reference = arms.get(index.reference)
    same_function = same_function_by(index, members)
    if reference is not None:
        against = [
            seeds.claim(arm, reference, margin=margin, agrees_by=agrees, same_function=same_function(arm, reference))
            for arm in arms.values()
        ]
        others = [each for each in against if each.variant != each.reference]
        claims = {each.variant: each for each in seeds.with_verdicts(others, arms, why_not=why_not, floor=floor)}
    arms = {name: arm_warnings(arm, members, floors, primary=primary) for name, arm in arms.items()}
    return Board(
        scope=scope,
        primary=primary,
        reference=index.reference,
        margin=margin,
        agrees_by=agrees,
        why_not=why_not,
        arms=tuple(arms.values()),
        claims=claims,
        rungs=_rungs(index, arms, margin, agrees, same_function, why_not=why_not, floor=floor),
        floors=floors,
        notes=tuple(_notes(members, known, why_not)),
    )


def same_function_by(index: Index, members: Sequence[Training]) -> Callable[[Arm, Arm], bool]:
    """Tells of two variants whether they differ in how they compute only, and were trained by one recipe."""
    recipes = {training.variant: training.spec.recipe for training in members}

    def same_function(arm: Arm, other: Arm) -> bool:
        alike = recipes[arm.variant] == recipes[other.variant]
        return alike and index.implementation_only(arm.variant, other.variant)

    return same_function


def _rungs(
    index: Index,
    arms: Mapping[str, Arm],
    margin: float,
    agrees: str,
    same_function: Callable[[Arm, Arm], bool],
    *,
    why_not: str,
    floor: Floor | None,
) -> tuple[Claim, ...]:
    order = [str(name) for name in index.run.suite.get("ladder") or () if str(name) in arms]
    pairs = [(arms[later], arms[earlier]) for earlier, later in pairwise(order)]
    steps = [seeds.claim(*pair, margin=margin, agrees_by=agrees, same_function=same_function(*pair)) for pair in pairs]
    return seeds.with_verdicts(steps, arms, why_not=why_not, floor=floor)


def _arm(index: Index, name: str, members: Sequence[Training], scored: Sequence[tuple[Training, Score]]) -> Arm | None:
    """One variant's scores by seed; None if it was neither scored here nor diverged."""
    mine = sorted(((t.seed, score) for t, score in scored if t.variant == name), key=lambda pair: pair[0])
    mine = list(dict(mine).items())
    diverged = tuple(sorted({t.seed for t in members if t.variant == name and t.diverged}))
    if not mine and not diverged:
        return None
    entries = [score for _, score in mine]
    values = {
        metric: tuple(score.values[metric] for score in entries)
        for metric in SCORES
        if entries and all(metric in score.values for score in entries)
    }
    return Arm(
        variant=name,
        seeds=tuple(seed for seed, _ in mine),
        values=values,
        spreads={metric: seeds.spread(per_seed, SCORES[metric]) for metric, per_seed in values.items()},
        hashes=tuple(score.sha256 for score in entries),
        diverged=diverged,
        planned=index.planned_seeds,
        empty=sum(score.empty for score in entries),
        cut=sum(score.cut for score in entries),
        num_sentences=max((score.num_sentences for score in entries), default=0),
        buckets=_buckets(entries),
    )


def _buckets(entries: Sequence[Score]) -> tuple[Bucket, ...]:
    """Means over seeds of the ranges that every seed has."""
    by_range: dict[tuple[int, int | None, int], list[Bucket]] = {}
    for entry in entries:
        for bucket in entry.buckets:
            by_range.setdefault((bucket.low, bucket.high, bucket.num_sentences), []).append(bucket)
    found = []
    for (low, high, count), buckets in by_range.items():
        if len(buckets) == len(entries):
            chrfs = [bucket.chrf for bucket in buckets if bucket.chrf is not None]
            mean = fmean(chrfs) if len(chrfs) == len(buckets) else None
            score = fmean(bucket.bleu for bucket in buckets)
            found.append(Bucket(low=low, high=high, num_sentences=count, bleu=score, chrf=mean))
    return tuple(sorted(found, key=lambda bucket: bucket.low))


def _floors(scores: Iterable[Score]) -> dict[str, float]:
    """What needs no training: equal for every output of a scope, so the first that knows says it."""
    found: dict[str, float] = {}
    for score in scores:
        found = {**score.floors, **found}
    return found


def _utility(scored: Sequence[tuple[Training, Score]]) -> str:
    """The metric that chose these outputs among samples; empty if none did."""
    for training, score in scored:
        for decoding in training.spec.decode:
            if decoding.label == score.scope.decoding and decoding.method == "mbr":
                return decoding.utility
    return ""


def _why_not(scored: Sequence[tuple[Training, Score]], utility: str, known: int) -> str:
    """Why no verdict may rest on these scores; empty if one may."""
    if utility == "bleu":
        return "BLEU chose these outputs, so it cannot judge them"
    count = max(score.num_sentences for _, score in scored)
    if count < MIN_SENTENCES:
        return f"{counted(count, 'sentence')}; {MIN_SENTENCES} are needed for a verdict"
    if 2 * known > count:
        return f"{known} of the {counted(count, 'sentence')} to translate are in the training text"
    return ""


def _notes(members: Sequence[Training], known: int, why_not: str) -> Iterable[str]:
    if why_not:
        yield f"No verdicts: {why_not}."
    if known:
        yield f"Of the sentences to translate {known} {'are' if known > 1 else 'is'} in the training text too."
    recipes: dict[str, list[str]] = {}
    specs = {training.variant: training.spec.recipe for training in members}
    first = next(iter(specs.values()))
    for name, recipe in specs.items():
        delta = [
            f"{key} {getattr(recipe, key)} (not {getattr(first, key)})"
            for key in recipe.__dataclass_fields__
            if getattr(recipe, key) != getattr(first, key)
        ]
        if delta:
            recipes.setdefault(", ".join(delta), []).append(name)
    for words, names in recipes.items():
        yield f"Trained by another recipe than {next(iter(specs))}: {', '.join(names)}: {words}."


def _curves(found: Mapping[str, Sequence[Training]]) -> Iterable[Curve]:
    for group, members in found.items():
        for training in members:
            if training.curve:
                yield Curve(
                    group=group,
                    variant=training.variant,
                    seed=training.seed,
                    points=training.curve,
                    finished=training.finished,
                )
