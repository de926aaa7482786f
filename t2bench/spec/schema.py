"""The suite file's shape: which keys there are and what each may hold, for pydantic and for editors.

The shape follows the dataclasses (`ModelSpec`, `Measure`, ...), so a new axis needs no second entry here. Finding and
explaining what does not fit is in `t2bench.spec.shape`; what relates one part of a suite to another (names that must
exist, cycles, ...) in `t2bench.spec.check`.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from pydantic import Discriminator, Field, Tag, TypeAdapter

from t2bench.spec.axes import NESTED, STRICT
from t2bench.spec.case import MAX_LENGTH, DeviceKind, Dtype, WorkloadKind, WorkloadSpec
from t2bench.spec.gate import GATE_METRICS, Gate, Margin
from t2bench.spec.model import ModelSpec
from t2bench.spec.quality import CorpusSpec, Decoding, QualitySpec, Recipe, Search
from t2bench.spec.suite import Limits, Measure

PROFILES = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """The numbers a field may hold; `open` ends are themselves not allowed.

    `cap` is an upper end that no real suite comes near: beyond it bytes, nanoseconds or sizes would overflow somewhere.
    It is mentioned to those who exceed it only.
    """

    whole: bool = False
    low: float = 0
    high: float | None = None
    cap: int | None = None
    low_open: bool = False
    high_open: bool = False

    @property
    def words(self) -> str:
        """For people: `a whole number of at least 1`."""
        low = f"above {self.low}" if self.low_open else f"of at least {self.low}"
        high = "" if self.high is None else f" and {'below' if self.high_open else 'at most'} {self.high}"
        return f"{'a whole number' if self.whole else 'a number'} {low}{high}"

    @property
    def constraint(self) -> Any:
        """For pydantic."""
        return Field(
            gt=self.low if self.low_open else None,
            ge=None if self.low_open else self.low,
            lt=self.high if self.high_open else None,
            le=None if self.high_open else self.cap if self.high is None else self.high,
        )


_SIZE = Range(whole=True, low=1, cap=MAX_LENGTH)
_LAYERS = Range(whole=True, low=1, cap=1000)
_MOST_S = 1_000_000  # in milliseconds it still fits the 32 bits that waiting for a worker has
_PROBABILITY = Range(high=1, high_open=True)
RANGES: dict[str, Range] = {
    **dict.fromkeys(["length", "batch", "width", "heads", "kv_heads", "head_dim", "ff", "vocab"], _SIZE),
    **dict.fromkeys(["vocab_multiple", "max_len", "original_len", "window", "buckets", "max_distance"], _SIZE),
    **dict.fromkeys(["memory", "global_tokens"], Range(whole=True, cap=MAX_LENGTH)),
    **dict.fromkeys(["enc_layers", "dec_layers"], _LAYERS),
    # Two at least: the time per token is that of the tokens after the first.
    "new_tokens": Range(whole=True, low=2, cap=MAX_LENGTH),
    "launches": Range(whole=True, low=1, cap=10_000),
    "rounds": Range(whole=True, low=1, cap=100_000),
    "max_rounds": Range(whole=True, low=1, cap=1_000_000),
    "warmup_calls": Range(whole=True, cap=1_000_000),
    "tokens_per_step": Range(whole=True, cap=1 << 40),
    "seed": Range(whole=True, cap=(1 << 32) - 1),
    "theta": Range(low=1, cap=10**12),
    "norm_eps": Range(low_open=True, cap=1),
    "scaling_factor": Range(low=1, cap=1 << 20),
    **dict.fromkeys(["attention_softcap", "logit_softcap"], Range(low_open=True, cap=10**6)),
    "memory_gib": Range(low_open=True, cap=1_000_000),
    **dict.fromkeys(["case_timeout_s", "max_time_s"], Range(low_open=True, cap=_MOST_S)),
    **dict.fromkeys(["min_sample_s", "warmup_s", "warmup_max_s"], Range(cap=_MOST_S)),
    **dict.fromkeys(["dropout", "attention_dropout"], _PROBABILITY),
    **dict.fromkeys(["fraction", "clean_share"], Range(low_open=True, high=1)),
    **dict.fromkeys(["tolerance", "detect"], Range(cap=1000)),
    "alpha": Range(low_open=True, high=0.2),
    **dict.fromkeys(["steps", "accumulate", "average", "beam", "seeds", "pairs"], Range(whole=True, low=1, cap=10**9)),
    # More draws of a sentence than this are a matrix of likeness that nobody waits for.
    "samples": Range(whole=True, low=0, cap=1000),
    **dict.fromkeys(["warmup", "validate_every", "patience", "top_k", "max_extra"], Range(whole=True, cap=10**9)),
    **dict.fromkeys(["beta1", "beta2", "label_smoothing", "epsilon"], _PROBABILITY),
    **dict.fromkeys(["lr", "eps"], Range(low_open=True, cap=1000)),
    **dict.fromkeys(["weight_decay", "clip", "temperature", "margin"], Range(cap=1000)),
    "length_alpha": Range(high=10),
    "target": Range(low_open=True, high=100),
    "top_p": Range(low_open=True, high=1),
}


def _field_types(cls: type) -> dict[str, Any]:
    """Field name -> type with its range and its line of the docstring, for validation and for editors."""
    help_lines = attribute_docs(cls)
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if name.startswith("__"):
            continue
        typed = hint
        if name in RANGES:
            optional = type(None) in getattr(hint, "__args__", ())
            bare = int if RANGES[name].whole else float
            typed = Annotated[bare, RANGES[name].constraint]
            typed = typed | None if optional else typed
        found[name] = Annotated[typed, Field(description=help_lines.get(name, ""))]
    return found


def attribute_docs(cls: type) -> dict[str, str]:
    """Attribute -> its text in the class's Google-style docstring, on one line."""
    section = (cls.__doc__ or "").partition("Attributes:")[2].partition("Raises:")[0]
    pieces = re.split(r"^ {8}(\w+): ", section, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in zip(pieces[1::2], pieces[2::2], strict=True)}


def values_of(cls: type, name: str) -> str:
    """What a field may hold, in words: its choices, its range or its type."""
    hint = get_type_hints(cls)[name]
    if get_origin(hint) is Literal:
        return ", ".join(get_args(hint))
    if name in RANGES:
        return RANGES[name].words + (", or null" if type(None) in get_args(hint) else "")
    return "true, false" if hint is bool else str(hint.__name__)


def _partial(name: str, types: Mapping[str, Any]) -> Any:
    """A dataclass in which every field may be left out."""
    fields = [(key, hint, field(default=None)) for key, hint in types.items()]
    return dataclasses.make_dataclass(name, fields, kw_only=True, namespace={"__pydantic_config__": STRICT})


def _kind_of(value: Any) -> str:
    return "<entry>" if isinstance(value, dict) or dataclasses.is_dataclass(value) else "<name>"


def _name_or(entry: Any, name: Any = str) -> Any:
    """A name alone, or an entry that says more."""
    return Annotated[Annotated[name, Tag("<name>")] | Annotated[entry, Tag("<entry>")], Discriminator(_kind_of)]


# Built from the dataclasses at import, so for a static checker they are opaque.
if TYPE_CHECKING:
    ModelFields: TypeAlias = Any
    WorkloadEntry: TypeAlias = Any
    Axes: TypeAlias = Any
    Points: TypeAlias = Any
    Matches: TypeAlias = Any
    MeasureFields: TypeAlias = Any
    LimitFields: TypeAlias = Any
    GateFields: TypeAlias = Any
    RecipeFields: TypeAlias = Any
    QualityFields: TypeAlias = Any
    VariantItem: TypeAlias = Any
else:
    _Size = Annotated[int, _SIZE.constraint]
    WorkloadEntry = _partial("WorkloadEntry", _field_types(WorkloadSpec))
    _Workload = _name_or(WorkloadEntry, WorkloadKind)
    _MODEL = _field_types(ModelSpec)
    for _name, _cls in NESTED.items():
        _nested = _partial(_name.capitalize(), _field_types(_cls))
        _MODEL[_name] = Annotated[_nested, Field(description=attribute_docs(ModelSpec)[_name])]
    ModelFields = _partial("Model", _MODEL)
    _AXES = {"workload": _Workload, "length": _Size, "dtype": Dtype, "batch": _Size, **_MODEL}
    _NON_EMPTY = Field(min_length=1)
    _LISTED = {name: Annotated[list[hint], _NON_EMPTY] for name, hint in _AXES.items()}
    _FLAGS = dict.fromkeys(("causal", "backward"), Annotated[list[bool], _NON_EMPTY])
    Axes = _partial("Matrix", {**_LISTED, **_FLAGS})
    _NAMES = Annotated[list[str], _NON_EMPTY]
    Points = _partial("Include", {"variant": _NAMES, **_AXES})
    Matches = _partial("Match", {**_LISTED, "variant": _NAMES, "workload": _NAMES})
    MeasureFields = _partial("Measure", _field_types(Measure))
    LimitFields = _partial("Limits", _field_types(Limits))
    _Use = _name_or(_partial("Margin", _field_types(Margin)), Literal["exact", "off"])
    GateMetrics = _partial("GateMetrics", dict.fromkeys(GATE_METRICS, _Use))
    GateFields = _partial("Gate", {**_field_types(Gate), "metrics": GateMetrics})
    RecipeFields = _partial("Recipe", _field_types(Recipe))
    _QUALITY = {
        "corpus": _partial("Corpus", _field_types(CorpusSpec)),
        "recipe": RecipeFields,
        "decode": Annotated[list[_name_or(_partial("Decoding", _field_types(Decoding)), Search)], _NON_EMPTY],
    }
    QualityFields = _partial("Quality", {**_field_types(QualitySpec), **_QUALITY})


@dataclass(kw_only=True, slots=True)
class Scale:
    """Sizes relative to the suite's: see t2bench.spec.presets."""

    __pydantic_config__ = STRICT

    ff: str | None = None
    kv_heads: str | None = None


@dataclass(kw_only=True, slots=True)
class VariantEntry:
    """A variant that the suite defines: `base` + `set`, or (as resolved files have it) a whole `model`."""

    __pydantic_config__ = STRICT

    name: str
    base: str | None = None
    set: ModelFields = None
    scale: Scale | None = None
    recipe: RecipeFields = None
    model: ModelFields = None
    summary: str | None = None


if not TYPE_CHECKING:
    VariantItem = _name_or(VariantEntry)


@dataclass(kw_only=True, slots=True)
class ExcludeEntry:
    """Cases that are not run: those that match every key, for a reason that reports show."""

    __pydantic_config__ = STRICT

    match: Matches
    reason: Annotated[str, Field(min_length=1)]


@dataclass(kw_only=True, slots=True)
class ProfileFields:
    """What a device profile may override: every key of a suite but those that identify it."""

    __pydantic_config__ = STRICT

    summary: str | None = None
    reference: str | None = None
    variants: Annotated[list[VariantItem], Field(min_length=1)] | None = None
    model: ModelFields = None
    matrix: Axes = None
    tokens_per_step: Annotated[int, RANGES["tokens_per_step"].constraint] | None = None
    include: list[Points] | None = None
    exclude: list[ExcludeEntry] | None = None
    measure: MeasureFields = None
    limits: LimitFields = None
    gate: GateFields = None
    quality: QualityFields = None
    ladder: list[str] | None = None
    seed: Annotated[int, RANGES["seed"].constraint] | None = None
    ghost: bool | None = None
    only: str | None = None


@dataclass(kw_only=True, slots=True)
class Profiles:
    """Overrides by kind of device."""

    __pydantic_config__ = STRICT

    cpu: ProfileFields | None = None
    cuda: ProfileFields | None = None


@dataclass(kw_only=True, slots=True)
class SuiteFile(ProfileFields):
    """A suite of t2bench: which variants do what, at which sizes, and how carefully they are measured.

    Attributes:
        schema: version of this format.
        name: letters, digits, '.', '_' and '-'; the results folder is named after it.
        device: the kind of device that a resolved suite was resolved for; for the reader.
        extends: a suite to start from: a file in this one's folder or below, or a built-in suite's name.
        plugins: code that defines factories of your own: .py files in this one's folder or below, or modules; it runs
            only with --allow-code.
        profiles: overrides by kind of device.
    """

    __pydantic_config__ = STRICT

    schema: Literal[1] | None = None
    name: str | None = None
    device: DeviceKind | None = None
    extends: str | None = None
    plugins: list[str] | None = None
    profiles: Profiles | None = None


def _keys(cls: Any) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(cls))


# The last key of a path -> what a mapping there may hold.
KEYS_BELOW: dict[str, tuple[str, ...]] = {
    "": _keys(SuiteFile),
    "cpu": _keys(ProfileFields),
    "cuda": _keys(ProfileFields),
    "profiles": PROFILES,
    "variants": _keys(VariantEntry),
    "scale": _keys(Scale),
    "model": _keys(ModelSpec),
    "set": _keys(ModelSpec),
    **{name: _keys(cls) for name, cls in NESTED.items()},
    "workload": _keys(WorkloadSpec),
    "matrix": ("workload", "length", "dtype", "batch", "causal", "backward", *_keys(ModelSpec)),
    "include": ("variant", "workload", "length", "dtype", "batch", *_keys(ModelSpec)),
    "match": ("variant", "workload", "length", "dtype", "batch", *_keys(ModelSpec)),
    "exclude": _keys(ExcludeEntry),
    "measure": _keys(Measure),
    "limits": _keys(Limits),
    "gate": _keys(Gate),
    "quality": _keys(QualitySpec),
    "corpus": _keys(CorpusSpec),
    "recipe": _keys(Recipe),
    "decode": _keys(Decoding),
    "metrics": GATE_METRICS,
    **dict.fromkeys(GATE_METRICS, _keys(Margin)),
}


@functools.cache
def adapter() -> TypeAdapter[SuiteFile]:
    """The validator of a suite file."""
    return TypeAdapter(SuiteFile)


def json_schema() -> dict[str, Any]:
    """JSON Schema of a suite file, for editors."""
    schema = adapter().json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["required"] = ["schema", "name", "variants"]
    for definition in ("Matrix", "Match"):
        for name, prop in schema["$defs"][definition]["properties"].items():
            schema["$defs"][definition]["properties"][name] = {"anyOf": [prop, prop["items"]]}
    for name in map(str.capitalize, NESTED):
        kinds = schema["$defs"][name]["properties"]["kind"]["enum"]
        schema["$defs"][name] = {"anyOf": [{"enum": kinds}, schema["$defs"][name]]}
    _drop_null_defaults(schema)
    return schema


def _drop_null_defaults(schema: Any) -> None:
    """None stands for "not given" here and is no default that an editor should write."""
    if isinstance(schema, dict):
        if "default" in schema and schema["default"] is None:
            del schema["default"]
        for value in schema.values():
            _drop_null_defaults(value)
    elif isinstance(schema, list):
        for value in schema:
            _drop_null_defaults(value)
