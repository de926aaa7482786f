"""attention: the operator alone, on random queries, keys and values (the protocol of Dao et al. 2022, appendix E).

Shape letters: B batch, T length, H query heads, G key/value heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from t2bench.attention.dispatch import attend
from t2bench.attention.mask import Mask
from t2bench.spec.case import Case


class Attention:
    """One call of the operator per step, always on the same input: it has no memory that could profit from that, and
    what the caches hold is the clock's affair.

    Projections are not part of it, so queries, keys and values are inputs that autograd keeps, and count as such. The
    mask is made anew in each call, as each forward pass of a model does.

    Attributes:
        phases: `forward`, and `backward` if the workload has one (gradients of q, k and v).
        tokens: token positions per step.
        held: nothing.
    """

    def __init__(self, case: Case, device: torch.device, dtype: torch.dtype) -> None:
        spec = case.model
        self.phases: tuple[str, ...] = ("forward", "backward") if case.workload.backward else ("forward",)
        self.tokens = case.tokens
        self.held: tuple[Tensor, ...] = ()
        self._causal = case.workload.causal
        self._backend = spec.attention
        self._dropout = spec.attention_dropout if case.workload.backward else 0.0
        random = torch.Generator(device).manual_seed(case.seed)

        def draw(heads: int) -> Tensor:
            shape = (case.batch, heads, case.length, spec.dim_per_head)
            return torch.randn(shape, generator=random, device=device).to(dtype)

        self._q_BHTK, self._k_BGTK, self._v_BGTK = draw(spec.heads), draw(spec.num_kv_heads), draw(spec.num_kv_heads)
        self._gradient_BHTK = draw(spec.heads) if case.workload.backward else None
        for tensor in (self._q_BHTK, self._k_BGTK, self._v_BGTK):
            tensor.requires_grad_(case.workload.backward)

    def step(self, mark: Callable[[str], None]) -> Tensor:
        """Run once; returns a checksum on the device: mean magnitude of one output (and gradient) row.

        The row in the middle: it depends on the mask, which the last one does not.
        """
        inputs = (self._q_BHTK, self._k_BGTK, self._v_BGTK)
        if self._gradient_BHTK is None:
            with torch.inference_mode():
                o_BHTK = self._attend(inputs)
                mark("forward")
                return _sample(o_BHTK)
        o_BHTK = self._attend(inputs)
        mark("forward")
        gradients = torch.autograd.grad(o_BHTK, inputs, self._gradient_BHTK)
        mark("backward")
        return _sample(o_BHTK.detach()) + _sample(gradients[0])

    def _attend(self, inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return attend(*inputs, Mask(causal=self._causal), backend=self._backend, dropout_p=self._dropout)


def _sample(x_BHTK: Tensor) -> Tensor:
    return x_BHTK[0, :, x_BHTK.shape[2] // 2].float().abs().mean()
