"""A suite that is counted in seconds, the command line, and gate runs made of values."""

import os
import subprocess
import sys
from pathlib import Path

from t2bench.gate.counted import Counted

ROOT = Path(__file__).resolve().parents[2]
SUITE = """
schema: 1
name: small
variants: [vanilla, vanilla+flash]
model: {arch: decoder, width: 32, heads: 2, ff: 64, dec_layers: 1, vocab: 512}
matrix: {workload: [train_step], length: [16]}
tokens_per_step: 64
ghost: false
measure: {truth: false, warmup_s: 0.02, min_sample_s: 0.001, clean_share: 0.01}
gate: {launches: 3, rounds: 3}
"""


def call(*args, cwd, root=ROOT, env=None):
    """The command line as a user calls it; the finished process."""
    done = subprocess.run(  # noqa: PLW1510 (the exit code is what tests look at)
        [sys.executable, "-m", "t2bench", *map(str, args)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1", **(env or {})},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def definition(**changes):
    """A case as plain data."""
    from t2bench.spec.case import Case, WorkloadSpec
    from t2bench.spec.model import ModelSpec

    case = Case(
        variant="vanilla", model=ModelSpec(), workload=WorkloadSpec(), length=8, batch=2, dtype="fp32", device="cpu"
    )
    return {**case.to_dict(), **changes}


def counted(status="ok", reason="", *, backends=("math",), unstable=None, real=True, changes=None, **values):
    """A case as a counting pass leaves it."""
    return Counted(
        status=status,
        reason=reason,
        backends=tuple(backends),
        real=real,
        values=values or {"executed_flops": 100.0, "saved_for_backward_bytes": 64.0},
        unstable=unstable or {},
        definition=definition(**(changes or {})),
    )
