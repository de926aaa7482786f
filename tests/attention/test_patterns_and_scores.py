"""Patterns and scores: the float64 definition against loops over the equations, and the back ends against both."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from t2bench.attention import additive, banded, relative
from t2bench.attention.dispatch import attend, mask_form
from t2bench.attention.features import Features
from t2bench.attention.mask import Mask
from t2bench.attention.packed import Packed
from t2bench.attention.scores import RelativeBias, Scores, Unsupported
from t2bench.spec.axes import PatternSpec, PositionSpec

B, H, G, L, K = 2, 4, 2, 9, 8
DOCUMENTS = [[0, 0, 0, 1, 1, 1, 1, 2, 2], [0, 0, 1, 1, 1, 1, 1, 1, 1]]
SDPA = ["sdpa", "sdpa_math", "sdpa_flash"]

Visible = Callable[[int, int, int], bool]  # sequence, position of the query, key


def tensors(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def qkv(queries: int = L, keys: int = L, batch: int = B) -> list[Tensor]:
    return tensors((batch, H, queries, K), (batch, G, keys, K), (batch, G, keys, K))


MASKS: dict[str, tuple[Mask, Visible]] = {
    "full": (Mask(), lambda b, p, s: True),
    "causal": (Mask(causal=True), lambda b, p, s: s <= p),
    "window": (Mask(causal=True, window=3), lambda b, p, s: p - 2 <= s <= p),
    "window of one": (Mask(causal=True, window=1), lambda b, p, s: s == p),
    "both sides": (Mask(window=3, both_sides=True), lambda b, p, s: abs(s - p) < 3),
    "global, causal": (
        Mask(causal=True, window=3, global_tokens=2),
        lambda b, p, s: s <= p and (s > p - 3 or s < 2 or p < 2),
    ),
    "global": (
        Mask(window=2, both_sides=True, global_tokens=2),
        lambda b, p, s: abs(s - p) < 2 or s < 2 or p < 2,
    ),
    "prefix": (
        Mask(causal=True, prefix_lengths_B=torch.tensor([4, 0])),
        lambda b, p, s: s <= p or s < (4, 0)[b],
    ),
    "documents": (Mask(documents_BS=torch.tensor(DOCUMENTS)), lambda b, p, s: DOCUMENTS[b][p] == DOCUMENTS[b][s]),
    "causal documents": (
        Mask(causal=True, documents_BS=torch.tensor(DOCUMENTS)),
        lambda b, p, s: DOCUMENTS[b][p] == DOCUMENTS[b][s] and s <= p,
    ),
    "lengths": (
        Mask(causal=True, window=4, key_lengths_B=torch.tensor([9, 2])),
        lambda b, p, s: p - 4 < s <= p and s < (9, 2)[b],
    ),
}


def looped(
    inputs: list[Tensor], visible: Visible, score: Callable[[Tensor, Tensor, int, int, int], float], extra: Any = None
) -> Tensor:
    """The definition, one query and head at a time. `score` gets q, k, head, distance s - p and the query's number."""
    q, k, v = inputs
    out = torch.zeros_like(q)
    offset = k.shape[2] - q.shape[2]
    for b in range(q.shape[0]):
        for h in range(H):
            for t in range(q.shape[2]):
                p = t + offset
                seen = [s for s in range(k.shape[2]) if visible(b, p, s)]
                z = [score(q[b, h, t], k[b, h * G // H, s], h, s - p, t) for s in seen]
                total = sum(math.exp(x) for x in z)
                for s, x in zip(seen, z, strict=True):
                    value = v[b, h * G // H, s] + (0 if extra is None else extra(s - p))
                    out[b, h, t] += math.exp(x) / total * value
    return out


def dot(q: Tensor, k: Tensor, h: int, distance: int, t: int) -> float:
    return float(q @ k) / math.sqrt(K)


@pytest.mark.parametrize("queries", [L, 4])
@pytest.mark.parametrize("name", MASKS)
def test_every_pattern(name: str, queries: int) -> None:
    mask, visible = MASKS[name]
    inputs = qkv(queries=queries)
    want = looped(inputs, visible, dot)
    for backend in ("reference", "math", *SDPA):
        assert torch.allclose(attend(*inputs, mask, backend=backend), want, atol=1e-11), backend


@pytest.mark.parametrize("name", ["causal", "window", "prefix", "global", "documents"])
def test_queries_at_given_positions(name: str) -> None:
    mask, _ = MASKS[name]
    inputs = qkv()
    chosen_T = torch.tensor([6, 0, 8])
    at = Mask(
        causal=mask.causal, window=mask.window, both_sides=mask.both_sides, global_tokens=mask.global_tokens,
        prefix_lengths_B=mask.prefix_lengths_B, documents_BS=mask.documents_BS, query_positions_T=chosen_T,
    )  # fmt: skip
    table, by_query = scores_of("table")[0], Scores(relative=relative_of(3, 2, L))
    for backend in ("reference", "math", "sdpa_math"):
        for scores in (table, by_query):
            whole = attend(*inputs, mask, backend="reference", scores=scores)
            some = Scores(relative=scores.relative) if scores is table else Scores(relative=picked(scores, chosen_T))
            found = attend(inputs[0][:, :, chosen_T], *inputs[1:], at, backend=backend, scores=some)
            assert torch.allclose(found, whole[:, :, chosen_T], atol=1e-11)


def picked(scores: Scores, chosen_T: Tensor) -> RelativeBias:
    assert scores.relative is not None
    return RelativeBias(values_BHTR=scores.relative.values_BHTR[:, :, chosen_T], left=3, right=2)


def relative_of(left: int, right: int, queries: int, batch: int = B) -> RelativeBias:
    (values_BHTR,) = tensors((batch, H, queries, left + right + 1), seed=3)
    return RelativeBias(values_BHTR=values_BHTR, left=left, right=right)


def scores_of(name: str, queries: int = L) -> tuple[Scores, Callable[..., float], Any]:
    """Scores, their equation, and what is added to a value at a distance."""
    (table_HR, v_HK, a_RK) = tensors((H, 7), (H, K), (6, K), seed=5)
    by_query = relative_of(3, 2, queries, batch=1)
    clip = lambda d, left, right: max(-left, min(right, d)) + left  # noqa: E731
    known: dict[str, tuple[Scores, Callable[..., float], Any]] = {
        "unscaled": (Scores(scale=1.0), lambda q, k, h, d, t: float(q @ k), None),
        "softcap": (Scores(softcap=0.7), lambda q, k, h, d, t: 0.7 * math.tanh(dot(q, k, h, d, t) / 0.7), None),
        "additive": (
            Scores(additive_HK=v_HK),
            lambda q, k, h, d, t: sum(float(v_HK[h, i]) * math.tanh(float(q[i] + k[i])) for i in range(K)),
            None,
        ),
        "table": (
            Scores(relative=RelativeBias(values_BHTR=table_HR[None, :, None], left=4, right=2)),
            lambda q, k, h, d, t: dot(q, k, h, d, t) + float(table_HR[h, clip(d, 4, 2)]),
            None,
        ),
        "capped table": (
            Scores(softcap=0.7, relative=RelativeBias(values_BHTR=table_HR[None, :, None], left=4, right=2)),
            lambda q, k, h, d, t: 0.7 * math.tanh((dot(q, k, h, d, t) + float(table_HR[h, clip(d, 4, 2)])) / 0.7),
            None,
        ),
        "shaw": (
            Scores(relative=by_query, value_table_RK=a_RK),
            lambda q, k, h, d, t: dot(q, k, h, d, t) + float(by_query.values_BHTR[0, h, t, clip(d, 3, 2)]),
            lambda d: a_RK[clip(d, 3, 2)],
        ),
    }
    return known[name]


SCORES = ["unscaled", "softcap", "additive", "table", "capped table", "shaw"]


@pytest.mark.parametrize("queries", [L, 4])
@pytest.mark.parametrize("pattern", ["full", "causal", "both sides", "prefix"])
@pytest.mark.parametrize("name", SCORES)
def test_every_score(name: str, pattern: str, queries: int) -> None:
    mask, visible = MASKS[pattern]
    scores, score, extra = scores_of(name, queries)
    inputs = qkv(queries=queries)
    want = looped(inputs, visible, score, extra)
    for backend in ("reference", "math", *SDPA):
        if backend in SDPA and name not in ("unscaled", "table"):
            with pytest.raises(Unsupported):
                attend(*inputs, mask, backend=backend, scores=scores)
            continue
        assert torch.allclose(attend(*inputs, mask, backend=backend, scores=scores), want, atol=1e-11), backend


def test_alibi_and_transformer_xl_are_relative_biases() -> None:
    inputs = qkv()
    slopes_H = 2.0 ** (-2.0 * torch.arange(1, H + 1, dtype=torch.float64))
    distances = torch.arange(1 - L, 2, dtype=torch.float64)
    alibi = RelativeBias(values_BHTR=(-slopes_H[:, None] * distances.abs())[None, :, None], left=L - 1, right=1)
    (r_HRK,) = tensors((H, L + 1, K), seed=8)
    txl = RelativeBias(values_BHTR=K**-0.5 * inputs[0] @ r_HRK.transpose(-2, -1), left=L - 1, right=1)
    mask, visible = MASKS["causal"]
    by_alibi = looped(inputs, visible, lambda q, k, h, d, t: dot(q, k, h, d, t) - float(slopes_H[h]) * abs(d))
    by_txl = looped(inputs, visible, lambda q, k, h, d, t: float(q @ (k + r_HRK[h, d + L - 1])) / math.sqrt(K))
    for backend in ("reference", "math"):
        assert torch.allclose(attend(*inputs, mask, backend=backend, scores=Scores(relative=alibi)), by_alibi)
        assert torch.allclose(attend(*inputs, mask, backend=backend, scores=Scores(relative=txl)), by_txl)


@pytest.mark.parametrize("pattern", ["full", "causal", "lengths", "prefix"])
@pytest.mark.parametrize("name", SCORES)
def test_gradients_of_everything(name: str, pattern: str) -> None:
    mask, _ = MASKS[pattern]
    scores, _, _ = scores_of(name)
    inputs = [x.requires_grad_() for x in qkv()]
    tables = [x.requires_grad_() for x in scores.tensors]
    weight = tensors((B, H, L, K), seed=9)[0]
    grads = [
        torch.autograd.grad(attend(*inputs, mask, backend=backend, scores=scores), [*inputs, *tables], weight)
        for backend in ("reference", "math")
    ]
    assert len(tables) == {"unscaled": 0, "softcap": 0, "shaw": 2}.get(name, 1)
    for want, found in zip(*grads, strict=True):
        assert torch.allclose(found, want, atol=1e-10)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(banded, "MIN_BLOCK", 4)
    return


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [1, 2, 5, 8, 9])
def test_a_window_in_blocks_is_the_same_window(window: int, causal: bool) -> None:
    length = 43
    inputs = [x.requires_grad_() for x in qkv(length, length)]
    weight = tensors(tuple(inputs[0].shape), seed=9)[0]
    table = RelativeBias(values_BHTR=tensors((1, H, 1, 11), seed=2)[0], left=5, right=5)
    for lengths_B in (None, torch.tensor([43, 11])):
        mask = Mask(causal=causal, both_sides=not causal, window=window, key_lengths_B=lengths_B)
        for scores in (Scores(), Scores(softcap=2.0), Scores(relative=table)):
            assert banded.blocks(mask, scores, length, length) is not None
            want = attend(*inputs, mask, backend="reference", scores=scores)
            wanted = torch.autograd.grad(want, inputs, weight)
            for backend in ["math", *([] if scores.softcap else SDPA)]:
                found = attend(*inputs, mask, backend=backend, scores=scores)
                assert torch.allclose(found, want, atol=1e-11)
                for grad, other in zip(torch.autograd.grad(found, inputs, weight), wanted, strict=True):
                    assert torch.allclose(grad, other, atol=1e-10)


def test_a_window_costs_memory_in_proportion_to_the_length() -> None:
    sizes = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            sizes.append(result.numel() if isinstance(result, Tensor) else 0)
            return result

    largest = []
    for length in (1024, 2048):
        sizes.clear()
        with Watch():
            attend(*[x.float() for x in qkv(length, length, batch=1)], Mask(causal=True, window=64), backend="math")
        largest.append(max(sizes))
    assert largest[1] <= 2.3 * largest[0]


@pytest.mark.parametrize("backend", ["math", *SDPA])
def test_packed_is_each_sequence_by_itself(backend: str) -> None:
    queries, keys = (5, 9, 1, 6), (7, 3, 2, 9)
    (q, k, v) = qkv(21, 21, batch=1)
    table, by_query = scores_of("table")[0], Scores(relative=relative_of(3, 2, 21, batch=1))
    for lengths, mask in (
        (keys, Mask(packed=Packed(query_lengths=queries, key_lengths=keys))),
        (queries, Mask(causal=True, packed=Packed(query_lengths=queries, key_lengths=queries))),
        (queries, Mask(causal=True, window=3, packed=Packed(query_lengths=queries, key_lengths=queries))),
    ):
        for scores in (Scores(), table, by_query):
            found = attend(q, k, v, mask, backend=backend, scores=scores)
            assert torch.allclose(found, attend(q, k, v, mask, backend="reference", scores=scores), atol=1e-11)
            at = key = 0
            for number, length in zip(queries, lengths, strict=True):
                part = q[:, :, at : at + number], k[:, :, key : key + length], v[:, :, key : key + length]
                alone = attend(
                    *part, mask.without_packing(), backend="math", scores=scores.of_queries(slice(at, at + number))
                )
                assert torch.allclose(found[:, :, at : at + number], alone, atol=1e-11)
                at, key = at + number, key + length


@pytest.mark.filterwarnings("ignore")
def test_nested_is_packed() -> None:
    lengths = (5, 9, 1, 6)
    inputs = qkv(21, 21, batch=1)
    packed, nested = (
        Mask(packed=Packed(query_lengths=lengths, key_lengths=lengths, nested=nested)) for nested in (False, True)
    )
    want = attend(*inputs, packed, backend="reference")
    for backend in ("sdpa", "sdpa_math"):
        assert torch.allclose(attend(*inputs, nested, backend=backend), want, atol=1e-11)
    with pytest.raises(Unsupported, match="nested"):
        attend(*inputs, nested, backend="math")


def test_additive_scores_never_exist_for_all_pairs_and_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(additive.CHUNK_ELEMENTS, "cpu", 2 * B * H * L * K)
    made = []
    whole = additive._tanh
    monkeypatch.setattr(additive, "_tanh", lambda *x: made.append(whole(*x)) or made[-1])
    inputs = [x.requires_grad_() for x in qkv()]
    (v_HK,) = tensors((H, K), seed=5)
    out = attend(*inputs, Mask(), backend="math", scores=Scores(additive_HK=v_HK.requires_grad_()))
    out.sum().backward()
    assert len(made) == 10  # five chunks of at most two queries, forward and backward
    assert max(x.shape[2] for x in made) == 2


def test_a_bias_of_distances_is_made_once_for_all_layers() -> None:
    mask, bias = Mask(causal=True), scores_of("table")[0].relative
    assert bias is not None
    assert relative.bias(bias, mask, L, L) is relative.bias(bias, mask, L, L)
    with torch.no_grad():
        silent = relative.bias(bias, mask, L, L)
    assert silent is not relative.bias(bias, mask, L, L)


def test_one_bias_serves_any_number_of_masks() -> None:
    inputs, scores = qkv(), scores_of("table")[0]
    for window in (*range(1, L), *range(1, L)):  # masks that die make room for others with the same id
        for backend in ("math", "sdpa_math"):
            found = attend(*inputs, Mask(causal=True, window=window), backend=backend, scores=scores)
            want = attend(*inputs, Mask(causal=True, window=window), backend="reference", scores=scores)
            assert torch.allclose(found, want, atol=1e-11)


def test_what_contradicts_itself() -> None:
    for wrong in (
        {"window": 3},
        {"window": 3, "causal": True, "both_sides": True},
        {"window": 0, "causal": True},
        {"both_sides": True},
        {"global_tokens": 2, "causal": True},
        {"prefix_lengths_B": torch.tensor([1])},
        {"packed": Packed(query_lengths=(1,), key_lengths=(1,)), "key_lengths_B": torch.tensor([1])},
    ):
        with pytest.raises(ValueError, match=r"window|causal|packed"):
            Mask(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="as many sequences"):
        Packed(query_lengths=(1, 2), key_lengths=(3,))
    with pytest.raises(ValueError, match="distances"):
        RelativeBias(values_BHTR=torch.zeros(1, 1, 1, 4), left=2, right=2)
    with pytest.raises(ValueError, match="relative values"):
        Scores(value_table_RK=torch.zeros(3, 4))
    with pytest.raises(ValueError, match="no scale"):
        Scores(scale=1.0, additive_HK=torch.zeros(1, 4))


def test_how_a_mask_reaches_a_back_end() -> None:
    window, packed = Mask(causal=True, window=64), Mask(packed=Packed(query_lengths=(9,), key_lengths=(9,)))
    bias = scores_of("table")[0]
    forms = {
        "none": [("sdpa_flash", Mask(), Scores()), ("flex", Mask(), Scores())],
        "flag": [("sdpa_flash", Mask(causal=True), Scores()), ("sdpa", Mask(causal=True, window=512), Scores())],
        "kernel": [("flex", window, Scores()), ("fa2", packed, Scores()), ("varlen", Mask(causal=True), Scores())],
        "sequences": [("math", packed, Scores()), ("sdpa_flash", packed, bias)],
        "blocks": [("math", window, bias), ("sdpa_flash", window, Scores())],
        "dense_mask": [
            ("math", Mask(causal=True), Scores()),
            ("sdpa_flash", Mask(causal=True), bias),
            ("sdpa", Mask(causal=True, window=64, global_tokens=1), Scores()),
            ("sdpa_efficient", Mask(causal=True, prefix_lengths_B=torch.tensor([4])), Scores()),
        ],
    }
    for form, cases in forms.items():
        for backend, mask, scores in cases:
            assert mask_form(backend, mask, scores, 512, 512) == form


def test_a_variant_says_how_its_mask_reaches_its_back_end() -> None:
    local = Features(pattern=PatternSpec(kind="window", window=64))
    assert local.mask_form("sdpa_flash", length=512, causal=True) == "blocks"
    assert Features().mask_form("sdpa_flash", length=512, causal=True) == "flag"
    assert Features(position=PositionSpec(kind="alibi")).mask_form("sdpa", length=512, causal=True) == "dense_mask"
    assert Features(pattern=PatternSpec(kind="document")).mask_form("sdpa", length=512, causal=False) == "dense_mask"
