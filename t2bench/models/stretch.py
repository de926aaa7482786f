"""How rope is stretched to texts longer than those it was trained on: other frequencies f_i, s the scaling factor.

    linear  f_i / s                                                       Chen et al. 2023 (arXiv 2306.15595)
    ntk     theta' = theta s^(R / (R - 2)): the fastest pair keeps its frequency, the slowest is divided by s
                                                                          bloc97 2023; Peng et al. 2023, section 3.1
    yarn    f_i / s for pairs that turn less than once in the original length, f_i for those that turn more than 32
            times, a straight line over i in between; queries and keys are both longer by 0.1 ln s + 1, which sharpens
            the softmax                                                   Peng et al. 2023 (arXiv 2309.00071)
    llama3  the same idea by wavelength: above original / 1 divided by s, below original / 4 kept, in between blended
            by 1 / wavelength                                             Llama 3.1 (Grattafiori et al. 2024)

Shape letters: P pairs of rotated features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from t2bench.spec.axes import PositionSpec

YARN_FAST, YARN_SLOW = 32.0, 1.0  # turns in the original length (Peng et al. 2023, section 3.2)
LLAMA3_LOW, LLAMA3_HIGH = 1.0, 4.0  # wavelengths as shares of the original length


def stretched(frequency_P: Tensor, position: PositionSpec) -> tuple[Tensor, float]:
    """Frequencies after scaling, float64, and the factor on the length of queries and keys."""
    factor, num_features = position.scaling_factor, 2 * frequency_P.shape[0]
    if position.scaling == "none" or factor == 1.0:
        return frequency_P, 1.0
    if position.scaling == "linear":
        return frequency_P / factor, 1.0
    if position.scaling == "ntk":
        pair_P = torch.arange(0, num_features, 2, dtype=torch.float64, device=frequency_P.device)
        return frequency_P * factor ** (-pair_P / (num_features - 2)), 1.0
    if position.scaling == "yarn":
        kept_P = 1.0 - _yarn_ramp(frequency_P, position)
        return frequency_P * kept_P + frequency_P / factor * (1.0 - kept_P), 0.1 * math.log(factor) + 1.0
    kept_P = (position.original_len * frequency_P / (2 * math.pi) - LLAMA3_LOW) / (LLAMA3_HIGH - LLAMA3_LOW)
    kept_P = kept_P.clamp(0.0, 1.0)
    return frequency_P * kept_P + frequency_P / factor * (1.0 - kept_P), 1.0


def _yarn_ramp(frequency_P: Tensor, position: PositionSpec) -> Tensor:
    """0 for pairs that are left alone, 1 for those that are divided by the factor."""
    num_features = 2 * frequency_P.shape[0]

    def pair_that_turns(times: float) -> float:
        longest = position.original_len / (times * 2 * math.pi)
        return num_features * math.log(longest) / (2 * math.log(position.theta))

    low = max(math.floor(pair_that_turns(YARN_FAST)), 0)
    high = min(math.ceil(pair_that_turns(YARN_SLOW)), num_features - 1)
    index_P = torch.arange(num_features // 2, dtype=torch.float64, device=frequency_P.device)
    return ((index_P - low) / max(high - low, 1e-3)).clamp(0.0, 1.0)
