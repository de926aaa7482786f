"""From a suite to its plan: every case in suite order, and every case that will not run with its reason."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from t2bench.spec.axes import IN_SCORES, NESTED, PositionSpec
from t2bench.spec.case import GHOST_SUFFIX, Case, Plan, Refusal, WorkloadSpec
from t2bench.spec.errors import Mark, SpecError, SuiteErrors, listing, show
from t2bench.spec.model import ModelSpec
from t2bench.spec.presets import at_point
from t2bench.spec.quality import LANGUAGE, LONGER, SHORT, QualitySpec
from t2bench.spec.refusals import refusal
from t2bench.spec.suite import Suite, Variant

CASE_KEYS = ("workload", "length", "dtype", "batch")
MAX_CASES = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One point of the matrix, not yet joined with a variant.

    Attributes:
        values: `workload`, `length`, `dtype`, perhaps `batch`, and model fields.
        extras: what the case id says beyond workload, dtype and length.
        variants: names of the variants it is for; None for all.
        where: the part of the suite it comes from, for messages.
    """

    values: Mapping[str, Any]
    extras: tuple[tuple[str, Any], ...]
    variants: frozenset[str] | None
    where: str

    @property
    def fields(self) -> dict[str, Any]:
        """The model fields that it sets."""
        return {key: value for key, value in self.values.items() if key not in CASE_KEYS}


def expand(suite: Suite, only: str | None = None) -> Plan:
    """All cases of a suite, in suite order: by matrix point, then by variant, the ghost last in its group.

    The ghost, the reference once more under another name, joins each group that holds the reference and another
    variant. `only`, a glob, keeps the cases whose id or variant it matches.

    Raises:
        SuiteErrors: a variant cannot be built at a point, two cases would have the same id, there are too many cases,
            or `only` is empty or matches nothing.
    """
    refuse_empty(only)
    pattern = only or suite.only
    candidates = list(_candidates(suite))
    kept = [(case, reason) for case, reason in candidates if not pattern or _selected(case, pattern)]
    if pattern and not kept:
        raise SuiteErrors([_nothing(suite, pattern, [case.id for case, _ in candidates])])
    groups: dict[str, list[Case]] = {}
    refusals: list[Refusal] = []
    for case, excluded in kept:
        status: Literal["skipped", "unsupported"] = "skipped" if excluded else "unsupported"
        if reason := excluded or refusal(case):
            refusals.append(Refusal(case=case, status=status, reason=reason))
        else:
            groups.setdefault(case.group, []).append(case)
    if suite.ghost:
        for cases in groups.values():
            cases.extend(_ghosts(cases, suite.reference))
    ordered = tuple(case for cases in groups.values() for case in cases)
    return Plan(cases=ordered, refusals=tuple(refusals), reference=suite.reference)


def refuse_empty(only: str | None) -> None:
    """An empty argument, perhaps of an unset shell variable, must not select everything.

    Raises:
        SuiteErrors: `only` is given and blank.
    """
    if only is not None and not only.strip():
        raise SuiteErrors([SpecError(Mark("--only"), "", "empty pattern")])


def points(suite: Suite) -> list[Point]:
    """The points of the matrix in suite order (the last key varies fastest), then those of `include`."""
    given = [entry["batch"] for entry in suite.include if "batch" in entry]
    batches = {*suite.matrix.get("batch", ()), *given}
    names_batch = len(batches) > 1 or ("batch" not in suite.matrix and bool(given))
    found = []
    for values in itertools.product(*suite.matrix.values()):
        point = dict(zip(suite.matrix, values, strict=True))
        found.append(Point(values=point, extras=_extras(point, names_batch), variants=None, where="matrix"))
    first = {key: values[0] for key, values in suite.matrix.items()}
    for index, entry in enumerate(suite.include):
        point = {**first, **{key: value for key, value in entry.items() if key != "variant"}}
        variants = frozenset(entry["variant"]) if "variant" in entry else None
        extras = _extras(point, names_batch)
        found.append(Point(values=point, extras=extras, variants=variants, where=f"include[{index}]"))
    return found


def num_candidates(suite: Suite) -> int:
    """Cases before exclusion, without expanding them."""
    size = len(suite.variants)
    for values in suite.matrix.values():
        size *= len(values)
    return size + len(suite.include) * len(suite.variants)


def attention_only(spec: ModelSpec) -> ModelSpec:
    """The part of a variant that its attention operator alone depends on; everything else at a fixed value."""
    return ModelSpec(
        arch="decoder",  # which may have every pattern and position; whether the operator is causal, the workload says
        width=spec.width,
        heads=spec.heads,
        kv_heads=spec.kv_heads,
        head_dim=spec.head_dim,
        attention=spec.attention,
        attention_dropout=spec.attention_dropout,
        attention_softcap=spec.attention_softcap,
        score=spec.score,
        pattern=replace(spec.pattern, layers=""),
        position=spec.position if spec.position.kind in IN_SCORES else PositionSpec(kind="none"),
        factory=spec.factory,
    )


def _candidates(suite: Suite) -> Iterator[tuple[Case, str]]:
    """Every case before refusal, with the suite's own reason to exclude it (or an empty one)."""
    if num_candidates(suite) > MAX_CASES:
        words = f"the matrix has {num_candidates(suite)} cases; at most {MAX_CASES} are possible"
        raise SuiteErrors([_error(suite, "matrix", words)])
    seen: set[str] = set()
    for point in points(suite):
        for variant in suite.variants:
            if point.variants is not None and variant.name not in point.variants:
                continue
            try:
                model = at_point(variant, point.fields)
            except ValueError as error:
                raise SuiteErrors([_error(suite, point.where, f"{variant.name}: {error}")]) from error
            case = _case(suite, variant, point, model)
            if case.id in seen:
                words = f"the case {case.id} exists already; a point must differ in what its id shows"
                raise SuiteErrors([_error(suite, point.where, words)])
            seen.add(case.id)
            yield case, _excluded(suite, case, model)


def _case(suite: Suite, variant: Variant, point: Point, model: ModelSpec) -> Case:
    workload: WorkloadSpec = point.values["workload"]
    length: int = point.values["length"]
    return Case(
        variant=variant.name,
        model=attention_only(model) if workload.kind == "attention" else model,
        workload=workload,
        length=length,
        batch=point.values.get("batch") or max(1, suite.tokens_per_step // length),
        dtype=point.values["dtype"],
        device="cuda" if suite.device == "cuda" else "cpu",
        seed=suite.seed,
        extras=point.extras,
        quality=_quality(suite, variant, workload) if workload.learns else None,
    )


def _quality(suite: Suite, variant: Variant, workload: WorkloadSpec) -> QualitySpec:
    quality = replace(suite.quality, recipe=replace(suite.quality.recipe, **variant.recipe))
    corpus = quality.corpus
    if workload.kind == "extrapolate" and corpus.name == LANGUAGE and not corpus.test_lengths:
        corpus = replace(corpus, lengths=corpus.lengths or SHORT, test_lengths=LONGER)
    return replace(quality, corpus=corpus)


def _extras(point: Mapping[str, Any], names_batch: bool) -> tuple[tuple[str, Any], ...]:
    hidden = CASE_KEYS[:3] if names_batch else CASE_KEYS
    return tuple((key, _label(value)) for key, value in point.items() if key not in hidden)


def _label(value: Any) -> Any:
    """A nested axis by its values: {kind: rope, layout: halves} is `rope+halves`."""
    return "+".join(str(part) for part in value.values()) if isinstance(value, Mapping) else value


def _excluded(suite: Suite, case: Case, model: ModelSpec) -> str:
    for entry in suite.exclude:
        if all(_matches(case, model, key, values) for key, values in entry["match"].items()):
            return str(entry["reason"])
    return ""


def _matches(case: Case, model: ModelSpec, key: str, values: Any) -> bool:
    if key == "workload":
        return case.workload.kind in values or case.workload.label in values
    if key in ("variant", "length", "dtype", "batch"):
        return getattr(case, key) in values
    actual = getattr(model, key)
    if key in NESTED:
        return any(all(getattr(actual, part) == wanted for part, wanted in value.items()) for value in values)
    return actual in values


def _selected(case: Case, pattern: str) -> bool:
    return matches(case.id, pattern)


def matches(case_id: str, pattern: str) -> bool:
    """Whether `--only` with this glob keeps the case: by its id, or by its variant, the id's last part."""
    return fnmatchcase(case_id, pattern) or fnmatchcase(case_id.rpartition("/")[2], pattern)


def _ghosts(cases: list[Case], reference: str) -> list[Case]:
    # Trained again from the same seed the reference is the same model; seeds are the null of a quality.
    if len(cases) < 2 or cases[0].workload.learns:
        return []
    return [replace(case, variant=reference + GHOST_SUFFIX, ghost=True) for case in cases if case.variant == reference]


def _nothing(suite: Suite, pattern: str, ids: list[str]) -> SpecError:
    variants = listing(variant.name for variant in suite.variants)
    words = f"{show(pattern)} matches no case; variants: {variants}; cases look like {ids[0] if ids else '(none)'}"
    return _error(suite, "only", words)


def _error(suite: Suite, where: str, message: str) -> SpecError:
    return SpecError(Mark(suite.source or suite.name), where, message)
