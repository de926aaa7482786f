"""Who measures when: seeded, balanced random orders.

Every variant of a group takes one turn per round. Orders come in blocks of V rounds (V variants) that form a random
Latin square, so that within a block each variant stands at each position exactly once: neither being first in a round
nor following a particular neighbour can favour anyone systematically.
"""

from __future__ import annotations

import random
from collections.abc import Iterator


def rounds(num_variants: int, *, seed: str) -> Iterator[tuple[int, ...]]:
    """Endless rounds, each a permutation of range(num_variants); every block of num_variants rounds is balanced.

    Args:
        num_variants: variants V that take turns, at least 1.
        seed: any text; equal seeds give equal orders.
    """
    generator = random.Random(seed)
    while True:
        symbols = generator.sample(range(num_variants), num_variants)
        shifts = generator.sample(range(num_variants), num_variants)
        columns = generator.sample(range(num_variants), num_variants)
        for shift in shifts:
            yield tuple(symbols[(column + shift) % num_variants] for column in columns)
