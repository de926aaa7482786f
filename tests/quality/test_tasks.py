"""Copy, reverse, recall: exact references, disjoint splits, lengths and distances, one seed one corpus."""

from __future__ import annotations

import pytest

from t2bench.quality.errors import DataError
from t2bench.quality.scoring import quick_bleu
from t2bench.quality.tasks import DIGITS, KEYS, SYMBOLS, TaskSpec, make_task
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
    assert made("recall").tests[0].source_sha256[:16] == "bf9809b7b9acda6b"


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


def groups(source):
    return (len(source) - 1) // 5


def distance(source, target):
    """Groups from the queried one to the query, by looking it up as a reader would."""
    *body, query = source
    keys = body[::5]
    assert len(body) == 5 * len(set(keys))  # no key twice: one answer
    place = keys.index(query)
    assert target == body[5 * place + 1 : 5 * place + 5]
    assert all(word in DIGITS for word in target)
    return len(keys) - place


def test_recall_asks_for_the_value_of_a_key_at_the_named_distance():
    corpus = made("recall")
    assert {distance(*row) for row in rows(corpus.train)} == set(range(1, 5))
    assert {len(source) for source, _ in rows(corpus.train)} == {5 * count + 1 for count in range(2, 5)}
    assert [test.name for test in corpus.tests] == ["test[d1-2]", "test[d3-4]", "test[d5-8]"]
    for test in corpus.tests:
        low, high = bounds(test.name)
        assert {distance(*row) for row in rows(test)} == set(range(low, high + 1))
    # Where training has been, tests differ in nothing but the distance.
    assert [{groups(source) for source, _ in rows(test)} for test in corpus.tests] == [{4}, {4}, {8}]
    own = made("recall", lengths=(3, 5), test_lengths=((2, 2), (4, 6)))
    assert {groups(source) for source, _ in rows(own.train)} == {3, 4, 5}
    assert [test.name for test in own.tests] == ["test[d2-2]", "test[d4-6]"]
    assert [{groups(source) for source, _ in rows(test)} for test in own.tests] == [{5}, {6}]
    assert {distance(*row) for row in rows(own.tests[1])} == {4, 5, 6}


def test_every_number_of_groups_and_every_group_is_asked_for_equally_often():
    train = rows(made("recall", train=3000).train)
    for count in range(2, 5):
        places = [distance(*row) for row in train if groups(row[0]) == count]
        assert 850 < len(places) < 1150  # 1000 of 3000, five standard deviations
        for place in range(1, count + 1):
            assert abs(places.count(place) - len(places) / count) < 5 * (len(places) / count) ** 0.5


def test_an_exact_answer_has_a_bleu_and_another_has_less():
    corpus = made("recall")
    answers = corpus.tests[0].target
    assert quick_bleu(answers, answers) == pytest.approx(100)
    assert quick_bleu(answers[::-1], answers) < 5


def test_recall_cannot_be_guessed_from_anything_else():
    corpus = made("recall", test=2000)
    answers = [target for _, target in rows(corpus.tests[0])]
    for place in range(4):  # every digit a tenth of the time, wherever it stands
        digits = [answer[place] for answer in answers]
        assert all(0.07 < digits.count(digit) / len(digits) < 0.13 for digit in DIGITS)
    assert max(answers.count(answer) for answer in answers) <= 5  # of 2,000 draws from 10,000
    keys = [source[-1] for source, _ in rows(corpus.tests[0])]
    assert max(keys.count(key) for key in KEYS) < 2 * len(keys) / len(KEYS)


@pytest.mark.parametrize(("task", "symbols"), [("copy", SYMBOLS), ("recall", (*KEYS, *DIGITS))])
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
        ("recall", {"lengths": (5, 33)}, r"recall: lengths must be 1 <= fewest <= most <= 32 \(in groups.*got 5, 33"),
        ("recall", {"lengths": (6, 5)}, "recall: lengths must be 1 <= fewest <= most <= 32 .* got 6, 5"),
        ("recall", {"test_lengths": ((0, 2),)}, r"recall: test\[d0-2\] must be 1 <= fewest <= most .* got 0, 2"),
        ("recall", {"test_lengths": ((1, 33),)}, r"recall: test\[d1-33\] must be .* <= 32 .* got 1, 33"),
        ("sort", {}, "no task sort; there are copy, reverse, recall"),
    ],
)
def test_what_cannot_be_made_is_refused(task, changes, said):
    with pytest.raises(DataError, match=said):
        made(task, **changes)
