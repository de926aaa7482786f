"""Learner: what a worker does for a case that learns: train, validate, translate, each in pieces of a few seconds.

A worker answers within a time that its scheduler can wait for: a hang is told from work, and a kill loses little.
Text never comes here: sentences are ids, and whoever asks has the tokenizer and the references.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from t2bench.meters.memory import MemoryMeter, cuda_uuid
from t2bench.meters.nvml import open_nvml
from t2bench.quality.batching import EncodedPairs
from t2bench.spec.case import Case
from t2bench.spec.quality import Decoding
from t2bench.translation.probes import probe
from t2bench.translation.trainer import Diverged, Trainer
from t2bench.translation.translator import Translated, Translator

# Greedy, since what is chosen by must be cheap; and cut early, since a model that has learned little never ends.
VALIDATION = Decoding(max_extra=16)
# Source tokens of a batch that is translated: without gradients there is room for more than training has.
DECODE_TOKENS = 4096


class Learner:
    """One variant with one seed, from random weights to translations.

    Args:
        case: what to train; its seed decides weights, dropout and the order of the data.
        files: split -> path of its encoded pairs.
        device: where.
    """

    def __init__(self, case: Case, files: Mapping[str, str], device: torch.device) -> None:
        assert case.quality is not None
        self._case, self._quality, self._device = case, case.quality, device
        self._pairs = {split: EncodedPairs.load(Path(path)) for split, path in files.items()}
        self._meter = MemoryMeter(str(device))
        self._meter.__enter__()
        tokens = case.batch * case.length
        self._trainer = Trainer(
            case.model,
            case.quality.recipe,
            self._pairs["train"],
            tokens=tokens,
            max_length=case.length,
            seed=case.seed,
            dtype=case.dtype,
            device=device,
        )
        self._model = self._trainer.model
        self._translator = Translator(self._model, tokens=max(tokens, DECODE_TOKENS), dtype=case.dtype)
        self._running: Iterator[Translated] = iter(())
        self._energy_j = 0.0

    def begin(self, checkpoint: str | None) -> dict[str, Any]:
        """Probe the untrained model, and go on from a checkpoint if there is one.

        `unusable` says that there is none where one should be, or that it is damaged, or of another training.
        """
        checks = probe(
            self._model, vocab=self._case.model.vocab, device=self._device, dtype=self._case.dtype, seed=self._case.seed
        )
        try:
            step = 0 if checkpoint is None else self._trainer.load(Path(checkpoint))
        except (FileNotFoundError, ValueError) as error:
            return {"unusable": str(error)}
        return {
            "step": step,
            "probes": [asdict(check) for check in checks],
            "num_params": sum(parameter.numel() for parameter in self._model.parameters() if parameter.requires_grad),
        }

    def train(self, until: int, max_s: float) -> dict[str, Any]:
        """Train up to an update, or for so many seconds; `diverged` says why it could not go on."""
        before = self._energy()
        try:
            progress = self._trainer.advance(until, max_s=max_s)
        except Diverged as error:
            return {"diverged": str(error)}
        after = self._energy()
        energy_j = None if before is None or after is None else after - before
        return {**asdict(progress), "energy_j": energy_j}

    def validate(self) -> dict[str, Any]:
        """Loss on the validation text, and its translations as ids, in its order."""
        val = self._pairs["val"]
        rows: list[list[int]] = [[] for _ in range(len(val))]
        for batch in self._translator.translate(val.source, VALIDATION, seed=self._case.seed):
            for row, tokens in zip(batch.rows, batch.tokens, strict=True):
                rows[row] = tokens
        return {"loss": self._trainer.loss_of(val), "tokens": rows}

    def remember(self, score: float) -> dict[str, Any]:
        """Tell the trainer how good the present weights are."""
        self._trainer.remember(score)
        return {}

    def save(self, path: str) -> dict[str, Any]:
        """Write a checkpoint from which the identical training goes on; `failed` is the disk's error number."""
        try:
            self._trainer.save(Path(path))
        except OSError as error:
            return {"failed": error.errno}
        return {}

    def select(self) -> dict[str, Any]:
        """Put the weights that are to be judged into the model."""
        return {"steps": list(self._trainer.select())}

    def translate(self, split: str, decoding: Mapping[str, Any]) -> dict[str, Any]:
        """Begin to translate a test set; `more` brings the translations."""
        source = self._pairs[split].source
        self._running = self._translator.translate(source, Decoding(**decoding), seed=self._case.seed)
        return {}

    def more(self, max_s: float) -> dict[str, Any]:
        """Translations of the next so many seconds, and whether these were the last."""
        began, cpu_began = time.perf_counter(), time.process_time()
        batches: list[dict[str, Any]] = []
        done = True
        for batch in self._running:
            batches.append(asdict(batch))
            if time.perf_counter() - began >= max_s:
                done = False
                break
        return {
            "batches": batches,
            "done": done,
            "time_s": time.perf_counter() - began,
            "cpu_s": time.process_time() - cpu_began,
        }

    def memory(self) -> dict[str, Any]:
        """Peak memory since the beginning, by metric name."""
        self._meter.__exit__()
        return {"metrics": {name: metric.value for name, metric in self._meter.metrics.items()}}

    def _energy(self) -> float | None:
        if self._device.type != "cuda":
            return None
        torch.cuda.synchronize(self._device)
        return open_nvml().read(cuda_uuid(self._device)).energy_j
