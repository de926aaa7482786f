"""What was asked of a gate, and the other side that it asks for: a commit, a variant, another torch, the anchor."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from t2bench.gate import baseline as stored
from t2bench.runner.codebase import CodeBase, CodeBaseError, checkout, code_base, our_root, resolve
from t2bench.runner.gating import GateOptions
from t2bench.runner.options import default_isolation
from t2bench.spec.suite import Suite


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What the user asked for.

    Attributes:
        suite: file or name.
        base: `variant:NAME`, `git:REVISION`, either without its prefix, `anchor`, or None for the stored baseline.
        base_python: interpreter of the base's environment.
        baselines: folder of stored baselines.
        allow_code: permit the suite's plugins to be imported, in the measured processes.
        exact_only: counters only, even where there is a base.
        remember: append this run's times to the machine's history.
        options: how to measure.
    """

    suite: str
    options: GateOptions
    device: str = "auto"
    only: str | None = None
    overrides: Sequence[str] = ()
    base: str | None = None
    base_python: str | None = None
    baselines: Path = stored.ROOT
    allow_code: bool = False
    exact_only: bool = False
    remember: bool = False


def options_of(
    kind: str, suite: str, out: str | None, data: str | None, threads: int | None, isolation: str | None
) -> GateOptions:
    """How to measure, with a run directory `results/<kind>/<suite>/<time>` unless one is given."""
    # With milliseconds: two gates that a job starts at once want two directories.
    stamp = f"{datetime.now():%Y-%m-%dT%H-%M-%S.%f}"[:-3]
    parent = Path("results") / kind / Path(suite).stem
    number = 1
    while (path := parent / (stamp if number == 1 else f"{stamp}.{number}")).exists():
        number += 1
    return GateOptions(
        path=Path(out) if out else path,
        threads=threads,
        data=Path(data).resolve() if data else None,
        isolation=isolation or default_isolation(),
        argv=("t2bench", *sys.argv[1:]),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """What the candidate is held against, when it is measured here and now.

    Attributes:
        code: its code; None if it is ours.
        cases: candidate's case id -> the base's case.
        gone: base's case ids that the candidate does not have -> the case.
        words: for people.
        variant: name of the variant, if it is one.
    """

    code: CodeBase | None
    cases: Mapping[str, Mapping[str, Any]]
    gone: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    words: str
    variant: str = ""


@contextlib.contextmanager
def base_for(request: Request, suite: Suite, cases: Sequence[Any]) -> Iterator[Base | None]:
    """The base that was asked for, ready to be measured; None for the stored baseline.

    Raises:
        CodeBaseError: it cannot be had.
        BaselineError: `anchor`, and none is pinned.
    """
    asked, python = request.base, request.base_python
    kind, _, name = (asked or "").rpartition(":")
    names = [variant.name for variant in suite.variants]
    if asked is not None and kind not in ("git", "variant"):
        name = asked
        is_variant, is_commit = asked in names, _is_commit(asked)
        if is_variant and is_commit:
            raise CodeBaseError(f"'{asked}' is a variant and a commit; say variant:{asked} or git:{asked}")
        kind = "variant" if is_variant else "anchor" if asked == "anchor" else "git"
    if asked is None and python is None:
        yield None
    elif kind == "variant":
        yield _variant_base(name, names, cases, python)
    elif asked is None:
        code = code_base("this code", python=python)
        yield _other_code(code, code.words, request, suite, cases)
    else:
        revision = _anchor(request, suite) if kind == "anchor" else name
        with checkout(revision, python=python) as code:
            yield _other_code(code, f"{'anchor, ' if kind == 'anchor' else ''}{code.words}", request, suite, cases)


def _is_commit(name: str) -> bool:
    try:
        return bool(resolve(name))
    except CodeBaseError:
        return False


def _variant_base(name: str, names: Sequence[str], cases: Sequence[Any], python: str | None) -> Base:
    if python is not None:
        raise CodeBaseError("--base-python is for another installation; a variant runs in this one")
    if name not in names:
        raise CodeBaseError(f"no variant '{name}' in the suite; it has {', '.join(names)}")
    theirs = {case.group: case.to_dict() for case in cases if case.variant == name and not case.ghost}
    pairs = {case.id: theirs[case.group] for case in cases if case.variant != name and case.group in theirs}
    return Base(code=None, cases=pairs, words=f"variant {name}", variant=name)


def _other_code(code: CodeBase, words: str, request: Request, suite: Suite, cases: Sequence[Any]) -> Base:
    path = Path(suite.source).resolve()
    if path.is_relative_to(our_root()):
        path = code.root / path.relative_to(our_root())
        if not path.is_file():
            raise CodeBaseError(f"{words}: it has no suite {suite.source}; accept a baseline instead")
    found = code.plan(str(path), device=suite.device, only=request.only, overrides=request.overrides)
    ours = {case.id for case in cases}
    return Base(
        code=code,
        cases={case: entry for case, entry in found.items() if case in ours},
        gone={case: entry for case, entry in found.items() if case not in ours},
        words=words,
    )


def _anchor(request: Request, suite: Suite) -> str:
    for path in sorted((request.baselines / suite.name).glob("*.json")):
        commit = str((stored.read(path).anchor.get("accepted") or {}).get("commit", "")).rstrip("+")
        if commit and commit != "unknown":
            return commit
    raise stored.BaselineError(f"{request.baselines / suite.name}: no anchor with a commit; `baseline pin` makes one")
