"""Selection: which of the states that a training has passed through is judged.

    last      the weights as they are at the end
    best      those with the highest validation score; the earliest of equals
    average   the mean of the newest so many remembered ones, in float64 (Vaswani et al. 2017, section 6.1)

What is kept lies in the host's memory, so that it takes none from the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from t2bench.spec.quality import Recipe

Weights = dict[str, Tensor]


class Selection:
    """What is remembered of one training.

    Args:
        recipe: says what is needed.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._best_score = 0.0
        self._kept: list[tuple[int, Weights]] = []  # (step, weights): the best one, or the newest, oldest first

    def remember(self, model: nn.Module, step: int, score: float) -> None:
        """Keep the present weights if the recipe may need them. A step that is remembered again replaces itself."""
        if self._recipe.select == "best" and (not self._kept or score > self._best_score):
            self._kept, self._best_score = [(step, _copy(model))], score
        if self._recipe.select == "average":
            others = [entry for entry in self._kept if entry[0] != step]
            self._kept = [*others, (step, _copy(model))][-self._recipe.average :]

    def put(self, model: nn.Module, step: int) -> tuple[int, ...]:
        """Load the selected weights into the model.

        Args:
            model: the model, whose weights are those of `step`.
            step: updates so far.

        Returns:
            The steps that the weights are of.
        """
        if not self._kept:
            return (step,)
        model.load_state_dict(_mean([weights for _, weights in self._kept]))
        return tuple(at for at, _ in self._kept)

    @property
    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        kept = [{"step": step, "weights": weights} for step, weights in self._kept]
        return {"best_score": self._best_score, "kept": kept}

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` gave."""
        self._best_score = state["best_score"]
        self._kept = [(entry["step"], entry["weights"]) for entry in state["kept"]]


def _copy(model: nn.Module) -> Weights:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def _mean(states: list[Weights]) -> Weights:
    """Mean of the numbers; what counts (in integers) is that of the newest."""
    found = dict(states[-1])
    for name, newest in found.items():
        if newest.is_floating_point():
            total = torch.zeros(newest.shape, dtype=torch.float64)
            for state in states:
                total += state[name]
            found[name] = (total / len(states)).to(newest.dtype)
    return found
