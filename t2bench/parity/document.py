"""docs/variants.md from the registry: `python -m t2bench.parity.document` (or `make docs`).

What the oracles found is kept in docs/parity.json, so that the page can be written, and be tested to be up to date,
without running them. Running this module runs the oracles of presets whose model has changed since (all with --all).
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from t2bench.spec.axes import NESTED
from t2bench.spec.case import WorkloadSpec
from t2bench.spec.cost import kv_bytes, model_flops, num_params
from t2bench.spec.model import AXIS_KINDS, ModelSpec
from t2bench.spec.presets import GROUPS, Entry, preset, preset_groups, preset_names, recipe

ROOT = Path(__file__).resolve().parents[2]
PAGE, FIGURES = ROOT / "docs" / "variants.md", ROOT / "docs" / "parity.json"
LENGTH = 1024

HEAD = """# Variants

Generated from the registry by `make docs`; a test holds it up to date.

Every built-in variant is one step from another: a preset states its base and what differs. An axis is of one of three
kinds, which reports never mix: a *function* axis changes what is computed and needs a quality number; an
*implementation* axis must not change it, so that only speed and memory are in question; an *approximation* axis trades
one for the other.

*Proved by*: an implementation that others trust, or the equations of the papers written out one position at a time in
float64, with the same random weights (standard deviation 0.3) at width 32. The error is the largest
|ours - theirs| / (1 + |theirs|) over all outputs, in float32; a *deliberate mistake* in the variant's own axis must be
beyond the tolerance. `t2bench check-variant NAME` repeats it on your machine and adds the checks that need no oracle.

*Costs*: trainable parameters; FLOPs of a training step per token at length {length} (model convention: causal attention
not halved; of an encoder-decoder, per token of source and target); bytes of key/value cache in bf16 for one token.
"""


def main() -> None:
    """Rewrite the page, and the figures that are out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="run every oracle again")
    known = {} if parser.parse_args().all else read_figures()
    figures = {name: known[name] if is_current(name, known) else measured(name) for name in preset_names()}
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(figures), encoding="utf-8")
    failed = [name for name, found in figures.items() if not found["passed"]]
    if failed:
        sys.exit(f"the oracle disagrees with {', '.join(failed)}")


def read_figures() -> dict[str, dict[str, Any]]:
    """What the oracles found when they ran last: preset -> figures."""
    if not FIGURES.is_file():
        return {}
    found: dict[str, dict[str, Any]] = json.loads(FIGURES.read_text(encoding="utf-8"))
    return found


def is_current(name: str, figures: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a preset's figures are of its present model."""
    return name in figures and figures[name]["digest"] == preset(name).model.digest


def measured(name: str) -> dict[str, Any]:
    """Run the oracle of a preset: its name and version, error, tolerance and what the deliberate mistake changed."""
    from t2bench.parity.oracles import for_spec
    from t2bench.parity.proof import against, version_of

    spec = preset(name).model
    oracle = for_spec(spec)
    if oracle is None:
        raise LookupError(f"{name}: nothing vouches for it")
    checks = against(oracle, spec, "fp32")
    errors = [check.error for part, check in checks if part == "oracle" and check.error is not None]
    controls = [check.error for part, check in checks if part == "control" and check.error is not None]
    return {
        "digest": spec.digest,
        "oracle": oracle.name,
        "version": f"{oracle.library} {version_of(oracle)}".strip(),
        "error": f"{max(errors):.0e}",
        "allowed": f"{checks[0][1].tolerance:.0e}",
        "mistake": f"{min(controls):.0e}",
        "passed": all(check.passed for _, check in checks),
    }


def page(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page."""
    parts = [HEAD.format(length=LENGTH)]
    for group, names in preset_groups().items():
        parts.append(f"## {group}\n\n{GROUPS.get(group, '').capitalize()}.\n")
        parts += ["\n".join(_preset(name, figures.get(name))) + "\n" for name in names]
    parts.append("## Axes\n\nWhat can be set in a variant; the default is vanilla's.\n")
    parts += ["\n".join(lines) + "\n" for lines in _axes()]
    return "\n".join(parts)


def _preset(name: str, figures: Mapping[str, Any] | None) -> Iterator[str]:
    entry, spec = recipe(name), preset(name).model
    yield f"### `{name}`\n"
    yield f"{entry.summary}.\n"
    if entry.base:
        yield f"- from `{entry.base}`: {'; '.join(_changes(entry))}"
        yield from (f"- {axis}: `{fact['equation']}`" for axis, fact in _equations(entry))
    yield f"- source: {entry.source}"
    if figures:
        version = f" ({figures['version']})" if figures["version"] else ""
        verdict = "proved by" if figures["passed"] else "**contradicted** by"
        yield (
            f"- {verdict} {figures['oracle']}{version}: error {figures['error']}, allowed {figures['allowed']}; "
            f"a deliberate mistake {figures['mistake']}"
        )
    tokens = LENGTH * (2 if spec.arch == "encdec" else 1)
    flops = model_flops(spec, WorkloadSpec(kind="train_step"), 1, LENGTH) / tokens
    kept, more = kv_bytes(spec, 1, "bf16"), kv_bytes(spec, 2, "bf16") - kv_bytes(spec, 1, "bf16")
    cache = f"{kept:,} B{'' if more else ' however long the text'}" if kept else "none"
    yield f"- costs: {num_params(spec).total:,} parameters, {flops / 1e6:.4g} MFLOP per token, cache {cache}"


def _changes(entry: Entry) -> Iterator[str]:
    """What a preset states, with the kind of each axis; what it comes to is the business of `t2bench show`."""
    for axis, value in entry.set.items():
        for name, part in value.items() if isinstance(value, Mapping) else ((None, value),):
            yield f"{axis}{'.' + name if name else ''} {_word(part)} ({AXIS_KINDS[axis]})"
    for axis, share in entry.scale.items():
        yield f"{axis} x {share} ({AXIS_KINDS[axis]})"


def _equations(entry: Entry) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The literature's facts about the values that a preset states."""
    known = literature()
    for axis, value in entry.set.items():
        parts = value.items() if isinstance(value, Mapping) else ((None, value),)
        for name, part in parts:
            place = f"{axis}.{name}" if name else axis
            if _word(part) in known.get(place, {}):
                yield f"{place} {_word(part)}", known[place][_word(part)]


def _axes() -> Iterator[list[str]]:
    from t2bench.spec.schema import attribute_docs, values_of

    known = literature()
    for cls, prefix in ((ModelSpec, ""), *((cls, f"{name}.") for name, cls in NESTED.items())):
        docs = attribute_docs(cls)
        for field in fields(cls):
            place = f"{prefix}{field.name}"
            if place in NESTED:
                continue
            kind = AXIS_KINDS[place.partition(".")[0]]
            default = _word(getattr(cls(), field.name))
            lines = [f"### `{place}`\n", f"*{kind}*, default {default or 'empty'}. {docs[field.name]}\n"]
            if place in known:
                lines += ["| value | equation | paper |", "|---|---|---|"]
                lines += [f"| {v} | `{_cell(e['equation'])}` | {_cell(e['paper'])} |" for v, e in known[place].items()]
            else:
                lines.append(f"Values: {values_of(cls, field.name)}.")
            yield lines


@functools.cache
def literature() -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    """Axis -> value -> its equation and paper."""
    path = Path(__file__).resolve().parents[1] / "spec" / "literature.yaml"
    found: dict[str, dict[str, dict[str, str]]] = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    return found


def choices(place: str) -> tuple[str, ...]:
    """The values of an axis that has a fixed set of them; empty for numbers and texts."""
    holder, _, name = place.rpartition(".")
    hint = get_type_hints(NESTED[holder] if holder else ModelSpec)[name]
    if get_origin(hint) is None:
        return ("false", "true") if hint is bool else ()
    return tuple(map(str, get_args(hint))) if type(None) not in get_args(hint) else ()


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _cell(text: str) -> str:
    """Text inside a Markdown table."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
