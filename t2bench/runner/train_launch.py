"""One launch of a group that learns: every variant trained from the same seed on the same batches, then judged.

Variants take turns from one validation to the next, so that a machine that slows down slows all of them. The worker
knows ids only; text, validation scores and everything that needs a library for text is done here. After each validation
a checkpoint and what was learnt so far are on the disk: an interrupted training goes on from there.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from t2bench.quality.mbr import choose
from t2bench.quality.scoring import quick_bleu, score, sentence_statistics
from t2bench.records import Record
from t2bench.runner import order
from t2bench.runner.launcher import WorkerFailed
from t2bench.runner.texts import Text, Texts
from t2bench.runner.train_record import record
from t2bench.runner.trainee import Checkpoints, Trainee
from t2bench.runner.turns import Bench
from t2bench.spec.case import Case
from t2bench.spec.quality import Decoding

CHUNK_S = 5.0  # a worker is heard of at least so often

# told what is going on, and how many seconds of this launch are left if that is known
Watch = Callable[[str, float | None], None]


class TrainLaunch:
    """Trains and judges the variants of a group once.

    Args:
        bench: what every launch needs.
        texts: of the run.
        directory: of the run.
        watch: told what is going on.
    """

    def __init__(self, bench: Bench, texts: Texts, directory: Path, watch: Watch) -> None:
        self._bench, self._texts, self._directory, self._watch = bench, texts, directory, watch
        self._checkpoints = Checkpoints(directory)
        self._trainees: list[Trainee] = []
        self._all: list[Trainee] = []

    def measure(self, cases: Sequence[Case], launch: int, *, together: bool) -> list[Record]:
        """One launch of a group.

        Args:
            cases: the variants.
            launch: number of the replicate, which is added to the suite's seed.
            together: whether all variants fit into memory at once; else one after the other is trained.

        Returns:
            One record for each case.
        """
        trainees = []
        for case in cases:
            seeded = replace(case, seed=case.seed + launch)
            trainees.append(Trainee(seeded, self._texts.of(case)))
        for batch in [trainees] if together else [[trainee] for trainee in trainees]:
            self._trainees = batch
            try:
                self._teach(launch)
            finally:
                for trainee in batch:
                    trainee.leave()
        self._all = trainees
        return [record(self._bench, self._directory, trainee, launch, together=together) for trainee in trainees]

    def forget(self) -> None:
        """Remove the checkpoints of the launch, which is recorded from here on."""
        for trainee in self._all:
            self._checkpoints.forget(trainee)

    def _teach(self, launch: int) -> None:
        for trainee in self._trainees:
            self._attempt(trainee, self._begin)
        seed = f"{self._bench.seed}/{self._trainees[0].case.group}/{launch}"
        for turn in order.rounds(len(self._trainees), seed=seed):
            learning = [self._trainees[place] for place in turn if self._learns(self._trainees[place])]
            if not learning:
                break
            for trainee in learning:
                self._attempt(trainee, self._train_and_validate)
        for trainee in self._trainees:
            if trainee.worker is not None:
                self._attempt(trainee, self._judge)

    @staticmethod
    def _learns(trainee: Trainee) -> bool:
        return trainee.worker is not None and not trainee.trained

    def _attempt(self, trainee: Trainee, act: Callable[[Trainee], None]) -> None:
        try:
            act(trainee)
        except WorkerFailed as error:
            trainee.status, trainee.reason = error.status, error.reason
            trainee.leave()

    def _ask(self, trainee: Trainee, do: str, **arguments: Any) -> dict[str, Any]:
        assert trainee.worker is not None
        message = {"op": "learner", "do": do, "arguments": arguments}
        return trainee.worker.ask(message, self._bench.timeout_s(trainee.case))

    def _begin(self, trainee: Trainee) -> None:
        self._say(trainee, "starting")
        answer = self._open(trainee, self._checkpoints.load(trainee))
        if "unusable" in answer:
            # A checkpoint that cannot be read costs the time since it was begun, not the case.
            self._checkpoints.forget(trainee)
            trainee.restart()
            answer = self._open(trainee, None)
        trainee.step = answer["step"]
        trainee.seen["probes"] = answer["probes"]
        trainee.metrics["num_params"] = answer["num_params"]
        failed = next((check for check in answer["probes"] if not check["passed"]), None)
        if failed is not None:
            raise WorkerFailed("wrong_numerics", f"probe before training: {failed['name']}: {failed['detail']}")

    def _open(self, trainee: Trainee, checkpoint: Path | None) -> dict[str, Any]:
        """A fresh worker with the model in it, where the checkpoint left it."""
        trainee.leave()
        files = {split: str(path) for split, path in trainee.text.files.items()}
        trainee.worker = self._bench.open(trainee.case)
        job = self._bench.job("learn", trainee.case, files=files)
        trainee.worker.ask(job, self._bench.timeout_s(trainee.case))
        return self._ask(trainee, "begin", checkpoint=None if checkpoint is None else str(checkpoint))

    def _train_and_validate(self, trainee: Trainee) -> None:
        until = next(step for step in trainee.quality.recipe.validation_steps if step > trainee.step)
        progress: dict[str, Any] = {}
        losses: list[tuple[int, float]] = []
        while trainee.step < until:
            self._say(trainee, f"update {trainee.step} of {trainee.quality.recipe.steps}")
            progress = self._ask(trainee, "train", until=until, max_s=CHUNK_S)
            if "diverged" in progress:
                trainee.status, trainee.reason = "diverged", progress["diverged"]
                trainee.leave()
                return
            losses.append((progress["step"] - trainee.step, progress["loss"]))
            trainee.step, trainee.train_s = progress["step"], progress["time_s"]
            if progress["energy_j"] is not None:
                trainee.energy_j = (trainee.energy_j or 0.0) + progress["energy_j"]
        self._say(trainee, f"validating after update {trainee.step}")
        answer = self._ask(trainee, "validate")
        bleu = quick_bleu(trainee.text.decode(answer["tokens"]), trainee.text.split("val").target)
        trainee.curve.append(
            {
                "step": trainee.step,
                "tokens": progress["tokens"],
                "time_s": progress["time_s"],
                "cpu_s": progress["cpu_s"],
                "energy_j": trainee.energy_j,
                "lr": progress["lr"],
                "train_loss": sum(count * loss for count, loss in losses) / sum(count for count, _ in losses),
                "val_loss": answer["loss"],
                "val_bleu": bleu,
            }
        )
        self._ask(trainee, "remember", score=bleu)
        if not trainee.trained:
            self._checkpoints.save(trainee, lambda path: self._save(trainee, path))

    def _save(self, trainee: Trainee, path: str) -> None:
        """A disk that cannot be written to is no fault of the variant: it ends the run, which can be continued."""
        failed = self._ask(trainee, "save", path=path).get("failed")
        if failed is not None:
            raise OSError(failed, os.strerror(failed), path)

    def _judge(self, trainee: Trainee) -> None:
        trainee.seen["selected"] = {"select": trainee.quality.recipe.select, **self._ask(trainee, "select")}
        for test in trainee.text.tests:
            for decoding in trainee.quality.decode:
                self._translate(trainee, test, decoding)
        trainee.metrics |= self._ask(trainee, "memory")["metrics"]
        trainee.leave()

    def _translate(self, trainee: Trainee, test: str, decoding: Decoding) -> None:
        text = trainee.text.split(test)
        self._ask(trainee, "translate", split=test, decoding=asdict(decoding))
        hypotheses = [""] * len(text)
        cut = done = 0
        spent = {"time_s": 0.0, "cpu_s": 0.0}
        while True:
            self._say(trainee, f"translating {test} by {decoding.label}: {done} of {len(text)}")
            answer = self._ask(trainee, "more", max_s=CHUNK_S)
            began = time.perf_counter()
            for batch in answer["batches"]:
                for row, words in zip(batch["rows"], _chosen(trainee.text, batch, decoding), strict=True):
                    hypotheses[row] = words
                cut += sum(batch["cut"])
                done += len(batch["rows"])
            spent = {name: spent[name] + answer[name] for name in spent}
            if decoding.method == "mbr":  # to choose among the draws is part of it
                chosen_s = time.perf_counter() - began
                spent = {name: seconds + chosen_s for name, seconds in spent.items()}
            if answer["done"]:
                break
        scores = asdict(score(hypotheses, text.target, text.source))
        trainee.scores.append(
            {
                **scores,
                "test": test,
                "decoding": decoding.label,
                "cut": cut,
                "floors": trainee.text.floors(test),
                **spent,
                "sentences_per_s": len(text) / spent["time_s"] if spent["time_s"] else None,
                "sha256": hashlib.sha256("\n".join(hypotheses).encode()).hexdigest(),
            }
        )
        statistics = sentence_statistics(hypotheses, text.target)
        trainee.outputs.append(
            {
                "test": test,
                "decoding": decoding.label,
                "hypotheses": hypotheses,
                "bleu_stats": statistics.bleu.tolist(),
                "chrf_stats": statistics.chrf.tolist(),
            }
        )

    def _say(self, trainee: Trainee, what: str) -> None:
        known = [other.left_s for other in self._trainees if self._learns(other)]
        left_s = sum(left for left in known if left is not None) if all(left is not None for left in known) else None
        bleu = f", validation BLEU {trainee.curve[-1]['val_bleu']:.1f}" if trainee.curve else ""
        self._watch(f"{trainee.case.id} seed {trainee.case.seed}: {what}{bleu}", left_s)


def _chosen(text: Text, batch: Mapping[str, Any], decoding: Decoding) -> list[str]:
    """The translations of a batch; of several draws the one that is most like the others."""
    if batch["candidates"] is None:
        return text.decode(batch["tokens"])
    candidates = [text.decode(rows) for rows in batch["candidates"]]
    return [texts[place] for texts, place in zip(candidates, choose(candidates, decoding.utility), strict=True)]
