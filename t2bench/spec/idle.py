"""Settings that change nothing: legal by themselves, but read by no part of the model that they are written for.

`pattern: {window: 64}` leaves a model with full attention, under a name that says otherwise. Only what a suite writes
is looked at: a variant may well inherit a window that it no longer uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from t2bench.spec.axes import NESTED, PositionSpec
from t2bench.spec.errors import SpecError, listing
from t2bench.spec.model import ModelSpec
from t2bench.spec.presets import at_point
from t2bench.spec.suite import Variant
from t2bench.spec.yamltree import Node

# Key of `position` -> the kinds that read it.
KINDS: dict[str, tuple[str, ...]] = {
    "layout": ("sinusoidal", "rope", "txl"),
    "theta": ("sinusoidal", "rope", "txl"),
    "fraction": ("rope",),
    "scaling": ("rope",),
    "scaling_factor": ("rope",),
    "original_len": ("rope",),
    "max_len": ("learned",),
    "buckets": ("t5_bias",),
    "max_distance": ("t5_bias", "shaw"),
}
# Axis -> the one that decides whether it is read: where a matrix varies that, nobody can say so beforehand.
READERS = {"position": "position", "pattern": "pattern", "qk_norm_span": "qk_norm"}


def idle_settings(tree: Node, variants: Sequence[Variant]) -> list[SpecError]:
    """What a suite writes in vain: in a variant's `set`, or for all variants in `model` or `matrix`.

    Args:
        tree: the suite.
        variants: its variants, resolved.
    """
    entries, matrix, include = tree.get("variants"), tree.get("matrix"), tree.get("include")
    points = [matrix, *(include.elements() if include else ())]
    varied = {key for point in points if point is not None for key, _ in point.items()}
    settled = [axis for axis, reader in READERS.items() if reader not in varied]
    found: list[SpecError] = []
    for index, (entry, variant) in enumerate(zip(entries.elements() if entries else (), variants, strict=True)):
        own = entry.get("set") if isinstance(entry.value, dict) else None
        found += _faults(own, settled, f"variants[{index}].set", [variant.model])
    found += _faults(tree.get("model"), settled, "model", [variant.model for variant in variants])
    for key, values in matrix.items() if matrix else ():
        for index, value in enumerate(values.elements() if key in NESTED else ()):
            try:
                models = [at_point(variant, {key: value.plain()}) for variant in variants]
            except ValueError:
                continue  # no model at all, which is said where points are expanded
            found += _faults(Node({key: value}, value.mark), [key], "matrix", models, f"[{index}]")
    return found


def _faults(
    fields: Node | None, axes: Sequence[str], where: str, models: Sequence[ModelSpec], place: str = ""
) -> Iterator[SpecError]:
    """The settings among `fields` that are idle in every model."""
    for name in axes:
        node = fields.get(name) if fields else None
        if node is None or node.value is None:
            continue
        written = dict(node.items()) if name in NESTED else {"": node}
        for key, setting in written.items():
            path = f"{name}.{key}" if key else name
            reasons = [_reason(path, setting.plain(), model) for model in models]
            if reasons and all(reasons):
                full = f"{where}.{name}{place}" + (f".{key}" if key else "")
                yield SpecError(setting.mark, full, f"changes nothing: {listing(dict.fromkeys(map(str, reasons)))}")


def _reason(path: str, value: Any, model: ModelSpec) -> str:
    """Why a setting is read by nothing in a model; empty if it is read, or says what holds anyway."""
    axis, _, key = path.partition(".")
    if value == _default(axis, key):
        return ""
    if axis == "qk_norm_span":
        return "" if model.qk_norm else "qk_norm is off; set qk_norm: true"
    if axis == "pattern":
        full = key == "window" and model.pattern.kind != "window"
        return f"pattern.kind is {model.pattern.kind}; set kind: window" if full else ""
    return _of_position(key, model.position) if key in KINDS else ""


def _of_position(key: str, position: PositionSpec) -> str:
    if position.kind not in KINDS[key]:
        return f"position.kind is {position.kind}; it belongs to {listing(KINDS[key])}"
    if key in ("scaling_factor", "original_len") and position.scaling == "none":
        return "position.scaling is none; set scaling: linear, ntk, yarn or llama3"
    if key == "original_len" and position.scaling in ("linear", "ntk"):
        return f"position.scaling {position.scaling} does not read it; it belongs to yarn and llama3"
    if key == "scaling" and position.scaling_factor == 1.0:
        return "position.scaling_factor is 1.0; set it to how much longer texts become"
    return ""


def _default(axis: str, key: str) -> Any:
    plain: Mapping[str, Any] = ModelSpec().to_dict()
    return plain[axis][key] if key else plain[axis]
