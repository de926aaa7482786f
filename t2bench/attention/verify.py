"""Is an attention back end right? Operator-level checks against the float64 oracle, made before anything is timed.

The rule for errors, here and in `t2bench.models.truth`. With e = max|x - oracle| / max|oracle|:

    float32 and wider   e <= 2e-5 (float64: 1e-10), or 2 x the e of plain math in the same dtype (3 x for gradients)
                        where that is more: a softmax turns the rounding of scores of size z into an error of z units,
                        so that scores which nothing scales down have more of it; never more than ten times as much
    bfloat16, float16   e <= 2 x the e of plain math in the same dtype, the rule of flash-attention's own tests; but
                        never more than a fixed number of units of rounding, so that two wrongs do not make a right;
                        3 x for gradients, as there; four units of
                        rounding are always allowed
    TF32                the same with the units of float16: inputs are float32, but each matrix product rounds its
                        factors to the 10 bits of mantissa that float16 has, and adds up in float32

Shape letters: B batch, T query length, S key length, H query heads, G key/value heads, K head dim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from t2bench.attention import reference
from t2bench.attention.dispatch import attend, takes_mask_tensor
from t2bench.attention.features import Features
from t2bench.attention.mask import Mask
from t2bench.attention.scores import Scores, Unsupported
from t2bench.attention.sdpa import AUTO, KERNELS
from t2bench.attention.witness import COMPILED, Seen, observe

FIXED = {torch.float64: 1e-10, torch.float32: 2e-5}
SHARP = 10.0
ROUNDING_UNITS = 16
MAX_LENGTH = 256  # several blocks of any kernel
NO_KERNEL = "No available kernel"  # how torch words a refusal under a forced SDPA kernel

PLAIN = Features()
Attend = Callable[..., Tensor]


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
        return min(max(factor * plain_error, FIXED[dtype]), SHARP * FIXED[dtype])
    eps = torch.finfo(dtype).eps
    return min(max(factor * plain_error, 4.0 * eps), rounding_units * eps)


def numeric_check(name: str, error: float, allowed: float, what: str) -> Check:
    """A Check that passes when `error` is within `allowed`; `what` names the two things compared."""
    passed = error <= allowed
    relation = "within" if passed else "beyond"
    detail = f"{what}: scaled error {error:.2g}, {relation} {allowed:.2g}"
    return Check(name=name, passed=passed, detail=detail, error=error, tolerance=allowed)


def backend_checks(requested: str, seen: Seen, *, backward: bool) -> tuple[Check, ...]:
    """Whether the back end that ran is the one that was requested, forward and, if asked, backward.

    `sdpa` leaves the choice of a kernel to torch: any of its kernels is right, and the detail says which one ran.
    Compilation makes the same code of the unfused back ends, or none at all that can be told from the rest.
    """
    accepted = {requested}
    if requested == AUTO:
        accepted |= set(KERNELS)
    if requested in ("math", "sdpa_math", AUTO):
        accepted.add(COMPILED)
    observed = {"forward": seen.backends}
    if backward and COMPILED not in seen.backends:
        observed["backward"] = seen.backward_backends
    checks = []
    for phase, backends in observed.items():
        ran = " and ".join(sorted(backends)) or "nothing recognisable"
        detail = f"{requested} was requested, {ran} ran {phase} ({', '.join(seen.kernels)})"
        passed = bool(backends) and backends <= accepted
        checks.append(Check(name=f"backend: {phase}", passed=passed, detail=detail))
    return tuple(checks)


def refused(requested: str, error: Exception) -> Check:
    """The Check for a back end that would not run; any error but a refusal of its is raised again."""
    if NO_KERNEL in str(error):
        detail = f"{requested} was requested, but torch has no such kernel for these shapes, dtype, mask or dropout"
    elif isinstance(error, Unsupported):
        detail = f"{requested} was requested, but {error}"
    else:
        raise error
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
    rounding: torch.dtype | None = None,
    features: Features = PLAIN,
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
        backward: check gradients too: of q, k, v and of the tables of the scores.
        dtype: of q, k and v.
        device: where to run.
        rounding: dtype whose unit of rounding the results have, where it is not `dtype`: float16 for TF32.
        features: pattern, scores and positions within the operator; a wide window is narrowed.
        length: T = S in tokens; at most `MAX_LENGTH` are used, since `t2bench.attention.rows` checks the rest.
        seed: of q, k, v and the output's gradient.

    Returns:
        Verdicts: numerics with each mask that the back end takes (as it is, with key lengths, packed), then the back
        end.
    """
    length = min(length, MAX_LENGTH)
    features = features.within(length)
    groups = min(2, kv_heads)
    generator = torch.Generator().manual_seed(seed)

    def draw(num_heads: int) -> Tensor:
        x_BHTK = torch.randn(2, num_heads, length, head_dim, generator=generator)
        return x_BHTK.to(device, dtype)

    # Sharper than a fresh model's attention, so that a wrong scale or mask shows.
    sharpness = features.sharpness(head_dim)
    q_BHTK, k_BGSK, v_BGSK = sharpness * draw(groups * (heads // kv_heads)), draw(groups), draw(groups)
    cotangent_BHTK = draw(q_BHTK.shape[1])
    tables = features.tables(
        heads=q_BHTK.shape[1], head_dim=head_dim, length=length, causal=causal, generator=generator
    )
    inputs = (q_BHTK, k_BGSK, v_BGSK, *(table.to(device, dtype) for table in tables))
    problem = Problem(features=features, length=length, causal=causal, cotangent_BHTK=cotangent_BHTK)
    masks = _masks(backend, features, length, causal, torch.device(device))

    checks: list[Check] = []
    try:
        with observe() as seen:
            found = {m: problem.run(_named(backend), inputs, mask, backward) for m, mask in masks.items()}
    except (RuntimeError, ValueError) as error:
        return (refused(backend, error),)
    for label, mask in masks.items():
        exact = problem.run(reference.attention, [x.double() for x in inputs], mask, backward)
        naive = problem.run(plain, inputs, mask, backward)
        what = f"{backend} against the float64 definition{label}"
        checks += verdicts(found[label], exact, naive, rounding or dtype, name=f"attention {{}}{label}", what=what)
    return (*checks, *backend_checks(backend, seen, backward=backward))


def verdicts(
    found: Sequence[Tensor],
    exact: Sequence[Tensor],
    naive: Sequence[Tensor],
    rounding: torch.dtype,
    *,
    name: str,
    what: str,
) -> list[Check]:
    """One verdict on the output, and one on the gradients if there are any.

    Args:
        found: output and gradients, as the back end computed them.
        exact: the same by the float64 oracle.
        naive: the same by plain math in the back end's dtype, which says what that dtype loses anyhow.
        rounding: dtype whose unit of rounding the results have.
        name: of the checks; `{}` stands for what is compared.
        what: which two things are compared, for the user.
    """
    checks = []
    for index, kind in enumerate(("output", "gradients")[: min(2, len(found))]):
        here, there, rough = (r[:1] if index == 0 else r[1:] for r in (found, exact, naive))
        allowed = tolerance(rounding, worst_error(rough, there), factor=2.0 + index)
        checks.append(numeric_check(name.format(kind), worst_error(here, there), allowed, f"{what}, {kind}"))
    return checks


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One attention operator on inputs of one size.

    Attributes:
        features: what it is.
        length: T = S.
        causal: with the causal mask.
        cotangent_BHTK: gradient of the output, where gradients are wanted.
    """

    features: Features
    length: int
    causal: bool
    cotangent_BHTK: Tensor

    def run(self, function: Attend, inputs: Sequence[Tensor], mask: Mask, backward: bool) -> tuple[Tensor, ...]:
        """Output, and if asked gradients of q, k, v and the tables. A packed mask is given the first sequence only."""
        count = 1 if mask.packed is not None else None

        def attended(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, *tables: Tensor) -> Tensor:
            q_BHTK, k_BGSK, v_BGSK = (x[:count] for x in (q_BHTK, k_BGSK, v_BGSK))
            scores = self.features.scores(q_BHTK, tables, length=self.length, causal=self.causal)
            return function(q_BHTK, k_BGSK, v_BGSK, mask, scores=scores)

        return with_gradients(attended, inputs, self.cotangent_BHTK[:count], backward)


def with_gradients(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], cotangent: Tensor, backward: bool
) -> tuple[Tensor, ...]:
    """Output, and if asked gradients of the inputs, from this gradient of the output."""
    leaves = [x.detach().requires_grad_(backward) for x in inputs]
    out = function(*leaves)
    if not backward:
        return (out.detach(),)
    grads = torch.autograd.grad(out, leaves, cotangent.to(out.dtype), materialize_grads=True)
    return (out.detach(), *grads)


def _named(backend: str) -> Attend:
    return lambda q, k, v, mask, *, scores: attend(q, k, v, mask, backend=backend, scores=scores)


def _masks(backend: str, features: Features, length: int, causal: bool, device: torch.device) -> dict[str, Mask]:
    """The masks to check, by what is added to a check's name."""
    masks = {"": features.mask(batch=2, length=length, causal=causal, device=device)}
    if takes_mask_tensor(backend, device.type):
        lengths_B = torch.tensor([length, max(1, length // 2)], device=device)
        masks[" with key lengths"] = features.mask(
            batch=2, length=length, causal=causal, device=device, key_lengths_B=lengths_B
        )
    if features.padding != "mask":
        masks[f" {features.padding}"] = features.packed_mask(length=length, causal=causal)
    return masks


def plain(q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Mask, *, scores: Scores) -> Tensor:
    """The textbook's lines in the dtype given: what low-precision kernels are compared with."""
    if mask.packed is not None:
        return reference.packed(q_BHTK, k_BGSK, v_BGSK, mask, mask.packed, scores, plain)
    num_queries, num_keys = q_BHTK.shape[2], k_BGSK.shape[2]
    repeats = q_BHTK.shape[1] // k_BGSK.shape[1]
    k_BHSK, v_BHSK = (x.repeat_interleave(repeats, dim=1) for x in (k_BGSK, v_BGSK))
    if scores.additive_HK is None:
        z_BHTS = (q_BHTK @ k_BHSK.transpose(-2, -1)) * scores.factor(q_BHTK.shape[-1])
    else:
        both_BHTSK = torch.tanh(q_BHTK[:, :, :, None] + k_BHSK[:, :, None])
        z_BHTS = (both_BHTSK @ scores.additive_HK[:, None, :, None]).squeeze(-1)
    rows = reference.rows(mask, num_queries, num_keys)
    place_TS = torch.zeros(num_queries, num_keys, dtype=torch.long, device=q_BHTK.device)
    if (relative := scores.relative) is not None:
        distance_TS = torch.arange(num_keys, device=q_BHTK.device) - torch.tensor(rows, device=q_BHTK.device)[:, None]
        place_TS = distance_TS.clamp(-relative.left, relative.right) + relative.left
        values_BHTR = relative.values_BHTR.expand(*(-1, -1, num_queries, -1))
        z_BHTS = z_BHTS + values_BHTR.gather(-1, place_TS.expand(*values_BHTR.shape[:2], -1, -1))
    if scores.softcap is not None:
        z_BHTS = scores.softcap * torch.tanh(z_BHTS / scores.softcap)
    seen_BTS = torch.stack([reference.seen(mask, len(q_BHTK), row, num_keys, q_BHTK.device) for row in rows], dim=1)
    w_BHTS = z_BHTS.masked_fill(~seen_BTS[:, None], -torch.inf).softmax(dim=-1)
    o_BHTK: Tensor = w_BHTS @ v_BHSK
    if scores.value_table_RK is not None:
        o_BHTK = o_BHTK + torch.einsum("bhts,tsk->bhtk", w_BHTS, scores.value_table_RK[place_TS])
    return o_BHTK
