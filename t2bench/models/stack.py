"""Stack: embedding, layers, final norm: an encoder or a decoder without its output table.

Shape letters: B batch, T length, S source length, M remembered positions, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from t2bench.attention.mask import Mask
from t2bench.models import recompute
from t2bench.models.cache import Cache
from t2bench.models.embedding import Embedding
from t2bench.models.layer import Layer
from t2bench.models.norm import Norm
from t2bench.models.position import PositionTables, Rotation, Span
from t2bench.models.relative import StackBias, looks_ahead
from t2bench.models.shared import Shared
from t2bench.models.view import View
from t2bench.spec.model import ModelSpec


@dataclass(slots=True)
class Memories:
    """Segment recurrence (Dai et al. 2019, section 3.2): what a segment remembers of those before it.

    Hand the same object to each of a text's segments in turn; each pass reads it and then replaces its content.

    Attributes:
        states: each layer's inputs at the last `spec.memory` positions so far, (B, M, D) each, without gradient; empty
            before the first segment.
    """

    states: list[Tensor] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Positions remembered so far."""
        return self.states[0].shape[1] if self.states else 0

    def keep(self, inputs: list[Tensor], length: int) -> None:
        """Remember the last `length` positions of the old states and these inputs."""
        new = [x_BTD.detach() for x_BTD in inputs]
        if self.states:
            new = [torch.cat(pair, dim=1) for pair in zip(self.states, new, strict=True)]
        self.states = [x_BMD[:, -length:] for x_BMD in new]


class Stack(nn.Module):
    """An encoder or a decoder.

    Args:
        spec: the variant.
        tables: of positions, shared by both stacks.
        num_layers: layers.
        causal: it is a decoder.
        cross: each layer attends to a source.
    """

    def __init__(self, spec: ModelSpec, tables: PositionTables, *, num_layers: int, causal: bool, cross: bool) -> None:
        super().__init__()
        self.memory = spec.memory
        self.checkpoint = spec.checkpoint
        self.tables = tables
        self.embedding = Embedding(spec, tables)
        self.layers = nn.ModuleList(
            Layer(spec, cross=cross, causal=causal, patterned=spec.pattern.applies(index))
            for index in range(num_layers)
        )
        shares = spec.position.kind in ("alibi", "t5_bias")
        self.bias = StackBias(spec, both_sides=looks_ahead(spec, causal=causal)) if shares else None
        self.final_norm = Norm(spec.norm, spec.width, spec.norm_eps) if spec.final_norm else None

    def forward(
        self,
        tokens_BT: Tensor,
        table_VD: Tensor,
        view: View,
        source_BSD: Tensor | None = None,
        source_mask: Mask | None = None,
        memories: Memories | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Token ids (B, T) -> hidden states (B, T, D)."""
        x_BTD: Tensor = self.embedding(tokens_BT, table_VD, view.span)
        shared = self._shared(view, x_BTD)
        remembered = memories.states if memories is not None else []
        inputs: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            if memories is not None:  # without a use for them they would only live longer
                inputs.append(x_BTD)
            x_BTD = recompute.run(
                self.checkpoint,
                layer,
                x_BTD,
                shared,
                source_BSD,
                source_mask,
                remembered[index] if remembered else None,
                None if cache is None else cache.layers[index],
            )
        if memories is not None:
            memories.keep(inputs, self.memory)
        return x_BTD if self.final_norm is None else self.final_norm(x_BTD)

    def prepare(self, view: View, like: Tensor) -> tuple[Tensor, ...]:
        """Make the tables of positions that a pass needs before its time is taken, and return them.

        Args:
            view: of the pass.
            like: its dtype and device are those of the hidden states.
        """
        with torch.no_grad():
            shared = self._shared(view, like)
        sinusoid_TD = self.tables.sinusoid(view.span.capacity, like)
        found = (*(shared.rotation or ()), *(shared.key_rotation or ()), shared.distances_RD, sinusoid_TD)
        kept = () if self.bias is None else self.bias.kept
        return tuple(table for table in (*found, *kept) if table is not None)

    def _shared(self, view: View, like: Tensor) -> Shared:
        """Everything that the layers have in common in this pass."""
        rotation = key_rotation = self._rotation(view.span, like)
        if view.key_span is not view.span:
            key_rotation = self._rotation(view.key_span, like)
        return Shared(
            mask=view.mask,
            full_mask=view.full_mask,
            rotation=rotation,
            key_rotation=key_rotation,
            relative=None if self.bias is None else self.bias(view.num_keys, view.capacity, like),
            distances_RD=self.tables.distances(view.capacity, like),
            num_keys=view.num_keys,
        )

    def _rotation(self, span: Span, like: Tensor) -> Rotation | None:
        tables = self.tables.rotation(span.capacity, like)
        return None if tables is None else tuple(span.rows(table) for table in tables)
