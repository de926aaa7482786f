"""observe: which attention back end really ran, read off the operators that PyTorch dispatched.

Every operator passes a dispatch mode, forward and backward, on any device, before its kernel runs. Fused kernels show
under their own names. The two unfused ones differ in their softmax: SDPA's math kernel calls `_safe_softmax`, plain
code calls `_softmax` (a loss calls `_log_softmax` and is not mistaken for either).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

FORWARD: dict[str, str] = {
    "_softmax": "math",
    "_safe_softmax": "sdpa_math",
    "_scaled_dot_product_attention_math": "sdpa_math",  # whole, under inference mode
    "_scaled_dot_product_flash_attention": "sdpa_flash",
    "_scaled_dot_product_flash_attention_for_cpu": "sdpa_flash",
    "_scaled_dot_product_efficient_attention": "sdpa_efficient",
    "_scaled_dot_product_cudnn_attention": "sdpa_cudnn",
}
# Under inference mode these arrive whole; with or without gradients otherwise, as the operators they are made of.
_COMPOSITE = frozenset({"softmax", "scaled_dot_product_attention"})
_UNFUSED = frozenset({"math", "sdpa_math"})
_UNFUSED_BACKWARD = "_softmax_backward_data"
_FAMILY = "_scaled_dot_product"


class Seen:
    """What was observed.

    Attributes:
        operators: name -> number of dispatches, in order of first appearance, attention operators only.
    """

    def __init__(self) -> None:
        self.operators: dict[str, int] = {}

    @property
    def kernels(self) -> tuple[str, ...]:
        """Attention operators that ran, forward and backward, in order of first appearance."""
        return tuple(self.operators)

    @property
    def backends(self) -> frozenset[str]:
        """Back ends that ran forward. An attention operator that we do not know appears under its own name."""
        return frozenset(FORWARD.get(name, name) for name in self.operators if not name.endswith(_BACKWARD_ENDS))

    @property
    def backward_backends(self) -> frozenset[str]:
        """Back ends that ran backward. The unfused ones share their operator, so the forward pass tells them apart."""
        found: set[str] = set()
        for name in self.operators:
            if name == _UNFUSED_BACKWARD:
                found |= self.backends & _UNFUSED
            elif name.endswith("_backward"):
                forward = name.removesuffix("_backward")
                found.add(FORWARD.get(forward, forward))
        return frozenset(found)


_BACKWARD_ENDS = ("_backward", "_backward_data")


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
        if name in FORWARD or name == _UNFUSED_BACKWARD or _FAMILY in name:
            self.seen.operators[name] = self.seen.operators.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


@contextmanager
def observe() -> Iterator[Seen]:
    """Record the attention operators dispatched inside the `with` block, by any thread of its autograd graph.

    Slows every operator by microseconds: use it outside timing.
    """
    seen = Seen()
    with _Recorder(seen):
        yield seen
