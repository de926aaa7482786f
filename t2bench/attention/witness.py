"""observe: which attention back end really ran, read off the operators that PyTorch dispatched.

Every operator passes a dispatch mode, forward and backward, on any device, before its kernel runs. Fused kernels show
under their own names. The two unfused ones differ in their softmax: SDPA's math kernel calls `_safe_softmax`, plain
code calls `_softmax` (a loss calls `_log_softmax` and is not mistaken for either).

Two kinds of kernel pass no dispatch mode. FlexAttention, which forbids modes, and the flash-attention packages, some of
whose kernels are launched from Python: their back ends run through `marked`, which dispatches an operator that does
nothing, under the kernel's name, next to the real one. And whatever `torch.compile` made, which is one region: there
`observe_compiled` reads the names that the profiler saw, where fused kernels still show, and softmax does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

Result = TypeVar("Result")

FORWARD: dict[str, str] = {
    "_softmax": "math",
    "_safe_softmax": "sdpa_math",
    "_scaled_dot_product_attention_math": "sdpa_math",  # whole, under inference mode
    "_scaled_dot_product_flash_attention": "sdpa_flash",
    "_scaled_dot_product_flash_attention_for_cpu": "sdpa_flash",
    "_scaled_dot_product_efficient_attention": "sdpa_efficient",
    "_scaled_dot_product_cudnn_attention": "sdpa_cudnn",
    "_flash_attention_forward": "sdpa_flash",  # of nested tensors
    "_efficient_attention_forward": "sdpa_efficient",
    "_varlen_attn": "varlen",
    "_additive_steps": "math",  # attention inside a recurrent layer
    "flex_attention": "flex",
    "fa2": "fa2",
    "fa3": "fa3",
    "fa4": "fa4",
}
# Under inference mode these arrive whole; with or without gradients otherwise, as the operators they are made of.
_COMPOSITE = frozenset({"softmax", "scaled_dot_product_attention"})
_UNFUSED = frozenset({"math", "sdpa_math"})
_UNFUSED_BACKWARD = "_softmax_backward_data"
_BACKWARD = {
    **{f"{name}_backward": backend for name, backend in FORWARD.items()},
    "_flash_attention_backward": "sdpa_flash",
    "_efficient_attention_backward": "sdpa_efficient",
}
_FAMILY = "_scaled_dot_product"
# What a compiled region looks like whose attention is made of matrix products and generated code.
COMPILED = "unfused, compiled"
_PRODUCTS = frozenset({"bmm", "baddbmm", "mm", "addmm"})
# Parts of the names of CUDA kernels, for regions in which no operator is dispatched.
_KERNELS = {
    "flex_attention": "flex",
    "cudnn_generated_fort_native_sdpa": "sdpa_cudnn",
    "fmha_cutlass": "sdpa_efficient",
}

_library = torch.library.Library("t2bench_marks", "DEF")  # type: ignore[no-untyped-call]
_MARKED = tuple(name for name in FORWARD if not name.startswith("_"))
for _name in (*_MARKED, *(f"{name}_backward" for name in _MARKED)):
    _library.define(f"{_name}(Tensor[] touched, int flops) -> ()")  # type: ignore[no-untyped-call]
    _library.impl(_name, lambda touched, flops: None, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]


class Seen:
    """What was observed.

    Attributes:
        operators: name -> number of dispatches, in order of first appearance, attention operators only.
    """

    def __init__(self) -> None:
        self.operators: dict[str, int] = {}

    def add(self, name: str) -> None:
        """Take note of an operator if it is one of attention."""
        if name in FORWARD or name in _BACKWARD or name == _UNFUSED_BACKWARD or _FAMILY in name:
            self.operators[name] = self.operators.get(name, 0) + 1

    @property
    def kernels(self) -> tuple[str, ...]:
        """Attention operators that ran, forward and backward, in order of first appearance."""
        return tuple(self.operators)

    @property
    def backends(self) -> frozenset[str]:
        """Back ends that ran forward. An attention operator that we do not know appears under its own name."""
        return frozenset(FORWARD.get(name, name) for name in self.operators if not _is_backward(name))

    @property
    def backward_backends(self) -> frozenset[str]:
        """Back ends that ran backward. The unfused ones share their operator, so the forward pass tells them apart."""
        found: set[str] = set()
        for name in self.operators:
            if name == _UNFUSED_BACKWARD:
                found |= self.backends & _UNFUSED
            elif _is_backward(name):
                found.add(_BACKWARD.get(name, name.removesuffix("_backward")))
        return frozenset(found)


def _is_backward(name: str) -> bool:
    return name.endswith("_backward") or name == _UNFUSED_BACKWARD


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, seen: Seen) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled here, and torch would import its whole compiler (seconds) to say so.
        return False

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func.__name__.split(".")[0]
        if name in _COMPOSITE:
            with self:
                return func.decompose(*args, **(kwargs or {}))  # type: ignore[attr-defined]
        self.seen.add(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def observe() -> Iterator[Seen]:
    """Record the attention operators dispatched inside the `with` block, by any thread of its autograd graph.

    Slows every operator by microseconds: use it outside timing. What was compiled must be observed by
    `observe_compiled`.
    """
    seen = Seen()
    with _Recorder(seen):
        yield seen


@contextmanager
def observe_compiled() -> Iterator[Seen]:
    """The same for compiled code, by the profiler. What it saw is known at the end of the `with` block.

    Where a compiled region shows matrix products and no attention kernel, its attention is `COMPILED`: compilation
    makes one code of the unfused back ends. It may also make a fused kernel of them, and then says so.
    """
    seen = Seen()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        yield seen
    names = [event.key for event in profiler.key_averages()]
    _read(names, seen)


def _read(names: Sequence[str], seen: Seen) -> None:
    """Operators (aten::name) and kernels (any other name) of a profile."""
    operators = [name.rpartition("::")[2] for name in names]
    for name in operators:
        seen.add(name)
    for name in names:
        for part, backend in _KERNELS.items():
            if part in name and backend not in seen.backends | seen.backward_backends:
                seen.operators[next(key for key, value in FORWARD.items() if value == backend)] = 1
    if not seen.operators and _PRODUCTS & set(operators):
        seen.operators[COMPILED] = 1


def marked(
    name: str,
    run: Callable[[], Result],
    inputs: tuple[Tensor, Tensor, Tensor],
    *,
    flops: Callable[[], int],
    hidden: bool = True,
) -> Result:
    """Run a kernel that dispatch modes cannot see; if there are any, dispatch an operator of this name for them to see.

    The mark carries the tensors that the kernel reads and writes, and its floating-point operations.

    Args:
        name: one of the marks; the backward pass gets the mark `<name>_backward` when it reaches the output.
        run: calls the kernel, returns a tensor or a tuple that begins with one.
        inputs: queries, keys and values.
        flops: what the forward kernel computes, by the conventions of `t2bench.meters.counters`;
            called for marks only.
        hidden: switch the modes off meanwhile, for kernels that forbid them.
    """
    if not torch._C._len_torch_dispatch_stack():
        return run()
    with unwatched() if hidden else nullcontext():
        result, executed = run(), flops()
    out: Any = result[0] if isinstance(result, tuple) else result
    touched = [x.detach() for x in (*inputs, out)]
    getattr(torch.ops.t2bench_marks, name)(touched, executed)
    if out.requires_grad:
        # It reads these and the output's gradient, writes gradients as large as the inputs, and computes scores again.
        mark = getattr(torch.ops.t2bench_marks, f"{name}_backward")
        out.register_hook(lambda gradient: mark([*touched, gradient.detach(), *touched[:3]], executed * 5 // 2))
    return result


def unwatched() -> AbstractContextManager[Any]:
    """Switch dispatch modes off: for code that they are not meant to see, and that does not bear them."""
    modes: AbstractContextManager[Any] = _disable_current_modes()
    return modes
