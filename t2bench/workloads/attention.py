"""attention: the operator alone, on random queries, keys and values (the protocol of Dao et al. 2022, appendix E).

Shape letters: B batch, T length, H query heads, G key/value heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from t2bench.attention.dispatch import attend
from t2bench.attention.features import Features
from t2bench.spec.case import Case
from t2bench.workloads.latency import Latencies


class Attention:
    """One call of the operator per step, always on the same input: it has no memory that could profit from that, and
    what the caches hold is the clock's affair.

    Projections are not part of it, so queries, keys and values are inputs that autograd keeps, and count as such; so do
    the tables that scores are made of (relative biases, the vector of additive scores). Masks and biases are made anew
    in each call, as each forward pass of a model does. Prefixes are a third of the length, documents three.

    Attributes:
        phases: `forward`, and `backward` if the workload has one (gradients of q, k, v and the tables).
        latencies: none.
        tokens: token positions per step.
        held: nothing.
    """

    def __init__(self, case: Case, device: torch.device, dtype: torch.dtype) -> None:
        spec = case.model
        self._features = Features.of(spec)
        self._shape = (case.batch, case.length)
        self.phases: tuple[str, ...] = ("forward", "backward") if case.workload.backward else ("forward",)
        self.latencies: Latencies = {}
        self.tokens = case.tokens
        self.held: tuple[Tensor, ...] = ()
        self._causal = case.workload.causal
        self._backend = spec.attention
        self._dropout = spec.attention_dropout if case.workload.backward else 0.0
        random = torch.Generator(device).manual_seed(case.seed)

        def draw(heads: int) -> Tensor:
            shape = (case.batch, heads, case.length, spec.dim_per_head)
            return torch.randn(shape, generator=random, device=device).to(dtype)

        qkv = (draw(spec.heads), draw(spec.num_kv_heads), draw(spec.num_kv_heads))
        self._gradient_BHTK = draw(spec.heads) if case.workload.backward else None
        tables = self._features.tables(
            heads=spec.heads, head_dim=spec.dim_per_head, length=case.length, causal=self._causal, generator=random
        )
        self._inputs = (*qkv, *(table.to(dtype) for table in tables))
        for tensor in self._inputs:
            tensor.requires_grad_(case.workload.backward)

    def step(self, mark: Callable[[str], None]) -> Tensor:
        """Run once; returns a checksum on the device: mean magnitude of one output (and gradient) row.

        The row in the middle: it depends on the mask, which the last one does not.
        """
        if self._gradient_BHTK is None:
            with torch.inference_mode():
                o_BHTK = self._attend()
                mark("forward")
                return _sample(o_BHTK)
        o_BHTK = self._attend()
        mark("forward")
        gradients = torch.autograd.grad(o_BHTK, self._inputs, self._gradient_BHTK)
        mark("backward")
        return _sample(o_BHTK.detach()) + _sample(gradients[0])

    def _attend(self) -> Tensor:
        q_BHTK, k_BGTK, v_BGTK, *tables = self._inputs
        batch, length = self._shape
        mask = self._features.mask(batch=batch, length=length, causal=self._causal, device=q_BHTK.device)
        scores = self._features.scores(q_BHTK, tuple(tables), length=length, causal=self._causal)
        return attend(q_BHTK, k_BGTK, v_BGTK, mask, backend=self._backend, scores=scores, dropout_p=self._dropout)


def _sample(x_BHTK: Tensor) -> Tensor:
    return x_BHTK[0, :, x_BHTK.shape[2] // 2].float().abs().mean()
