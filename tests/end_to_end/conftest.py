import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_suite import TINY

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def t2bench(tmp_path):
    """Run the command line as a user would, from an empty folder; returns the finished process."""

    def call(*args, check=None, **more):
        done = subprocess.run(  # noqa: PLW1510 (the exit code is what most tests look at)
            [sys.executable, "-m", "t2bench", *map(str, args)],
            cwd=more.pop("cwd", tmp_path),
            env=environment(**more.pop("env", {})),
            capture_output=True,
            text=True,
            timeout=200,
            **more,
        )
        assert "Traceback" not in done.stderr, done.stderr
        if check is not None:
            assert done.returncode == check, done.stderr
        return done

    return call


@pytest.fixture
def start_t2bench(tmp_path):
    """Start the command line in the background; the processes that a test leaves are killed."""
    started = []

    def start(*args):
        process = subprocess.Popen(
            [sys.executable, "-m", "t2bench", *map(str, args)],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **more}
