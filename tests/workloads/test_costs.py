"""The cost model by hand against the counters: every preset, every workload, every kind of cache."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from t2bench.meters.counters import count
from t2bench.spec import cost
from t2bench.spec.axes import PatternSpec
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.presets import preset, preset_names
from t2bench.workloads.registry import build

CPU = torch.device("cpu")
Make = Callable[..., Case]
NEW = 4
# Rows of table 3 change sizes, which are small here all the same; quantized weights are counted as if they were not.
NAMES = [
    name
    for name in preset_names()
    if name not in ("vanilla+efficient", "vanilla+cudnn")
    and not name.startswith("table3-")
    and preset(name).model.quant == "none"
]
OPERATORS = [WorkloadSpec(kind="attention", causal=c, backward=b) for c in (False, True) for b in (False, True)]


def counted(case: Case, tokens: Path) -> int:
    workload = build(case, device=CPU, tokens=tokens)
    counts = count(lambda: workload.step(lambda _: None), held=workload.held)
    assert counts.uncounted == ()
    return counts.executed_flops


def formula(case: Case) -> int:
    return cost.executed_flops(case.model, case.workload, case.batch, case.length)


def workloads(spec: ModelSpec) -> list[tuple[ModelSpec, WorkloadSpec]]:
    """All but training, which `test_predict` holds to the same formula."""
    found = [(spec, WorkloadSpec(kind="forward"))]
    if spec.recurrence == "none":
        found += [(spec, operator) for operator in OPERATORS]
    if spec.arch != "encoder":
        caches = ("on", "off") if spec.recurrence != "none" else ("on", "static", "off")
        caches = ("on", "static") if spec.memory else caches
        found += [(replace(spec, cache=cache), WorkloadSpec(kind="decode", new_tokens=NEW)) for cache in caches]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_formula_is_what_is_counted(make_case: Make, tokens: Path, name: str) -> None:
    case = make_case(name, length=12, compile="off")
    wrong = {}
    for spec, workload in workloads(case.model):
        each = replace(case, model=spec, workload=workload)
        if (found := counted(each, tokens)) != (said := formula(each)):
            wrong[workload, spec.cache] = (found, said)
    assert not wrong


@pytest.mark.parametrize("backend", ["math", "sdpa_flash"])
@pytest.mark.parametrize("window", [3, 64, 100])
@pytest.mark.parametrize("kind", ["train_step", "attention"])
def test_windows_in_blocks_are_what_is_counted(
    make_case: Make, tokens: Path, kind: str, window: int, backend: str
) -> None:
    """Long enough for blocks; a window of 64 has a first block that is a causal sequence by itself."""
    pattern = PatternSpec(kind="window", window=window, layers="SL")
    case = make_case(
        "gpt2", kind=kind, length=330, batch=1, causal=True, backward=True, attention=backend, loss="dense",
        pattern=pattern, **({"position": replace(preset("gpt2").model.position, max_len=400)}),
    )  # fmt: skip
    assert counted(case, tokens) == formula(case)


@pytest.mark.parametrize("kind", ["prefix", "document"])
def test_masks_of_their_own_are_not_halved(make_case: Make, tokens: Path, kind: str) -> None:
    case = make_case("gpt2", attention="sdpa_flash", pattern=PatternSpec(kind=kind, layers="SL"))
    for workload in (WorkloadSpec(kind="train_step"), WorkloadSpec(kind="decode", new_tokens=NEW), OPERATORS[3]):
        each = replace(case, workload=workload)
        assert counted(each, tokens) == formula(each), workload


def test_the_operator_alone_asks_for_the_window_too(make_case: Make) -> None:
    case = make_case("gpt2", kind="attention", causal=True, length=100, pattern=PatternSpec(kind="window", window=10))
    size = 4 * case.batch * case.model.width
    assert cost.model_flops(case.model, case.workload, case.batch, case.length) == size * 100 * 10
