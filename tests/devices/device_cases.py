"""Variants at work on the device of `pretend`: a program of its own, since `pretend` changes torch.

Its output is JSON lines, {"case": "alibi / decode", "failure": null, or which line of t2bench raised what}, first those
of t2bench as it is, then, with "mutant", those where a tensor is left on the host on purpose. Where this torch cannot
have the device there is one line, {"missing": why}.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

try:
    from pretend import DEVICE, OnDevice, try_out

    with OnDevice():
        try_out()
except (ImportError, AttributeError, RuntimeError, TypeError) as error:
    print(json.dumps({"missing": f"torch {torch.__version__}: {type(error).__name__}: {str(error)[:200]}"}))
    sys.exit()

import t2bench
from t2bench.attention.mask import Mask
from t2bench.models import view
from t2bench.models.packing import positions
from t2bench.models.position import PositionTables
from t2bench.models.relative import StackBias
from t2bench.quality.batching import EncodedPairs, Ragged
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.presets import preset
from t2bench.spec.quality import QualitySpec, Recipe
from t2bench.translation import inputs
from t2bench.translation.learner import Learner
from t2bench.workloads import registry, truth_modes
from t2bench.workloads.text import write_tokens

Named = tuple[str, Callable[[], None]]
LENGTH, VOCAB = 12, 300
TRAIN_STEP, DECODE = WorkloadSpec(kind="train_step"), WorkloadSpec(kind="decode", new_tokens=3)
RAGGED = WorkloadSpec(kind="train_step", ragged=True)
PLAIN = [TRAIN_STEP, WorkloadSpec(kind="forward")]
GENERATING = [WorkloadSpec(kind="prefill"), DECODE]
WRITERS = (
    "vanilla", "modern", "modern_local", "modern_decoder", "gpt2", "alibi", "t5_bias", "learned_pos", "shaw",
    "transformer_xl", "additive",
)  # fmt: skip
LEARNERS = ("vanilla", "modern", "modern_decoder", "alibi")
DECODINGS: tuple[dict[str, Any], ...] = (
    {"method": "greedy"},
    {"method": "beam", "beam": 2},
    {"method": "sample", "temperature": 0.8, "top_k": 5, "top_p": 0.9},
    {"method": "mbr", "samples": 2},
)


def small(name: str, **changes: Any) -> ModelSpec:
    """The preset with one layer a stack, narrow."""
    spec = preset(name).model
    sizes = {
        "width": 16,
        "heads": 2,
        "kv_heads": None if spec.kv_heads is None else 1,
        "head_dim": None,
        "ff": 16,
        "enc_layers": min(spec.enc_layers, 1),
        "dec_layers": min(spec.dec_layers, 1),
        "vocab": VOCAB,
        "memory": min(spec.memory, LENGTH),
        "dropout": 0.1,
        "attention_dropout": 0.0,
    }
    return replace(spec, **{**sizes, **changes})


def make_case(spec: ModelSpec, workload: WorkloadSpec, **changes: Any) -> Case:
    plain = {"length": LENGTH, "batch": 2, "dtype": "fp32", "device": "cpu", "seed": 0}
    return Case(variant="small", model=spec, workload=workload, **{**plain, **changes})


class Work:
    """What variants are made to do; its files are in a folder."""

    def __init__(self, folder: Path) -> None:
        self.checkpoint, self.tokens = str(folder / "checkpoint"), folder / "tokens.npy"
        write_tokens(self.tokens, vocab=VOCAB, data=None, min_tokens=2000)
        self.splits = {}
        # Long enough that a search looks for what has ended before the longest has (on a device it does so rarely).
        for seed, (split, count, longest) in enumerate((("train", 12, 5), ("val", 3, 5), ("test", 4, 12))):
            random = np.random.default_rng(seed)
            sizes = np.linspace(2, longest, count).astype(int)
            texts = Ragged.of([random.integers(4, 30, size=size).tolist() for size in sizes])
            self.splits[split] = str(folder / f"{split}.npz")
            EncodedPairs(source=texts, target=texts).save(Path(self.splits[split]))

    def step(self, spec: ModelSpec, workload: WorkloadSpec) -> None:
        """Two steps: the second finds what the first has kept."""
        work = registry.build(make_case(spec, workload), device=DEVICE, tokens=self.tokens)
        work.step(lambda phase: None)
        scalar = work.step(lambda phase: None)
        assert scalar.device == DEVICE, "the step's scalar is on the host"
        assert np.isfinite(scalar.item())

    def check(self, spec: ModelSpec, workload: WorkloadSpec) -> None:
        """The checks before timing. They ask which kernel ran, and of fused ones the device has none."""
        if spec.attention.startswith("sdpa"):
            spec = replace(spec, attention="sdpa_math")
        found = truth_modes.check_case(make_case(spec, workload), device=DEVICE)
        failed = [f"{check.name}: {check.detail}" for check in found if not check.passed]
        assert not failed, "; ".join(failed)

    def learn(self, spec: ModelSpec) -> None:
        """Probes, two updates with a checkpoint between them, the mean of both, and every way to translate."""
        recipe = Recipe(steps=2, lr=1e-2, warmup=2, select="average", average=2, accumulate=2)
        quality = QualitySpec(recipe=recipe)
        case = make_case(spec, WorkloadSpec(kind="translate"), length=20, batch=4, quality=quality)
        learner = Learner(case, self.splits, DEVICE)
        begun = learner.begin(None)
        assert all(probe["passed"] for probe in begun["probes"]), str(begun["probes"])
        learner.train(1, 1e9)
        learner.validate()
        learner.remember(3.0)
        assert learner.save(self.checkpoint) == {}
        learner = Learner(case, self.splits, DEVICE)
        assert learner.begin(self.checkpoint)["step"] == 1
        learner.train(2, 1e9)
        learner.remember(4.0)
        assert learner.select()["steps"] == [1, 2]
        for decoding in DECODINGS:
            learner.translate("test", {"max_extra": 2, **decoding})
            assert learner.more(1e9)["done"]

    def cases(self) -> Iterator[Named]:
        stepped = [(name, small(name), [*PLAIN, *GENERATING]) for name in (*WRITERS, "gru")]
        bahdanau = small("lstm_bahdanau", recurrence="gru")
        stepped += [("gru_bahdanau", bahdanau, [*PLAIN, *GENERATING]), ("bert", small("bert"), PLAIN)]
        stepped += [
            (f"vanilla {padding}", small("vanilla", padding=padding), [RAGGED]) for padding in ("mask", "packed")
        ]
        if importlib.util.find_spec("torchao"):
            stepped.append(("modern_int8", small("modern_int8"), [PLAIN[1], *GENERATING]))
        for name, spec, workloads in stepped:
            for workload in workloads:
                yield f"{name} / {workload.label}", lambda spec=spec, workload=workload: self.step(spec, workload)
        for name, workload in (("bert", TRAIN_STEP), ("vanilla", TRAIN_STEP), *((name, DECODE) for name in WRITERS)):
            yield f"{name} / checks of {workload.label}", lambda n=name, w=workload: self.check(small(n), w)
        for name in LEARNERS:
            yield f"{name} / learner", lambda name=name: self.learn(small(name))

    def mutants(self) -> Iterator[Named]:
        """One tensor on the host in each, where the code has to think of moving it."""
        build, host = Mask._build, torch.device("cpu")
        table = patch.object(PositionTables, "_get", lambda self, length, like: self._compute(length, like.dtype))
        mask = patch.object(Mask, "_build", lambda self, queries, keys, device: build(self, queries, keys, host))
        slopes = patch.object(StackBias, "_keep", lambda self, key, make, like: make().to(like.dtype))
        places = patch.object(view, "positions", lambda lengths, device: positions(lengths, host))
        batch = patch.object(inputs, "_put", lambda array, device: torch.from_numpy(array))
        yield "sinusoids / train_step", table(lambda: self.step(small("vanilla"), TRAIN_STEP))
        yield "sinusoids / checks of decode", table(lambda: self.check(small("vanilla"), DECODE))
        yield "rotations / decode", table(lambda: self.step(small("modern"), DECODE))
        yield "mask / train_step", mask(lambda: self.step(small("vanilla"), TRAIN_STEP))
        yield "slopes / decode", slopes(lambda: self.step(small("alibi"), DECODE))
        yield (
            "positions of a packed batch / train_step",
            places(lambda: self.step(small("vanilla", padding="packed"), RAGGED)),
        )
        yield "batch of sentences / learner", batch(lambda: self.learn(small("vanilla")))


def failure_of(work: Callable[[], None]) -> str | None:
    """What was wrong, and the innermost line of t2bench that was running."""
    try:
        work()
    except Exception as error:  # whatever it is, it is reported
        package = Path(t2bench.__file__).parent
        frames = [
            frame for frame in traceback.extract_tb(error.__traceback__) if package in Path(frame.filename).parents
        ]
        where = f"{Path(frames[-1].filename).relative_to(package.parent)}:{frames[-1].lineno}: " if frames else ""
        return f"{where}{type(error).__name__}: {(str(error).splitlines() or [''])[0][:400]}"
    return None


def main() -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder, OnDevice():
        work = Work(Path(folder))
        for kind, named in (("case", work.cases()), ("mutant", work.mutants())):
            for name, do in named:
                print(json.dumps({kind: name, "failure": failure_of(do)}), flush=True)


if __name__ == "__main__":
    main()
