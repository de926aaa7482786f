from collections import Counter
from itertools import islice

import pytest

from t2bench.runner.order import rounds


@pytest.mark.parametrize("num_variants", [1, 2, 3, 5, 8])
def test_every_block_gives_each_variant_each_position_once(num_variants):
    orders = list(islice(rounds(num_variants, seed="s"), 4 * num_variants))
    for start in range(0, len(orders), num_variants):
        block = orders[start : start + num_variants]
        for position in range(num_variants):
            assert sorted(order[position] for order in block) == list(range(num_variants))


def test_orders_are_permutations_and_repeat_with_the_seed():
    first = list(islice(rounds(4, seed="a"), 12))
    assert all(sorted(order) == [0, 1, 2, 3] for order in first)
    assert first == list(islice(rounds(4, seed="a"), 12))
    assert first != list(islice(rounds(4, seed="b"), 12))


def test_orders_are_random_within_the_balance():
    # every one of the 6 orders of 3 variants turns up over many blocks, none far more often than its share
    counts = Counter(islice(rounds(3, seed="x"), 3000))
    assert len(counts) == 6
    assert max(counts.values()) < 2 * min(counts.values())
