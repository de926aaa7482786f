"""Launches of what learns with scripted workers: models that copy, and know of training what they are told to know."""

import gzip
import json
import random

import pytest

from t2bench.quality.batching import EncodedPairs
from t2bench.runner.recording import Recorder
from t2bench.runner.texts import Texts
from t2bench.runner.train_launch import TrainLaunch
from t2bench.runner.turns import Bench
from t2bench.spec.case import Case, Plan, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.quality import CorpusSpec, QualitySpec, Recipe
from t2bench.spec.suite import Limits, Measure

STEP_S, EVALUATION_S = 0.5, 1000.0
VAL = TEST = 20  # sentences; of the test set as many in either range
COPY = CorpusSpec(name="copied", test_lengths=((7, 9), (4, 6)), tokenizer="char")


def case(variant="vanilla", *, kind="translate", corpus=COPY, vocab=60, **recipe):
    quality = QualitySpec(corpus=corpus, recipe=Recipe(**{"steps": 30, "validate_every": 10, **recipe}))
    model = ModelSpec(arch="encdec", width=32, heads=2, vocab=vocab)
    workload = WorkloadSpec(kind=kind)
    return Case(variant=variant, model=model, workload=workload, length=24, batch=4, dtype="fp32", device="cpu",
                quality=quality)  # fmt: skip


class Workers:
    """Models that copy the first `right(step)` validation sentences, and a share of every test set."""

    def __init__(self, right=lambda step: step // 2, pace=7, failing=None, test_share=0.5):
        self.right, self.pace, self.failing, self.test_share = right, pace, failing or {}, test_share
        self.log = []

    def start(self):
        return _Model(self)


class _Model:
    def __init__(self, workers):
        self._workers, self.step, self._running = workers, 0, None

    def ask(self, message, timeout_s):
        op = message["op"]
        if op == "learn":
            self.case, self._files = Case.from_dict(message["case"]), message["files"]
        if op != "learner":
            return {}
        self._workers.log.append((self.case.variant, message["do"], message["arguments"]))
        act = self._workers.failing.get((self.case.variant, message["do"]))
        if act is not None:
            found = act(self)
            if found is not None:
                return found
        return getattr(self, message["do"])(**message["arguments"])

    def begin(self, checkpoint):
        if checkpoint is not None:
            with open(checkpoint) as file:
                self.step = json.load(file)
        return {"step": self.step, "num_params": 5, "probes": [{"name": "p", "passed": True, "detail": ""}]}

    def train(self, until, max_s):
        self.step = min(until, self.step + self._workers.pace)
        return {"step": self.step, "loss": float(self.step), "lr": 0.1, "tokens": 100 * self.step,
                "time_s": STEP_S * self.step, "cpu_s": 2 * STEP_S * self.step, "energy_j": 3.0}  # fmt: skip

    def validate(self):
        source = EncodedPairs.load(self._files["val"]).source
        copied = self._workers.right(self.step)
        return {"loss": 9.0, "tokens": [source[row].tolist() if row < copied else [] for row in range(len(source))]}

    def remember(self, score):
        return {}

    def save(self, path):
        with open(path, "w") as file:
            json.dump(self.step, file)
        return {}

    def select(self):
        return {"steps": [self.step]}

    def translate(self, split, decoding):
        source = EncodedPairs.load(self._files[split]).source
        copied = int(len(source) * self._workers.test_share)
        self._running = [(row, source[row].tolist() if row < copied else []) for row in reversed(range(len(source)))]
        return {}

    def more(self, max_s):
        taken, self._running = self._running[:8], self._running[8:]
        batch = {"rows": [row for row, _ in taken], "tokens": [ids for _, ids in taken],
                 "cut": [row < 2 for row, _ in taken], "candidates": None}  # fmt: skip
        return {"batches": [batch], "done": not self._running, "time_s": 1.0, "cpu_s": 2.0}

    def memory(self):
        return {"metrics": {}}

    def close(self):
        pass


@pytest.fixture
def train(tmp_path):
    """Train cases once with scripted workers; returns the records by variant."""
    (tmp_path / "run").mkdir()
    (tmp_path / "copied").mkdir()
    draw = random.Random(5)
    for split, count, low, high in (("train", 60, 4, 9), ("val", VAL, 4, 6), ("test", 2 * TEST, 0, 0)):
        sizes = [
            draw.randint(low, high) if high else draw.randint(*((4, 6) if row % 2 else (7, 9))) for row in range(count)
        ]
        lines = [" ".join(draw.choice("abcdefghij") for _ in range(size)) for size in sizes]
        for language in ("xa", "xb"):
            (tmp_path / "copied" / f"{split}.{language}").write_text("".join(f"{line}\n" for line in lines))
    made = iter(range(100))

    def call(workers, *cases, launch=0, forget=True, together=True):
        scratch = tmp_path / f"text{next(made)}"
        scratch.mkdir()
        texts = Texts(Plan(cases=cases, refusals=(), reference=cases[0].variant), tmp_path, scratch)
        bench = Bench(launcher=workers, setup={"threads": 1}, tokens={}, measure=Measure(), limits=Limits(),
                      recorder=Recorder("r"), seed=0)  # fmt: skip
        training = TrainLaunch(bench, texts, tmp_path / "run", lambda what, left_s: None)
        records = training.measure(cases, launch, together=together)
        if forget:
            training.forget()
        return {record.variant: record for record in records}

    call.folder = tmp_path / "run"
    return call


def details(train, record):
    return json.loads(gzip.decompress((train.folder / record.observed["details"]).read_bytes()))
