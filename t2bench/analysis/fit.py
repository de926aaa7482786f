"""Non-negative a + b L + c L^2: the fit behind the timed scaling, for many draws at once."""

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
class SubsetFits:
    """Least squares for every choice of terms, for D draws of the values.

    Attributes:
        coefficients: (D, 7, 3), zero outside the choice.
        residuals: (D, 7, n), relative: fitted / value of the point estimate - drawn / value of the point estimate.
        feasible: (D, 7), no coefficient is negative.
    """

    coefficients: Floats
    residuals: Floats
    feasible: np.ndarray


def fit_subsets(lengths: Sequence[int], values: Floats, draws: Floats) -> SubsetFits:
    """Relative least squares of each draw, weights 1 / value^2.

    Args:
        lengths: n lengths.
        values: n positive values that set the weights.
        draws: (D, n) values to fit; one row with `values` themselves gives the point estimate.
    """
    scale = float(max(lengths))
    unit = np.array(lengths, dtype=np.float64) / scale  # in units of the longest, or L^2 would swamp the rest
    powers = np.stack([np.ones_like(unit), unit, unit**2], axis=1)
    design = powers / values[:, None]
    targets = draws / values
    coefficients = np.zeros((len(draws), len(TERMS), 3))
    for index, terms in enumerate(TERMS):
        coefficients[:, index, terms] = targets @ np.linalg.pinv(design[:, terms]).T
    residuals = coefficients @ design.T - targets[:, None, :]
    feasible = (coefficients >= 0).all(axis=2)
    return SubsetFits(coefficients / scale ** np.arange(3), residuals, feasible)


def nonnegative(fits: SubsetFits) -> Floats:
    """Non-negative least squares, exactly: the best feasible choice of terms. (D, 3).

    The optimum is the unconstrained solution on its own support, and every feasible solution is a candidate, so with
    three terms trying all seven supports is both simple and exact.
    """
    squares = np.where(fits.feasible, (fits.residuals**2).sum(axis=2), np.inf)
    best: Floats = fits.coefficients[np.arange(len(squares)), squares.argmin(axis=1)]
    return best


def choose_terms(fits: SubsetFits, num_launches: Sequence[int], scatter: float) -> int:
    """The feasible choice of terms with the lowest AICc (Hurvich & Tsai 1989) for the first draw: index into TERMS.

    Args:
        fits: of which the first draw is the point estimate.
        num_launches: launches behind each length: each counts as one observation.
        scatter: sum over launches of squared relative deviations from their length's value (pure error).
    """
    count = sum(num_launches)
    scores = []
    for index, terms in enumerate(TERMS):
        parameters = len(terms) + 1  # the variance is one more
        spare = count - parameters - 1
        if not fits.feasible[0, index] or spare <= 0:
            scores.append(np.inf)
            continue
        misfit = float(np.array(num_launches) @ fits.residuals[0, index] ** 2) + scatter
        mean_square = max(misfit / count, _ROUNDING**2)
        penalty = 2.0 * parameters + 2.0 * parameters * (parameters + 1) / spare
        scores.append(count * float(np.log(mean_square)) + penalty)
    return int(np.argmin(scores))
