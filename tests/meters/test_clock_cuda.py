"""The device clock; needs a GPU."""

import pytest
import torch

from t2bench.meters.clock import CudaClock, Mark

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CYCLES = 20_000_000


def _spin(mark: Mark) -> None:
    torch.cuda._sleep(CYCLES)
    mark("forward")
    torch.cuda._sleep(3 * CYCLES)
    mark("backward")


@pytest.mark.parametrize("cache", ["as_is", "cold"])
def test_phases_share_the_device_time_as_the_cycles_do(cache: str) -> None:
    clock = CudaClock(torch.device("cuda"), cache=cache)  # type: ignore[arg-type]
    clock.turn(_spin, 1, ("forward", "backward"))
    timing = clock.turn(_spin, 3, ("forward", "backward"))
    assert timing.phase_times_s["backward"] / timing.phase_times_s["forward"] == pytest.approx(3.0, rel=0.1)
    assert sum(timing.phase_times_s.values()) == pytest.approx(timing.step_time_s)
    assert timing.issue_s is not None
    assert timing.issue_s < timing.wall_s
    assert timing.wall_s >= 3 * timing.step_time_s


def test_flushing_and_the_head_start_are_not_in_the_step() -> None:
    """Cold or not, a spin of fixed cycles takes the same device time."""
    warm = CudaClock(torch.device("cuda")).turn(_spin, 2, ("forward", "backward"))
    cold = CudaClock(torch.device("cuda"), cache="cold").turn(_spin, 2, ("forward", "backward"))
    assert cold.step_time_s == pytest.approx(warm.step_time_s, rel=0.1)
