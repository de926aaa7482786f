"""The check at the timed length: right back ends pass, mistakes that only show beyond a block do not."""

import pytest
import torch

from t2bench.attention import rows, verify
from t2bench.attention.dispatch import attend
from t2bench.attention.mask import Mask

CPU = {"heads": 4, "kv_heads": 2, "head_dim": 16, "dtype": torch.float32, "device": "cpu"}


def checks(backend="math", length=300, **changes):
    return rows.check_rows(backend, **{**CPU, "length": length, "causal": True, "backward": True, **changes})


@pytest.mark.parametrize("backend", ["math", "sdpa_math", "sdpa_flash"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 5, 300])
def test_right_back_ends_pass(backend, causal, dtype, length):
    found = checks(backend, length, causal=causal, dtype=dtype)
    assert [check.name for check in found] == ["attention rows: output", "attention rows: gradients"]
    assert all(check.passed for check in found), found


def beyond_a_block(mutate):
    """Attention that goes wrong only for inputs longer than 128."""

    def mutant(q, k, v, mask, **options):
        return mutate(q, k, v, mask) if q.shape[2] > 128 else attend(q, k, v, mask, **options)

    return mutant


MUTANTS = {
    "scale": lambda q, k, v, mask: attend(1.02 * q, k, v, mask, backend="math"),
    "no causal mask": lambda q, k, v, mask: attend(q, k, v, Mask(), backend="math"),
    "mask off by one": lambda q, k, v, mask: attend(q, k.roll(1, 2), v.roll(1, 2), mask, backend="math"),
    "last row missing": lambda q, k, v, mask: torch.nn.functional.pad(
        attend(q[:, :, :-1], k[:, :, :-1], v[:, :, :-1], mask, backend="math"), (0, 0, 0, 1)
    ),
    "values in reverse": lambda q, k, v, mask: attend(q, k, v.flip(2), mask, backend="math"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mistakes_beyond_a_block_are_caught(monkeypatch, name):
    monkeypatch.setattr(rows, "attend", beyond_a_block(MUTANTS[name]))
    assert all(check.passed for check in checks(length=100))
    assert not all(check.passed for check in checks(length=300))


def test_wrong_gradients_are_caught_even_if_the_output_is_right(monkeypatch):
    def mutant(q, k, v, mask, **options):
        return attend(q, k, v.detach() + 0.5 * (v - v.detach()), mask, **options)

    monkeypatch.setattr(rows, "attend", mutant)
    output, gradients = checks()
    assert output.passed
    assert not gradients.passed


def in_tf32(x):
    """Rounded to ten bits of mantissa, as a matrix product in TF32 reads its factors; gradients pass."""
    bits = x.detach().contiguous().view(torch.int32)
    return x + (((bits + 0x1000) & ~0x1FFF).view(torch.float32) - x.detach())


def multiplied_in_tf32(function):
    def rounded(q, k, v, mask, **options):
        return function(in_tf32(q), in_tf32(k), in_tf32(v), mask, **options)

    return rounded


@pytest.mark.parametrize("module", [rows, verify])
def test_tf32_is_judged_by_the_ten_bits_that_its_products_have(monkeypatch, module):
    """Too coarse for float32, right for TF32; and what is wrong stays wrong."""
    check = {
        rows: checks,
        verify: lambda **given: verify.check_attention("math", **CPU, causal=True, backward=True, **given)[:2],
    }[module]
    monkeypatch.setattr(module, "attend", multiplied_in_tf32(attend))
    monkeypatch.setattr(module, "plain", multiplied_in_tf32(module.plain))
    assert not any(found.passed for found in check())
    assert all(found.passed for found in check(rounding=torch.float16))
    wrong = multiplied_in_tf32(lambda q, k, v, mask, **options: attend(1.02 * q, k, v, mask, **options))
    monkeypatch.setattr(module, "attend", wrong)
    assert not any(found.passed for found in check(rounding=torch.float16))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("length", [100, 300])
def test_tf32_passes_on_cuda(length):
    options = {**CPU, "head_dim": 64, "device": "cuda", "causal": True, "backward": True, "length": length}
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        found = [
            *rows.check_rows("math", rounding=torch.float16, **options),
            *verify.check_attention("math", rounding=torch.float16, **options),
        ]
    finally:
        torch.set_float32_matmul_precision(before)
    assert [check.detail for check in found if not check.passed] == []
