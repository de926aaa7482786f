"""Is a back end right at the length that will be timed? A few query rows against the float64 definition.

A mistake may show only beyond a block or a mask's width, where checking every row in float64 would cost more than the
measurement. One row costs one query against all keys, so some rows, first and last among them, are checked instead,
with gradients that come from these rows alone.

Shape letters: B batch, T query length, S key length, R checked rows, H query heads, G key/value heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from t2bench.attention.dispatch import attend
from t2bench.attention.mask import Mask
from t2bench.attention.verify import Check, numeric_check, refused, tolerance, worst_error

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
        backward: check gradients too.
        dtype: of q, k and v.
        device: where to run.
        seed: of q, k, v and the output's gradient.

    Returns:
        One verdict on the output, and one on the gradients if asked for.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(num_heads: int, rows: int) -> Tensor:
        return torch.randn(1, num_heads, rows, head_dim, generator=generator).to(device, dtype)

    # Sharper than a fresh model's attention, so that a wrong scale or mask shows.
    q_BHTK, k_BGSK, v_BGSK = 2 * draw(heads // kv_heads, length), draw(1, length), draw(1, length)
    row_R = torch.linspace(0, length - 1, min(length, NUM_ROWS)).round().long().to(device)
    cotangent_BHRK = draw(heads // kv_heads, len(row_R))
    mask = Mask(causal=causal)

    def whole(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor) -> Tensor:
        return attend(q_BHTK, k_BGSK, v_BGSK, mask, backend=backend)[:, :, row_R]

    def rows_only(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor) -> Tensor:
        return _definition(q_BHTK[:, :, row_R], k_BGSK, v_BGSK, row_R, causal=causal)

    inputs = (q_BHTK, k_BGSK, v_BGSK)
    try:
        found = _run(whole, inputs, cotangent_BHRK, backward)
    except RuntimeError as error:
        return (refused(backend, error),)
    exact = _run(rows_only, [x.double() for x in inputs], cotangent_BHRK.double(), backward)
    plain = _run(rows_only, inputs, cotangent_BHRK, backward)
    checks = []
    for index, kind in enumerate(("output", "gradients")[: 1 + backward]):
        here, there, naive = (r[:1] if index == 0 else r[1:] for r in (found, exact, plain))
        allowed = tolerance(dtype, worst_error(naive, there), factor=2.0 + index)
        what = f"{backend} at L={length}{' causal' if causal else ''} against the float64 definition, {kind}"
        checks.append(numeric_check(f"attention rows: {kind}", worst_error(here, there), allowed, what))
    return tuple(checks)


def _definition(q_BHRK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, row_R: Tensor, *, causal: bool) -> Tensor:
    """softmax(Q K^T / sqrt(K)) V for the rows at positions row_R (Vaswani et al. 2017, eq. 1)."""
    scores_BHRS: Tensor = q_BHRK @ k_BGSK.transpose(-2, -1) * q_BHRK.shape[-1] ** -0.5
    if causal:
        key_S = torch.arange(k_BGSK.shape[2], device=row_R.device)
        scores_BHRS = scores_BHRS.masked_fill(key_S > row_R[:, None], float("-inf"))
    o_BHRK: Tensor = scores_BHRS.softmax(-1) @ v_BGSK
    return o_BHRK


def _run(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], cotangent_BHRK: Tensor, backward: bool
) -> list[Tensor]:
    """Output, and gradients of the inputs."""
    leaves = [x.detach().requires_grad_(backward) for x in inputs]
    out_BHRK = function(*leaves)
    if not backward:
        return [out_BHRK]
    out_BHRK.backward(cotangent_BHRK)  # type: ignore[no-untyped-call]
    return [out_BHRK.detach(), *(x.grad for x in leaves if x.grad is not None)]
