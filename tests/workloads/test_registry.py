"""Workloads: same numbers for same mathematics, same work in every step."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from t2bench.spec.case import Case
from t2bench.workloads.registry import Workload, build
from t2bench.workloads.train_step import adamw

CPU = torch.device("cpu")
Make = Callable[..., Case]


def ignore(phase: str) -> None:
    """Discards marks."""


def losses(case: Case, tokens: Path, steps: int = 3) -> list[float]:
    workload = build(case, device=CPU, tokens=tokens)
    return [float(workload.step(ignore)) for _ in range(steps)]


def test_vanilla_and_flash_train_alike(make_case: Make, tokens: Path) -> None:
    a = losses(make_case("vanilla"), tokens)
    b = losses(make_case("vanilla+flash"), tokens)
    assert a == pytest.approx(b, rel=1e-4)
    assert len(set(a)) == 3  # different batches, and it learns


def test_losses_repeat_exactly_and_move_with_the_seed(make_case: Make, tokens: Path) -> None:
    case = make_case("modern")
    assert losses(case, tokens) == losses(case, tokens)
    assert losses(case, tokens) != losses(make_case("modern", seed=1), tokens)


def test_training_learns(make_case: Make, tokens: Path) -> None:
    """The four batches come round again with a lower loss."""
    case = make_case("gpt2")
    series = losses(case, tokens, steps=24)
    assert all(later < earlier for earlier, later in zip(series[:4], series[-4:], strict=True))


@pytest.mark.parametrize("kind", ["forward", "attention"])
@pytest.mark.parametrize("backward", [False, True])
def test_checksums_of_back_ends_agree(make_case: Make, tokens: Path, kind: str, backward: bool) -> None:
    values = [
        losses(make_case(name, kind=kind, causal=True, backward=backward), tokens, steps=1)[0]
        for name in ("vanilla", "vanilla+flash", "vanilla+sdpa_math")
    ]
    assert values[0] > 0
    assert values == pytest.approx([values[0]] * 3, rel=1e-4)


@pytest.mark.parametrize("backward", [False, True])
def test_the_checksum_sees_the_mask(make_case: Make, tokens: Path, backward: bool) -> None:
    a, b = (
        losses(make_case("vanilla", kind="attention", causal=causal, backward=backward), tokens, steps=1)[0]
        for causal in (False, True)
    )
    assert a != pytest.approx(b, rel=1e-3)


PHASES = {
    ("train_step", False): ["forward", "loss", "backward", "optimizer"],
    ("forward", False): ["forward"],
    ("attention", False): ["forward"],
    ("attention", True): ["forward", "backward"],
}


@pytest.mark.parametrize(("kind", "backward"), PHASES)
@pytest.mark.parametrize("name", ["vanilla", "bert", "llama"])
def test_phases_tokens_and_result(make_case: Make, tokens: Path, kind: str, backward: bool, name: str) -> None:
    case = make_case(name, kind=kind, backward=backward)
    workload: Workload = build(case, device=CPU, tokens=tokens)
    for _ in range(2):
        seen: list[str] = []
        result = workload.step(seen.append)
        assert seen == PHASES[kind, backward] == list(workload.phases)
    assert result.ndim == 0
    assert result.isfinite()
    assert not result.requires_grad
    assert workload.tokens == case.tokens


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_every_dtype_steps(make_case: Make, tokens: Path, dtype: str) -> None:
    values = losses(make_case("vanilla+flash", dtype=dtype), tokens, steps=1)
    assert values == pytest.approx(losses(make_case("vanilla"), tokens, steps=1), rel=0.03)


def test_optimizer_state_is_what_the_first_step_would_have_made() -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Linear(3, 2).to(torch.bfloat16) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    early = adamw(ours)
    late = torch.optim.AdamW(theirs.parameters(), lr=early.param_groups[0]["lr"], fused=True)
    x = torch.randn(4, 3, dtype=torch.bfloat16)
    for model, optimizer in ((ours, early), (theirs, late)):
        for _ in range(2):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, q)
        assert early.state[p].keys() == late.state[q].keys()
        for key, value in late.state[q].items():
            assert torch.equal(early.state[p][key], value)
            assert early.state[p][key].dtype == value.dtype


def test_a_model_needs_text(make_case: Make) -> None:
    with pytest.raises(ValueError, match="needs a token stream"):
        build(make_case("vanilla"), device=CPU, tokens=None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["train_step", "forward", "attention"])
def test_the_gpu_computes_the_same(make_case: Make, tokens: Path, kind: str) -> None:
    case = make_case("vanilla", kind=kind)
    workload = build(case, device=torch.device("cuda"), tokens=tokens)
    value = float(workload.step(ignore))
    if kind != "attention":  # its random input comes from the device's own generator
        assert value == pytest.approx(losses(case, tokens, steps=1)[0], rel=1e-3)
