"""Every position has a vector of its own: no two of a long text are rounded to the same, or lie near to one another.

The squared distance of two positions depends on their offset n only: sum over pairs of 2 (1 - cos(n f_i)), with
f_i = theta^(-2i/D), because each pair is a point on a circle (Vaswani et al. 2017, section 3.5). So the distances from
the first position are those of all pairs.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from t2bench.models.position import PositionTables, rotate
from t2bench.spec.axes import PairLayout, PositionKind, PositionSpec
from t2bench.spec.model import ModelSpec

LENGTH = 32768
LAYOUTS = ["interleaved", "halves"]
KINDS = ["sinusoidal", "rope"]


def vectors(kind: PositionKind, layout: PairLayout, dtype: torch.dtype) -> tuple[Tensor, int]:
    """Each position's vector (LENGTH, features), and the number of features that turn: what is added to an embedding,
    or what a query of ones becomes."""
    spec = ModelSpec(position=PositionSpec(kind=kind, layout=layout))
    tables = PositionTables(spec)
    if kind == "sinusoidal":
        table_TD = tables.sinusoid(LENGTH, torch.zeros((), dtype=dtype))
        assert table_TD is not None
        return table_TD, spec.width
    x_BTHK = torch.ones(1, LENGTH, 1, spec.dim_per_head, dtype=dtype)
    rotation = tables.rotation(LENGTH, x_BTHK)
    assert rotation is not None
    return rotate(x_BTHK, rotation)[0, :, 0], spec.rotary_dim


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_two_positions_are_rounded_to_one_vector(kind: PositionKind, layout: PairLayout, dtype: torch.dtype) -> None:
    rows = vectors(kind, layout, dtype)[0].contiguous().view(torch.uint8).numpy()
    assert len({row.tobytes() for row in rows}) == LENGTH


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_all_pairs_are_as_far_apart_as_the_equation_says(kind: PositionKind, layout: PairLayout) -> None:
    table_TD, features = vectors(kind, layout, torch.float64)
    frequency_P = 10000.0 ** (-np.arange(0, features, 2) / features)
    radius = 1.0 if kind == "sinusoidal" else 2.0  # squared, of each pair's circle
    offset_T = np.arange(LENGTH)[:, None]
    wanted_T = np.sqrt((radius * 2 * (1 - np.cos(offset_T * frequency_P))).sum(1))
    assert wanted_T[1:].min() > 0.5
    for first in (0, 1000):
        found_T = (table_TD[first:] - table_TD[first]).norm(dim=1).numpy()
        np.testing.assert_allclose(found_T, wanted_T[: LENGTH - first], atol=1e-6)
