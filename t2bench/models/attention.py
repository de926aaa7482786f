r"""Multi-head attention (Vaswani et al. 2017, section 3.2.2), with grouped key/value heads (Ainslie et al. 2023).

    MHA, G = H           GQA, 1 < G < H       MQA, G = 1
    q  q  q  q           q  q  q  q           q  q  q  q
    |  |  |  |           \  /  \  /           \  \  /  /
    kv kv kv kv           kv    kv                kv

Shape letters: B batch, T query length, S key length, D width, H query heads, G key/value heads, K head dim.
"""

from __future__ import annotations

from torch import Tensor, nn

from t2bench.attention.dispatch import attend
from t2bench.attention.mask import Mask
from t2bench.models.linear import FusedLinear, Linear
from t2bench.models.norm import Norm
from t2bench.models.position import Rotation, rotate
from t2bench.spec.model import ModelSpec

# Which projections share one matrix product. Queries of cross-attention read another input than keys and values, so
# there `fused_qkv` can fuse no more than `fused_kv`.
FUSIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "separate": (("q",), ("k",), ("v",)),
    "fused_kv": (("q",), ("k", "v")),
    "fused_qkv": (("q", "k", "v"),),
}


class Attention(nn.Module):
    """The attention sub-layer: project, normalise, rotate, attend, project back.

    Args:
        spec: the variant.
        cross: keys and values come from the encoder. Rotation does not apply: the two texts have separate positions.
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
        self.q_norm = Norm("rms", self.head_dim, spec.norm_eps) if spec.qk_norm else None
        self.k_norm = Norm("rms", self.head_dim, spec.norm_eps) if spec.qk_norm else None
        self.out = Linear(size["q"], spec.width, bias=spec.bias)

    def forward(self, x_BTD: Tensor, context_BSD: Tensor, mask: Mask, rotation: Rotation | None) -> Tensor:
        """Attend from `x_BTD` to `context_BSD` (the same tensor in self-attention).

        Args:
            x_BTD: what queries are made from.
            context_BSD: what keys and values are made from.
            mask: which keys a query may see.
            rotation: tables for RoPE, or None.

        Returns:
            (B, T, D), same dtype.
        """
        q_BTHK, k_BSGK, v_BSGK = self._heads(x_BTD, context_BSD)
        if self.q_norm is not None and self.k_norm is not None:
            q_BTHK, k_BSGK = self.q_norm(q_BTHK), self.k_norm(k_BSGK)
        if rotation is not None:
            q_BTHK, k_BSGK = rotate(q_BTHK, rotation), rotate(k_BSGK, rotation)
        o_BHTK = attend(
            q_BTHK.transpose(1, 2),
            k_BSGK.transpose(1, 2),
            v_BSGK.transpose(1, 2),
            mask,
            backend=self.backend,
            dropout_p=self.dropout if self.training else 0.0,
        )
        out_BTD: Tensor = self.out(o_BHTK.transpose(1, 2).flatten(-2))
        return out_BTD

    def _heads(self, x_BTD: Tensor, context_BSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        made: dict[str, Tensor] = {}
        for group, project in self.project.items():
            assert isinstance(project, FusedLinear)
            made |= project.forward_parts(x_BTD if group.startswith("q") else context_BSD)
        q, k, v = (made[name].view(*made[name].shape[:-1], -1, self.head_dim) for name in "qkv")
        return q, k, v
