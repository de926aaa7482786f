"""One token stream and shrunk presets for all workload tests."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.presets import preset
from t2bench.workloads.text import write_tokens

VOCAB = 1000


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stream of the text that ships with Python."""
    path = tmp_path_factory.mktemp("tokens") / "tokens.npy"
    write_tokens(path, vocab=VOCAB, data=None, min_tokens=20_000)
    return path


def shrink(spec: ModelSpec, **changes: Any) -> ModelSpec:
    """The same variant, small."""
    kv_heads = None if spec.kv_heads is None else max(1, 4 * spec.kv_heads // spec.heads)
    small = {
        "width": 32,
        "heads": 4,
        "kv_heads": kv_heads,
        "head_dim": None,
        "ff": 48,
        "enc_layers": 2,
        "dec_layers": 2,
        "vocab": VOCAB,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "memory": min(spec.memory, 32),
    }
    return replace(spec, **{**small, **changes})


@pytest.fixture
def make_case() -> Callable[..., Case]:
    """Case of a shrunk preset: make_case("modern", kind="forward", length=32, width=64)."""

    def make(
        name: str,
        *,
        kind: str = "train_step",
        length: int = 24,
        batch: int = 2,
        dtype: str = "fp32",
        seed: int = 0,
        causal: bool = False,
        backward: bool = False,
        **changes: Any,
    ) -> Case:
        return Case(
            variant=name,
            model=shrink(preset(name).model, **changes),
            workload=WorkloadSpec(kind=kind, causal=causal, backward=backward),  # type: ignore[arg-type]
            length=length,
            batch=batch,
            dtype=dtype,  # type: ignore[arg-type]
            device="cpu",
            seed=seed,
        )

    return make
