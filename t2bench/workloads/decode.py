"""prefill and decode: read a prompt of real text, and generate from it, greedily, a fixed number of tokens.

    ttft_s = time to the first new token        tpot_s = time of each token after it, averaged

Shape letters: B batch, V vocabulary (padded).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle

import torch
from torch import Tensor

from t2bench.models.precision import Precision
from t2bench.workloads.batches import Batch
from t2bench.workloads.generation import Generator
from t2bench.workloads.latency import Latencies


class Decode:
    """One generation per call, in inference mode; `prefill` is the one that ends with the first token.

    Attributes:
        phases: `prefill`, and `decode` if more than one token is generated.
        latencies: `ttft_s`, and `tpot_s` if more than one token is generated.
        tokens: of `prefill` those of the prompts, of `decode` the new ones.
        held: parameters, tables, and the buffers of a static cache.
    """

    def __init__(
        self,
        generator: Generator,
        batches: Sequence[Batch],
        *,
        new_tokens: int,
        precision: Precision,
        tokens: int,
        held: tuple[Tensor, ...],
    ) -> None:
        self.tokens = tokens
        self.held = (*held, *generator.held)
        self.phases: tuple[str, ...] = ("prefill", "decode")[: min(new_tokens, 2)]
        self.latencies: Latencies = {"ttft_s": ("prefill", 1)}
        if new_tokens > 1:
            self.latencies["tpot_s"] = ("decode", new_tokens - 1)
        self._generator = generator
        self._new_tokens = new_tokens
        self._precision = precision
        self._batches = cycle(batches)

    def step(self, mark: Callable[[str], None]) -> Tensor:
        """Generate once; returns a checksum on the device.

        It is the mean magnitude of the first and the last token's logits: wrong keys in a cache change the last one,
        while a tie that another kernel's rounding breaks the other way, so that the texts part, hardly does.
        """
        batch = next(self._batches)
        with torch.inference_mode(), self._precision.forward(batch.tokens_BT.device.type):
            token_B1, first_BV = self._generator.first(batch)
            mark("prefill")
            last_BV = first_BV
            for _ in range(self._new_tokens - 1):
                token_B1, last_BV = self._generator.next(token_B1)
            checksum = (first_BV.float().abs().mean() + last_BV.float().abs().mean()) / 2
            if self._new_tokens > 1:
                mark("decode")
            return checksum
