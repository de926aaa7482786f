"""register: a loop over steps as one operator of torch.

What looks at a run (counters, fake tensors, the witness of the attention back end) looks at operators. As one operator,
a loop over a thousand steps is predicted without being run and counted by a formula.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

_library = torch.library.Library("t2bench", "FRAGMENT")  # type: ignore[no-untyped-call]


def register(
    schema: str,
    kernel: Callable[..., list[torch.Tensor]],
    *,
    fake: Callable[..., list[torch.Tensor]],
    flops: Callable[..., int],
) -> Callable[..., list[torch.Tensor]]:
    """Make an operator without gradient of its own.

    Args:
        schema: its name and arguments in torch's notation.
        kernel: what it does, on any device.
        fake: makes empty results of the right shapes.
        flops: its matrix products, from the arguments with shapes in the place of tensors.

    Returns:
        The operator.
    """
    name = schema.split("(", maxsplit=1)[0]
    _library.define(schema)  # type: ignore[no-untyped-call]
    _library.impl(name, kernel, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"t2bench::{name}", fake, lib=_library)
    packet = getattr(torch.ops.t2bench, name)
    register_flop_formula(packet)(flops)
    operator: Callable[..., list[torch.Tensor]] = packet.default
    return operator


def no_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """For kernels, whose tensors have one dtype already; some devices (meta) know no autocast."""
    return torch.autocast(device.type, enabled=False) if torch.amp.is_autocast_available(device.type) else nullcontext()
