"""On a device that refuses tensors of the host, every kind of variant does all its work; a forgotten one is found."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
KNOWN_TO_WORK = ("2.13.",)  # elsewhere torch's experimental interface may be another


def test_no_tensor_stays_behind():
    lines = lines_of_the_program()
    if "missing" in lines[0]:
        assert not torch.__version__.startswith(KNOWN_TO_WORK), lines[0]["missing"]
        pytest.skip(f"no device can be written in Python for this torch: {lines[0]['missing']}")
    failed = [f"{line['case']}: {line['failure']}" for line in lines if "case" in line and line["failure"]]
    assert not failed, "\n".join(failed)
    mutants = {line["mutant"]: line["failure"] or "" for line in lines if "mutant" in line}
    missed = [f"{name}: {failure}" for name, failure in mutants.items() if "HostTensor: " not in failure]
    assert not missed, "\n".join(missed)
    assert len(mutants) == 7
    # Where: the line that put both together, not one of this test.
    assert all(failure.startswith("t2bench/") for failure in mutants.values()), mutants


def lines_of_the_program():
    """A process of its own: what makes the device possible changes torch for good."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("device_cases.py"))],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
