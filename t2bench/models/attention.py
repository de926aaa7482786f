r"""Multi-head attention (Vaswani et al. 2017, section 3.2.2), with grouped key/value heads (Ainslie et al. 2023).

    MHA, G = H           GQA, 1 < G < H       MQA, G = 1
    q  q  q  q           q  q  q  q           q  q  q  q
    |  |  |  |           \  /  \  /           \  \  /  /
    kv kv kv kv           kv    kv                kv

Shape letters: B batch, T query length, S key length, M remembered positions, D width, H query heads, G key/value heads,
K head dim.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from t2bench.attention.dispatch import attend
from t2bench.attention.mask import Mask
from t2bench.attention.scores import RelativeBias, Scores
from t2bench.models.cache import LayerCache
from t2bench.models.linear import FusedLinear, Linear
from t2bench.models.norm import Norm
from t2bench.models.position import rotate
from t2bench.models.relative import ShawTables, TxlTerms, looks_ahead
from t2bench.models.shared import Shared
from t2bench.spec.model import ModelSpec

# Which projections share one matrix product. Queries of cross-attention read another input than keys and values, so
# there `fused_qkv` can fuse no more than `fused_kv`.
FUSIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "separate": (("q",), ("k",), ("v",)),
    "fused_kv": (("q",), ("k", "v")),
    "fused_qkv": (("q", "k", "v"),),
}


class Attention(nn.Module):
    """What self- and cross-attention have in common: projections, norms, the operator.

    Args:
        spec: the variant.
        cross: keys and values come from the encoder.
    """

    def __init__(self, spec: ModelSpec, *, cross: bool) -> None:
        super().__init__()
        self.backend: str = spec.attention
        self.head_dim = spec.dim_per_head
        self.dropout = spec.attention_dropout
        size = {"q": spec.heads * self.head_dim}
        size["k"] = size["v"] = spec.num_kv_heads * self.head_dim
        fusion = FUSIONS["fused_kv" if cross and spec.projections == "fused_qkv" else spec.projections]
        self.project = nn.ModuleDict(
            {"".join(g): FusedLinear(spec.width, {name: size[name] for name in g}, bias=spec.bias) for g in fusion}
        )
        self.norm_heads = spec.qk_norm_span == "head"
        widths = {name: self.head_dim if self.norm_heads else size[name] for name in "qk"}
        self.q_norm = Norm("rms", widths["q"], spec.norm_eps) if spec.qk_norm else None
        self.k_norm = Norm("rms", widths["k"], spec.norm_eps) if spec.qk_norm else None
        self.out = Linear(size["q"], spec.width, bias=spec.bias)
        # What additive scores multiply: v in v . tanh(q + k).
        additive = spec.score == "additive"
        self.score_HK = nn.Parameter(torch.empty(spec.heads, self.head_dim)) if additive else None
        self.scale = 1.0 if spec.score == "dot" else None
        self.softcap = spec.attention_softcap

    def _heads(self, x_BTD: Tensor, names: str) -> tuple[Tensor, ...]:
        """The projections named, in that order, each (B, T, heads, K), queries and keys normed."""
        made: dict[str, Tensor] = {}
        for group, project in self.project.items():
            assert isinstance(project, FusedLinear)
            wanted = [name for name in group if name in names]
            if wanted:
                made |= project.forward_parts(x_BTD, None if wanted == list(group) else wanted)
        return tuple(self._normed(name, made[name]) for name in names)

    def _normed(self, name: str, y_BTO: Tensor) -> Tensor:
        norm: Callable[[Tensor], Tensor] | None = {"q": self.q_norm, "k": self.k_norm}.get(name)
        if norm is not None and not self.norm_heads:
            y_BTO = norm(y_BTO)
        y_BTHK = y_BTO.view(*y_BTO.shape[:-1], -1, self.head_dim)
        return y_BTHK if norm is None or not self.norm_heads else norm(y_BTHK)

    def _attended(
        self,
        q_BHTK: Tensor,
        k_BGSK: Tensor,
        v_BGSK: Tensor,
        mask: Mask,
        relative: RelativeBias | None = None,
        value_table_RK: Tensor | None = None,
    ) -> Tensor:
        """Attend and project back: (B, T, D)."""
        scores = Scores(
            scale=self.scale,
            softcap=self.softcap,
            relative=relative,
            additive_HK=self.score_HK,
            value_table_RK=value_table_RK,
        )
        dropout_p = self.dropout if self.training else 0.0
        o_BHTK = attend(q_BHTK, k_BGSK, v_BGSK, mask, backend=self.backend, scores=scores, dropout_p=dropout_p)
        out_BTD: Tensor = self.out(o_BHTK.transpose(1, 2).flatten(-2))
        return out_BTD


class SelfAttention(Attention):
    """Tokens attend to tokens of the same text.

    Args:
        spec: the variant.
        patterned: the layer has the spec's pattern; otherwise it sees everything.
        causal: it belongs to a decoder.
    """

    def __init__(self, spec: ModelSpec, *, patterned: bool, causal: bool) -> None:
        super().__init__(spec, cross=False)
        self.patterned = patterned
        kind = spec.position.kind
        self.shaw = ShawTables(spec, both_sides=looks_ahead(spec, causal=causal)) if kind == "shaw" else None
        self.txl = TxlTerms(spec) if kind == "txl" else None

    def forward(
        self, x_BTD: Tensor, shared: Shared, *, memory_BMD: Tensor | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        """Attend from `x_BTD` to itself, and to what came before.

        Args:
            x_BTD: the layer's input.
            shared: what all layers share.
            memory_BMD: the same layer's input of the segment before, which is seen as well.
            cache: keys and values of earlier tokens; takes those of these.

        Returns:
            (B, T, D), same dtype.
        """
        if memory_BMD is None:
            q_BTHK, k_BSGK, v_BSGK = self._heads(x_BTD, "qkv")
        else:
            (q_BTHK,) = self._heads(x_BTD, "q")
            k_BSGK, v_BSGK = self._heads(torch.cat((memory_BMD, x_BTD), dim=1), "kv")
        if shared.rotation is not None and shared.key_rotation is not None:
            q_BTHK, k_BSGK = rotate(q_BTHK, shared.rotation), rotate(k_BSGK, shared.key_rotation)
        q_BHTK, k_BGSK, v_BGSK = (x.transpose(1, 2) for x in (q_BTHK, k_BSGK, v_BSGK))
        if cache is not None:
            k_BGSK, v_BGSK = cache.update(k_BGSK, v_BGSK)
        relative, value_table_RK = shared.relative, None
        scale = self.head_dim**-0.5 if self.scale is None else self.scale
        if self.shaw is not None:
            relative, value_table_RK = self.shaw(q_BHTK, scale), self.shaw.value_RK
        if self.txl is not None:
            q_BHTK, relative = self.txl(q_BHTK, self._distances(self.txl, shared, cache), scale)
        mask = shared.mask if self.patterned else shared.full_mask
        return self._attended(q_BHTK, k_BGSK, v_BGSK, mask, relative, value_table_RK)

    def _distances(self, txl: TxlTerms, shared: Shared, cache: LayerCache | None) -> Tensor:
        """W_r R of all distances, (G, K, S), kept in a cache while they last."""
        assert shared.distances_RD is not None
        distances_RD = shared.distances_RD
        if cache is None:
            return txl.project(distances_RD[len(distances_RD) - shared.num_keys :])
        if cache.distances is None or cache.distances.shape[-1] < shared.num_keys:
            cache.distances = txl.project(distances_RD)
        return cache.distances[..., cache.distances.shape[-1] - shared.num_keys :]


class CrossAttention(Attention):
    """Tokens attend to the source. No positions of either act here: the two are different texts."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, cross=True)

    def forward(self, x_BTD: Tensor, source_BSD: Tensor, mask: Mask, *, cache: LayerCache | None = None) -> Tensor:
        """Attend from `x_BTD` to the source; its keys and values are made once for each cache.

        Args:
            x_BTD: the layer's input.
            source_BSD: the encoder's output.
            mask: which of it may be seen.
            cache: of the layer.

        Returns:
            (B, T, D), same dtype.
        """
        (q_BTHK,) = self._heads(x_BTD, "q")
        kept = None if cache is None else cache.cross
        if kept is None:
            k_BSGK, v_BSGK = self._heads(source_BSD, "kv")
            kept = (k_BSGK.transpose(1, 2), v_BSGK.transpose(1, 2))
            if cache is not None:
                cache.cross = kept
        return self._attended(q_BTHK.transpose(1, 2), *kept, mask)
