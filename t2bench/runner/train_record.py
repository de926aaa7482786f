"""What a training leaves in the journal, and the file of translations beside it."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from t2bench.records import Metric, Record
from t2bench.runner.trainee import Trainee
from t2bench.runner.turns import Bench
from t2bench.spec.quality import QualitySpec

TRANSLATIONS = "translations"


def record(bench: Bench, directory: Path, trainee: Trainee, launch: int, *, together: bool) -> Record:
    """The record of one training.

    Args:
        bench: what every launch needs.
        directory: of the run; translations are put there.
        trainee: how the training went.
        launch: number of the replicate.
        together: whether the variants took turns.
    """
    quality, recipe = trainee.quality, trainee.quality.recipe
    observed = {
        **trainee.seen,
        "quality": {"spec": _plain(quality), "corpus": trainee.text.record},
        "curve": trainee.curve,
        "scores": trainee.scores,
        "threads": bench.setup["threads"],
        # Reductions on a GPU add up in an order of their own, unless torch is told otherwise at a price in speed.
        "deterministic": trainee.case.device == "cpu",
        "interleave": "validation" if together else "launches",
    }
    values: dict[str, float | None] = {
        **trainee.metrics,
        "peak_learning_rate": recipe.peak_learning_rate(trainee.case.model.width),
        **_training(trainee),
    }
    if trainee.status == "ok":
        values |= _primary(trainee)
        observed |= _write_details(directory, trainee)
    sampled = {name: Metric(value=value, unit=_unit(name)) for name, value in values.items()}
    return bench.recorder.record(
        trainee.case,
        "quality",
        launch=launch,
        status=trainee.status,
        reason=trainee.reason,
        sampled=sampled,
        observed=observed,
    )


def _write_details(directory: Path, trainee: Trainee) -> dict[str, str]:
    """Put the translations beside the journal; their place and hash are recorded."""
    name = f"{TRANSLATIONS}/{trainee.stem}.json.gz"
    details = {
        "case": trainee.case.id,
        "seed": trainee.case.seed,
        "outputs": trainee.outputs,
        "samples": trainee.text.samples(),
    }
    # No time of writing: the same training leaves the same file.
    body = gzip.compress(json.dumps(details, ensure_ascii=False).encode(), mtime=0)
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(body)
    return {"details": name, "details_sha256": hashlib.sha256(body).hexdigest()}


def _training(trainee: Trainee) -> dict[str, float | None]:
    """What training took, and when it was good enough: None where the target was not reached."""
    if not trainee.curve:
        return {}
    last, target = trainee.curve[-1], trainee.quality.recipe.target
    found: dict[str, float | None] = {
        "val_loss": last["val_loss"],
        "val_bleu": last["val_bleu"],
        "train_tokens": last["tokens"],
        "train_time_s": last["time_s"],
        "train_cpu_s": last["cpu_s"],
        "train_tokens_per_s": last["tokens"] / last["time_s"],
        "train_tokens_per_cpu_s": last["tokens"] / last["cpu_s"],
    }
    if target is not None:
        reached = next((row for row in trainee.curve if row["val_bleu"] >= target), dict.fromkeys(last))
        found |= {
            "time_to_quality_s": reached["time_s"],
            "cpu_time_to_quality_s": reached["cpu_s"],
            "tokens_to_quality": reached["tokens"],
        }
        if last["energy_j"] is not None:
            found["energy_to_quality_j"] = reached["energy_j"]
    return found


def _primary(trainee: Trainee) -> dict[str, float | None]:
    """Scores of the test set and the decoding that verdicts are about."""
    first = trainee.scores[0]
    names = ("bleu", "chrf", "chrfpp", "ter", "brevity_penalty", "length_ratio", "exact_match")
    return {
        **{name: first[name] for name in names},
        "empty_outputs": first["empty"],
        "cut_outputs": first["cut"],
        "decode_sentences_per_s": first["sentences_per_s"],
    }


def _unit(name: str) -> str:
    """Unit of a metric of quality."""
    if name.endswith("_per_s") or name.endswith("_per_cpu_s"):
        return "sentences/s" if "sentences" in name else "tokens/s"
    units = {"_bytes": "bytes", "_s": "s", "_j": "J", "loss": "nats", "tokens_to_quality": "tokens"}
    known = {**units, "train_tokens": "tokens", "bleu": "BLEU", "chrf": "chrF", "chrfpp": "chrF++", "ter": "TER"}
    return next((unit for ending, unit in known.items() if name.endswith(ending)), "1")


def _plain(quality: QualitySpec) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(quality)))
    return plain
