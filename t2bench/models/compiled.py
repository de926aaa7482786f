"""Compilation: torch.compile around the parts of a model, and what it did.

`hidden` (embeddings to hidden states) and `loss` are compiled each by itself, so that a step still has phases; the
matrix product between them is a border that no fusion crosses anyway. One shape is compiled for (`dynamic` is off):
every step of a case has the same. A graph break is allowed, and counted.

    default          kernels fused by Inductor
    reduce-overhead  and captured as a CUDA graph
    max-autotune     kernels chosen by measuring several, and captured where there is CUDA

What reads a prompt or an encoder's source once is compiled without CUDA graphs: a graph would only hold its memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import nn

from t2bench.attention.witness import COMPILED, observe_compiled
from t2bench.spec.case import Unsupported

Function = TypeVar("Function", bound=Callable[..., Any])

PARTS = ("hidden", "loss")
WITHOUT_GRAPHS = {"reduce-overhead": "default", "max-autotune": "max-autotune-no-cudagraphs"}
# Inductor's ways of saying that there is no compiler for its kernels (C++ for CPUs; Triton for CUDA).
NO_COMPILER = ("InvalidCxxCompiler", "CppCompileError", "TritonMissing", "CUDACompileError")
UNFUSED = frozenset({"math", "sdpa_math"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """What this process has compiled so far.

    Attributes:
        compile_s: seconds spent in the compiler, backward graphs included.
        graphs: graphs captured; more than one for each part and phase means breaks or recompilation.
        graph_breaks: times that a graph had to end early.
        break_reasons: why, in torch's words.
        recompiles: captures of a frame that was captured before, for another shape or state.
        cache_hits: graphs found in Inductor's cache on the disk.
        cache_misses: graphs compiled.
    """

    compile_s: float
    graphs: int
    graph_breaks: int
    break_reasons: tuple[str, ...]
    recompiles: int
    cache_hits: int
    cache_misses: int


def wrap(function: Function, mode: str, *, graphs: bool = True) -> Function:
    """The function compiled in a mode of the `compile` axis; itself if that is `off`.

    Args:
        function: what to compile.
        mode: a value of `t2bench.spec.axes.Compile`.
        graphs: whether the mode's CUDA graphs are wanted.
    """
    if mode == "off":
        return function
    chosen = mode if graphs else WITHOUT_GRAPHS.get(mode, mode)
    return cast(Function, torch.compile(function, mode=chosen, dynamic=False))


def wrap_parts(model: nn.Module, mode: str) -> None:
    """Compile the model's parts in place; what was compiled before is replaced."""
    for name in PARTS:
        vars(model).pop(name, None)
        if mode != "off":
            setattr(model, name, wrap(getattr(model, name), mode))


def report() -> Compiled:
    """What torch says of all compilation in this process."""
    from torch._dynamo.utils import calculate_time_spent, counters, get_compilation_metrics

    ids = [str(metrics.compile_id) for metrics in get_compilation_metrics()]
    frames = {name for name in ids if not name.startswith("!")}
    inductor = counters["inductor"]
    return Compiled(
        compile_s=float(calculate_time_spent().get("total_wall_time", 0.0)),
        graphs=int(counters["stats"]["unique_graphs"]),
        graph_breaks=sum(map(int, counters["graph_break"].values())),
        break_reasons=tuple(sorted(str(reason).splitlines()[0] for reason in counters["graph_break"])),
        recompiles=sum(not name.split("/")[1].startswith("0") for name in frames if "/" in name),
        cache_hits=int(inductor["fxgraph_cache_hit"]),
        cache_misses=int(inductor["fxgraph_cache_miss"]),
    )


def without_compiler(error: BaseException) -> Unsupported | None:
    """The reason in words if torch failed for want of a working compiler for this device; None for other errors."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = getattr(cause, "inner_exception", None) or cause.__cause__
    if not any(type(each).__name__ in NO_COMPILER for each in chain):
        return None
    first_line = str(chain[-1]).strip().splitlines()[0]
    cure = "install g++ (for CPUs) or triton (for CUDA), or set compile: off"
    return Unsupported(f"torch.compile found no working compiler ({first_line}); {cure}")


def attention_backends(step: Callable[[], object], requested: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which attention kernels a compiled step runs, read off the profiler: under a dispatch mode nothing is compiled.

    Unfused attention is taken apart by the compiler and shows no operator of its own, so a step without any fused
    kernel has run what was requested if that was unfused.

    Returns:
        (back ends, kernel names).
    """
    with observe_compiled() as seen:
        step()
    fused = sorted(seen.backends - UNFUSED - {COMPILED})
    if fused:
        return tuple(fused), seen.kernels
    return (requested if requested in UNFUSED else "unfused",), ("compiled",)
