"""Copy, reverse, recall: exact references, disjoint splits, lengths and distances, one seed one corpus."""

from __future__ import annotations

import pytest

from t2bench.quality.errors import DataError
from t2bench.quality.tasks import KEYS, SYMBOLS, VALUES, TaskSpec, make_task
from t2bench.quality.tokenizer import TokenizerSpec, make_tokenizer

SIZES = {"train": 2000, "val": 100, "test": 200}


def made(task, **changes):
    return make_task(TaskSpec(task=task, **SIZES | changes))


def rows(pairs):
    return [(source.split(), target.split()) for source, target in zip(pairs.source, pairs.target, strict=True)]


def splits(corpus):
    return (corpus.train, corpus.val, *corpus.tests)


def bounds(name):
    low, high = name.removeprefix("test[").removeprefix("d").removesuffix("]").split("-")
    return int(low), int(high)


@pytest.mark.parametrize("task", ["copy", "reverse", "recall"])
def test_a_seed_is_a_corpus_and_splits_are_disjoint(task):
    corpus = made(task)
    assert corpus == made(task)
    assert corpus.synthetic
    assert corpus.name == task
    sources = [source for pairs in splits(corpus) for source in pairs.source]
    assert len(sources) == len(set(sources)) == 2000 + 100 + 200 * len(corpus.tests)
    assert made(task, train=50).tests == corpus.tests
    assert made(task, seed=1).train.source != corpus.train.source


def test_strings_are_not_shared_where_there_are_few():
    corpus = make_task(TaskSpec(task="copy", train=300, val=100, test=200, lengths=(2, 2), test_lengths=((2, 2),)))
    sources = [source for pairs in splits(corpus) for source in pairs.source]
    assert len(sources) == len(set(sources)) == 600  # of 676


def test_a_change_of_the_default_strings_does_not_go_unseen():
    # A change of these is a change of the corpora: scores from before and after are not comparable.
    assert made("copy").tests[0].source_sha256[:16] == "0baf09a8de442f3c"
    assert made("recall").tests[0].source_sha256[:16] == "f36fcb5ae9e5a502"


def test_targets_are_the_source_and_the_source_backwards():
    copy, reverse = made("copy"), made("reverse")
    for pairs, turned in zip(splits(copy), splits(reverse), strict=True):
        assert pairs.target == pairs.source == turned.source
        assert all(target == source[::-1] for source, target in rows(turned))


def test_lengths_are_kept_and_all_used():
    corpus = made("copy")
    assert {len(source) for source, _ in rows(corpus.train)} == set(range(4, 21))
    assert [test.name for test in corpus.tests] == ["test[4-20]", "test[21-40]", "test[41-80]"]
    for test in corpus.tests:
        low, high = bounds(test.name)
        lengths = {len(source) for source, _ in rows(test)}
        assert low <= min(lengths) <= low + 2
        assert high - 2 <= max(lengths) <= high
    own = made("reverse", lengths=(2, 9), test_lengths=((10, 10), (30, 31)))
    assert {len(source) for source, _ in rows(own.train)} == set(range(3, 10)) | {2}
    assert [{len(source) for source, _ in rows(test)} for test in own.tests] == [{10}, {30, 31}]


def distance(source, target):
    """Symbols from the queried value to the query, by looking it up as a reader would."""
    *pairs, query = source
    table = dict(zip(pairs[::2], pairs[1::2], strict=True))
    assert len(table) == len(pairs) // 2  # no key twice: one answer
    assert [table[query]] == target
    return len(source) - 1 - (pairs.index(query) + 1)


def test_recall_asks_for_the_value_of_a_key_at_the_named_distance():
    corpus = made("recall")
    assert {distance(*row) for row in rows(corpus.train)} == set(range(1, 32, 2))
    assert {len(source) for source, _ in rows(corpus.train)} == set(range(5, 34, 2))
    assert [test.name for test in corpus.tests] == ["test[d1-8]", "test[d9-16]", "test[d17-32]", "test[d33-64]"]
    for test in corpus.tests:
        low, high = bounds(test.name)
        assert {distance(*row) for row in rows(test)} == {number for number in range(low, high + 1) if number % 2}
    # Where training has been, tests differ in nothing but the distance.
    assert [{len(source) for source, _ in rows(test)} for test in corpus.tests] == [{33}, {33}, {33}, {65}]


def test_recall_cannot_be_guessed_from_anything_else():
    corpus = made("recall", test=2000)
    answers = [target for _, (target,) in rows(corpus.tests[0])]
    assert max(answers.count(value) for value in VALUES) < 0.14 * len(answers)
    counts = [source[1:-1:2].count(target) / len(source[1:-1:2]) for source, (target,) in rows(corpus.tests[0])]
    assert sum(counts) / len(counts) < 0.2  # its own pair and chance: 1/16 + 0.9 * 15/16 / 10


@pytest.mark.parametrize(("task", "symbols"), [("copy", SYMBOLS), ("recall", (*KEYS, *VALUES))])
def test_a_symbol_is_a_bpe_token_and_char_has_no_unknown(task, symbols, tmp_path):
    corpus = made(task)
    lines = (*corpus.train.source, *corpus.train.target)
    bpe = make_tokenizer(TokenizerSpec(vocab=512), lines, cache=tmp_path)
    assert [len(ids) for ids in bpe.encode(corpus.tests[-1].source)] == [
        len(source) for source, _ in rows(corpus.tests[-1])
    ]
    assert len({tuple(ids) for ids in bpe.encode(symbols)}) == len(symbols)
    char = make_tokenizer(TokenizerSpec(kind="char", vocab=64), lines, cache=tmp_path)
    assert char.decode(char.encode(corpus.tests[-1].source)) == list(corpus.tests[-1].source)


@pytest.mark.parametrize(
    ("task", "changes", "said"),
    [
        ("copy", {"lengths": (1, 1), "test_lengths": ((4, 8),)}, "val wants 100 strings; there are about 26"),
        ("copy", {"lengths": (9, 5)}, "copy: lengths must be 1 <= fewest <= most, got 9, 5"),
        ("reverse", {"test_lengths": ((0, 5),)}, r"reverse: test\[0-5\] must be 1 <= fewest <= most, got 0, 5"),
        ("copy", {"val": 0}, "copy: val must be at least 1, got 0"),
        ("recall", {"lengths": (5, 200)}, "recall: lengths must be 3 <= fewest <= most <= 129, got 5, 200"),
        ("recall", {"lengths": (6, 6)}, "an odd number of symbols; got lengths 6 to 6"),
        ("recall", {"test_lengths": ((2, 2),)}, r"distances are the odd numbers .* to 127; \[2, 2\] is no range"),
        ("recall", {"test_lengths": ((1, 128),)}, r"\[1, 128\] is no range of them"),
        ("sort", {}, "no task sort; there are copy, reverse, recall"),
    ],
)
def test_what_cannot_be_made_is_refused(task, changes, said):
    with pytest.raises(DataError, match=said):
        made(task, **changes)
