"""Sampling: tokens drawn from a model's distribution, or from what is left of it after cuts.

The cuts act one after the other, each on the probabilities that the one before has left, made to sum to 1 again: the
temperature, top k, top p, epsilon. The likeliest token always stays.

One uniform number u is drawn for each token, and the token is the first whose cumulative probability exceeds it. The
numbers of a sentence depend on the seed and its place in the split alone, and come from raw bits, whose stream NumPy
never changes: batches of another size, or another device, give the same translations, but for where rounding of the
logits puts a token on the other side of u.

Shape letters: N texts, R rows still written, L tokens, V vocabulary (padded), C tokens that may be drawn.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from t2bench.spec.quality import Decoding


class Sampler:
    """Draws tokens: a `t2bench.translation.search.Choose`.

    Args:
        decoding: temperature (above 0) and cuts.
        uniforms_NL: float64, from 0 to below 1; for each text and token.
    """

    def __init__(self, decoding: Decoding, uniforms_NL: Tensor) -> None:
        self._decoding = decoding
        self._uniforms_NL = uniforms_NL

    def __call__(self, logits_RV: Tensor, rows_R: Tensor, step: int) -> Tensor:
        """See Choose."""
        p_RC, ids_RC = probabilities(logits_RV, self._decoding)
        # Cumulated in float32, a thousand small probabilities would be lost beside a large one.
        below_RC = p_RC.double().cumsum(dim=-1)
        aim_R1 = self._uniforms_NL[rows_R, step][:, None] * below_RC[:, -1:]
        place_R1 = torch.searchsorted(below_RC, aim_R1, right=True)
        return (place_R1 if ids_RC is None else ids_RC.gather(1, place_R1))[:, 0]


def probabilities(logits_RV: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor | None]:
    """The distribution that is drawn from.

    Args:
        logits_RV: float32; minus infinity for what may not be drawn.
        decoding: temperature (above 0) and cuts.

    Returns:
        Probabilities (R, C), which sum to 1 but for rounding, and the ids (R, C) that they are of; None for 0, 1, ...
    """
    ids_RC: Tensor | None = None
    if decoding.top_k:
        logits_RV, ids_RC = logits_RV.topk(min(decoding.top_k, logits_RV.shape[1]), dim=-1)
    elif decoding.top_p < 1.0:
        logits_RV, ids_RC = logits_RV.sort(dim=-1, descending=True)
    p_RC = (logits_RV / decoding.temperature).softmax(dim=-1)
    if decoding.top_p < 1.0:
        before_RC = p_RC.cumsum(dim=-1) - p_RC
        # In exact numbers nothing stands before the first; in rounded ones top_p may be as small as the difference.
        before_RC[:, 0] = 0.0
        p_RC = _rescaled(p_RC.masked_fill(before_RC >= decoding.top_p, 0.0))
    if decoding.epsilon > 0.0:
        kept_RC = p_RC >= p_RC.amax(dim=-1, keepdim=True).clamp(max=decoding.epsilon)
        p_RC = _rescaled(p_RC.masked_fill(~kept_RC, 0.0))
    return p_RC, ids_RC


def uniforms(rows: NDArray[np.int64], limits: NDArray[np.int64], *, samples: int, seed: int) -> NDArray[np.float64]:
    """Numbers to draw tokens with.

    Args:
        rows: places of the sentences in their split.
        limits: tokens at most, of each sentence.
        samples: texts for each sentence.
        seed: of the whole translation.

    Returns:
        (sentences x samples, longest limit), multiples of 2^-32 from 0 to below 1; the texts of a sentence stand
        together.
    """
    made = np.zeros((len(rows), samples, limits.max()))
    for place, (row, limit) in enumerate(zip(rows.tolist(), limits.tolist(), strict=True)):
        bits = np.random.PCG64(np.random.SeedSequence((seed, row))).random_raw(samples * limit)
        made[place, :, :limit] = (np.asarray(bits) >> np.uint64(32)).reshape(samples, limit) * 2.0**-32
    return made.reshape(len(rows) * samples, -1)


def _rescaled(p_RC: Tensor) -> Tensor:
    return p_RC / p_RC.sum(dim=-1, keepdim=True)
