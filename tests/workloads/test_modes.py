"""Ways to run: mixed precision, quantization, compilation; and that their checks can fail."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from t2bench.models import compiled
from t2bench.models.quantize import quantize
from t2bench.runner.passes import approximates, disagreement, same_function
from t2bench.spec.case import DTYPE_BYTES, DTYPES, PARAMETER_BYTES, Case, Unsupported, WorkloadSpec
from t2bench.workloads import generation, truth_modes
from t2bench.workloads.registry import build, model_for

CPU = torch.device("cpu")
Make = Callable[..., Case]


def failed(case: Case) -> list[str]:
    return [check.name for check in truth_modes.check_case(case, device="cpu") if not check.passed]


def test_the_table_of_precisions_is_complete() -> None:
    from t2bench.models.precision import PRECISIONS

    assert set(PRECISIONS) == set(DTYPES) == set(DTYPE_BYTES) == set(PARAMETER_BYTES)
    for name, precision in PRECISIONS.items():
        assert precision.compute.itemsize == DTYPE_BYTES[name]
        assert precision.parameters.itemsize == PARAMETER_BYTES[name]


@pytest.mark.parametrize("name", ["vanilla", "modern", "llama"])
def test_autocast_multiplies_in_16_bits_and_keeps_32(make_case: Make, tokens: Path, name: str) -> None:
    losses = {}
    for dtype in ("fp32", "bf16_autocast"):
        workload = build(make_case(name, dtype=dtype), device=CPU, tokens=tokens)
        losses[dtype] = [float(workload.step(lambda _: None)) for _ in range(3)]
        assert {tensor.dtype for tensor in workload.held[:3]} == {torch.float32}
    assert losses["bf16_autocast"] == pytest.approx(losses["fp32"], rel=0.03)
    assert losses["bf16_autocast"][0] != losses["fp32"][0]


@pytest.mark.parametrize("kind", ["train_step", "forward", "decode"])
def test_autocast_passes_its_checks(make_case: Make, kind: str) -> None:
    assert failed(make_case("llama", kind=kind, dtype="bf16_autocast")) == []


def test_a_case_sets_the_precision_of_products(make_case: Make, tokens: Path) -> None:
    build(make_case("llama", dtype="tf32"), device=CPU, tokens=tokens)
    assert torch.get_float32_matmul_precision() == "high"
    build(make_case("llama"), device=CPU, tokens=tokens)
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("cache", ["on", "static", "off"])
def test_generation_passes_its_checks(make_case: Make, cache: str) -> None:
    assert failed(make_case("vanilla", kind="decode", cache=cache)) == []


def test_generation_from_wrong_keys_does_not(make_case: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(generation.GrowingCache):
        def advance(self, num_new: int) -> None:
            self.length += num_new + 1

    monkeypatch.setattr(generation, "GrowingCache", Forgetful)
    assert failed(make_case("llama", kind="decode")) == ["generation: text 1", "generation: text 2"]


def test_quantization_is_bounded_and_recorded(make_case: Make, tokens: Path) -> None:
    pytest.importorskip("torchao")
    case = make_case("llama", kind="forward", quant="int8wo", width=64, ff=128)
    found = {check.name: check for check in truth_modes.check_case(case, device="cpu")}
    verdict = found["quantization: logits"]
    assert verdict.passed
    assert verdict.error is not None
    assert verdict.error > 1e-3
    model = model_for(case, CPU)
    names = {
        name for name, p in model.named_parameters() if type(p) is not torch.nn.Parameter and "Int8" in type(p).__name__
    }
    assert names
    assert all("table" not in name for name in names)
    assert float(build(case, device=CPU, tokens=tokens).step(lambda _: None)) > 0


def test_a_missing_torchao_is_a_reason(make_case: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(Unsupported, match=r"needs torchao.*install t2bench\[quant\]"):
        quantize(torch.nn.Linear(2, 2), "int8wo")


def test_quantized_losses_may_differ_more(make_case: Make) -> None:
    exact = make_case("llama", kind="forward")
    rounded = replace(exact, variant="int8", model=replace(exact.model, quant="int8wo"))
    assert same_function(exact.model, rounded.model)
    assert approximates(exact.model, rounded.model)
    assert disagreement(rounded, 1.05, exact, 1.0) is None
    assert disagreement(rounded, 1.25, exact, 1.0)
    assert disagreement(exact, 1.05, replace(exact, variant="y"), 1.0)


def test_a_compiled_step_is_the_eager_one(make_case: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    case = make_case("llama", kind="forward", length=8, compile="default", dec_layers=1, attention="math")
    precision = truth_modes.PRECISIONS[case.dtype]
    try:
        checks = truth_modes._compilation(case, precision, "cpu")
    except Exception as error:
        if compiled.without_compiler(error):
            pytest.skip("no C++ compiler here")
        raise
    assert [check.passed for check in checks] == [True]
    seen = compiled.report()
    assert seen.graphs >= 1
    assert seen.compile_s > 0
    assert seen.graph_breaks == 0


def test_no_compiler_is_a_reason() -> None:
    class InvalidCxxCompiler(RuntimeError):
        pass

    error = RuntimeError("backend failed")
    error.__cause__ = InvalidCxxCompiler("No working C++ compiler found")
    reason = compiled.without_compiler(error)
    assert reason is not None
    assert "No working C++ compiler found" in str(reason)
    assert compiled.without_compiler(RuntimeError("other")) is None


def test_labels_tell_workloads_apart() -> None:
    assert WorkloadSpec(kind="decode", new_tokens=5).label == "decode+5"
    assert WorkloadSpec(kind="prefill").label == "prefill"
