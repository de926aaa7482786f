"""prefill and decode: the tokens that one pass over the whole text would choose; fixed work; predicted and counted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from t2bench.meters.counters import count
from t2bench.models.precision import PRECISIONS
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.cost_decode import cache_bytes
from t2bench.workloads.arrange import arrange
from t2bench.workloads.batches import cut
from t2bench.workloads.generation import Generator
from t2bench.workloads.latency import shared_out
from t2bench.workloads.predict import predict
from t2bench.workloads.registry import build, model_for

CPU = torch.device("cpu")
Make = Callable[..., Case]
NEW = 6


def decoding(make_case: Make, name: str, kind: str = "decode", **changes: object) -> Case:
    return replace(make_case(name, length=12, **changes), workload=WorkloadSpec(kind=kind, new_tokens=NEW))  # type: ignore[arg-type]


def generated(case: Case, tokens: Path) -> tuple[Tensor, Tensor]:
    """Tokens (B, NEW) by the case's own generator, and by one pass over everything for each token."""
    model = model_for(case, CPU).eval()
    (batch,) = arrange(case, cut(tokens, arch=case.model.arch, batch=2, length=12, seed=0, device=CPU, count=1))
    generator = Generator(model, batch=2, length=12, limit=case.last_length, dtype=torch.float32)
    with torch.inference_mode():
        token_B1, _ = generator.first(batch)
        found = [token_B1]
        for _ in range(NEW - 1):
            found.append(generator.next(found[-1])[0])
        text_BT = batch.tokens_BT if batch.source_BS is None else batch.tokens_BT[:, :1]
        for _ in range(NEW):
            logits_BV = model(text_BT, source_BS=batch.source_BS)[:, -1, : case.model.vocab]
            text_BT = torch.cat((text_BT, logits_BV.argmax(-1, keepdim=True)), dim=1)
    return torch.cat(found, dim=1), text_BT[:, -NEW:]


@pytest.mark.parametrize("cache", ["on", "static", "off"])
@pytest.mark.parametrize("name", ["vanilla", "modern", "llama", "gpt2", "t5"])
def test_greedy_tokens_are_those_of_one_pass_over_everything(
    make_case: Make, tokens: Path, name: str, cache: str
) -> None:
    found_BT, expected_BT = generated(decoding(make_case, name, cache=cache), tokens)
    assert torch.equal(found_BT, expected_BT)


def test_recurrent_models_decode_by_their_states(make_case: Make, tokens: Path) -> None:
    found_BT, expected_BT = generated(decoding(make_case, "lstm_bahdanau"), tokens)
    assert torch.equal(found_BT, expected_BT)


def test_padding_rows_of_the_table_are_never_generated(make_case: Make, tokens: Path) -> None:
    case = decoding(make_case, "llama", vocab=1000, vocab_multiple=1024)
    model = model_for(case, CPU).eval()
    with torch.no_grad():
        model.head_VD[1000:] = 100.0 * model.head_VD[:24].sign()
    (batch,) = cut(tokens, arch="decoder", batch=2, length=12, seed=0, device=CPU, count=1)
    generator = Generator(model, batch=2, length=12, limit=17, dtype=torch.float32)
    token_B1, logits_BV = generator.first(batch)
    assert int(logits_BV.argmax(-1).max()) >= 1000
    assert int(token_B1.max()) < 1000


@pytest.mark.parametrize(
    ("kind", "phases", "latencies"),
    [("prefill", ["prefill"], {"ttft_s"}), ("decode", ["prefill", "decode"], {"ttft_s", "tpot_s"})],
)
def test_phases_and_latencies(make_case: Make, tokens: Path, kind: str, phases: list[str], latencies: set[str]) -> None:
    case = decoding(make_case, "vanilla", kind)
    workload = build(case, device=CPU, tokens=tokens)
    seen: list[str] = []
    checksum = workload.step(seen.append)
    assert seen == phases == list(workload.phases)
    assert checksum.ndim == 0
    assert checksum > 0
    assert set(workload.latencies) == latencies
    assert workload.tokens == (2 * NEW if kind == "decode" else 2 * 12)


def test_a_latency_is_its_phase_shared_by_its_tokens() -> None:
    shared = shared_out({"ttft_s": ("prefill", 1), "tpot_s": ("decode", 4)}, {"prefill": 0.5, "decode": 2.0})
    assert shared == {"ttft_s": 0.5, "tpot_s": 0.5}


@pytest.mark.parametrize("cache", ["on", "static", "off"])
@pytest.mark.parametrize("name", ["vanilla", "modern", "t5", "bloom", "transformer_xl"])
def test_predicted_is_counted(make_case: Make, tokens: Path, name: str, cache: str) -> None:
    if name == "transformer_xl" and cache == "off":
        pytest.skip("segment recurrence is decoded with a cache")
    case = decoding(make_case, name, cache=cache, **({"memory": 0} if name == "transformer_xl" else {}))
    workload = build(case, device=CPU, tokens=tokens)
    counts, again = (count(lambda: workload.step(lambda _: None), held=workload.held) for _ in range(2))
    assert counts == again
    metrics = predict(case)
    assert counts.peak_bytes == metrics["tracked_peak_bytes"].value
    assert counts.bytes_touched == metrics["bytes_touched"].value
    assert counts.uncounted == ()
    assert counts.executed_flops == metrics["executed_flops"].value
    assert counts.saved_bytes == 0
    assert ("kv_cache_bytes" in metrics) is (cache != "off")


def test_cache_bytes_are_those_of_the_buffers(make_case: Make) -> None:
    case = decoding(make_case, "modern", cache="static")
    model = model_for(case, CPU)
    generator = Generator(model, batch=2, length=12, limit=case.last_length, dtype=PRECISIONS[case.dtype].compute)
    assert sum(t.nbytes for t in generator.held) - 8 == cache_bytes(case)  # 8: the position


def test_a_cache_computes_less(make_case: Make) -> None:
    flops = {
        cache: predict(decoding(make_case, "llama", cache=cache))["executed_flops"].value or 0
        for cache in ("on", "static", "off")
    }
    assert flops["on"] <= flops["static"] < flops["off"] / 2
