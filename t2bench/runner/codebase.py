"""Another code base: a second checkout or a second interpreter, whose workers take turns with ours in one job.

A worker imports t2bench from the folder that its process starts in, so that two commits can be measured side by side.
Which code and which torch a side really has is asked of that side before anything is measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2bench.records import PROTOCOL

PROBE_TIMEOUT_S = 120.0
# A git hook sets these to its own repository and index, which a second worktree must not touch.
HOOK_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
SCRATCH = "t2bench-base-"  # then the process id of its owner
# Dependencies are stated in these files; where they are equal one environment serves two commits.
STATED_IN = ("pyproject.toml", "constraints.txt")

_PROBE = """
import json, sys, torch, t2bench
from t2bench.records import PROTOCOL
print(json.dumps({"file": t2bench.__file__, "protocol": PROTOCOL, "torch": torch.__version__,
                  "python": sys.version.split()[0]}))
"""
_PLAN = """
import json, sys
from t2bench.spec.errors import SuiteErrors
from t2bench.spec.loader import load_suite
from t2bench.spec.plan import expand
suite, device, only, overrides = json.loads(sys.argv[1])
try:
    plan = expand(load_suite(suite, device=device, overrides=overrides), only=only)
except SuiteErrors as error:
    sys.exit(str(error))
print(json.dumps({case.id: case.to_dict() for case in plan.cases if not case.ghost}))
"""


class CodeBaseError(Exception):
    """The other side cannot be had or used; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeBase:
    """Where a side's workers come from.

    Attributes:
        python: its interpreter.
        root: the folder that holds its `t2bench` package.
        words: for people: `commit 1a2b3c4 (torch 2.13.0, same environment)`.
        torch: version of its torch.
    """

    python: str
    root: Path
    words: str
    torch: str

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """Environment variables of its processes."""
        path = os.pathsep.join(p for p in (str(self.root), os.environ.get("PYTHONPATH", "")) if p)
        return {**os.environ, **extra, "PYTHONPATH": path}

    def plan(self, suite: str, *, device: str, only: str | None, overrides: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Case id -> case, as this code base expands a suite; ghosts left out.

        Raises:
            CodeBaseError: it cannot read the suite.
        """
        answer: dict[str, dict[str, Any]] = self._ask(_PLAN, json.dumps([suite, device, only, list(overrides)]))
        return answer

    def _ask(self, script: str, *arguments: str) -> Any:
        try:
            done = subprocess.run(
                [self.python, "-c", script, *arguments],
                cwd=self.root,
                env=self.environment({}),
                capture_output=True,
                text=True,
                timeout=PROBE_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CodeBaseError(f"{self.words}: {self.python} does not run: {error}") from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise CodeBaseError(f"{self.words}: {lines[-1]}")
        try:
            return json.loads(done.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            raise CodeBaseError(f"{self.words}: {self.python} is no Python: it ran and did not answer") from None


def our_root() -> Path:
    """The folder that holds this t2bench."""
    return Path(__file__).resolve().parents[2]


def code_base(words: str, *, python: str | None = None, root: Path | None = None) -> CodeBase:
    """A code base, after asking it who it is.

    Raises:
        CodeBaseError: it does not start, imports t2bench from elsewhere, or measures by another protocol.
    """
    side = CodeBase(python=python or sys.executable, root=root or our_root(), words=words, torch="")
    facts = side._ask(_PROBE)
    found = Path(facts["file"]).resolve().parents[1]
    if found != side.root.resolve():
        raise CodeBaseError(f"{words}: its Python imports t2bench from {found}, not from {side.root}")
    if facts["protocol"] != PROTOCOL:
        raise CodeBaseError(
            f"{words}: it measures by protocol {facts['protocol']}, this t2bench by {PROTOCOL}: not comparable"
        )
    own = "same environment" if side.python == sys.executable else f"environment of {side.python}"
    return CodeBase(
        python=side.python,
        root=side.root,
        words=f"{words} (torch {facts['torch']}, Python {facts['python']}, {own})",
        torch=facts["torch"],
    )


@contextlib.contextmanager
def checkout(revision: str, *, python: str | None = None) -> Iterator[CodeBase]:
    """Another commit of this t2bench in a git worktree of its own, which is removed afterwards.

    Args:
        revision: anything git knows: a commit, a branch, a tag.
        python: interpreter of its environment; None for ours, which is refused where the dependencies differ.

    Raises:
        CodeBaseError: this t2bench is no git checkout, there is no such revision, it needs other dependencies.
    """
    root = our_root()
    commit = resolve(revision)
    _remove_abandoned(root)
    with tempfile.TemporaryDirectory(prefix=f"{SCRATCH}{os.getpid()}-", ignore_cleanup_errors=True) as scratch:
        tree = Path(scratch).resolve() / "t2bench-base"
        try:
            _git(root, "worktree", "add", "--detach", "--quiet", str(tree), commit)
            differing = [name for name in STATED_IN if _text(root / name) != _text(tree / name)]
            if python is None and differing:
                raise CodeBaseError(
                    f"{revision} states other dependencies ({', '.join(differing)}); "
                    "give --base-python, the interpreter of an environment made for it"
                )
            yield code_base(f"commit {commit[:12]}", python=python, root=tree)
        finally:
            _remove(root, tree)


def _remove(root: Path, tree: Path) -> None:
    """Remove a worktree and what git knows of it, also where it was only half made and is therefore locked."""
    with contextlib.suppress(CodeBaseError):  # there is none yet
        _git(root, "worktree", "remove", "--force", "--force", str(tree))
    shutil.rmtree(tree.parent, ignore_errors=True)


def _remove_abandoned(root: Path) -> None:
    """Remove the worktrees of gates on this machine that were killed."""
    for line in _git(root, "worktree", "list", "--porcelain").splitlines():
        tree = Path(line.removeprefix("worktree "))
        owner = re.fullmatch(rf"{SCRATCH}(\d+)-.*", tree.parent.name)
        if owner and tree.parent.parent == Path(tempfile.gettempdir()).resolve() and not _runs(int(owner.group(1))):
            _remove(root, tree)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def resolve(revision: str) -> str:
    """The commit that a revision names in this checkout.

    Raises:
        CodeBaseError: there is none.
    """
    root = our_root()
    try:
        return _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except CodeBaseError as error:
        shallow = _git(root, "rev-parse", "--is-shallow-repository") == "true"
        hint = "; the clone is shallow: fetch more of its history" if shallow else ""
        raise CodeBaseError(f"no commit '{revision}' in {root}{hint}") from error


def own_commit() -> str | None:
    """The commit of this checkout, with `+` if files differ from it; None outside git."""
    root = our_root()
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no", "--", "t2bench") else "")
    except CodeBaseError:
        return None


def _git(root: Path, *arguments: str) -> str:
    if not (root / ".git").exists():
        raise CodeBaseError(f"{root} is no git checkout, so it has no other commits; give --base-python instead")
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            env={name: value for name, value in os.environ.items() if name not in HOOK_VARIABLES},
            capture_output=True,
            text=True,
            check=True,
        )
    except FileNotFoundError:
        raise CodeBaseError("git is not installed") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
        raise CodeBaseError(f"git {arguments[0]}: {said[-1]}") from error
    return done.stdout.strip()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
