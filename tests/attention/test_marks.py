"""Kernels that no dispatch mode sees: what their marks say of them."""

import pytest
import torch
from torch import Tensor

from t2bench.attention import fused, witness
from t2bench.attention.mask import Mask
from t2bench.meters.counters import count


def test_a_mark_carries_operations_and_bytes_forward_and_backward() -> None:
    q, k, v = (torch.randn(1, 2, 8, 4, requires_grad=True) for _ in range(3))
    asked = []

    def step() -> Tensor:
        def flops() -> int:
            asked.append(1)
            return 1000

        return witness.marked("fa2", lambda: q * k * v, (q, k, v), flops=flops)

    step()
    assert asked == []  # nobody looks
    each = 4 * 2 * 8 * 4
    forward = count(step, held=())
    assert (forward.executed_flops, forward.uncounted) == (1000, ())
    assert forward.bytes_touched == 4 * each
    both = count(lambda: step().sum().backward(), held=())
    assert both.executed_flops == 1000 + 2500


@pytest.mark.parametrize("window", [None, 1, 3, 5, 9])
@pytest.mark.parametrize("both_sides", [False, True])
def test_the_packages_visit_what_is_visible(window: int | None, both_sides: bool) -> None:
    causal = not both_sides
    mask = Mask(causal=causal, window=window, both_sides=both_sides and window is not None)
    q, v = torch.empty(2, 3, 7, 4), torch.empty(2, 1, 7, 4)
    seen = mask.visible(7, 7, q.device)
    pairs = 49 if seen is None else int(seen.sum())
    if causal and mask.window_at(7) is None:
        pairs = 49 / 2  # the convention for causal squares
    assert fused.flops(q, v, mask, [(7, 7)] * 2) == 2 * 2 * 3 * pairs * (4 + 4)
    assert (
        fused.flops(q, v, mask, [(1, 7)])
        == 2 * 3 * min(7, (2 * window - 1 if both_sides else window) if window else 7) * 8
    )
