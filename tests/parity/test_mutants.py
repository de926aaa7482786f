"""Each axis is broken on purpose, in the spec or in the code, and the tolerance of the oracles must notice."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import t2bench.models.attention
from t2bench.attention.dispatch import attend
from t2bench.attention.mask import Mask
from t2bench.parity.oracle import FLOAT32_TOLERANCE, difference
from t2bench.parity.oracles import ORACLES
from t2bench.spec.model import ModelSpec


def _position(**changes: object) -> Callable[[ModelSpec], ModelSpec]:
    return lambda spec: replace(spec, position=replace(spec.position, **changes))


def _other(field: str, first: object, second: object) -> Callable[[ModelSpec], ModelSpec]:
    return lambda spec: replace(spec, **{field: second if getattr(spec, field) == first else first})


def _has_pairs(spec: ModelSpec) -> bool:
    return spec.position.kind in ("rope", "sinusoidal")


def _has_tied_logits(spec: ModelSpec) -> bool:
    return spec.tie != "none" and spec.arch == "decoder" and spec.position.kind != "txl"


def _always(spec: ModelSpec) -> bool:
    return True


# name -> (applies to this oracle, what it breaks)
SPEC_MUTANTS: dict[str, tuple[Callable[[ModelSpec], bool], Callable[[ModelSpec], ModelSpec]]] = {
    "gelu flavour": (
        lambda s: s.activation.startswith("gelu"), _other("activation", "gelu", "gelu_tanh"),
    ),
    "activation silu or gelu": (_always, _other("activation", "silu", "gelu")),
    "activation relu or silu": (_always, _other("activation", "relu", "silu")),
    "gate": (_always, _other("gated", False, True)),
    "norm kind": (_always, _other("norm", "layer", "rms")),
    "norm place": (_always, _other("norm_place", "pre", "post")),
    "final norm": (_always, _other("final_norm", True, False)),
    "norm eps": (_always, lambda s: replace(s, norm_eps=1e-3)),
    # An embedding norm undoes the scale where no position is added in between.
    "embedding scale": (lambda s: not (s.embed_norm and s.position.kind == "rope"), _other("embed_scale", True, False)),
    "embedding norm": (_always, _other("embed_norm", True, False)),
    "query and key norm": (_always, _other("qk_norm", True, False)),
    "biases": (lambda s: s.bias, _other("bias", True, False)),
    "positions missing": (lambda s: s.position.kind != "none", _position(kind="none")),
    "positions added": (lambda s: s.position.kind != "sinusoidal", _position(kind="sinusoidal")),
    "rope added": (lambda s: s.position.kind != "rope", _position(kind="rope")),
    "pair layout": (
        _has_pairs,
        lambda s: _position(layout="halves" if s.position.layout == "interleaved" else "interleaved")(s),
    ),
    "theta": (_has_pairs, lambda s: _position(theta=50 * s.position.theta)(s)),
    "rotated fraction": (lambda s: s.position.kind == "rope", _position(fraction=0.5)),
    "untied output": (_has_tied_logits, _other("tie", "none", "none")),
}  # fmt: skip


def _wrong_scale(q: Tensor, k: Tensor, v: Tensor, mask: Mask, **options: object) -> Tensor:
    return attend(q * (q.shape[-1] / 32) ** 0.5, k, v, mask, **options)


def _no_scale(q: Tensor, k: Tensor, v: Tensor, mask: Mask, **options: object) -> Tensor:
    return attend(q * q.shape[-1] ** 0.5, k, v, mask, **options)


def _no_padding(q: Tensor, k: Tensor, v: Tensor, mask: Mask, **options: object) -> Tensor:
    return attend(q, k, v, Mask(causal=mask.causal), **options)


def _short_padding(q: Tensor, k: Tensor, v: Tensor, mask: Mask, **options: object) -> Tensor:
    lengths_B = None if mask.key_lengths_B is None else mask.key_lengths_B - 1
    return attend(q, k, v, Mask(causal=mask.causal, key_lengths_B=lengths_B), **options)


def _no_causality(q: Tensor, k: Tensor, v: Tensor, mask: Mask, **options: object) -> Tensor:
    return attend(q, k, v, Mask(key_lengths_B=mask.key_lengths_B), **options)


def _sees_next(q: Tensor, k: Tensor, v: Tensor, mask: Mask, **options: object) -> Tensor:
    if not mask.causal:
        return attend(q, k, v, mask, **options)
    visible_TS = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(1)
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=visible_TS, enable_gqa=True)


def _kv_heads_interleaved(q: Tensor, k: Tensor, v: Tensor, mask: Mask, **options: object) -> Tensor:
    repeats = q.shape[1] // k.shape[1]
    return attend(q, k.repeat(1, repeats, 1, 1), v.repeat(1, repeats, 1, 1), mask, **options)


CODE_MUTANTS: dict[str, tuple[Callable[[ModelSpec], bool], Callable[..., Tensor]]] = {
    "softmax scale of the width": (_always, _wrong_scale),
    "softmax scale missing": (_always, _no_scale),
    "padding mask dropped": (lambda s: s.arch != "decoder", _no_padding),
    "padding mask off by one": (lambda s: s.arch != "decoder", _short_padding),
    "causal mask dropped": (lambda s: s.arch != "encoder", _no_causality),
    "causal mask off by one": (lambda s: s.arch != "encoder", _sees_next),
    "key/value heads in the wrong order": (lambda s: s.num_kv_heads < s.heads, _kv_heads_interleaved),
}


def _mutants_of(spec: ModelSpec) -> Iterator[tuple[str, ModelSpec, Callable[..., Tensor]]]:
    """(what is broken, mutated spec, attention function); exactly one of the two is wrong."""
    for label, (applies, mutate) in SPEC_MUTANTS.items():
        try:
            mutated = mutate(spec)
        except ValueError:  # what is broken contradicts another axis
            continue
        if applies(spec) and mutated != spec:
            yield label, mutated, attend
    for label, (applies, broken) in CODE_MUTANTS.items():
        if applies(spec):
            yield label, spec, broken


@pytest.mark.parametrize("name", [name for name, oracle in ORACLES.items() if oracle.library])
def test_mutants_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = ORACLES[name]
    survivors, total = [], 0
    for label, spec, function in _mutants_of(oracle.spec):
        monkeypatch.setattr(t2bench.models.attention, "attend", function)
        total += 1
        if difference(spec, oracle.expected, strict=False) <= FLOAT32_TOLERANCE:
            survivors.append(label)
    assert total >= 18
    assert not survivors
