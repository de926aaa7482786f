"""Every exit code of the gate, through the command line, on a suite that is counted in seconds."""

import json
import re
import shutil
import subprocess

import pytest
from small_gate import ROOT, SUITE, call


@pytest.fixture(scope="session")
def accepted(tmp_path_factory):
    """A folder with the small suite and its accepted baseline."""
    folder = tmp_path_factory.mktemp("accepted")
    (folder / "small.yaml").write_text(SUITE)
    done = call("baseline", "accept", "small.yaml", "--device", "cpu", "--reason", "first", "-q", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def gate(folder, *args, suite="small.yaml", **more):
    return call("gate", suite, "--device", "cpu", "-q", *args, cwd=folder, **more)


@pytest.fixture
def folder(accepted, tmp_path):
    shutil.copytree(accepted, tmp_path / "copy")
    return tmp_path / "copy"


def test_0_nothing_changed(folder):
    done = gate(folder, "--json", "-o", "out")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["verdict"] == "pass"
    assert {row["layer"] for row in report["rows"]} == {"L0", "L1"}
    assert all(row["verdict"] == "pass" for row in report["rows"])
    assert json.loads((folder / "out" / "gate.json").read_text()) == report
    assert report["rows"][0]["line"] == 1 + SUITE[: SUITE.index("vanilla")].count("\n")


def test_1_a_renamed_case(folder):
    text = SUITE.replace("vanilla+flash]", "{name: renamed, base: vanilla+flash}]")
    (folder / "small.yaml").write_text(text)
    done = gate(folder, "--json")
    assert done.returncode == 1
    rows = {row["case"]: row for row in json.loads(done.stdout)["rows"] if row["layer"] == "L0"}
    assert rows["train_step/fp32/L16/vanilla+flash"]["verdict"] == "missing"
    assert rows["train_step/fp32/L16/renamed"]["verdict"] == "new"


@pytest.mark.parametrize(
    "args", [["--quick"], ["--set", "gate.launches=0"], ["--set", "gate.metrics.step_time_s=exact"], ["--bases", "x"]]
)
def test_2_usage(folder, args):
    assert gate(folder, *args).returncode == 2


def test_3_nothing_is_judged(folder):
    off = re.findall(r'"(\w+)",', (ROOT / "t2bench/spec/gate.py").read_text().split("PAIRED_METRICS")[0])
    done = gate(folder, *(f"--set=gate.metrics.{name}=off" for name in off), "--inconclusive=warn")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "nothing was decided" in done.stdout


def test_4_no_baseline(tmp_path):
    (tmp_path / "small.yaml").write_text(SUITE)
    done = gate(tmp_path)
    assert done.returncode == 4
    assert "baseline accept" in done.stderr


def test_4_an_altered_baseline(folder):
    path = next((folder / "results/baselines/small").glob("*.json"))
    path.write_text(path.read_text().replace('"executed_flops": ', '"executed_flops": 9'))
    done = gate(folder)
    assert done.returncode == 4
    assert "checksum" in done.stderr


def test_4_a_base_that_is_not_there(folder):
    done = gate(folder, "--base", "no-such-commit")
    assert done.returncode == 4
    assert "no-such-commit" in done.stderr


def test_5_the_device_is_not_there(folder):
    done = call("gate", "small.yaml", "--device", "cuda", "-q", cwd=folder, env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 5


def test_one_saved_tensor_more_than_another_commit_is_caught(tmp_path):
    """Two code bases in one job: the base is a commit, the candidate the changed files of the same checkout."""
    repository = tmp_path / "checkout"
    shutil.copytree(ROOT / "t2bench", repository / "t2bench", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, repository / name)
    (repository / "suites").mkdir()
    (repository / "suites/small.yaml").write_text(SUITE)
    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "base"]):
        subprocess.run([*git, *command], check=True)
    source = repository / "t2bench/workloads/train_step.py"
    planted = r"\1kept = torch.ones(1, requires_grad=True) * torch.ones(1)  # noqa\n\1loss.backward()"
    text, times = re.subn(r"^( +)loss\.backward\(\)", planted, source.read_text(), flags=re.MULTILINE)
    assert times == 1
    source.write_text(text)
    args = ["suites/small.yaml", "--device", "cpu", "--base", "HEAD", "--only", "vanilla", "--json", "-q", "--exact"]
    done = call("gate", *args, cwd=repository, root=repository)
    assert done.returncode == 1, done.stdout + done.stderr
    rows = {row["metric"]: row for row in json.loads(done.stdout)["rows"]}
    saved = rows["saved_for_backward_bytes"]
    assert saved["verdict"] == "fail"
    assert saved["new"]["value"] - saved["base"]["value"] == 4
    worktrees = subprocess.run([*git, "worktree", "list"], check=True, capture_output=True, text=True).stdout
    assert len(worktrees.splitlines()) == 1
