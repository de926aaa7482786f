"""Positions in the scores against the equations of their papers, one query and key at a time in float64."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from t2bench.models import relative
from t2bench.models.attention import SelfAttention
from t2bench.models.init import logical_parameters
from t2bench.models.stack import Memories
from t2bench.models.transformer import Transformer, build
from t2bench.spec.axes import PatternSpec, PositionSpec
from t2bench.spec.model import ModelSpec

B, T, D, H, K, V = 2, 9, 12, 3, 4, 20
BASE = ModelSpec(
    arch="decoder", width=D, heads=H, ff=8, enc_layers=1, dec_layers=1, vocab=V, norm_place="pre", residual="none",
    embed_scale=False, bias=False, position=PositionSpec(kind="none"),
)  # fmt: skip


def made(spec: ModelSpec) -> Transformer:
    model = build(spec, dtype=torch.float64).eval()
    for name, tensor in logical_parameters(model).items():
        generator = torch.Generator().manual_seed(sum(map(ord, name)))
        tensor.copy_(0.7 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
    return model


def inputs_and_outputs(model: Transformer, **given: Tensor) -> tuple[SelfAttention, Tensor, Tensor]:
    """The first self-attention of a model, what went in and what came out when it read some tokens."""
    stack = model.encoder if model.decoder is None else model.decoder
    attention = stack.layers[0].self_attention
    seen: list[Tensor] = []
    handle = attention.register_forward_hook(lambda module, args, out: seen.extend((args[0], out)))
    tokens_BT = torch.randint(0, V, (B, T), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model(tokens_BT, **given)
    handle.remove()
    return attention, seen[0], seen[1]


def projected(attention: SelfAttention, x_BTD: Tensor) -> dict[str, Tensor]:
    """q, k, v, each (B, T, H, K), by their own matrices."""
    return {name: (x_BTD @ attention.project[name].weight.T).view(*x_BTD.shape[:2], -1, K).detach() for name in "qkv"}


def expected(attention: SelfAttention, x_BTD: Tensor, score, value, *, causal: bool) -> Tensor:  # type: ignore[no-untyped-def]
    """out_t = W_o [sum_s softmax_s(score(b, h, t, s)) value(b, h, t, s)] with Python loops."""
    out = torch.zeros(*x_BTD.shape[:2], H, K, dtype=torch.float64)
    for b in range(x_BTD.shape[0]):
        for h in range(H):
            for t in range(x_BTD.shape[1]):
                keys = range(t + 1) if causal else range(x_BTD.shape[1])
                weights = [math.exp(score(b, h, t, s)) for s in keys]
                for s, weight in zip(keys, weights, strict=True):
                    out[b, t, h] += weight / sum(weights) * value(b, h, t, s)
    return (out.flatten(-2) @ attention.out.weight.T).detach()


def dot(x: Tensor, y: Tensor) -> float:
    return float((x * y).sum())


@pytest.mark.parametrize(
    ("heads", "slopes"),
    [
        (4, [2**-2, 2**-4, 2**-6, 2**-8]),
        # Three heads: the two of H = 2, then the first of H = 4 (Press et al. 2021, code for other numbers).
        (3, [2**-4, 2**-8, 2**-2]),
        (6, [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]),
    ],
)
def test_alibi_slopes(heads: int, slopes: list[float]) -> None:
    assert relative.alibi_slopes(heads).tolist() == slopes


@pytest.mark.parametrize("arch", ["decoder", "encoder"])
def test_alibi(arch: str) -> None:
    model = made(replace(BASE, arch=arch, position=PositionSpec(kind="alibi")))
    attention, x, found = inputs_and_outputs(model)
    p = projected(attention, x)
    slopes = [2**-4, 2**-8, 2**-2]

    def score(b: int, h: int, t: int, s: int) -> float:
        return dot(p["q"][b, t, h], p["k"][b, s, h]) / math.sqrt(K) - slopes[h] * abs(t - s)

    want = expected(attention, x, score, lambda b, h, t, s: p["v"][b, s, h], causal=arch == "decoder")
    assert torch.allclose(found, want, atol=1e-12)


@pytest.mark.parametrize("both_sides", [False, True])
def test_t5_buckets_by_their_description(both_sides: bool) -> None:
    """Half of the buckets for exact distances, the others logarithmic up to max_distance (Raffel et al. 2020, 2.1)."""
    position = PositionSpec(kind="t5_bias", buckets=16, max_distance=60)
    distances = torch.arange(-100, 101)
    found = dict(zip(distances.tolist(), relative.t5_buckets(distances, position, both_sides=both_sides), strict=True))
    count = 8 if both_sides else 16
    for distance, bucket in found.items():
        ahead, size = (distance > 0, abs(distance)) if both_sides else (False, max(0, -distance))
        exact = count // 2
        want = size
        if size >= exact:
            want = exact + int((count - exact) * math.log(size / exact) / math.log(60 / exact) + 1e-6)
        assert bucket == min(want, count - 1) + (count if ahead else 0), distance
    assert len(set(map(int, found.values()))) == 16 if not both_sides else 15  # distance 0 ahead does not exist


@pytest.mark.parametrize("arch", ["decoder", "encoder"])
def test_t5_bias(arch: str) -> None:
    position = PositionSpec(kind="t5_bias", buckets=4, max_distance=5)
    model = made(replace(BASE, arch=arch, score="dot", position=position))
    attention, x, found = inputs_and_outputs(model)
    p = projected(attention, x)
    stack = model.encoder if model.decoder is None else model.decoder
    table = stack.bias.table_NH.detach()
    # 4 buckets by hand. Causal: 0, 1 exact, 2 .. 3 and 4 .. logarithmic. Both sides: 0 and 1 .., and so ahead.
    behind = {0: 0, 1: 1, 2: 2, 3: 2} if arch == "decoder" else {0: 0}

    def bucket(distance: int) -> int:
        if arch == "decoder":
            return behind.get(-distance, 3)
        return (2 if distance > 0 else 0) + (1 if distance else 0)

    def score(b: int, h: int, t: int, s: int) -> float:
        return dot(p["q"][b, t, h], p["k"][b, s, h]) + float(table[bucket(s - t), h])

    want = expected(attention, x, score, lambda b, h, t, s: p["v"][b, s, h], causal=arch == "decoder")
    assert torch.allclose(found, want, atol=1e-12)


def test_one_t5_table_for_all_layers_of_a_stack() -> None:
    spec = replace(BASE, arch="encdec", enc_layers=3, dec_layers=3, position=PositionSpec(kind="t5_bias"))
    names = [name for name in logical_parameters(build(spec)) if "table_NH" in name]
    assert names == ["decoder.bias.table_NH", "encoder.bias.table_NH"]


@pytest.mark.parametrize("arch", ["decoder", "encoder"])
def test_shaw(arch: str) -> None:
    """e_ts = q_t (k_s + a^K) / sqrt(K), z_t = sum_s w_ts (v_s + a^V) (Shaw et al. 2018, eq. 3 and 4)."""
    model = made(replace(BASE, arch=arch, position=PositionSpec(kind="shaw", max_distance=3)))
    attention, x, found = inputs_and_outputs(model)
    p = projected(attention, x)
    a_k, a_v = (tensor.detach() for tensor in (attention.shaw.key_RK, attention.shaw.value_RK))
    assert a_k.shape == a_v.shape == ((4, K) if arch == "decoder" else (7, K))

    def row(t: int, s: int) -> int:
        return max(-3, min(3, s - t)) + 3

    def score(b: int, h: int, t: int, s: int) -> float:
        return dot(p["q"][b, t, h], p["k"][b, s, h] + a_k[row(t, s)]) / math.sqrt(K)

    want = expected(attention, x, score, lambda b, h, t, s: p["v"][b, s, h] + a_v[row(t, s)], causal=arch == "decoder")
    assert torch.allclose(found, want, atol=1e-12)


@pytest.mark.parametrize("layout", ["halves", "interleaved"])
def test_txl(layout: str) -> None:
    """(q + u) k + (q + v) W_r R_{t-s} (Dai et al. 2019, section 3.3)."""
    model = made(replace(BASE, position=PositionSpec(kind="txl", layout=layout)))
    attention, x, found = inputs_and_outputs(model)
    p = projected(attention, x)
    u, v, w_r = (tensor.detach() for tensor in (attention.txl.u_HK, attention.txl.v_HK, attention.txl.r.weight))

    def sinusoid(distance: int) -> Tensor:
        angles = [distance / 10000 ** (2 * i / D) for i in range(D // 2)]
        if layout == "halves":
            return torch.tensor([*map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)
        return torch.tensor([f(a) for a in angles for f in (math.sin, math.cos)], dtype=torch.float64)

    r = {distance: (w_r @ sinusoid(distance)).view(H, K) for distance in range(T)}

    def score(b: int, h: int, t: int, s: int) -> float:
        q = p["q"][b, t, h]
        return (dot(q + u[h], p["k"][b, s, h]) + dot(q + v[h], r[t - s][h])) / math.sqrt(K)

    want = expected(attention, x, score, lambda b, h, t, s: p["v"][b, s, h], causal=True)
    assert torch.allclose(found, want, atol=1e-12)


@pytest.mark.parametrize("cross", [False, True])
def test_additive_scores(cross: bool) -> None:
    """v . tanh(q + k) (Bahdanau et al. 2015, appendix A.1.2), in cross-attention as well."""
    model = made(replace(BASE, arch="encdec" if cross else "encoder", score="additive"))
    if cross:
        layer = model.decoder.layers[0]
        x = torch.randn(B, T, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        source = model.encode(torch.randint(0, V, (B, T)))
        with torch.no_grad():
            found = layer.cross_attention(x, source.states_BSD, source.view.full_mask)
        attention = layer.cross_attention
        p = {**projected(attention, source.states_BSD), "q": projected(attention, x)["q"]}
    else:
        attention, x, found = inputs_and_outputs(model)
        p = projected(attention, x)
    v = attention.score_HK.detach()

    def score(b: int, h: int, t: int, s: int) -> float:
        return dot(v[h], torch.tanh(p["q"][b, t, h] + p["k"][b, s, h]))

    want = expected(attention, x, score, lambda b, h, t, s: p["v"][b, s, h], causal=False)
    assert torch.allclose(found, want, atol=1e-12)


@pytest.mark.parametrize("kind", ["alibi", "t5_bias", "shaw", "txl", "rope"])
def test_cross_attention_knows_no_positions(kind: str) -> None:
    """The source's order is seen only through what the encoder makes of it."""
    arch = "decoder" if kind == "txl" else "encdec"
    spec = replace(BASE, arch=arch, position=PositionSpec(kind=kind))
    if arch == "decoder":
        with pytest.raises(ValueError, match="txl"):
            replace(spec, arch="encdec")
        return
    model = made(spec)
    order = torch.randperm(T, generator=torch.Generator().manual_seed(2))
    cross = model.decoder.layers[0].cross_attention
    x, states = torch.randn(2, B, T, D, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    mask = model.encode(torch.zeros(B, T, dtype=torch.long)).view.full_mask
    with torch.no_grad():
        assert torch.allclose(cross(x, states, mask), cross(x, states[:, order], mask), atol=1e-12)
        assert torch.allclose(cross(x, states, mask)[:, order], cross(x[:, order], states, mask), atol=1e-12)


@pytest.mark.parametrize("kind", ["txl", "rope", "alibi", "t5_bias", "shaw", "none"])
def test_memory_is_the_text_before(kind: str) -> None:
    """With a memory that is long enough, segments give what the whole text gives; a short one forgets."""
    position = PositionSpec(kind=kind, buckets=6, max_distance=8)
    spec = replace(BASE, dec_layers=2, residual="serial", memory=T, position=position)
    tokens_BT = torch.randint(0, V, (B, T), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = made(spec)(tokens_BT)
        for memory, same in ((T, True), (2, False)):
            memories = Memories()
            model = made(replace(spec, memory=memory))
            parts = [model(part, memories=memories) for part in tokens_BT.split([2, 4, 3], dim=1)]
            assert memories.length == min(memory, T)
            assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-10) == same


def test_memory_takes_no_gradient() -> None:
    model = made(replace(BASE, memory=4, position=PositionSpec(kind="txl")))
    memories = Memories()
    tokens_BT = torch.zeros(B, 4, dtype=torch.long)
    model.hidden(tokens_BT, memories=memories)
    assert not any(state.requires_grad for state in memories.states)


def test_arguments_without_use_are_refused() -> None:
    tokens_BT, plain = torch.zeros(1, 3, dtype=torch.long), build(BASE)
    for given in ({"memories": Memories()}, {"prefix_lengths_B": tokens_BT[:, 0]}, {"documents_BT": tokens_BT}):
        with pytest.raises(ValueError, match=next(iter(given))):
            plain(tokens_BT, **given)


@pytest.mark.parametrize("kind", ["alibi", "t5_bias"])
def test_a_prefix_is_seen_from_both_sides(kind: str) -> None:
    """Decoders whose queries look ahead tell distances ahead apart."""
    spec = replace(
        BASE, position=PositionSpec(kind=kind, buckets=6, max_distance=8), pattern=PatternSpec(kind="prefix")
    )
    bias = build(spec).decoder.bias(T, 16, torch.zeros(1, dtype=torch.float64))
    assert bias.right == bias.left == T - 1 if kind == "alibi" else 8
    assert build(replace(spec, pattern=PatternSpec())).decoder.bias(T, 16, torch.zeros(1)).right == 0
