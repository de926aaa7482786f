"""Ceilings: plausible by construction, not by the clock."""

import pytest

from t2bench.meters import ceilings
from t2bench.meters.ceilings import measure


def test_rates_follow_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that always says 0.04 s, the first size is enough and the rates are known."""
    monkeypatch.setattr(ceilings, "_time", lambda *_, **__: 0.04)
    monkeypatch.setattr(ceilings, "_COPY_BYTES", {"cpu": 1 << 20})
    found = measure("cpu", "bf16")
    assert found.gemm_size == 256
    assert found.flops_per_s == pytest.approx(2 * 256**3 / 0.04)
    assert found.bytes_per_s == pytest.approx((1 << 20) / 0.04)


def test_sizes_grow_until_the_product_is_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = iter([0.001, 0.01, 0.03, 0.03, 0.1])
    monkeypatch.setattr(ceilings, "_time", lambda *_, **__: next(durations))
    monkeypatch.setattr(ceilings, "_COPY_BYTES", {"cpu": 1 << 20})
    assert measure("cpu", "fp32").gemm_size == 1024


def test_the_real_thing_is_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "_LARGEST_SIZE", {"cpu": 256})
    monkeypatch.setattr(ceilings, "_COPY_BYTES", {"cpu": 1 << 22})
    found = measure("cpu", "fp32")
    assert found.flops_per_s > 0
    assert found.bytes_per_s > 0
