"""Caches: cached decoding is uncached decoding, whatever the variant, the kind, and how the text is cut."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from t2bench.models.cache import GrowingCache, GrowingLayer, StaticCache
from t2bench.models.transformer import Transformer
from t2bench.models.truth import sharp_variant
from t2bench.spec.axes import PatternSpec, PositionSpec
from t2bench.spec.model import ModelSpec

LENGTH, SOURCE = 20, 9
CUTS = (0, 7, 8, 9, 12, *range(13, LENGTH + 1))  # a prompt, single tokens, and a few at once
DECODER = ModelSpec(arch="decoder", width=32, heads=4, ff=48, dec_layers=2, vocab=100, norm_place="pre")
ROPE = replace(DECODER, position=PositionSpec(kind="rope", layout="halves"), kv_heads=2, attention="sdpa_flash")


def window(size: int, **more: object) -> PatternSpec:
    return PatternSpec(kind="window", window=size, **more)  # type: ignore[arg-type]


SPECS = {
    "encdec": replace(DECODER, arch="encdec", enc_layers=2),
    "fused": replace(DECODER, projections="fused_qkv", qk_norm=True),
    "rope+gqa": ROPE,
    "interleaved": replace(ROPE, position=PositionSpec(kind="rope")),
    **{f"window {w}": replace(ROPE, pattern=window(w)) for w in (1, 3, 5, 50)},
    "some layers": replace(ROPE, pattern=window(3, layers="SL")),
    "global": replace(ROPE, pattern=window(3, global_tokens=2)),
    **{
        kind: replace(DECODER, position=PositionSpec(kind=kind), pattern=window(6))  # type: ignore[arg-type]
        for kind in ("alibi", "t5_bias", "shaw", "learned", "none")
    },
    "parallel": replace(DECODER, residual="parallel"),
    "additive": replace(DECODER, score="additive"),
}


def caches(spec: ModelSpec, like: Tensor) -> dict[str, GrowingCache | StaticCache]:
    source = SOURCE if spec.arch == "encdec" else 0
    return {
        "doubling": GrowingCache(spec),
        "reserved": GrowingCache(spec, LENGTH),
        "static": StaticCache(spec, batch=2, limit=LENGTH + 3, source_length=source, like=like),
    }


def inputs(spec: ModelSpec, seed: int = 0) -> tuple[Tensor, Tensor | None]:
    random = torch.Generator().manual_seed(seed)
    tokens_BT = torch.randint(0, spec.vocab, (2, LENGTH), generator=random)
    return tokens_BT, torch.randint(0, spec.vocab, (2, SOURCE), generator=random) if spec.arch == "encdec" else None


def in_pieces(model: Transformer, tokens_BT: Tensor, source_BS: Tensor | None, cache: object) -> Tensor:
    pieces = []
    for begin, end in pairwise(CUTS):
        first = {"source_BS": source_BS} if begin == 0 else {}
        pieces.append(model(tokens_BT[:, begin:end], cache=cache, **first))  # type: ignore[arg-type]
    return torch.cat(pieces, dim=1)


@pytest.mark.parametrize("kind", ["doubling", "reserved", "static"])
@pytest.mark.parametrize("name", SPECS)
def test_a_text_in_pieces_has_the_logits_of_the_whole(name: str, kind: str) -> None:
    spec = SPECS[name]
    model = sharp_variant(spec, "cpu", torch.float32, 0, 1.7)
    cache = caches(spec, model.table_VD)[kind]
    with torch.inference_mode():
        for seed in range(2 if kind == "static" else 1):  # a static cache serves one text after the other
            tokens_BT, source_BS = inputs(spec, seed)
            whole_BTV = model(tokens_BT, source_BS=source_BS)
            if isinstance(cache, StaticCache):
                cache.reset()
            torch.testing.assert_close(in_pieces(model, tokens_BT, source_BS, cache), whole_BTV, rtol=2e-4, atol=2e-4)


def test_the_comparison_can_fail() -> None:
    """A window one too short, which is what an off-by-one in the cache would come to."""
    spec = SPECS["window 5"]
    model = sharp_variant(spec, "cpu", torch.float32, 0, 1.7)
    tokens_BT, _ = inputs(spec)
    with torch.inference_mode():
        whole_BTV = model(tokens_BT)
        found_BTV = in_pieces(model, tokens_BT, None, GrowingCache(replace(spec, pattern=window(4))))
    assert (found_BTV - whole_BTV).abs().max() > 0.1


def count_copied(layer: GrowingLayer, steps: int) -> int:
    """Bytes of buffers made while tokens come one by one."""
    made: set[int] = set()
    total = 0
    x_BGTK = torch.ones(1, 1, 1, 2)
    for _ in range(steps):
        layer.update(x_BGTK, x_BGTK)
        assert layer._buffers is not None
        storage = layer._buffers[0].untyped_storage()
        if storage.data_ptr() not in made:
            made.add(storage.data_ptr())
            total += storage.nbytes()
    return total


def test_growing_copies_little_and_reserving_nothing() -> None:
    entry = 2 * 4  # bytes of one token's keys
    assert count_copied(GrowingLayer(), 1000) < 4 * 1000 * entry  # not 1000^2 / 2
    assert count_copied(GrowingLayer(reserve=1000), 1000) == 1000 * entry


def test_a_window_keeps_no_more_than_twice_itself() -> None:
    layer = GrowingLayer(window=8, reserve=1000)
    for _ in range(200):
        seen, _ = layer.update(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
        assert seen.shape[2] <= 8
        assert layer._buffers is not None
        assert layer._buffers[0].shape[2] <= 16
    assert seen.shape[2] == 8


def test_grouped_heads_are_kept_once() -> None:
    cache = StaticCache(ROPE, batch=3, limit=10, source_length=0, like=torch.empty(0))
    assert [tuple(t.shape) for t in cache.tensors] == [(1,), *[(3, 2, 10, 8)] * 4]


def test_the_source_is_encoded_and_projected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPECS["encdec"]
    model = sharp_variant(spec, "cpu", torch.float32, 0, 1.7)
    tokens_BT, source_BS = inputs(spec)
    calls = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda *args: calls.append(1) or encode(*args))
    cache = GrowingCache(spec)
    with torch.inference_mode():
        model(tokens_BT[:, :1], source_BS=source_BS, cache=cache)
        kept = [layer.cross for layer in cache.layers]
        model(tokens_BT[:, 1:2], cache=cache)
    assert calls == [1]
    assert all(a is b for a, b in zip(kept, (layer.cross for layer in cache.layers), strict=True))
