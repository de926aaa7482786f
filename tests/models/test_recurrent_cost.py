"""What recurrent models cost: formulas against instances and counters, equal sizes, refusals."""

import itertools

import pytest
import torch
from recurrent_shapes import KINDS, SHAPES
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from t2bench.meters.counters import Counts, count
from t2bench.models.transformer import build
from t2bench.spec import cost
from t2bench.spec.case import Case, WorkloadSpec
from t2bench.spec.model import ModelSpec
from t2bench.spec.presets import preset_chain, resolve
from t2bench.spec.refusals import refusal

PRESETS = ("rnn", "gru", "lstm", "lstm_bahdanau", "lstm_luong")
LAYERS = [(1, 1, "all"), (2, 3, "decoder"), (3, 2, "none")]
B, L = 3, 11
FORWARD, TRAIN = WorkloadSpec(kind="forward"), WorkloadSpec(kind="train_step")


def spec(kind: str, shape: str, enc: int = 2, dec: int = 2, tie: str = "all", **changes: object) -> ModelSpec:
    sizes = {"width": 16, "heads": 4, "ff": 24, "enc_layers": enc, "dec_layers": dec, "tie": tie, "vocab": 40}
    return ModelSpec(recurrence=kind, **{**sizes, **SHAPES[shape], **changes})


def counted(model_spec: ModelSpec, *, trains: bool, length: int = L) -> Counts:
    model = build(model_spec)
    tokens_BT = torch.zeros(B, length, dtype=torch.long)
    source_BS = tokens_BT if model_spec.arch == "encdec" else None

    def step() -> None:
        if trains:
            model.loss(model.hidden(tokens_BT, source_BS=source_BS), tokens_BT).backward()
        else:
            with torch.inference_mode():
                model(tokens_BT, source_BS=source_BS)

    return count(step, held=list(model.parameters()))


@pytest.mark.parametrize(("kind", "shape", "layers"), list(itertools.product(KINDS, SHAPES, LAYERS)))
def test_parameters_and_flops_are_those_of_the_model(kind: str, shape: str, layers: tuple[int, int, str]) -> None:
    model_spec = spec(kind, shape, *layers, loss="chunked", vocab_multiple=16)
    built = build(model_spec, device="meta")
    assert cost.num_params(model_spec).total == sum(parameter.numel() for parameter in built.parameters())
    for workload in (FORWARD, TRAIN):
        found = counted(model_spec, trains=workload.trains)
        assert found.uncounted == ()
        assert found.executed_flops == cost.executed_flops(model_spec, workload, B, L)


@pytest.mark.parametrize("shape", SHAPES)
def test_model_flops_train_at_three_times_forward(shape: str) -> None:
    model_spec = spec("gru", shape)
    assert cost.model_flops(model_spec, TRAIN, B, L) == 3 * cost.model_flops(model_spec, FORWARD, B, L)
    assert cost.executed_flops(model_spec, FORWARD, B, L) == cost.model_flops(model_spec, FORWARD, B, L)


def test_a_tiny_lstm_by_hand() -> None:
    tiny = spec("lstm", "decoder", dec=1, width=4, ff=6, vocab=10, heads=2)
    assert cost.num_params(tiny).recurrent == 4 * 6 * (4 + 6) + 2 * 4 * 6
    assert cost.num_params(tiny).total == 10 * 4 + 288 + 6 * 4 + 4
    assert cost.model_flops(tiny, FORWARD, 1, 1) == 2 * (4 * 6 * (4 + 6) + 6 * 4 + 4 * 10)


def test_generation_reads_everything_and_scores_what_is_new() -> None:
    decoder, both = spec("lstm", "decoder"), spec("lstm", "state")
    decode, prefill = WorkloadSpec(kind="decode", new_tokens=5), WorkloadSpec(kind="prefill")
    logits = 2 * B * 16 * 40
    per_token = (cost.model_flops(decoder, FORWARD, B, L) - L * logits) // L
    assert cost.model_flops(decoder, prefill, B, L) == L * per_token + logits
    assert cost.model_flops(decoder, decode, B, L) == (L + 4) * per_token + 5 * logits
    difference = cost.model_flops(both, decode, B, L) - cost.model_flops(both, prefill, B, L)
    assert difference == 4 * (per_token + logits)


def test_states_do_not_grow_with_what_is_decoded() -> None:
    for kind, states in (("rnn", 1), ("gru", 1), ("lstm", 2)):
        for length in (1, 1000):
            assert cost.kv_bytes(spec(kind, "state"), length, "fp32") == 2 * states * 24 * 4
            assert cost.kv_bytes(spec(kind, "dot"), length, "bf16") == (2 * states * 24 + 24 * length) * 2
            assert cost.kv_bytes(spec(kind, "additive"), length, "bf16") == (2 * states * 24 + 40 * length) * 2


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"width": 128, "heads": 8, "ff": 512, "enc_layers": 2, "dec_layers": 2, "vocab": 4000},
        {"width": 128, "heads": 8, "ff": 512, "enc_layers": 2, "dec_layers": 2, "vocab": 2048},
        {"width": 256, "heads": 4, "ff": 1024, "enc_layers": 3, "dec_layers": 3, "vocab": 8000},
    ],
)
def test_presets_have_the_parameters_of_vanilla(name: str, shape: dict[str, int]) -> None:
    mine, vanilla = (cost.num_params(resolve(preset_chain(each), shared=shape).model) for each in (name, "vanilla"))
    assert mine.total == pytest.approx(vanilla.total, rel=0.05)
    assert mine.total - mine.embedding == pytest.approx(vanilla.total - vanilla.embedding, rel=0.06)


# Counters


@pytest.mark.parametrize(("kind", "shape"), list(itertools.product(KINDS, SHAPES)))
def test_fake_tensors_give_the_same_counts(kind: str, shape: str) -> None:
    model_spec = spec(kind, shape, width=32, ff=48)
    for trains in (False, True):
        real = counted(model_spec, trains=trains, length=40)
        with FakeTensorMode():
            fake = counted(model_spec, trains=trains, length=40)
        assert fake.executed_flops == real.executed_flops
        # oneDNN's workspace of an LSTM has pages and paddings of its own.
        rel = 0.1 if kind == "lstm" and trains else 0.0
        for name in ("saved_bytes", "peak_bytes", "bytes_touched"):
            assert getattr(fake, name) == pytest.approx(getattr(real, name), rel=rel), name


def test_long_sequences_are_predicted_without_running_their_steps() -> None:
    with FakeTensorMode():
        for kind in KINDS:
            short, long = (counted(spec(kind, "additive"), trains=True, length=length).ops for length in (8, 4096))
            assert abs(long - short) < 0.1 * short


def test_onednn_s_workspace_is_counted_as_it_is() -> None:
    """Within 5 % of the real one, where its pages do not matter."""
    for num_in, hidden in ((128, 168), (128, 84), (16, 200)):
        for dtype in (torch.float32, torch.bfloat16):

            def saved(num_in: int = num_in, hidden: int = hidden, dtype: torch.dtype = dtype) -> int:
                layer = nn.LSTM(num_in, hidden, dtype=dtype)
                kept = []
                x_TBI = torch.zeros(100, 8, num_in, dtype=dtype)
                return count(lambda: kept.append(layer(x_TBI)), held=list(layer.parameters())).saved_bytes

            real = saved()
            with FakeTensorMode():
                assert saved() == pytest.approx(real, rel=0.05)


# Refusals


def case(workload: str = "train_step", **model: object) -> Case:
    return Case(
        variant="x", model=spec("lstm", "additive", **model), workload=WorkloadSpec(kind=workload), length=8, batch=2,
        dtype="fp32", device="cpu",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attention": "sdpa_flash"}, "no back ends; use attention: math"),
        ({"projections": "fused_qkv"}, "use projections: separate"),
        ({"padding": "packed"}, "use padding: mask"),
        ({"compile": "default"}, "use compile: off"),
        ({"checkpoint": "full"}, "use checkpoint: off"),
        ({"cache": "static", "workload": "decode"}, "use cache: on"),
        ({"workload": "attention"}, "use forward or train_step"),
    ],
)
def test_what_a_recurrent_model_has_not_is_refused(change: dict[str, object], words: str) -> None:
    assert words in str(refusal(case(**change)))


def test_the_rest_is_not_refused() -> None:
    for workload in ("train_step", "forward", "prefill", "decode"):
        assert refusal(case(workload)) is None
    assert refusal(case(loss="chunked")) is None
    assert refusal(case("decode", cache="off")) is None
