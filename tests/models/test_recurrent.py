"""Recurrent models: layers against torch's cells and the papers' equations in float64, then whole models."""

import itertools
from dataclasses import replace

import pytest
import torch
from recurrent_shapes import KINDS, SHAPES
from torch import Tensor, nn

from t2bench.attention.witness import observe
from t2bench.meters.counters import count
from t2bench.models import bahdanau, recurrent_reference, truth
from t2bench.models.bahdanau import AdditiveLayer
from t2bench.models.cell import CELLS, TORCH_CELLS
from t2bench.models.cellstack import CellStack
from t2bench.models.init import logical_parameters
from t2bench.models.recurrent import Recurrent, RecurrentCache
from t2bench.models.transformer import build
from t2bench.spec.model import ModelSpec

EVERY = list(itertools.product(KINDS, SHAPES))
B, T, S, V = 3, 6, 8, 40
TORCH_CELL = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


def spec(kind: str, shape: str, **changes: object) -> ModelSpec:
    sizes = {"width": 16, "heads": 4, "ff": 12, "enc_layers": 2, "dec_layers": 3, "vocab": V}
    return ModelSpec(recurrence=kind, **{**sizes, **SHAPES[shape], **changes})


def random_weights(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for tensor in logical_parameters(model).values():
        tensor.copy_(0.4 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
    return model.eval()


def model_of(kind: str, shape: str, **changes: object) -> Recurrent:
    return random_weights(build(spec(kind, shape, **changes), dtype=torch.float64))


def batch(shape: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    found = {"tokens_BT": torch.randint(0, V, (B, T), generator=generator)}
    if shape in ("additive", "dot", "state"):
        found["source_BS"] = torch.randint(0, V, (B, S), generator=generator)
    return found


def close(x: Tensor, y: Tensor) -> bool:
    return torch.allclose(x, y, rtol=1e-9, atol=1e-10)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


# Layers


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_step_is_that_of_torchs_cell(kind: str) -> None:
    torch.manual_seed(0)
    cell = TORCH_CELL[kind](5, 4, dtype=torch.float64)
    state = tuple(draw(1, 4) for _ in range(2 if kind == "lstm" else 1))
    y = draw(1, 5)
    gates = {"rnn": "h", "gru": "rzn", "lstm": "ifgo"}[kind]
    x = dict(zip(gates, (y @ cell.weight_ih.T + cell.bias_ih)[0].split(4), strict=True))
    s = dict(zip(gates, (state[0] @ cell.weight_hh.T + cell.bias_hh)[0].split(4), strict=True))
    found = recurrent_reference.step(kind, x, s, tuple(part[0] for part in state))
    expected = cell(y, state if kind == "lstm" else state[0])
    assert close(found[0], (expected[0] if kind == "lstm" else expected)[0])
    if kind == "lstm":
        assert close(found[1], expected[1][0])


def additive_layer(kind: str) -> AdditiveLayer:
    torch.manual_seed(0)
    layer = AdditiveLayer(kind, num_in=5, hidden=4, source=6, alignment=7).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


def by_the_paper(layer: AdditiveLayer, kind: str, y_BTD: Tensor, source_BSE: Tensor, padding_BS: Tensor, start):
    """Appendix A.1.2 with torch's cell, whose input is the embedding beside the context."""
    state, size = layer.project["state"], 4
    order = [layer.cell.gates.index(gate) for gate in {"rnn": "h", "gru": "rzn", "lstm": "ifgo"}[kind]]
    rows = torch.cat([torch.arange(size) + size * index for index in order])
    cell = TORCH_CELL[kind](5 + 6, size, dtype=torch.float64)
    given = {
        "weight_ih": torch.cat([layer.project["input"].weight[rows], layer.project["context"].weight[rows]], dim=1),
        "bias_ih": layer.project["input"].bias[rows],
        "weight_hh": state.weight[7:][rows],
        "bias_hh": state.bias[7:][rows],
    }
    states, contexts, now = [], [], start if kind == "lstm" else start[0]
    for y_BD in y_BTD.unbind(1):
        hidden = now[0] if kind == "lstm" else now
        query_BN = hidden @ state.weight[:7].T + state.bias[:7]
        z_BSN = query_BN[:, None] + source_BSE @ layer.key.weight.T
        e_BS = (torch.tanh(z_BSN) * layer.energy.weight[0]).sum(-1).masked_fill(padding_BS, -torch.inf)
        c_BE = (e_BS.softmax(-1)[..., None] * source_BSE).sum(1)
        now = torch.func.functional_call(cell, given, (torch.cat([y_BD, c_BE], dim=1), now))
        states.append(now[0] if kind == "lstm" else now)
        contexts.append(c_BE)
    return torch.stack(states, 1), torch.stack(contexts, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_additive_layer_is_the_paper_s_loop_with_its_gradients(kind: str) -> None:
    layer = additive_layer(kind)
    y_BTD, source_BSE = draw(B, T, 5).requires_grad_(), draw(B, S, 6).requires_grad_()
    start = tuple(draw(B, 4).requires_grad_() for _ in range(2 if kind == "lstm" else 1))
    padding_BS = torch.arange(S) >= torch.tensor([S, 3, 1])[:, None]
    inputs = [y_BTD, source_BSE, *start, *layer.parameters()]

    found = layer(y_BTD, layer.key(source_BSE), source_BSE, padding_BS, start)[:2]
    expected = by_the_paper(layer, kind, y_BTD, source_BSE, padding_BS, start)
    cotangents = [draw(*x.shape) for x in expected]
    gradients = torch.autograd.grad(found, inputs, cotangents)
    for mine, theirs in zip(found, expected, strict=True):
        assert close(mine, theirs)
    for mine, theirs in zip(gradients, torch.autograd.grad(expected, inputs, cotangents), strict=True):
        assert close(mine, theirs)
        assert theirs.abs().max() > 1e-3


def test_the_additive_layer_keeps_no_activations_of_the_scores() -> None:
    """What it saves for T steps over S states grows by T S numbers, not by T S N."""
    layer = AdditiveLayer("lstm", num_in=5, hidden=4, source=6, alignment=64).float()

    def saved(length: int) -> int:
        y_BTD, source_BSE = torch.randn(1, length, 5), torch.randn(1, length, 6)
        start = (torch.zeros(1, 4), torch.zeros(1, 4))
        kept = []
        step = count(lambda: kept.append(layer(y_BTD, layer.key(source_BSE), source_BSE, None, start)), held=())
        return step.saved_bytes

    sizes = [saved(length) for length in (32, 64, 128)]
    quadratic = (sizes[2] - 2 * sizes[1]) - (sizes[1] - 2 * sizes[0])
    assert quadratic == pytest.approx(4 * (128**2 - 2 * 64**2 - 64**2 + 2 * 32**2), rel=0.05)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", ["rnn", "gru"])
def test_our_loop_is_that_of_torch_with_its_gradients(kind: str, both: bool) -> None:
    torch.manual_seed(0)
    stack = CellStack(spec(kind, "decoder"), num_in=5, num_layers=2, both_directions=both).double()
    x_BTI = draw(B, T, 5).requires_grad_()
    size = 6 if both else 12
    start = [(draw(B, size).requires_grad_(),) for _ in range(4 if both else 2)]
    inputs = [x_BTI, *(state for (state,) in start), *stack.parameters()]
    states_BTH, last = stack(x_BTI, start)
    expected_BTH, expected_last = stack.cells(x_BTI, torch.stack([state for (state,) in start]))
    assert close(states_BTH, expected_BTH)
    assert close(torch.stack([state for (state,) in last]), expected_last)
    cotangents = [draw(*expected_BTH.shape), draw(*expected_last.shape)]
    mine = torch.autograd.grad((states_BTH, torch.stack([state for (state,) in last])), inputs, cotangents)
    for x, y in zip(mine, torch.autograd.grad((expected_BTH, expected_last), inputs, cotangents), strict=True):
        assert close(x, y)


# Models


@pytest.mark.parametrize(("kind", "shape"), EVERY)
def test_a_model_is_its_definition_with_and_without_padding(kind: str, shape: str) -> None:
    model, inputs = model_of(kind, shape), batch(shape)
    oracle = build(model.spec, dtype=torch.float64).eval()
    oracle.load_state_dict(model.state_dict())
    recurrent_reference.by_definition(oracle)
    side = "source_lengths_B" if "source_BS" in inputs else "lengths_B"
    with torch.no_grad():
        assert close(model(**inputs), oracle(**inputs))
        lengths_B = torch.tensor([S if "source_BS" in inputs else T, 4, 1])
        padded, expected = (m(**inputs, **{side: lengths_B}) for m in (model, oracle))
    for row, length in enumerate(lengths_B.tolist()):
        valid = slice(None) if "source_BS" in inputs else slice(length)
        assert close(padded[row, valid], expected[row, valid])


@pytest.mark.parametrize(("kind", "shape"), [pair for pair in EVERY if pair[1] != "encoder"])
def test_a_cached_model_says_the_same_token_by_token(kind: str, shape: str) -> None:
    model, inputs = model_of(kind, shape), batch(shape)
    tokens_BT, source_BS = inputs["tokens_BT"], inputs.get("source_BS")
    cache, found = RecurrentCache(), []
    with torch.no_grad():
        for piece in (tokens_BT[:, :2], tokens_BT[:, 2:3], tokens_BT[:, 3:]):
            found.append(model(piece, source_BS=source_BS if cache.length == 0 else None, cache=cache))
        assert close(torch.cat(found, dim=1), model(**inputs))
        if source_BS is not None:
            assert close(model(tokens_BT, source_BS=model.encode(source_BS)), model(**inputs))
    assert cache.length == T


@pytest.mark.parametrize(("kind", "shape"), EVERY)
def test_every_parameter_has_a_gradient_and_rows_do_not_meet(kind: str, shape: str) -> None:
    model, inputs = model_of(kind, shape), batch(shape)
    model.loss(model.hidden(**inputs), inputs["tokens_BT"]).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    with torch.no_grad():
        alone = model(**{name: x[1:2] for name, x in inputs.items()})
        assert close(alone[0], model(**inputs)[1])


@pytest.mark.parametrize("shape", ["additive", "state"])
def test_the_source_is_heard_to_its_ends_and_in_order(shape: str) -> None:
    model, inputs = model_of("gru", shape), batch(shape)
    with torch.no_grad():
        before = model(**inputs)
        for at in (0, S - 1):
            changed = inputs["source_BS"].clone()
            changed[:, at] = (changed[:, at] + 1) % V
            assert ((model(inputs["tokens_BT"], source_BS=changed) - before).abs().amax(dim=(0, 2)) > 1e-9).all()
        assert not close(model(inputs["tokens_BT"], source_BS=inputs["source_BS"].flip(1)), before)


def test_the_source_of_a_state_bridge_is_read_backwards_and_padding_last() -> None:
    model, source_BS = model_of("lstm", "state"), batch("state")["source_BS"]
    with torch.no_grad():
        x_BSD = model.table_VD[source_BS[1:2, :4].flip(1)] * 4.0
        _, expected = model.encoder(x_BSD)
        found = model.encode(source_BS, torch.tensor([S, 4, 1])).start
    for mine, theirs in zip(found, expected, strict=True):
        assert all(close(x[1:2], y) for x, y in zip(mine, theirs, strict=True))


def test_dropout_is_on_in_training_only() -> None:
    for shape in SHAPES:
        model, inputs = model_of("gru", shape, dropout=0.3), batch(shape)
        with torch.no_grad():
            assert torch.equal(model(**inputs), model(**inputs))
            model.train()
            assert not torch.allclose(model(**inputs), model(**inputs))


def test_gates_have_names_and_forget_gates_begin_open() -> None:
    for shape, layer in (("decoder", "decoder.cells.l0"), ("additive", "bottom")):
        named = logical_parameters(build(spec("lstm", shape)))
        for gate in "ifgo":
            assert named[f"{layer}.input_{gate}.weight"].shape == (12, 16)
            assert named[f"{layer}.recurrent_{gate}.weight"].shape == (12, 12)
            assert (named[f"{layer}.input_{gate}.bias"] == (1.0 if gate == "f" else 0.0)).all()
            assert (named[f"{layer}.recurrent_{gate}.bias"] == 0.0).all()
    both = build(spec("lstm", "additive"), seed=3)
    assert "encoder.cells.l1_reverse.recurrent_o.weight" in logical_parameters(both)
    cells = both.encoder.cells
    assert torch.equal(cells.bias_ih_l1_reverse, torch.tensor([0.0] * 6 + [1.0] * 6 + [0.0] * 12))


def test_wrong_calls_are_refused() -> None:
    model, inputs = model_of("rnn", "state"), batch("state")
    with pytest.raises(ValueError, match="needs source_BS"):
        model(inputs["tokens_BT"])
    with pytest.raises(ValueError, match="takes no source_BS"):
        model_of("rnn", "decoder")(**inputs)
    with pytest.raises(ValueError, match="cache is for decoding"):
        model_of("rnn", "encoder")(inputs["tokens_BT"], cache=RecurrentCache())
    with pytest.raises(ValueError, match="must be even"):
        spec("rnn", "encoder", ff=7)


# What a run checks and observes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "shape"), EVERY)
def test_the_truth_check_passes(kind: str, shape: str, dtype: torch.dtype) -> None:
    checks = truth.check(spec(kind, shape, ff=24), device="cpu", dtype=dtype, seed=0, length=16)
    assert [f"{c.name}: {c.detail}" for c in checks if not c.passed] == []
    assert checks[0].tolerance is not None


class _Broken(type(CELLS["lstm"])):
    """An LSTM without its forget gate."""

    def step(self, gates, s, states, t):
        super().step(gates, s, states, t)
        states.memory[t + 1].add_(0.01 * states.memory[t])


def test_the_truth_check_fails_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(shape: str, kind: str = "lstm") -> list[str]:
        checks = truth.check(spec(kind, shape, ff=24), device="cpu", dtype=torch.float32, seed=0, length=16)
        return [check.name for check in checks if not check.passed]

    with monkeypatch.context() as patch:
        patch.setitem(bahdanau.CELLS, "lstm", _Broken())
        assert "numerics: logits" in failed("additive")
    with monkeypatch.context() as patch:
        gru = type(CELLS["gru"])
        right = gru.step_back

        def wrong(self, *given):
            result = right(self, *given)
            given[5].hidden_BH = None  # the way around s is lost
            return result

        patch.setattr(gru, "step_back", wrong)
        assert failed("decoder", "gru") == ["numerics: gradients"]
    with monkeypatch.context() as patch:
        patch.setattr("t2bench.models.recurrent._reversed", lambda source_BS, lengths_B: source_BS.flip(1))
        assert "padding: ignored" in failed("state")
    with monkeypatch.context() as patch:
        patch.setitem(TORCH_CELLS, "rnn", lambda *a, **k: nn.RNN(*a, **k, nonlinearity="relu"))
        patch.setattr(CellStack, "_own_loops", _torch)
        assert "numerics: logits" in failed("decoder", "rnn")


def _torch(stack: CellStack, x_BTI: Tensor, start):
    states_BTH, last = stack.cells(x_BTI, torch.stack([state for (state,) in start]))
    return states_BTH, [(state,) for state in last.unbind(0)]


@pytest.mark.parametrize(("kind", "shape"), EVERY)
def test_attention_is_seen_where_there_is_some(kind: str, shape: str) -> None:
    model, inputs = build(spec(kind, shape)), batch(shape)
    with observe() as seen:
        model.loss(model.hidden(**inputs), inputs["tokens_BT"]).backward()
    expected = {"math"} if shape in ("additive", "dot") else set()
    assert seen.backends == seen.backward_backends == expected
    assert model.spec.attends == bool(expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "shape"), EVERY)
def test_the_truth_check_passes_on_cuda(kind: str, shape: str, dtype: torch.dtype) -> None:
    checks = truth.check(replace(spec(kind, shape), ff=64), device="cuda", dtype=dtype, seed=0, length=16)
    assert [f"{c.name}: {c.detail}" for c in checks if not c.passed] == []
