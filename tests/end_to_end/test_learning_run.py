"""Suites that train: what is recorded, what a kill costs, what a divergence leaves, and text that nobody has seen."""

import gzip
import hashlib
import json
import math
import random
import shutil
import subprocess
import sys
import time

import psutil
import pytest

from t2bench.quality.errors import DataError
from t2bench.records import Run
from t2bench.runner.texts import Texts
from t2bench.spec.loader import load_suite
from t2bench.spec.plan import expand

SUITE = """
schema: 1
name: learning
reference: vanilla
variants: [vanilla, vanilla+flash]
model: {arch: encdec, width: 32, heads: 2, ff: 64, enc_layers: 1, dec_layers: 1, vocab: 320, dropout: 0.1}
matrix: {workload: [translate], length: [24]}
tokens_per_step: 256
quality:
  corpus: {name: copy, lengths: [4, 6], test_lengths: [[4, 6]], pairs: 1000}
  recipe: {steps: 40, lr: 0.01, warmup: 10, validate_every: 20, target: 0.001}
  decode: [greedy, {method: beam, beam: 2}]
  seeds: 2
"""


@pytest.fixture
def learning(tmp_path):
    path = tmp_path / "learning.yaml"
    path.write_text(SUITE)
    return path


def trainings(directory):
    """The records of trainings by variant and seed."""
    return {(r.variant, r.axes["seed"]): r for r in Run.load(directory).records if r.pass_ == "quality"}


def outcome(record):
    """What a training came to, times and memory left out."""
    kept = ("step", "tokens", "train_loss", "lr", "val_loss", "val_bleu")
    curve = [{key: row[key] for key in kept} for row in record.observed["curve"]]
    scores = [(s["test"], s["decoding"], s["bleu"], s["cut"], s["sha256"]) for s in record.observed["scores"]]
    return curve, scores


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "learning.yaml").write_text(SUITE)
    command = [sys.executable, "-m", "t2bench", "run", "learning.yaml", "--device", "cpu", "-o", "out"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "out", done.stdout


def test_what_a_training_leaves(whole):
    out, said = whole
    found = trainings(out)
    assert set(found) == {(name, seed) for name in ("vanilla", "vanilla+flash") for seed in (0, 1)}
    for record in found.values():
        assert record.status == "ok"
        assert [row["step"] for row in record.observed["curve"]] == [20, 40]
        assert {s["decoding"] for s in record.observed["scores"]} == {"greedy", "beam2/length^1"}
        assert record.metrics["bleu"].value == record.observed["scores"][0]["bleu"]
        assert all(check["passed"] for check in record.observed["probes"])
        assert record.metrics["peak_learning_rate"].value == pytest.approx(0.01)
        assert record.metrics["train_cpu_s"].value > 0
        assert record.observed["scores"][0]["floors"]["copy"] == pytest.approx(100.0)
        details = out / record.observed["details"]
        assert hashlib.sha256(details.read_bytes()).hexdigest() == record.observed["details_sha256"]
        written = json.loads(gzip.decompress(details.read_bytes()))
        hypotheses = written["outputs"][0]["hypotheses"]
        assert hashlib.sha256("\n".join(hypotheses).encode()).hexdigest() == record.observed["scores"][0]["sha256"]
        assert len(hypotheses) == record.observed["scores"][0]["num_sentences"]
    assert "SYNTHETIC" in said
    assert not (out / "checkpoints").exists()


def test_variants_of_a_seed_see_the_same_text_and_seeds_differ(whole):
    found = trainings(whole[0])
    tokens = {key: [row["tokens"] for row in record.observed["curve"]] for key, record in found.items()}
    assert tokens["vanilla", 0] == tokens["vanilla+flash", 0] != tokens["vanilla", 1]
    losses = {key: record.observed["curve"][0]["train_loss"] for key, record in found.items()}
    assert losses["vanilla", 0] == pytest.approx(losses["vanilla+flash", 0], rel=1e-3)
    assert losses["vanilla", 0] != losses["vanilla", 1]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The same run, killed when the second seed had a checkpoint."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "learning.yaml").write_text(SUITE)
    command = [sys.executable, "-m", "t2bench", "run", "learning.yaml", "--device", "cpu", "-q", "-o", "out"]
    process = subprocess.Popen(command, cwd=folder)
    deadline = time.monotonic() + 90
    while not list(folder.glob("out/checkpoints/*seed1.json")):
        assert process.poll() is None, "ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    return folder / "out"


@pytest.mark.skipif(sys.platform != "linux", reason="process control is tested on Linux")
@pytest.mark.parametrize("damaged", [False, True])
def test_a_killed_run_goes_on_from_its_checkpoint_and_ends_the_same(
    whole, killed, t2bench, learning, tmp_path, damaged
):
    """A damaged checkpoint costs time only."""
    out = tmp_path / "out"
    shutil.copytree(killed, out)
    kept = [note.read_text() for note in out.glob("checkpoints/*.json")]
    assert any(json.loads(text)["curve"] for text in kept)
    assert {key[1] for key in trainings(out)} == {0}
    for weights in out.glob("checkpoints/*.pt") if damaged else ():
        weights.write_bytes(weights.read_bytes()[:100])
    t2bench("run", learning, "--device", "cpu", "-q", "-o", out, check=0)
    undisturbed = trainings(whole[0])
    assert {key: outcome(record) for key, record in trainings(out).items()} == {
        key: outcome(record) for key, record in undisturbed.items()
    }
    assert not (out / "checkpoints").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="process control is tested on Linux")
def test_a_fork_server_that_dies_costs_time_only(whole, start_t2bench, t2bench, learning, tmp_path):
    """Another goes on from the checkpoints; its death too ends the run, which the same command continues."""
    out = tmp_path / "out"
    command = ("run", learning, "--device", "cpu", "-o", out)
    process = start_t2bench(*command)
    for seed in (0, 1):
        deadline = time.monotonic() + 90
        while not list(out.glob(f"checkpoints/*seed{seed}.json")):
            assert process.poll() is None, "ended before its server was killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        max(psutil.Process(process.pid).children(), key=psutil.Process.create_time).kill()
    _, said = process.communicate(timeout=200)
    assert "Traceback" not in said
    assert said.count("the fork server, which starts the measured processes, has died") == 2
    assert process.returncode == 5
    assert {key[1] for key in trainings(out)} == {0}
    assert list(out.glob("checkpoints/*.pt"))
    t2bench(*command, check=0)
    undisturbed = {key: outcome(record) for key, record in trainings(whole[0]).items()}
    assert {key: outcome(record) for key, record in trainings(out).items()} == undisturbed


def test_a_divergence_is_a_result_and_other_seeds_are_still_tried(t2bench, learning, tmp_path):
    wild = [f"--set=quality.recipe.{change}" for change in ("lr=1000", "clip=0", "warmup=0", "steps=150")]
    done = t2bench("run", learning, "--device", "cpu", "-o", tmp_path / "out", "--only", "vanilla", *wild, check=5)
    found = trainings(tmp_path / "out")
    assert {record.status for record in found.values()} == {"diverged"}
    assert set(found) == {("vanilla", 0), ("vanilla", 1)}
    assert all("bleu" not in record.metrics and record.reason for record in found.values())
    assert "diverged" in done.stdout


def test_any_folder_with_two_languages_works(t2bench, tmp_path):
    """Invented languages, odd codes, compressed files, a validation set called dev."""
    generator = random.Random(3)
    corpus = tmp_path / "texts" / "mine"
    corpus.mkdir(parents=True)
    for split, count in (("train", 300), ("dev", 20), ("test_a", 20)):
        rows = [[generator.choice("abcdefghij") for _ in range(generator.randint(2, 7))] for _ in range(count)]
        with gzip.open(corpus / f"{split}.xx.gz", "wt", encoding="utf-8") as file:
            file.writelines(" ".join(row) + "\n" for row in rows)
        (corpus / f"{split}.pt-BR").write_text("".join("\u00e4".join(reversed(row)) + "\n" for row in rows))
    suite = tmp_path / "mine.yaml"
    suite.write_text(
        SUITE.replace(
            "{name: copy, lengths: [4, 6], test_lengths: [[4, 6]], pairs: 1000}", "{name: mine, tokenizer: char}"
        )
    )
    out = tmp_path / "out"
    t2bench(
        "run", suite, "--device", "cpu", "-q", "--data", tmp_path / "texts", "-o", out, "--only", "vanilla", check=0
    )
    record = trainings(out)["vanilla", 0]
    assert record.observed["quality"]["corpus"]["direction"] == "pt-BR-xx"
    assert record.observed["quality"]["corpus"]["synthetic"] is False
    assert math.isfinite(record.metrics["bleu"].value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("quality.corpus.name=multi30k", "data get multi30k"),
        ("quality.corpus.name=copyy", "did you mean copy"),
        ("quality.corpus.direction=de-en", "direction"),
        ("quality.corpus.tests=[test_x]", "no test set test_x"),
    ],
)
def test_a_corpus_that_is_not_there_is_said(learning, tmp_path, override, words):
    changes = (override,) if "name" not in override else (override, "quality.corpus.lengths=[]")
    plan = expand(load_suite(str(learning), device="cpu", overrides=changes))
    with pytest.raises(DataError, match=words) as caught:
        Texts(plan, tmp_path, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_corpus_that_is_not_there_ends_the_command_in_one_line(t2bench, learning, tmp_path):
    sets = ("--set", "quality.corpus.tests=[test_x]")
    done = t2bench("run", learning, "--device", "cpu", "-q", "--data", tmp_path, *sets, check=2)
    assert "no test set test_x" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    planned = t2bench("plan", learning, "--device", "cpu", "--data", tmp_path, *sets, check=2)
    assert planned.stderr.splitlines()[-1] == done.stderr.strip()
