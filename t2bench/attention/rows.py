"""Is a back end right at the length that will be timed? A few query rows against the float64 definition.

A mistake may show only beyond a block or a mask's width, where checking every row in float64 would cost more than the
measurement. One row costs one query against all keys, so some rows, first and last among them, are checked instead,
with gradients that come from these rows alone.

Shape letters: B batch, T query length, S key length, R checked rows, H query heads, G key/value heads, K head dim.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from t2bench.attention import reference
from t2bench.attention.dispatch import attend
from t2bench.attention.features import Features
from t2bench.attention.verify import (
    PLAIN,
    Attend,
    Check,
    plain,
    refused,
    verdicts,
    with_gradients,
)

NUM_ROWS = 16


def check_rows(
    backend: str,
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    length: int,
    causal: bool,
    backward: bool,
    dtype: torch.dtype,
    device: torch.device | str,
    rounding: torch.dtype | None = None,
    features: Features = PLAIN,
    seed: int = 0,
) -> tuple[Check, ...]:
    """Check NUM_ROWS rows of one group of heads.

    Args:
        backend: a value of `t2bench.spec.axes.Backend`.
        heads: query heads; those of one key/value head are computed.
        kv_heads: key/value heads.
        head_dim: features per head.
        length: T = S in tokens, as it will be timed.
        causal: with the causal mask.
        backward: check gradients too, those of the tables of the scores included.
        dtype: of q, k and v.
        device: where to run.
        rounding: dtype whose unit of rounding the results have, where it is not `dtype`: float16 for TF32.
        features: pattern, scores and positions within the operator.
        seed: of q, k, v and the output's gradient.

    Returns:
        One verdict on the output, and one on the gradients if asked for.
    """
    generator = torch.Generator().manual_seed(seed)
    repeats = heads // kv_heads

    def draw(num_heads: int, rows: int) -> Tensor:
        return torch.randn(1, num_heads, rows, head_dim, generator=generator).to(device, dtype)

    # Sharper than a fresh model's attention, so that a wrong scale or mask shows.
    inputs = [features.sharpness(head_dim) * draw(repeats, length), draw(1, length), draw(1, length)]
    row_R = torch.linspace(0, length - 1, min(length, NUM_ROWS)).round().long().to(device)
    cotangent_BHRK = draw(repeats, len(row_R))
    tables = features.tables(heads=repeats, head_dim=head_dim, length=length, causal=causal, generator=generator)
    inputs += [table.to(device, dtype) for table in tables]
    mask = features.mask(batch=1, length=length, causal=causal, device=device)
    mask_of_rows = replace(mask, query_positions_T=row_R)

    def whole(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, *tables: Tensor) -> Tensor:
        scores = features.scores(q_BHTK, tables, length=length, causal=causal)
        return attend(q_BHTK, k_BGSK, v_BGSK, mask, backend=backend, scores=scores)[:, :, row_R]

    def by(function: Attend) -> Attend:
        def rows_only(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, *tables: Tensor) -> Tensor:
            q_BHRK = q_BHTK[:, :, row_R]
            scores = features.scores(q_BHRK, tables, length=length, causal=causal)
            return function(q_BHRK, k_BGSK, v_BGSK, mask_of_rows, scores=scores)

        return rows_only

    try:
        found = with_gradients(whole, inputs, cotangent_BHRK, backward)
    except (RuntimeError, ValueError) as error:
        return (refused(backend, error),)
    exact = with_gradients(by(reference.attention), [x.double() for x in inputs], cotangent_BHRK, backward)
    naive = with_gradients(by(plain), inputs, cotangent_BHRK, backward)
    what = f"{backend} at L={length}{' causal' if causal else ''} against the float64 definition"
    return tuple(verdicts(found, exact, naive, rounding or dtype, name="attention rows: {}", what=what))
