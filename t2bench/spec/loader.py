"""Suite files: read, checked, resolved for a device. Every fault of a file is reported at once, with its place."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import yaml

from t2bench.spec.case import WorkloadSpec
from t2bench.spec.check import check_meaning
from t2bench.spec.errors import Mark, SpecError, SuiteErrors, did_you_mean, listing
from t2bench.spec.gate import gate_of, plain_gate
from t2bench.spec.idle import idle_settings
from t2bench.spec.layers import find_suite, for_device, merge, read_layers, read_overrides, suite_names
from t2bench.spec.model import ModelSpec
from t2bench.spec.plan import expand, refuse_empty
from t2bench.spec.plugins import find_plugins
from t2bench.spec.presets import at_point, preset_names
from t2bench.spec.quality import QualitySpec
from t2bench.spec.shape import check_shape, normalise
from t2bench.spec.suite import Limits, Measure, Suite, Variant
from t2bench.spec.variants import Faults, variants_of
from t2bench.spec.vocabulary import too_few_tokens
from t2bench.spec.yamltree import Dumper, Node

__all__ = ["SuiteErrors", "dump_suite", "load_suite", "load_variants", "suite_names"]


def load_suite(
    path_or_name: str | os.PathLike[str], *, device: str, overrides: Sequence[str] = (), only: str | None = None
) -> Suite:
    """Read a suite for one device.

    Args:
        path_or_name: a suite file, or the name of a built-in suite.
        device: `cpu`, `cuda` or `cuda:N`; decides which profile holds.
        overrides: `key.path=value` arguments, which win over the file.
        only: glob on case ids and variant names; the plan keeps what it matches.

    Raises:
        SuiteErrors: the suite cannot be used; every fault that was found.
    """
    kind = _device_kind(device)
    refuse_empty(only)
    path = find_suite(path_or_name)
    tree = read_layers(path)
    extra = read_overrides(overrides)
    errors = []
    for layer in (tree, extra):
        normalise(layer)
        errors += check_shape(layer)
    final = _without_nulls(merge(for_device(tree, kind), extra))
    broken = {key for error in errors for key in re.findall(r"^(?:profiles\.\w+\.)?(\w+)", error.where)}
    errors += check_meaning(final, broken)
    plugins, faults = find_plugins(final)
    errors += faults
    if not errors or not _touches(errors, broken):
        variants, faults = variants_of(final)
        errors += faults or idle_settings(final, variants)
    if errors:
        raise SuiteErrors(errors)
    suite = _suite(final, variants, plugins, kind, str(path), only or "")
    _check_plan(suite, final, only)
    return suite


def load_variants(
    names: Sequence[str], *, overrides: Sequence[str] = (), suite: str | os.PathLike[str] | None = None
) -> tuple[Variant, ...]:
    """Variants with some model fields set, without running anything.

    Args:
        names: names of built-in variants, or of the suite's; all of them if empty.
        overrides: `field=value` arguments: over a built-in variant they are laid as a suite's `model:` is, over a
            suite's own as a point of its matrix.
        suite: a suite file or the name of a built-in suite.

    Raises:
        SuiteErrors: an unknown name, a wrong field, fields that make no model, or the suite is wrong.
    """
    known = {variant.name: variant for variant in load_suite(suite, device="cpu").variants} if suite else {}
    choices = tuple(known) if suite else preset_names()
    chosen = tuple(names) or choices
    fields = read_overrides(overrides)
    tree = Node(
        {"model": fields, "variants": Node([Node(name, Mark(name)) for name in chosen], fields.mark)}, fields.mark
    )
    normalise(tree)
    errors = check_shape(tree)
    for name in chosen:
        if name not in choices:
            hint = did_you_mean(name, choices)
            errors.append(SpecError(Mark(name), "", f"unknown variant{hint} (there are: {listing(choices)})"))
    if not errors:
        variants, errors = _with_fields([known[name] for name in chosen], fields) if suite else variants_of(tree)
        errors = errors or idle_settings(tree, variants)
    if errors:
        raise SuiteErrors(errors)
    return variants


def _with_fields(variants: Sequence[Variant], fields: Node) -> tuple[tuple[Variant, ...], list[SpecError]]:
    """Variants with some fields replaced, and those that then make no model."""
    found, faults = [], Faults()
    for variant in variants:
        try:
            found.append(replace(variant, model=at_point(variant, fields.plain())))
        except ValueError as error:
            mark = next((node.mark for _, node in fields.items()), fields.mark)
            faults.add(mark, "", str(error), variant.name)
    return tuple(found), faults.errors()


def dump_suite(suite: Suite) -> str:
    """The resolved suite as YAML; reading it gives the same suite."""
    return yaml.dump(dict(suite.resolved), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)


def _device_kind(device: str) -> str:
    if re.fullmatch(r"cpu|cuda(:[0-9]{1,4})?", device):
        return device.partition(":")[0]
    raise SuiteErrors([SpecError(Mark("device"), "", f"expected cpu, cuda or cuda:N, got {device[:40]!r}")])


def _without_nulls(tree: Node) -> Node:
    """A top-level key without a value is a key that is not given."""
    return Node({key: child for key, child in tree.items() if child.value is not None}, tree.mark, tree.key_marks)


def _touches(errors: Iterable[SpecError], broken: Iterable[str]) -> bool:
    """Whether a fault makes the variants unreadable, so that building them would only repeat it."""
    return "variants" in broken or "model" in broken or any(error.where.startswith("variants") for error in errors)


def _suite(
    tree: Node, variants: tuple[Variant, ...], plugins: Mapping[str, str], device: str, source: str, only: str
) -> Suite:
    body = tree.plain()
    suite = Suite(
        name=body["name"],
        summary=body.get("summary", ""),
        device=device,
        variants=variants,
        reference=body.get("reference", variants[0].name),
        matrix=_matrix(body["matrix"]),
        tokens_per_step=body.get("tokens_per_step", 0),
        measure=_measure(body.get("measure", {})),
        limits=Limits(**body.get("limits", {})),
        quality=_quality(body.get("quality", {})),
        gate=gate_of(body.get("gate", {})),
        exclude=tuple(body.get("exclude", ())),
        include=tuple(_included(entry) for entry in body.get("include", ())),
        ladder=tuple(body.get("ladder", ())),
        seed=body.get("seed", 0),
        ghost=body.get("ghost", True),
        source=source,
        only=only or body.get("only", ""),
        plugins=plugins,
    )
    return replace(suite, resolved=_resolved(suite))


def _quality(given: Mapping[str, Any]) -> QualitySpec:
    decode = [{"method": entry} if isinstance(entry, str) else entry for entry in given.get("decode", [{}])]
    return QualitySpec.from_dict({**given, "decode": decode})


def _measure(given: Mapping[str, Any]) -> Measure:
    """Where only `rounds` is given, `max_rounds` leaves as much room for contended rounds as the defaults do."""
    measure = Measure(**given)
    room = Measure().max_rounds // Measure().rounds if "max_rounds" not in given else 0
    return replace(measure, max_rounds=max(measure.max_rounds, room * measure.rounds))


def _matrix(axes: Mapping[str, Sequence[Any]]) -> dict[str, tuple[Any, ...]]:
    """The axes with their defaults, and `causal` and `backward` folded into the workloads."""
    flags = {key: axes[key] for key in ("causal", "backward") if key in axes}
    workloads = [_workload(value) for value in axes.get("workload", ["train_step"])]
    for key, values in flags.items():
        workloads = [replace(workload, **{key: value}) for workload in workloads for value in values]
    folded = {"workload": tuple(dict.fromkeys(workloads))}
    given = {key: tuple(values) for key, values in axes.items() if key not in flags}
    defaults = {} if "dtype" in axes else {"dtype": ("fp32",)}
    # A key keeps its place; what was not given comes first.
    return {**folded, **defaults, **given, **folded} if "workload" not in axes else {**defaults, **given, **folded}


def _workload(value: str | Mapping[str, Any]) -> WorkloadSpec:
    return WorkloadSpec(kind=value) if isinstance(value, str) else WorkloadSpec(**value)  # type: ignore[arg-type]


def _included(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _workload(value) if key == "workload" else value for key, value in entry.items()}


def _resolved(suite: Suite) -> dict[str, Any]:
    """The suite as plain data: absolute, without layers, and readable as a suite file."""
    variants = [
        {
            "name": variant.name,
            **({"base": variant.base} if variant.base else {}),
            **({"summary": variant.summary} if variant.summary else {}),
            **({"scale": dict(variant.scale)} if variant.scale else {}),
            **({"recipe": dict(variant.recipe)} if variant.recipe else {}),
            "model": variant.model.to_dict(),
        }
        for variant in suite.variants
    ]
    return {
        "schema": 1,
        "name": suite.name,
        "summary": suite.summary,
        "device": suite.device,
        "reference": suite.reference,
        "variants": variants,
        "matrix": {key: [_plain(value) for value in values] for key, values in suite.matrix.items()},
        "tokens_per_step": suite.tokens_per_step,
        "include": [{key: _plain(value) for key, value in entry.items()} for entry in suite.include],
        "exclude": [dict(entry) for entry in suite.exclude],
        "measure": asdict(suite.measure),
        "limits": asdict(suite.limits),
        **({"quality": json.loads(json.dumps(asdict(suite.quality)))} if _learns(suite) else {}),
        "gate": plain_gate(suite.gate),
        "ladder": list(suite.ladder),
        "seed": suite.seed,
        "ghost": suite.ghost,
        "only": suite.only,
        "plugins": list(suite.plugins),
    }


def _learns(suite: Suite) -> bool:
    points = [*suite.matrix["workload"], *(entry["workload"] for entry in suite.include if "workload" in entry)]
    return any(workload.learns for workload in points)


def _plain(value: Any) -> Any:
    return asdict(value) if isinstance(value, WorkloadSpec) else value


def _check_plan(suite: Suite, tree: Node, only: str | None) -> None:
    """Expand once, so that whatever cannot be planned is said now and at its place."""
    errors = _unbuildable(suite, tree)
    if not errors:
        try:
            errors = too_few_tokens(expand(suite), tree)
        except SuiteErrors as found:
            for error in found.errors:
                argument = only and error.where == "only"
                node = None if argument else tree.get(*_steps(error.where))
                mark = Mark("--only") if argument else node.mark if node else error.mark
                errors.append(SpecError(mark, "" if argument else error.where, error.message))
    if errors:
        raise SuiteErrors(errors)


def _steps(where: str) -> list[str | int]:
    return [int(step) if step.isdigit() else step for step in re.findall(r"\w+", where)]


def _unbuildable(suite: Suite, tree: Node) -> list[SpecError]:
    """Single matrix values with which a variant makes no model, each at its own place."""
    axes = {key: values for key, values in suite.matrix.items() if key in ModelSpec.__dataclass_fields__}
    if len(axes) != 1:  # a combination's fault has no single place; `expand` reports the first
        return []
    faults = Faults()
    for key, values in axes.items():
        for index, value in enumerate(values):
            node = tree.get("matrix", key, index) or tree
            for variant in suite.variants:
                try:
                    at_point(variant, {key: value})
                except ValueError as error:
                    faults.add(node.mark, f"matrix.{key}[{index}]", str(error), variant.name)
    return faults.errors()
