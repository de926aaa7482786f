"""Mistakes in the code: one function of the model replaced by one that is wrong in one place."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from spec_mutants import Applies, always, placed
from torch import Tensor

from t2bench.attention import additive
from t2bench.attention.dispatch import attend
from t2bench.models import attention, embedding, feedforward, norm, position, relative, stack
from t2bench.spec.model import ModelSpec

Patch = Callable[[pytest.MonkeyPatch], None]


def instead(owner: Any, name: str, wrong: Any) -> Patch:
    """Put something else in the place of owner.name."""
    return lambda patch: patch.setattr(owner, name, wrong)


def attending(change: Callable[..., tuple[Tensor, Tensor, Tensor, Any, Any]]) -> Patch:
    """`change` gets q, k, v, mask and scores, and returns what is attended with instead."""

    def wrong(q: Tensor, k: Tensor, v: Tensor, mask: Any, *, scores: Any, **options: Any) -> Tensor:
        q, k, v, mask, scores = change(q, k, v, mask, scores)
        return attend(q, k, v, mask, scores=scores, **options)

    return instead(attention, "attend", wrong)


def masked(**changes: Any) -> Patch:
    return attending(lambda q, k, v, mask, scores: (q, k, v, replace(mask, **changes), scores))


def scored(change: Callable[[Any], Any]) -> Patch:
    return attending(lambda q, k, v, mask, scores: (q, k, v, mask, change(scores)))


def biased(change: Callable[[Tensor], Tensor]) -> Patch:
    def wrong(scores: Any) -> Any:
        if scores.relative is None:
            return scores
        return replace(scores, relative=replace(scores.relative, values_BHTR=change(scores.relative.values_BHTR)))

    return scored(wrong)


def _short_padding(q: Tensor, k: Tensor, v: Tensor, mask: Any, scores: Any) -> Any:
    lengths_B = None if mask.key_lengths_B is None else mask.key_lengths_B - 1
    return q, k, v, replace(mask, key_lengths_B=lengths_B), scores


def _sees_next(q: Tensor, k: Tensor, v: Tensor, mask: Any, scores: Any) -> Any:
    if mask.causal and mask.documents_BS is None:
        mask = replace(mask, query_positions_T=mask.positions(q.shape[2], k.shape[2], q.device) + 1)
    return q, k, v, mask, scores


def _grouped_wrongly(q: Tensor, k: Tensor, v: Tensor, mask: Any, scores: Any) -> Any:
    repeats = q.shape[1] // k.shape[1]
    return q, k.repeat(1, repeats, 1, 1), v.repeat(1, repeats, 1, 1), mask, scores


def _not_causal(q: Tensor, k: Tensor, v: Tensor, mask: Any, scores: Any) -> Any:
    if mask.causal:
        both = mask.window is not None
        mask = replace(mask, causal=False, both_sides=both, prefix_lengths_B=None)
    return q, k, v, mask, scores


_rotate = position.rotate


def _backwards(x: Tensor, rotation: Any) -> Tensor:
    turned = (rotation[0].conj(),) if len(rotation) == 1 else (rotation[0], -rotation[1])
    return _rotate(x, turned)


def _every_other_call(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
    calls = []

    def wrong(x: Tensor, *more: Any) -> Tensor:
        calls.append(None)
        return f(x, *more) if len(calls) % 2 else x

    return wrong


def _norm_after_rope(patch: pytest.MonkeyPatch) -> None:
    forward, modules, calls = attention.SelfAttention.forward, [], []

    def remembering(self: Any, *args: Any, **options: Any) -> Tensor:
        modules.append(self)
        return forward(self, *args, **options)

    def late(x: Tensor, rotation: Any) -> Tensor:
        calls.append(None)
        weigh = modules[-1].q_norm if len(calls) % 2 else modules[-1].k_norm
        return weigh(_rotate(x, rotation))

    def untouched(self: Any, name: str, y: Tensor) -> Tensor:
        return y.view(*y.shape[:-1], -1, self.head_dim)

    patch.setattr(attention.SelfAttention, "forward", remembering)
    patch.setattr(attention.SelfAttention, "_normed", untouched)
    patch.setattr(attention, "rotate", late)


def _norm(eps_outside: bool = False, unbiased: bool = False, one_plus: bool = False) -> Patch:
    def wrong(self: Any, x: Tensor) -> Tensor:
        weight = self.weight + 1 if one_plus else self.weight
        centred = x if self.bias is None else x - x.mean(-1, keepdim=True)
        share = x.shape[-1] / (x.shape[-1] - 1) if unbiased else 1.0
        square = centred.square().mean(-1, keepdim=True) * share
        root = square.sqrt() + self.eps if eps_outside else (square + self.eps).sqrt()
        y = centred / root * weight
        return y if self.bias is None else y + self.bias

    return instead(norm.Norm, "forward", wrong)


def _gate_order(self: Any, x: Tensor) -> Tensor:
    return self.down(self.activation(self.up(x)) * self.gate(x))


def _linear_gate(self: Any, x: Tensor) -> Tensor:
    return self.down(self.gate(x) * self.up(x))


_positions = embedding.Embedding._positions


def _from_one(self: Any, span: Any, like: Tensor) -> Any:
    found = _positions(self, replace(span, length=span.length + 1), like)
    return None if found is None else found[1:]


_embed = embedding.Embedding.forward


def _scale_after(self: Any, tokens: Tensor, table: Tensor, span: Any) -> Tensor:
    x = torch.nn.functional.embedding(tokens, table) + self._positions(span, table)
    return x * self.scale if self.norm is None else self.norm(x * self.scale)


def _no_power_rule(heads: int) -> Tensor:
    return 2.0 ** (-8.0 * torch.arange(1, heads + 1, dtype=torch.float64) / heads)


_slopes, _buckets, _distances = relative.alibi_slopes, relative.t5_buckets, position.PositionTables.distances
_txl = relative.TxlTerms.forward


def bucketed(change: Callable[[Tensor], Tensor], *, other_side: bool = False) -> Patch:
    def wrong(distance: Tensor, spec: Any, *, both_sides: bool) -> Tensor:
        return _buckets(change(distance), spec, both_sides=both_sides != other_side)

    return instead(relative, "t5_buckets", wrong)


def _swapped(self: Any, q: Tensor, r: Tensor, scale: float) -> Any:
    self.u_HK.data, self.v_HK.data = self.v_HK.data, self.u_HK.data
    found = _txl(self, q, r, scale)
    self.u_HK.data, self.v_HK.data = self.v_HK.data, self.u_HK.data
    return found


def _shifted(self: Any, length: int, like: Tensor) -> Any:
    found = _distances(self, length + 1, like)
    return None if found is None else found[:-1]


def _keep_outputs(self: Any, inputs: list[Tensor], length: int) -> None:
    self.states = [x.detach()[:, -length:] for x in [*inputs[1:], inputs[-1]]]


def _unnormed_memory(patch: pytest.MonkeyPatch) -> None:
    heads = attention.SelfAttention._heads
    # The first call of a layer with a memory makes queries; the second, keys and values of memory and tokens.
    patch.setattr(
        attention.SelfAttention, "_heads", lambda self, x, names: heads(self, x * 0.5 if names == "kv" else x, names)
    )


def padded(spec: ModelSpec) -> bool:
    return spec.arch != "decoder"


def causal(spec: ModelSpec) -> bool:
    return spec.arch != "encoder"


def grouped(spec: ModelSpec) -> bool:
    return 1 < spec.num_kv_heads < spec.heads


def in_scores(spec: ModelSpec) -> bool:
    return spec.position.kind in ("alibi", "t5_bias", "shaw", "txl")


# name -> (applies to this spec, what it replaces)
CODE_MUTANTS: dict[str, tuple[Applies, Patch]] = {
    "softmax scale of the width": (
        always, attending(lambda q, k, v, m, s: (q * (q.shape[-1] / 40) ** 0.5, k, v, m, s)),
    ),
    "queries doubled": (always, attending(lambda q, k, v, m, s: (2 * q, k, v, m, s))),
    "padding mask dropped": (padded, masked(key_lengths_B=None)),
    "padding mask off by one": (padded, attending(_short_padding)),
    "causal mask dropped": (causal, attending(_not_causal)),
    "causal mask off by one": (lambda s: causal(s) and s.pattern.kind != "document", attending(_sees_next)),
    "key/value heads in the wrong order": (grouped, attending(_grouped_wrongly)),
    "keys and values swapped": (always, attending(lambda q, k, v, m, s: (q, v, k, m, s))),
    "documents not told apart": (lambda s: s.pattern.kind == "document", masked(documents_BS=None)),
    "prefix not seen": (lambda s: s.pattern.kind == "prefix", masked(prefix_lengths_B=None)),
    "bias dropped": (in_scores, scored(lambda s: replace(s, relative=None, value_table_RK=None))),
    "bias of the wrong sign": (in_scores, biased(lambda b: -b)),
    "bias doubled": (in_scores, biased(lambda b: 2 * b)),
    "bias one distance off": (in_scores, biased(lambda b: b.roll(1, dims=-1))),
    "bias of another head": (in_scores, biased(lambda b: b.flip(1))),
    "relative values dropped": (placed("shaw"), scored(lambda s: replace(s, value_table_RK=None))),
    "relative values one distance off": (
        placed("shaw"),
        scored(lambda s: s if s.value_table_RK is None else replace(s, value_table_RK=s.value_table_RK.roll(1, 0))),
    ),
    "additive without tanh": (
        lambda s: s.score == "additive",
        instead(additive, "_tanh", lambda q, k, chunk: q[:, :, chunk, None] + k[:, :, None]),
    ),
    "softcap with the wrong scale": (
        lambda s: s.attention_softcap is not None,
        scored(lambda s: replace(s, softcap=s.softcap / math.sqrt(2))),
    ),
    "rope turns backwards": (placed("rope"), instead(attention, "rotate", _backwards)),
    "keys not rotated": (placed("rope"), instead(attention, "rotate", _every_other_call(_rotate))),
    "rope turns queries and keys alike": (placed("rope"), instead(attention, "rotate", lambda x, r: x)),
    "query and key norm after rope": (
        lambda s: s.qk_norm and s.qk_norm_span == "head" and s.position.kind == "rope", _norm_after_rope,
    ),
    "eps outside the root": (always, _norm(eps_outside=True)),
    "unbiased variance": (always, _norm(unbiased=True)),
    "norm weight plus one": (always, _norm(one_plus=True)),
    "gate and value swapped": (lambda s: s.gated, instead(feedforward.FeedForward, "forward", _gate_order)),
    "gate without its function": (lambda s: s.gated, instead(feedforward.FeedForward, "forward", _linear_gate)),
    "positions counted from 1": (
        placed("sinusoidal", "learned"), instead(embedding.Embedding, "_positions", _from_one),
    ),
    "positions added before the scale": (
        lambda s: s.embed_scale and s.position.kind in ("sinusoidal", "learned"),
        instead(embedding.Embedding, "forward", _scale_after),
    ),
    "ALiBi without its rule for other numbers of heads": (
        lambda s: s.position.kind == "alibi" and s.heads & (s.heads - 1) != 0,
        instead(relative, "alibi_slopes", _no_power_rule),
    ),
    "ALiBi slopes in reverse": (placed("alibi"), instead(relative, "alibi_slopes", lambda h: _slopes(h).flip(0))),
    "ALiBi slopes from 1": (placed("alibi"), instead(relative, "alibi_slopes", lambda h: 2 * _slopes(h))),
    "T5 buckets look the wrong way": (
        placed("t5_bias"), bucketed(lambda d: -d),
    ),
    "T5 buckets one off": (
        placed("t5_bias"), bucketed(lambda d: d - 1),
    ),
    "T5 buckets of the other direction": (
        placed("t5_bias"), bucketed(lambda d: d, other_side=True),
    ),
    "Transformer-XL's u and v swapped": (placed("txl"), instead(relative.TxlTerms, "forward", _swapped)),
    "Transformer-XL's distances one off": (placed("txl"), instead(position.PositionTables, "distances", _shifted)),
    "memory of outputs": (lambda s: s.memory > 0, instead(stack.Memories, "keep", _keep_outputs)),
    "memory scaled": (lambda s: s.memory > 0, _unnormed_memory),
}  # fmt: skip
