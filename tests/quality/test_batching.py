"""Token buckets: budget, completeness, order that variants share, resuming, layouts, padding."""

from __future__ import annotations

import json

import numpy as np
import pytest

from t2bench.models.loss import IGNORE as LOSS_IGNORE
from t2bench.quality.batching import IGNORE, BatchStream, EncodedPairs, Ragged, gather, plan_batches
from t2bench.quality.corpora import read_corpus
from t2bench.quality.errors import DataError
from t2bench.quality.tokenizer import BOS, EOS, PAD, TokenizerSpec, make_tokenizer


def pairs_of(count=3000, *, seed=0, longest=60):
    """Pairs whose sides have like lengths, as translations have."""
    random = np.random.default_rng(seed)
    source = np.clip(random.gamma(4.0, 4.0, count), 1, longest).astype(int)
    target = np.clip(source * random.normal(1.05, 0.15, count), 1, longest).astype(int)
    rows = [[random.integers(4, 500, n).tolist() for n in side] for side in (source, target)]
    return EncodedPairs(source=Ragged.of(rows[0]), target=Ragged.of(rows[1]))


@pytest.fixture(scope="module")
def pairs():
    return pairs_of()


def test_labels_are_ignored_as_the_loss_ignores_them():
    assert IGNORE == LOSS_IGNORE


def test_rows_of_ids_come_back(tmp_path):
    rows = [[5, 6], [], [7], [8, 9, 10]]
    ragged = Ragged.of(rows)
    assert [ragged[place].tolist() for place in range(len(ragged))] == rows
    assert ragged.lengths.tolist() == [2, 0, 1, 3]
    written = EncodedPairs(source=ragged, target=Ragged.of(rows[::-1]))
    written.save(tmp_path / "pairs.npz")
    read = EncodedPairs.load(tmp_path / "pairs.npz")
    assert [read.target[place].tolist() for place in range(4)] == rows[::-1]
    assert read.source.flat.dtype == np.int32


def test_every_pair_once_an_epoch_and_never_above_the_budget(pairs):
    plan = plan_batches(pairs, tokens=512, seed=1)
    for number in range(3):
        batches = plan.epoch(number)
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(pairs)))
        for rows in batches:
            batch = gather(pairs, rows)
            assert max(batch.source_BS.size, batch.input_BT.size) <= 512
    assert sorted(np.concatenate(plan.in_order()).tolist()) == list(range(len(pairs)))


def test_order_follows_seed_and_epoch_and_nothing_else(pairs):
    first, again = (plan_batches(pairs, tokens=512, seed=1) for _ in range(2))
    assert [rows.tolist() for rows in first.epoch(4)] == [rows.tolist() for rows in again.epoch(4)]
    np.random.seed(0)  # global state must not matter
    assert first.digest(4) == again.digest(4)
    digests = {first.digest(0), first.digest(1), plan_batches(pairs, tokens=512, seed=2).digest(0)}
    assert len(digests) == 3
    assert first.digest(0) == "c871bb77fcbaea26"  # a change of this changes the data order of every run


def test_batches_are_shuffled(pairs):
    plan = plan_batches(pairs, tokens=512, seed=1)
    longest = [plan.source_lengths[rows].max() for rows in plan.epoch(0)]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.4
    together = [{frozenset(rows.tolist()) for rows in plan.epoch(number)} for number in (0, 1)]
    assert len(together[0] & together[1]) < len(together[0]) / 10  # other pairs meet in each epoch


def test_little_padding(pairs):
    plan = plan_batches(pairs, tokens=1024, seed=1)
    assert plan.padding_share(plan.epoch(0)) < 0.06
    shuffled = np.array_split(np.random.default_rng(0).permutation(len(pairs)), 64)
    assert plan.padding_share(shuffled) > 0.4
    by_hand = gather(pairs, shuffled[0])
    real = (by_hand.source_BS != PAD).sum() + (by_hand.labels_BT != IGNORE).sum()
    assert plan.padding_share([shuffled[0]]) == pytest.approx(
        1 - real / (by_hand.source_BS.size + by_hand.input_BT.size)
    )


def test_a_batch_by_hand():
    pairs = EncodedPairs(source=Ragged.of([[7, 8], [9]]), target=Ragged.of([[5], [6, 7, 8]]))
    batch = gather(pairs, np.array([1, 0]))
    assert batch.source_BS.tolist() == [[9, EOS, PAD], [7, 8, EOS]]
    assert batch.input_BT.tolist() == [[BOS, 6, 7, 8], [BOS, 5, PAD, PAD]]
    assert batch.labels_BT.tolist() == [[6, 7, 8, EOS], [5, EOS, IGNORE, IGNORE]]
    assert batch.source_lengths_B.tolist() == [2, 3]
    assert batch.target_lengths_B.tolist() == [4, 2]
    packed = batch.packed()
    assert packed.source_1N.tolist() == [[9, EOS, 7, 8, EOS]]
    assert packed.input_1N.tolist() == [[BOS, 6, 7, 8, BOS, 5]]
    assert packed.labels_1N.tolist() == [[6, 7, 8, EOS, 5, EOS]]
    assert packed.rows.tolist() == batch.rows.tolist() == [1, 0]
    assert packed.target_lengths_B.sum() == packed.input_1N.shape[1]
    wide = gather(pairs, np.array([1, 0]), multiple=8)
    assert wide.source_BS.shape == wide.labels_BT.shape == (2, 8)
    assert wide.packed().labels_1N.tolist() == packed.labels_1N.tolist()


def test_a_stream_continues_exactly_where_it_was(pairs):
    plan = plan_batches(pairs, tokens=2048, seed=1)
    count = len(plan.epoch(0)) + len(plan.epoch(1)) // 2
    whole = BatchStream(pairs, plan)
    expected = [next(whole).rows.tolist() for _ in range(count + 20)]
    two_epochs = [rows.tolist() for number in (0, 1) for rows in plan.epoch(number)]
    assert expected[: len(two_epochs)] == two_epochs[: len(expected)]
    for stop in (0, 3, len(plan.epoch(0)), count):
        first = BatchStream(pairs, plan)
        seen = [next(first).rows.tolist() for _ in range(stop)]
        second = BatchStream(pairs, plan, state=json.loads(json.dumps(first.state)))
        seen += [next(second).rows.tolist() for _ in range(count + 20 - stop)]
        assert seen == expected


def test_long_pairs_are_left_out_and_counted(pairs):
    plan = plan_batches(pairs, tokens=512, seed=0, max_length=20)
    used = np.concatenate(plan.epoch(0))
    assert max(plan.source_lengths[used].max(), plan.target_lengths[used].max()) == 20
    assert plan.num_too_long == len(pairs) - len(used) > 0
    with pytest.raises(DataError, match="no sentence pair has at most 1 tokens a side; the shortest has"):
        plan_batches(pairs, tokens=1, seed=0)


def test_a_batch_may_be_one_pair_as_long_as_the_budget():
    pairs = EncodedPairs(source=Ragged.of([[5] * 15, [5] * 15]), target=Ragged.of([[5], [5]]))
    assert sorted(len(rows) for rows in plan_batches(pairs, tokens=16, seed=0).epoch(0)) == [1, 1]


def test_padding_on_multi30k(real, tmp_path):
    corpus = read_corpus(real("multi30k"), direction="en-de")
    tokenizer = make_tokenizer(TokenizerSpec(vocab=8000), [*corpus.train.source, *corpus.train.target], cache=tmp_path)
    sides = (Ragged.of(tokenizer.encode(side)) for side in (corpus.train.source, corpus.train.target))
    plan = plan_batches(EncodedPairs(source=next(sides), target=next(sides)), tokens=4096, seed=0)
    for number in range(3):
        assert plan.padding_share(plan.epoch(number)) <= 0.06
