"""counting: what one real step of a case does, and which attention kernels it runs.

A compiled or quantized program cannot be counted operator by operator: under a dispatch mode nothing is compiled, and
torchao's tensors are opaque. FLOPs are then those of the same case eager and unquantized, whose matrix products are the
same; bytes, which fusion and quantization do change, are left to the memory pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from t2bench.attention.features import Features
from t2bench.attention.witness import observe
from t2bench.meters.counters import count
from t2bench.models import compiled
from t2bench.spec.case import Case
from t2bench.workloads.registry import Workload

BYTES = ("saved_for_backward_bytes", "tracked_peak_bytes", "bytes_touched")


def count_case(case: Case, build: Callable[[Case], Workload]) -> tuple[dict[str, float | None], dict[str, Any]]:
    """Count a case's first step.

    Args:
        case: what to count.
        build: makes a workload.

    Returns:
        (metrics, facts): facts are `backends`, `kernels`, `mask` (how it reaches them), `uncounted`, `ops`, and the
        first step's `checksum`, a float.
    """
    plain = replace(case, model=replace(case.model, compile="off", quant="none"))
    workload = build(plain)
    first: list[float] = []
    counts = count(lambda: first.append(float(workload.step(_no_mark))), held=workload.held)
    metrics: dict[str, float | None] = {
        "executed_flops": None if counts.uncounted else counts.executed_flops,
        "saved_for_backward_bytes": counts.saved_bytes,
        "tracked_peak_bytes": counts.peak_bytes,
        "bytes_touched": counts.bytes_touched,
    }
    facts: dict[str, Any] = {"uncounted": list(counts.uncounted), "ops": counts.ops}
    if plain != case:
        metrics |= dict.fromkeys(BYTES)
        facts["counted"] = "the same case eager and unquantized"
        workload = build(case)
        first = [float(workload.step(_no_mark))]
    return metrics, facts | _kernels(case, workload) | _mask_form(case) | {"checksum": first[0]}


def compilation(case: Case) -> dict[str, Any]:
    """What compiling this case took in this process so far; empty for an eager case."""
    return {} if case.model.compile == "off" else asdict(compiled.report())


def _kernels(case: Case, workload: Workload) -> dict[str, Any]:
    if case.model.compile != "off":
        backends, kernels = compiled.attention_backends(lambda: workload.step(_no_mark), case.model.attention)
        return {"backends": list(backends), "kernels": list(kernels), **compilation(case)}
    with observe() as seen:
        workload.step(_no_mark)
    return {"backends": sorted(seen.backends), "kernels": list(seen.kernels)}


def _mask_form(case: Case) -> dict[str, Any]:
    """How the mask of self-attention reaches its back end: a tensor over all pairs of tokens is memory of its own."""
    model, workload = case.model, case.workload
    if model.factory or model.recurrence != "none":
        return {}
    causal = workload.causal if workload.kind == "attention" else model.arch != "encoder"
    return {"mask": Features.of(model).mask_form(model.attention, length=case.length, causal=causal)}


def _no_mark(phase: str) -> None:
    """Phases are of interest to the clock only."""
