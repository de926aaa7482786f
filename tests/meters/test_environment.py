"""Environment: what is recorded, what is hashed, what is set."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from t2bench.meters import environment
from t2bench.meters.environment import differences, fingerprint


def test_host_needs_no_torch() -> None:
    code = (
        "import sys\nfrom t2bench.meters import environment, memory, contention, clock, steady, ceilings, nvml\n"
        "host = environment.host()\nprint('torch' in sys.modules, host['python'], host['allowed_cores'])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out[0] == "False"
    assert out[1].startswith("3.")
    assert int(out[2]) >= 1


FACTS: dict[str, Any] = {
    "cpu": "Some CPU",
    "physical_cores": 4,
    "ram_bytes": 1 << 34,
    "load_1min": 0.5,
    "gpus": [{"name": "G"}],
    "hostname_hash": "a",
}
TORCH: dict[str, Any] = {"torch": "2.13.0", "threads": 3, "tf32": False, "variables": {"OMP_WAIT_POLICY": "passive"}}


def test_fingerprint_is_stable_and_short() -> None:
    marks = fingerprint(FACTS, TORCH)
    assert set(marks) == {"hw", "sw", "proto"}
    assert all(len(mark) == 12 and int(mark, 16) >= 0 for mark in marks.values())
    assert fingerprint(dict(reversed(FACTS.items())), dict(reversed(TORCH.items()))) == marks


@pytest.mark.parametrize(
    ("change", "hash_name"),
    [
        ({"cpu": "Other CPU"}, "hw"),
        ({"gpus": []}, "hw"),
        ({"torch": "2.14.0"}, "sw"),
        ({"threads": 4}, "proto"),
        ({"variables": {}}, "proto"),
        ({"load_1min": 9.0}, None),
        ({"hostname_hash": "b"}, None),
    ],
)
def test_each_fact_moves_its_own_hash(change: dict[str, Any], hash_name: str | None) -> None:
    host = {**FACTS, **{k: v for k, v in change.items() if k in FACTS}}
    torch = {**TORCH, **{k: v for k, v in change.items() if k in TORCH}}
    before, after = fingerprint(FACTS, TORCH), fingerprint(host, torch)
    assert [name for name in before if before[name] != after[name]] == ([] if hash_name is None else [hash_name])
    listed = differences({"host": FACTS, "torch": TORCH}, {"host": host, "torch": torch})
    assert len(listed) == (0 if hash_name is None else 1)


def test_differences_are_readable() -> None:
    assert differences({"host": {}, "torch": {"torch": "2.12"}}, {"host": {}, "torch": {"torch": "2.13"}}) == (
        "torch: 2.12 -> 2.13",
    )


_CONFIGURE = """
import json, os
from t2bench.meters import environment as env
asked = env.configure(2)
assert env.runtime() == env.runtime()
run = env.runtime()
print(json.dumps([asked, {name: run[name] for name in asked}, env.fingerprint(env.host(), run)]))
"""


def test_configure_sets_and_reports_the_same_in_another_process() -> None:
    variables = {**os.environ, **environment.worker_environment(2), "PYTHONHASHSEED": "77"}
    done = subprocess.run([sys.executable, "-c", _CONFIGURE], env=variables, capture_output=True, text=True, check=True)
    asked, in_force, marks = json.loads(done.stdout)
    assert asked == in_force
    assert asked["threads"] == 2
    assert asked["interop_threads"] == 1
    assert asked["tf32"] is False
    assert asked["matmul_precision"] == "highest"
    own = fingerprint(environment.host(), environment.runtime())
    assert (marks["hw"], marks["sw"]) == (own["hw"], own["sw"])


def test_one_physical_core_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "physical_cores", lambda: 8)
    assert environment.default_threads() == 7
    monkeypatch.setattr(environment, "physical_cores", lambda: 1)
    assert environment.default_threads() == 1


def test_siblings_are_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "allowed_cores", lambda: {0, 1, 4, 5})
    siblings = {0: "0,4", 4: "0,4", 1: "1,5", 5: "1,5"}
    monkeypatch.setattr(environment, "_read", lambda path: siblings[int(path.parts[-3].removeprefix("cpu"))])
    assert environment.physical_cores() == 2
    monkeypatch.setattr(environment, "_read", lambda path: None)
    assert environment.physical_cores() == 4


def test_workers_wait_passively() -> None:
    variables = environment.worker_environment(3)
    assert variables["OMP_NUM_THREADS"] == variables["MKL_NUM_THREADS"] == "3"
    assert variables["OMP_WAIT_POLICY"] == "passive"
