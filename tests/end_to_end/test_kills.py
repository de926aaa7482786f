"""Kills at random moments: of the scheduler, of workers, by signals a user sends. Nothing finished is ever lost."""

import json
import os
import random
import signal
import sys
import time

import psutil
import pytest

from t2bench.records import Run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process control is tested on Linux")

KILLS = 20


def keys(directory):
    return [record.key for record in Run.load(directory).records] if (directory / "records.jsonl").exists() else []


def wait_for(condition, within_s=60.0):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("did not happen in time")


def workers_of(process):
    """Worker processes of a running command: the fork server's children."""
    try:
        servers = psutil.Process(process.pid).children()
        return [child for server in servers for child in server.children()]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.timeout(570)
def test_twenty_kills_of_the_scheduler_and_a_resume_lose_and_double_nothing(start_t2bench, t2bench, tiny, tmp_path):
    out = tmp_path / "out"
    command = ("run", tiny, "--device", "cpu", "-q", "-o", out, "--set", "measure.launches=12")
    generator = random.Random(20)
    seen: list = []
    for _ in range(KILLS):
        process = start_t2bench(*command)
        before = len(seen)
        # let it come up (importing torch takes seconds), then strike somewhere within the next moments of work
        wait_for(lambda process=process, before=before: process.poll() is not None or len(keys(out)) > before)
        time.sleep(generator.random() * 1.5)
        process.kill()
        process.wait()
        found = keys(out)
        assert found[: len(seen)] == seen, "a finished record was lost or moved"
        assert len(found) == len(set(found))
        seen = found
    t2bench(*command, check=0)
    final = keys(out)
    assert final[: len(seen)] == seen
    assert len(final) == len(set(final))
    planned = {case for cases in Run.load(out).environment["plan"]["groups"].values() for case in cases}
    timed = {(case, launch) for case, kind, launch in final if kind == "time"}
    assert timed == {(case, launch) for case in planned for launch in range(12)}


def strike(process, out, number, status):
    """Send `number` to one worker after another until a record with `status` is there; returns how many were hit.

    A worker that was about to leave takes its death unnoticed, so one stroke may not be enough.
    """
    wait_for(lambda: any(kind == "time" for _, kind, _ in keys(out)))
    for strokes in range(1, 20):
        victims = wait_for(lambda: workers_of(process) or process.poll() is not None)
        if victims is True:
            break
        os.kill(victims[0].pid, number)
        try:
            wait_for(lambda: any(r.status == status for r in Run.load(out).records), within_s=8.0)
        except AssertionError:
            continue
        return strokes
    raise AssertionError(f"no {status} row although workers were struck")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_worker_is_a_row_and_the_run_goes_on(start_t2bench, tiny, tmp_path, number):
    out = tmp_path / "out"
    process = start_t2bench("run", tiny, "--device", "cpu", "-q", "-o", out, "--set", "measure.launches=20")
    strokes = strike(process, out, number, "crashed")
    process.communicate(timeout=200)
    records = Run.load(out).records
    crashed = [record for record in records if record.status == "crashed"]
    assert 1 <= len(crashed) <= strokes, "no other case than the killed workers'"
    assert signal.Signals(number).name in crashed[0].reason
    assert process.returncode == 5
    others = {r.case for r in records if r.pass_ == "time" and r.launch == 19 and r.status == "ok"}
    assert len(others) >= 4 * 3 - 2 * strokes  # all but the crashed cases (and the ghost of one, if the reference)


def test_a_hanging_worker_is_a_timeout_row_and_the_run_goes_on(start_t2bench, tiny, tmp_path):
    out = tmp_path / "out"
    changes = ("--set", "limits.case_timeout_s=3", "--set", "measure.launches=20")
    process = start_t2bench("run", tiny, "--device", "cpu", "-q", "-o", out, *changes)
    strokes = strike(process, out, signal.SIGSTOP, "timeout")
    process.communicate(timeout=200)
    records = Run.load(out).records
    assert 1 <= sum(record.status == "timeout" for record in records) <= strokes
    assert process.returncode == 5
    assert any(r.pass_ == "time" and r.launch == 19 and r.status == "ok" for r in records)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_130_leaves_no_process_and_can_be_continued(
    start_t2bench, t2bench, tiny, tmp_path, number
):
    out = tmp_path / "out"
    command = ("run", tiny, "--device", "cpu", "-o", out)
    process = start_t2bench(*command)
    wait_for(lambda: any(kind == "time" for _, kind, _ in keys(out)))
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "continues this run" in said
    assert "Traceback" not in said
    assert not psutil.wait_procs(family, timeout=5)[1]
    before = keys(out)
    done = t2bench(*command, check=0)
    assert f"continuing {out}" in done.stderr
    assert keys(out)[: len(before)] == before
    assert json.loads((out / "environment.json").read_text())["finished"]
