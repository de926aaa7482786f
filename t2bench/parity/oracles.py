"""The registry of oracles, and which of them can vouch for a given spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from t2bench.parity import equations
from t2bench.parity.changes import SIZES, axes, position
from t2bench.parity.equation_oracles import equation_oracles
from t2bench.parity.library_oracles import library_oracles
from t2bench.parity.oracle import Oracle
from t2bench.parity.recurrent import recurrent
from t2bench.parity.subject import share_of_heads, within_reach
from t2bench.spec.axes import PatternSpec, PositionSpec
from t2bench.spec.model import IMPLEMENTATION_AXES, ModelSpec
from t2bench.spec.presets import preset

EQUATIONS = "the papers' equations"
# Fields that change no function at the size of an oracle.
NEUTRAL = IMPLEMENTATION_AXES | {"dropout", "attention_dropout", "quant", "vocab_multiple", "head_dim"}

ORACLES: Mapping[str, Oracle] = {oracle.name: oracle for oracle in (*library_oracles(), *equation_oracles())}


def for_spec(variant: str | ModelSpec, *, only_installed: bool = True) -> Oracle | None:
    """The oracle that vouches for a variant: same function, at a size that computes in milliseconds.

    A library that computes the function, if there is one, else the papers' equations.

    Args:
        variant: a preset's name, or a spec.
        only_installed: libraries that are not installed are passed over.

    Returns:
        The oracle with its spec replaced by the variant's own, at the oracle's size; None for a user's own module.

    Raises:
        KeyError: there is no such preset.
    """
    spec = preset(variant).model if isinstance(variant, str) else variant
    if spec.factory:
        return None
    small = at_oracle_size(spec)
    for oracle in ORACLES.values():
        vouches = oracle.library and _function(small, oracle.free) == _function(oracle.spec, oracle.free)
        if vouches and (oracle.installed or not only_installed):
            return replace(oracle, spec=replace(small, ff=oracle.spec.ff))  # some libraries fix it
    make = equations.transformer if spec.recurrence == "none" else recurrent
    return Oracle(name=EQUATIONS, library="", spec=small, make=make, control=_control(small))


def _control(spec: ModelSpec) -> Callable[[ModelSpec], ModelSpec]:
    """A small mistake in what a variant without a library is about."""
    if spec.recurrence != "none":
        return axes(recurrence="gru" if spec.recurrence == "lstm" else "lstm")
    if spec.position.kind != "none":
        return position(kind="none")
    return axes(activation="silu" if spec.activation != "silu" else "gelu")


def at_oracle_size(spec: ModelSpec) -> ModelSpec:
    """The same function with two layers and a width of 32, computed on the CPU; head_dim follows from the width."""
    return replace(
        within_reach(spec), **SIZES, kv_heads=share_of_heads(spec, SIZES["heads"]), head_dim=None, vocab_multiple=1,
        dropout=0.0, attention_dropout=0.0, attention="math", padding="mask", projections="separate", loss="dense",
        compile="off", cache="on", checkpoint="off", quant="none",
    )  # fmt: skip


def _function(spec: ModelSpec, free: tuple[str, ...]) -> dict[str, Any]:
    """What must be equal in two specs of the same function: every field that means something, and is not free."""
    found = {f.name: getattr(spec, f.name) for f in fields(spec) if f.name not in NEUTRAL}
    found["kv_heads"] = spec.num_kv_heads
    if spec.arch != "encdec":
        found["tie"] = "none" if spec.has_output_table else "all"
    if spec.pattern.kind == "full":
        found["pattern"] = PatternSpec()
    plain = PositionSpec(kind=spec.position.kind)
    read = {name: getattr(spec.position, name) for name in _READ_BY.get(spec.position.kind, ())}
    found["position"] = replace(plain, **read)
    for name in free:
        if name.startswith("position."):
            default = getattr(PositionSpec(), name.removeprefix("position."))
            found["position"] = replace(found["position"], **{name.removeprefix("position."): default})
        else:
            found.pop(name, None)
    return found


# Which fields a kind of position reads.
_READ_BY: dict[str, tuple[str, ...]] = {
    "sinusoidal": ("layout", "theta"),
    "rope": ("layout", "theta", "fraction", "scaling", "scaling_factor", "original_len"),
    "t5_bias": ("buckets", "max_distance"),
    "shaw": ("max_distance",),
    "txl": ("theta",),
}
