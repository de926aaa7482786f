"""Ways in which a gate could be green, or red, for no good reason."""

import io
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from small_gate import counted

from t2bench.cli import common, gate_flow, gate_show
from t2bench.cli import gate as gate_command
from t2bench.cli.gate_base import options_of
from t2bench.gate import baseline as stored
from t2bench.gate import history
from t2bench.gate.exact import exact
from t2bench.gate.policy import policy_of
from t2bench.gate.results import GateReport, GateRow
from t2bench.gate.verdict import Findings, decide
from t2bench.runner import codebase
from t2bench.spec.gate import Gate, Margin
from t2bench.spec.plan import matches

CASE = "train_step/fp32/L8/vanilla"
ENVIRONMENT = {
    "device": "cpu",
    "fingerprint": {"hw": "aaa", "sw": "s", "proto": "p"},
    "torch": {"torch": "2.13.0"},
    "host": {"cpu": "any", "allowed_cores": 2},
}


def test_less_work_than_in_the_base_is_no_improvement():
    halved = counted(changes={"batch": 1}, executed_flops=50.0)
    rows = exact({CASE: counted()}, {CASE: halved}, ("executed_flops",))
    assert [row.verdict for row in rows] == ["improved"]
    rows += gate_flow._other_work({CASE: counted()}, {CASE: halved})
    assert decide(Findings(rows=rows, skipped={}))[0] == "inconclusive"
    assert gate_flow._other_work({CASE: counted()}, {CASE: counted(executed_flops=50.0)}) == []


def test_only_keeps_what_it_names_of_the_base_too():
    assert matches(CASE, "*/vanilla")
    assert matches(CASE, "vanilla")
    assert matches(CASE, "train_step/*")
    assert not matches(CASE, "*/L16/*")
    assert not matches(CASE, "van")


def test_a_metric_that_the_suite_names_must_be_measured_and_an_advisory_one_need_not():
    margins = {"bleu": Margin(absolute=True), "ttft_s": Margin(advisory=True), "ops": "off"}
    assert policy_of(Gate(metrics=margins)).named == ("bleu",)
    assert policy_of(Gate()).named == ()  # a CPU has no allocator's peak, and nobody asked for it


def test_an_error_that_nobody_expected_is_no_proven_regression(capsys):
    with pytest.raises(SystemExit) as ended, common.gate_errors():
        raise ZeroDivisionError("surprise")
    assert ended.value.code == common.FAILED
    assert "surprise" in capsys.readouterr().err


def test_a_reader_that_has_gone_does_not_change_the_exit_code(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            if text:
                raise BrokenPipeError
            return 0

    ended = []
    monkeypatch.setattr(gate_command.os, "dup2", lambda *_: ended.append(True))
    monkeypatch.setattr(sys, "stdout", Closed())
    monkeypatch.setattr(Closed, "fileno", lambda self: 1)
    report = GateReport(suite="s", suite_path="", base="b", candidate="c", verdict="pass", exit_code=0, headline="h")
    gate_command._tell(report, Console(file=sys.stdout), "path")
    assert ended


def test_a_log_of_80_columns_has_every_reason_in_full():
    why = "neither within 3 % nor proven beyond; at this noise 23 launches a look would decide"
    row = GateRow(case="train_step/fp32/L16/vanilla+flash", metric="m", layer="L2", verdict="inconclusive", why=why)
    report = GateReport(
        suite="s",
        suite_path="",
        base="b",
        candidate="c",
        verdict="inconclusive",
        exit_code=3,
        headline="h",
        rows=(row,),
    )
    shown = io.StringIO()
    gate_show.show(report, Console(file=shown, width=80))
    assert f"{row.case} m: {why}\n" in shown.getvalue()


def accept(root, hardware, when, flops, **changes):
    environment = {**ENVIRONMENT, "fingerprint": {**ENVIRONMENT["fingerprint"], "hw": hardware}, **changes}
    found = stored.baseline_of("small", environment, {CASE: counted(executed_flops=flops)})
    path = stored.write(root, found, action="pin", why="w", commit=None)
    data = json.loads(path.read_text())
    data.pop("checksum")
    data["accepted"] = {"when": when}
    path.write_text(json.dumps({**data, "checksum": stored._checksum(data)}))


def test_of_several_machines_the_latest_baseline_speaks(tmp_path):
    accept(tmp_path, "a", "2026-03-01T00:00:00+0000", 90.0)
    accept(tmp_path, "b", "2026-05-01T01:00:00+0200", 80.0)
    accept(tmp_path, "c", "2026-04-30T23:30:00+0000", 70.0)  # half an hour later than b
    assert stored.find(tmp_path, "small", ENVIRONMENT)[0].cases[CASE].values["executed_flops"] == 70.0


def test_a_baseline_nested_beyond_reading_is_damaged(tmp_path):
    path = tmp_path / "deep.json"
    path.write_text("[" * 100_000)
    with pytest.raises(stored.BaselineError, match="cannot be read"):
        stored.read(path)


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"{}",
        b"[]",
        b"[" * 100_000,
        b'{"when": 1, "commit": 2, "fingerprint": "abc", "values": {}}',
        b'{"when": 1, "commit": 2, "fingerprint": {}, "values": {"c": [1]}}',
        b'{"when": 1, "commit": 2, "fingerprint": {}, "values": {"c": {"step_time_s": "x"}}}',
    ],
)
def test_a_bad_line_of_the_history_is_passed_over(tmp_path, line):
    path = tmp_path / "h.runs.jsonl"
    run = history.PastRun(when="w", commit="c", fingerprint={"hw": "a"}, values={CASE: {"step_time_s": 1.0}})
    history.remember(path, run)
    path.write_bytes(path.read_bytes() + line + b"\n")
    history.remember(path, replace(run, values={CASE: {"step_time_s": float("nan")}}))
    assert [past.values for past in history.recall(path, {"hw": "a"})] == [run.values, {CASE: {}}]


@pytest.mark.parametrize("program", ["/bin/true", "/bin/echo"])
def test_a_base_interpreter_that_is_none_is_said_in_one_line(program):
    with pytest.raises(codebase.CodeBaseError, match="is no Python"):
        codebase.code_base("this code", python=program)


def git(root, *args):
    return subprocess.run(["git", "-C", str(root), *args], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path, monkeypatch):
    root = tmp_path / "a repository \N{SNOWMAN}"
    root.mkdir()
    git(root, "init", "-q")
    git(root, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "--allow-empty", "-m", "x")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr(codebase, "our_root", lambda: root)
    monkeypatch.setattr(codebase, "code_base", lambda words, python, root: root)
    return root


def test_the_worktree_of_a_killed_gate_is_removed_and_others_are_left(repository):
    gone = subprocess.Popen(["true"])  # a process id that is nobody's any more
    gone.wait()
    scratch = Path(tempfile.gettempdir())
    abandoned = scratch / f"{codebase.SCRATCH}{gone.pid}-x/t2bench-base"
    living = scratch / f"{codebase.SCRATCH}1-x/t2bench-base"
    own = scratch / "somebody's"
    for tree in (abandoned, living, own):
        git(repository, "worktree", "add", "-q", "--detach", str(tree), "HEAD")
    with codebase.checkout("HEAD") as tree:
        assert tree.is_dir()
    assert not tree.exists()
    assert not abandoned.parent.exists()
    listed = git(repository, "worktree", "list")
    assert len(listed.splitlines()) == 3
    assert str(living) in listed
    assert str(own) in listed


def test_a_git_hook_does_not_lead_the_gate_into_another_repository(repository, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))
    with codebase.checkout("HEAD") as tree:
        assert tree.is_dir()
    assert not (other / "index").exists()


def test_two_gates_at_once_have_two_directories():
    names = {options_of("gate", "small", None, None, None, None).path.name for _ in range(3)}
    assert all(len(name) == len("2026-01-01T00-00-00.000") for name in names)


def test_a_partial_run_is_not_made_the_baseline(tmp_path):
    from click.testing import CliRunner

    args = ["small.yaml", "--only", "vanilla", "--no-baseline", "create"]
    done = CliRunner().invoke(gate_command.command, args)
    assert done.exit_code == 2
    assert "whole suite" in done.output
