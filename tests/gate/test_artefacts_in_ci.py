"""The composite action and the documented workflows: read as YAML, and the action's script run with a stand-in."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ACTION = yaml.safe_load((ROOT / ".github/actions/t2bench/action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
DOCUMENT = (ROOT / "docs/ci.md").read_text()


def test_no_input_is_pasted_into_a_script():
    for step in STEPS.values():
        assert "${{" not in step["run"]
        for value in step["env"].values():
            name = re.fullmatch(r"\$\{\{ (?:inputs\.(\w+)|github\.action_path) \}\}", value)
            assert name, value
            assert name[1] is None or name[1] in ACTION["inputs"]


def test_the_install_step_finds_the_repository():
    assert (ROOT / ".github/actions/t2bench/../../..").resolve() == ROOT
    assert (ROOT / "pyproject.toml").is_file()


STAND_IN = """#!/bin/bash
printf '%s\\n' "$@" > "$ASKED"
while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done
if [ "$VERDICT" = yes ]; then
  mkdir -p "$out"; echo '{}' > "$out/gate.json"
  echo '::error::x' > "$out/annotations.txt"; echo '## s' > "$out/summary.md"
fi
exit "$CODE"
"""


@pytest.fixture
def gate(tmp_path):
    """Run the action's script; the process, and what it left for the runner."""
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(python.stat().st_mode | stat.S_IXUSR)

    def call(code, verdict="yes", **inputs):
        env = {"PATH": os.environ["PATH"], "PYTHON": str(python), "ASKED": str(tmp_path / "asked"), "CODE": str(code)}
        env |= {
            "VERDICT": verdict,
            "GITHUB_OUTPUT": str(tmp_path / "out"),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "sum"),
        }
        env |= {"SUITE": "suites/ci.yaml", "BASE": "", "ARGUMENTS": "", "OUTPUT": "t2bench gate", **inputs}
        # As the runner starts `shell: bash`.
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS["Gate"]["run"]]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
        return done, (tmp_path / "out").read_text(), (tmp_path / "sum").read_text()

    return call


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_verdict_is_shown_and_its_code_passed_on(gate, code):
    done, outputs, summary = gate(code)
    assert (done.returncode, outputs) == (code, f"exit-code={code}\n")
    assert done.stdout == "::error::x\n"
    assert summary == "## s\n"


@pytest.mark.parametrize(("code", "wanted"), [(2, 2), (4, 4), (5, 5), (0, 5)])
def test_without_a_verdict_the_step_is_red_and_says_so(gate, code, wanted):
    done, _, summary = gate(code, verdict="no")
    assert done.returncode == wanted
    assert done.stdout.startswith("::error title=t2bench gate::there is no verdict")
    assert "no verdict" in summary


def test_inputs_are_arguments_and_never_code(gate, tmp_path):
    hostile = "$(touch owned); `touch owned` ' \" && touch owned"
    gate(0, SUITE=hostile, BASE=hostile, ARGUMENTS="--device cuda  --inconclusive warn")
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == [
        *("-m", "t2bench", "gate", hostile, "-q", "--no-color", "-o", "t2bench gate", "--base", hostile),
        *("--device", "cuda", "--inconclusive", "warn"),
    ]
    assert not list(tmp_path.rglob("owned"))
    gate(0)
    assert "--base" not in (tmp_path / "asked").read_text()


def test_documented_workflows_use_what_there_is():
    github, gitlab = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", DOCUMENT, flags=re.DOTALL))
    (step,) = (s for s in github["jobs"]["gate"]["steps"] if s.get("uses", "").startswith("./"))
    assert (ROOT / step["uses"] / "action.yml").is_file()
    assert step["with"].keys() <= ACTION["inputs"].keys()
    assert all(not entry.get("required") or name in step["with"] for name, entry in ACTION["inputs"].items())
    assert gitlab["t2bench"]["artifacts"]["reports"]["junit"] == "t2bench-gate/junit.xml"
    assert gitlab["t2bench"]["allow_failure"]["exit_codes"] == [3]
    for name in ACTION["inputs"]:
        assert f"`{name}`" in DOCUMENT


def test_the_sticky_comment_step_finds_its_marker(tmp_path):
    from t2bench.gate.artefacts.markdown import marker
    from t2bench.gate.results import GateReport

    report = GateReport(
        suite='x" -->$(id)', suite_path="", base="", candidate="", verdict="pass", exit_code=0, headline=""
    )
    assert re.fullmatch(r"<!-- t2bench-gate:[\w.-]+ -->", marker(report))
    assert "startswith(env.MARKER)" in DOCUMENT
