"""Non-negative a + b L + c L^2 through positive values, in relative least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from t2bench.analysis.stats import Floats

# Every choice of terms that may be non-zero, as columns of (1, L, L^2).
TERMS: tuple[tuple[int, ...], ...] = tuple(terms for size in (1, 2, 3) for terms in combinations(range(3), size))
# A relative residual below this is rounding: fits this good are equal, and the one with fewer terms is taken.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """One choice of terms, fitted.

    Attributes:
        terms: columns of (1, L, L^2) that may be non-zero.
        coefficients: (3,), zero outside `terms`.
        misses: (n,), fitted / value - 1.
    """

    terms: tuple[int, ...]
    coefficients: Floats
    misses: Floats

    @property
    def residual(self) -> float:
        """Largest relative deviation from a value."""
        return float(np.abs(self.misses).max())


def projections(lengths: Sequence[int], values: Floats, terms: Sequence[int]) -> Floats:
    """(3, n): the relative least-squares coefficients are these rows times the values, weights 1 / value^2."""
    scale = float(max(lengths))
    unit = np.array(lengths, dtype=np.float64) / scale  # in units of the longest, or L^2 would swamp the rest
    powers = np.stack([np.ones_like(unit), unit, unit**2], axis=1)
    rows = np.zeros((3, len(lengths)))
    chosen = list(terms)
    rows[chosen] = np.linalg.pinv(powers[:, chosen] / values[:, None]) / values
    return rows / scale ** np.arange(3)[:, None]


def feasible_fits(lengths: Sequence[int], values: Floats) -> tuple[Fit, ...]:
    """The fits of all choices of terms that have no negative coefficient.

    One of them is the non-negative least-squares optimum (`best`): that is the unconstrained solution on its own
    support, so with three terms trying all seven supports is both simple and exact.
    """
    powers = np.stack([np.array(lengths, dtype=np.float64) ** power for power in range(3)], axis=1)
    found = []
    for terms in TERMS:
        coefficients = projections(lengths, values, terms) @ values
        if (coefficients >= 0).all():
            found.append(Fit(terms, coefficients, powers @ coefficients / values - 1.0))
    return tuple(found)


def best(fits: Sequence[Fit]) -> Fit:
    """The non-negative least-squares optimum."""
    return min(fits, key=lambda fit: float(fit.misses @ fit.misses))


def most_supported(fits: Sequence[Fit], num_launches: Sequence[int], scatter: float) -> Fit:
    """The fit with the lowest AICc (Hurvich & Tsai 1989): terms that the data do not support are dropped.

    Args:
        fits: candidates, at least one.
        num_launches: launches behind each value; each counts as one observation.
        scatter: sum over launches of squared relative deviations from their length's value (pure error).
    """
    count = sum(num_launches)

    def score(fit: Fit) -> float:
        parameters = len(fit.terms) + 1  # the variance is one more
        spare = count - parameters - 1
        misfit = float(np.array(num_launches) @ fit.misses**2) + scatter
        likelihood = count * float(np.log(max(misfit / count, _ROUNDING**2)))
        return likelihood + 2.0 * parameters + 2.0 * parameters * (parameters + 1) / spare if spare > 0 else np.inf

    scores = [score(fit) for fit in fits]
    return fits[int(np.argmin(scores))] if np.isfinite(min(scores)) else best(fits)
