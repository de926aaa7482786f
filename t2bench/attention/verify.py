"""Is an attention back end right? Operator-level checks against the float64 oracle, made before anything is timed.

The rule for errors, here and in `t2bench.models.truth`. With e = max|x - oracle| / max|oracle|:

    float32 and wider   e <= 2e-5 (float64: 1e-10)
    bfloat16, float16   e <= 2 x the e of plain math in the same dtype, the rule of flash-attention's own tests; but
                        never more than a fixed number of units of rounding, so that two wrongs do not make a right;
                        3 x for gradients, as there; four units of
                        rounding are always allowed

Shape letters: B batch, T query length, S key length, H query heads, G key/value heads, K head dim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from t2bench.attention import reference
from t2bench.attention.dispatch import attend, takes_mask_tensor
from t2bench.attention.mask import Mask
from t2bench.attention.witness import Seen, observe

FIXED = {torch.float64: 1e-10, torch.float32: 2e-5}
ROUNDING_UNITS = 16
NO_KERNEL = "No available kernel"  # how torch words a refusal under a forced SDPA kernel


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One verdict.

    Attributes:
        name: what was checked; those on the back end that ran begin with `backend`.
        passed: the verdict.
        detail: one sentence for the user: what was found, or why the check does not apply.
        error: scaled error that was found; None where the check is not a number.
        tolerance: what `error` may be.
    """

    name: str
    passed: bool
    detail: str
    error: float | None = None
    tolerance: float | None = None


def scaled_error(found: Tensor, oracle: Tensor) -> float:
    """max|found - oracle| / max|oracle| (or / 1 if the oracle is all zero); infinite if anything is NaN."""
    scale = float(oracle.abs().max())
    error = float((found.double() - oracle.double()).abs().max()) / (scale if scale > 0.0 else 1.0)
    return math.inf if math.isnan(error) else error


def worst_error(found: Sequence[Tensor], oracle: Sequence[Tensor]) -> float:
    """The largest `scaled_error` over pairs of tensors."""
    return max(scaled_error(x, y) for x, y in zip(found, oracle, strict=True))


def tolerance(
    dtype: torch.dtype, plain_error: float, *, factor: float = 2.0, rounding_units: int = ROUNDING_UNITS
) -> float:
    """The scaled error allowed in this dtype, given that of plain math in the same dtype (see the module's rule)."""
    if dtype in FIXED:
        return FIXED[dtype]
    eps = torch.finfo(dtype).eps
    return min(max(factor * plain_error, 4.0 * eps), rounding_units * eps)


def numeric_check(name: str, error: float, allowed: float, what: str) -> Check:
    """A Check that passes when `error` is within `allowed`; `what` names the two things compared."""
    passed = error <= allowed
    relation = "within" if passed else "beyond"
    detail = f"{what}: scaled error {error:.2g}, {relation} {allowed:.2g}"
    return Check(name=name, passed=passed, detail=detail, error=error, tolerance=allowed)


def backend_checks(requested: str, seen: Seen, *, backward: bool) -> tuple[Check, ...]:
    """Whether the back end that ran is the one that was requested, forward and, if asked, backward."""
    observed = {"forward": seen.backends}
    if backward:
        observed["backward"] = seen.backward_backends
    checks = []
    for phase, backends in observed.items():
        ran = " and ".join(sorted(backends)) or "nothing recognisable"
        detail = f"{requested} was requested, {ran} ran {phase} ({', '.join(seen.kernels)})"
        checks.append(Check(name=f"backend: {phase}", passed=backends == {requested}, detail=detail))
    return tuple(checks)


def refused(requested: str, error: RuntimeError) -> Check:
    """The Check for a back end that torch would not run; any other error is raised again."""
    if NO_KERNEL not in str(error):
        raise error
    detail = f"{requested} was requested, but torch has no such kernel for these shapes, dtype, mask or dropout"
    return Check(name="backend: forward", passed=False, detail=detail)


def check_attention(
    backend: str,
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    causal: bool,
    backward: bool,
    dtype: torch.dtype,
    device: torch.device | str,
    length: int = 128,
    seed: int = 0,
) -> tuple[Check, ...]:
    """Check one back end as an operator: numerics forward and backward, and which back end ran.

    Args:
        backend: a value of `t2bench.spec.axes.Backend`.
        heads: query heads; at most two groups of them are computed.
        kv_heads: key/value heads.
        head_dim: features per head.
        causal: check the causal mask instead of none.
        backward: check gradients too.
        dtype: of q, k and v.
        device: where to run.
        length: T = S in tokens.
        seed: of q, k, v and the output's gradient.

    Returns:
        Verdicts: numerics without and (where the back end takes it) with key lengths, then the back end.
    """
    groups = min(2, kv_heads)
    generator = torch.Generator().manual_seed(seed)

    def draw(num_heads: int) -> Tensor:
        x_BHTK = torch.randn(2, num_heads, length, head_dim, generator=generator)
        return x_BHTK.to(device, dtype)

    # Sharper than a fresh model's attention, so that a wrong scale or mask shows.
    q_BHTK, k_BGSK, v_BGSK = 2 * draw(groups * (heads // kv_heads)), draw(groups), draw(groups)
    inputs = (q_BHTK, k_BGSK, v_BGSK)
    cotangent_BHTK = draw(q_BHTK.shape[1])
    masks = {"": Mask(causal=causal)}
    if takes_mask_tensor(backend, torch.device(device).type):
        lengths_B = torch.tensor([length, max(1, length // 2)], device=device)
        masks[" with key lengths"] = Mask(causal=causal, key_lengths_B=lengths_B)

    checks: list[Check] = []
    try:
        with observe() as seen:
            found = {m: _run(backend, inputs, mask, cotangent_BHTK, backward) for m, mask in masks.items()}
    except RuntimeError as error:
        return (refused(backend, error),)
    for label, mask in masks.items():
        exact = _run("reference", [x.double() for x in inputs], mask, cotangent_BHTK.double(), backward)
        plain = _run("plain", inputs, mask, cotangent_BHTK, backward)
        for index, kind in enumerate(("output", "gradients")[: 1 + backward]):
            here, there, naive = (r[:1] if index == 0 else r[1:] for r in (found[label], exact, plain))
            allowed = tolerance(dtype, worst_error(naive, there), factor=2.0 + index)
            name = f"attention {kind}{label}"
            what = f"{backend} against the float64 definition{label}, {kind}"
            checks.append(numeric_check(name, worst_error(here, there), allowed, what))
    return (*checks, *backend_checks(backend, seen, backward=backward))


def _run(
    backend: str, inputs: Sequence[Tensor], mask: Mask, cotangent_BHTK: Tensor, backward: bool
) -> tuple[Tensor, ...]:
    """Output, and gradients of q, k, v if asked."""
    q, k, v = (x.detach().requires_grad_(backward) for x in inputs)
    if backend == "reference":
        o_BHTK = reference.attention(q, k, v, mask)
    elif backend == "plain":
        o_BHTK = _plain(q, k, v, mask)
    else:
        o_BHTK = attend(q, k, v, mask, backend=backend)
    grads = torch.autograd.grad(o_BHTK, (q, k, v), cotangent_BHTK, materialize_grads=True) if backward else ()
    return (o_BHTK.detach(), *grads)


def _plain(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Mask) -> Tensor:
    """The textbook's lines in the dtype given: what low-precision kernels are compared with. Every query sees a key."""
    repeats = q_BHTK.shape[1] // k_BGSK.shape[1]
    k_BHSK, v_BHSK = (x.repeat_interleave(repeats, dim=1) for x in (k_BGSK, v_BGSK))
    scores_BHTS = (q_BHTK @ k_BHSK.transpose(-2, -1)) / q_BHTK.shape[-1] ** 0.5
    if mask.causal:
        future_TS = torch.ones(scores_BHTS.shape[-2:], dtype=torch.bool, device=q_BHTK.device).triu(1)
        scores_BHTS = scores_BHTS.masked_fill(future_TS, -torch.inf)
    if mask.key_lengths_B is not None:
        padded_BS = torch.arange(k_BHSK.shape[2], device=q_BHTK.device) >= mask.key_lengths_B[:, None]
        scores_BHTS = scores_BHTS.masked_fill(padded_BS[:, None, None], -torch.inf)
    o_BHTK: Tensor = scores_BHTS.softmax(dim=-1) @ v_BHSK
    return o_BHTK
