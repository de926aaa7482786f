"""A user's own code: never without permission, measured like ours, and never the end of a run."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2bench.models.factories import FactoryError
from t2bench.records import Run
from t2bench.runner.launcher import Launcher, WorkerFailed, launcher
from t2bench.runner.plugins import Plugins
from t2bench.spec.loader import load_suite
from t2bench.spec.plan import expand
from t2bench.spec.plugins import permitted

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are tested on Linux")

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "own_variant.md"
PYTHON, = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)  # fmt: skip
SUITE = next(block for block in re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if "schema" in block)
QUICK = ["--set", "measure.launches=1", "--set", "measure.rounds=1", "--set", "measure.clean_share=0.01",
         "--set", "measure.warmup_s=0.01", "--set", "measure.min_sample_s=0.001", "--device", "cpu", "-q"]  # fmt: skip
TINY = """
schema: 1
name: own
plugins: [mine.py]
variants: [vanilla, {name: mine, base: vanilla, set: {factory: mine}}]
model: {arch: decoder, width: 16, heads: 2, ff: 32, dec_layers: 1, vocab: 300}
matrix: {workload: [forward], dtype: [fp32], length: [16]}
tokens_per_step: 32
"""
LEAVES_A_MARK = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"


def records(folder: Path, **wanted: Any) -> list[Any]:
    return [r for r in Run.load(folder).records if all(getattr(r, key) == value for key, value in wanted.items())]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.yaml").write_text(TINY)
    return tmp_path


def test_the_documented_example_is_measured_like_a_built_in_variant(tmp_path: Path, t2bench: Any) -> None:
    assert len([line for line in PYTHON.splitlines() if line.strip()]) <= 20
    (tmp_path / "mean_mixer.py").write_text(PYTHON)
    (tmp_path / "mean_mixer.yaml").write_text(SUITE)
    done = t2bench("run", "mean_mixer.yaml", "--allow-code", "-o", "out", *QUICK, "--only", "*/L32/*", check=0)
    assert "mean mixer" in done.stdout
    run = tmp_path / "out"
    mine = records(run, variant="mean mixer")
    assert {(r.pass_, r.status) for r in mine} == {(p, "ok") for p in ("plan", "truth", "counters", "memory", "time")}
    digest = hashlib.sha256(PYTHON.encode()).hexdigest()
    for pass_ in ("counters", "memory", "time"):
        (record, *_) = records(run, variant="mean mixer", pass_=pass_)
        origin = record.observed["factory"]
        assert (origin["plugin"], origin["version"], origin["sha256"]) == ("mean_mixer.py", "1.0", digest)
        assert Path(origin["path"]) == tmp_path / "mean_mixer.py"
    (counted, *_) = records(run, variant="mean mixer", pass_="counters")
    assert counted.observed["backends"] == []
    assert counted.observed["backend_requested"] is None
    environment = json.loads((run / "environment.json").read_text())
    assert [plugin["sha256"] for plugin in environment["plugins"]] == [digest]
    (planned, *_) = records(run, variant="mean mixer", pass_="plan")
    width, vocab = 64, 512
    assert planned.metrics["num_params"].value == vocab * width + 2 * (2 * width * width + width)
    tokens = 256
    forward = 2 * tokens * (2 * 2 * width * width + vocab * width)
    assert planned.metrics["model_flops"].value == 3 * forward
    # The code is nowhere near the variants that do not use it.
    assert all("factory" not in r.observed for r in records(run, variant="vanilla+flash"))


COMMANDS = (
    ("run", "own.yaml"), ("plan", "own.yaml", "--only", "vanilla"),
    ("show", "mine", "--suite", "own.yaml"), ("check-variant", "mine", "--suite", "own.yaml"),
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_permission_nothing_is_imported_and_one_line_says_so(own: Path, t2bench: Any, command: Any) -> None:
    (own / "mine.py").write_text(LEAVES_A_MARK)
    done = t2bench(*command, check=2)
    assert not (own / "ran").exists()
    (line,) = done.stderr.splitlines()
    assert line == "t2bench: own.yaml: plugin mine.py: code runs with all your rights: read it, then give --allow-code"


def test_a_factory_of_an_installed_package_needs_permission_too(own: Path, t2bench: Any) -> None:
    package = own / "site" / "a_package-2.5.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: a-package\nVersion: 2.5\n")
    (package / "entry_points.txt").write_text("[t2bench.variants]\nmine = a_package:make\n")
    source = PYTHON.replace('@t2bench.variant("mean_mixer")\n', "") + "\nmake = MeanMixer\n"
    (own / "site" / "a_package.py").write_text(source + LEAVES_A_MARK)
    (own / "own.yaml").write_text(TINY.replace("plugins: [mine.py]\n", ""))
    paths = {"PYTHONPATH": f"{DOCUMENT.parents[1]}:{own / 'site'}"}
    refused = t2bench("plan", "own.yaml", env=paths, check=2)
    assert "own.yaml: factory mine: code runs with all your rights" in refused.stderr
    assert not (own / "site" / "ran").exists()
    t2bench("run", "own.yaml", "--allow-code", "--only", "mine", "-o", "out", *QUICK, env=paths, check=0)
    (record, *_) = records(own / "out", variant="mine", pass_="time")
    assert record.observed["factory"]["plugin"] == "a-package"
    assert record.observed["factory"]["version"] == "2.5"
    assert len(record.observed["factory"]["sha256"]) == 64
    (own / "own.yaml").write_text(TINY.replace("plugins: [mine.py]\n", "").replace("factory: mine", "factory: mien"))
    unknown = t2bench("plan", "own.yaml", "--allow-code", env=paths, check=2)
    assert 'no factory "mien", did you mean mine?' in unknown.stderr


MODULE = 'import torch, t2bench\nfrom torch import nn\n@t2bench.variant("mine")\nclass Mine(nn.Module):\n'
INIT = (
    "    def __init__(self, spec):\n        super().__init__()\n        self.t = nn.Embedding(spec.vocab, spec.vocab)\n"
)
FORWARD = "    def forward(self, x): return self.t(x)\n"


SEES_THE_FUTURE = "    def forward(self, x): return self.t(x) + self.t(x).sum(1, True)\n"


@pytest.fixture(scope="module")
def workers() -> Iterator[Launcher]:
    """Starts workers in milliseconds."""
    start = launcher("fork", {"OMP_NUM_THREADS": "1"})
    yield start
    start.close()


def ask(workers: Launcher, folder: Path, source: str, *ops: str) -> dict[str, Any]:
    """What a fresh worker answers to the last of `ops` with a case that needs the code."""
    (folder / "mine.py").write_text(source)
    suite = load_suite(folder / "own.yaml", device="cpu")
    (case,) = (case for case in expand(suite).cases if case.variant == "mine")
    plugins = [plugin.to_dict() for plugin in permitted(suite, allow_code=True)]
    worker = workers.start()
    try:
        setup = {"device": "cpu", "threads": 1, "memory_limit_bytes": None, "plugins": plugins}
        worker.ask({"op": "configure", **setup}, 60.0)
        ceilings = {"fp32": {"flops_per_s": 1, "bytes_per_s": 1}}
        np.save(folder / "tokens.npy", np.arange(1000, dtype=np.int32) % 300)
        message = {
            "case": case.to_dict(),
            "tokens": str(folder / "tokens.npy"),
            "ceilings": ceilings,
            "calls": 1,
            "settle": 0,
        }
        message["measure"] = {**asdict(suite.measure), "warmup_s": 0.01, "min_sample_s": 0.001}
        return [worker.ask({"op": op, **message}, 60.0) for op in ops][-1]
    finally:
        worker.close()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import nothing_of_that_name\n", "mine.py:1: ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("def broken(:\n", "mine.py:1: SyntaxError"),
        ("x = 1\n", "no factory 'mine' (no plugin defines any)"),
        (MODULE.replace('"mine"', '"mime"') + INIT + FORWARD, "no factory 'mine', did you mean mime?"),
        (MODULE + INIT + "    def forward(self, x): return self.nope\n", "mine.py:8: AttributeError"),
        (MODULE + INIT + "    def forward(self, x): return x\n", "forward returned shape (2, 16), expected logits of"),
        (MODULE + INIT + "    def hidden(self, x): return x\n" + FORWARD, "a module with hidden() needs loss() too"),
        ("import t2bench\nt2bench.variant('mine')(lambda spec: 3)\n", "returned a int, not a torch.nn.Module"),
        ("import sys\nsys.exit('enough')\n", "enough"),
        ("import os\nos._exit(7)\n", "left with exit status 7"),
    ],
)
def test_errors_in_the_code_are_one_line_with_their_place(
    own: Path, workers: Launcher, source: str, words: str
) -> None:
    with pytest.raises(WorkerFailed) as caught:
        ask(workers, own, source, "predict")
    assert words in caught.value.reason
    assert len(caught.value.reason.splitlines()) == 1


def test_what_an_own_module_is_checked_for(own: Path, workers: Launcher) -> None:
    good = ask(workers, own, MODULE + INIT + FORWARD, "truth")["checks"]
    assert [check["name"] for check in good] == ["numerics: logits", "numerics: loss", "causality", "padding"]
    assert all(check["passed"] for check in good)
    broken = ask(workers, own, MODULE + INIT + SEES_THE_FUTURE, "truth")["checks"]
    assert [check["name"] for check in broken if not check["passed"]] == ["causality"]
    deaf = ask(workers, own, MODULE + INIT + "    def forward(self, x): return self.t(0 * x)\n", "truth")["checks"]
    assert [check["name"] for check in deaf if not check["passed"]] == ["causality"]
    own_loss = "    def hidden(self, x): return self.t(x)\n    def loss(self, x, y): return x.float().mean()\n"
    wrong = ask(workers, own, MODULE + INIT + FORWARD + own_loss, "truth")["checks"]
    assert [check["name"] for check in wrong if not check["passed"]] == ["numerics: loss"]


@pytest.mark.parametrize("isolation", ["fork", "spawn"])
def test_a_file_finds_nothing_that_lies_beside_it(own: Path, isolation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "beside.py").write_text(LEAVES_A_MARK)
    monkeypatch.chdir(own)
    start = launcher(isolation, {"OMP_NUM_THREADS": "1"})
    try:
        with pytest.raises(WorkerFailed, match=r"mine\.py:1: ModuleNotFoundError: No module named 'beside'"):
            ask(start, own, "import beside\n" + MODULE + INIT + FORWARD, "predict")
    finally:
        start.close()
    assert not (own / "ran").exists()


TAKES_MORE = "        torch.set_num_threads(torch.get_num_threads() + 1)\n"


@pytest.mark.parametrize("ops", [["counters"], ["memory"], ["open", "warm"], ["open", "turn"]], ids="-".join)
@pytest.mark.parametrize("when", ["made", "called"])
def test_code_that_takes_more_threads_is_not_measured(own: Path, workers: Launcher, when: str, ops: list[str]) -> None:
    called = FORWARD.replace(": return", ":\n" + TAKES_MORE + "        return")
    source = MODULE + INIT + (TAKES_MORE + FORWARD if when == "made" else called)
    with pytest.raises(WorkerFailed, match=r"has set torch to \d+ thread.*leave torch.set_num_threads alone") as caught:
        ask(workers, own, source, *ops)
    assert caught.value.status == "error"


def test_threads_are_recorded_as_they_are(own: Path, workers: Launcher) -> None:
    observed = ask(workers, own, MODULE + INIT + FORWARD, "open", "warm")["observed"]
    assert (observed["threads"], observed["settings"]["threads"]) == (1, 1)


def test_a_file_that_changed_since_the_run_began_is_not_measured(own: Path, workers: Launcher) -> None:
    plugins = Plugins([{"name": "mine.py", "path": str(own / "mine.py"), "sha256": "0" * 64}])
    (own / "mine.py").write_text(LEAVES_A_MARK)
    with pytest.raises(FactoryError, match="has changed since the run began"):
        plugins.load("mine")
    assert not (own / "ran").exists()


def test_a_broken_module_is_failed_rows_and_the_rest_is_measured(own: Path, t2bench: Any) -> None:
    (own / "mine.py").write_text(MODULE + INIT + SEES_THE_FUTURE)
    done = t2bench("run", "own.yaml", "--allow-code", "-o", "out", *QUICK, check=5)
    (verdict,) = records(own / "out", variant="mine", pass_="truth")
    assert verdict.status == "wrong_numerics"
    assert verdict.reason.startswith("causality")
    assert not records(own / "out", variant="mine", pass_="time")
    assert {r.status for r in records(own / "out", variant="vanilla")} == {"ok"}
    assert done.stdout.splitlines()[-1] == "out"


def test_check_variant_and_show_know_an_own_module(own: Path, t2bench: Any) -> None:
    (own / "mine.py").write_text(MODULE + INIT + FORWARD)
    shown = json.loads(t2bench("show", "mine", "--suite", "own.yaml", "--allow-code", "--json", check=0).stdout)
    assert shown["costs"]["params"] == {"total": 300 * 300}
    (change,) = shown["deltas"]["vanilla"]
    assert (change["axis"], change["kind"], change["to"]) == ("factory", "function", "mine")
    checked = t2bench("check-variant", "--all", "--suite", "own.yaml", "--allow-code", "--json", check=0)
    verdicts = {row["variant"]: row["verdict"] for row in json.loads(checked.stdout)["variants"]}
    assert verdicts == {"vanilla": "right", "mine": "right"}
