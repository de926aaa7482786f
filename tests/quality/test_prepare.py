"""Preparing a corpus: what is kept, split, tokenised, saved and recorded, and what is refused in one line."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest

from t2bench.quality.batching import EncodedPairs
from t2bench.quality.corpora import MAX_LINE_CHARS
from t2bench.quality.errors import DataError
from t2bench.quality.prepare import prepare
from t2bench.spec.quality import CorpusSpec

SIZES = {"vocab": 300, "max_length": 64, "tokens": 256}
WORDS = ["One", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def sides(count, *, first=0):
    """Sentences of 1 to 10 words in turn, and their translations."""
    lengths = [row % 10 + 1 for row in range(first, first + count)]
    english = [" ".join([*WORDS[: length - 1], f"n{row}"]) for row, length in enumerate(lengths, start=first)]
    return english, [line.replace("o", "\u00f6") for line in english]


def files(**counts):
    """Contents of a corpus in Finnish and Welsh."""
    written = {}
    for place, (split, count) in enumerate(({"train": 60, "val": 20, "test_a": 30, "test_b": 20} | counts).items()):
        for language, lines in zip(("cy", "fi"), sides(count, first=100 * place), strict=True):
            written[f"{split}.{language}"] = "".join(f"{line}\n" for line in lines).encode()
    return written


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("T2BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def corpus(tmp_path):
    """Write a corpus that nobody tuned for, with some files changed (bytes) or left out (None)."""

    def write(**changes):
        root = tmp_path / "data" / "unseen"
        root.mkdir(parents=True)
        for name, data in (files() | {key.replace("__", "."): value for key, value in changes.items()}).items():
            if data is not None:
                (root / name).write_bytes(data)
        return root.parent

    return write


@pytest.fixture
def prepared(tmp_path):
    def call(data=None, **fields):
        sizes = SIZES | {key: fields.pop(key) for key in SIZES if key in fields}
        return prepare(CorpusSpec(**fields), data=data, folder=tmp_path / "ids", **sizes)

    return call


@pytest.mark.parametrize("tokenizer", ["bpe", "unigram", "char", "byte"])
def test_an_unseen_corpus_comes_back_from_its_files(corpus, prepared, tokenizer):
    made = prepared(corpus(), name="unseen", direction="fi-cy", tokenizer=tokenizer)
    assert list(made.files) == ["train", "val", "test_a", "test_b"]
    for pairs in (made.corpus.train, made.corpus.val, *made.corpus.tests):
        loaded = EncodedPairs.load(made.files[pairs.name])
        ids = ([loaded.source[row] for row in range(len(loaded))], [loaded.target[row] for row in range(len(loaded))])
        assert tuple(made.tokenizer.decode(ids[0])) == pairs.source
        assert tuple(made.tokenizer.decode(ids[1])) == pairs.target
        assert max(int(row.max()) for side in ids for row in side) < made.tokenizer.vocab <= 300
    assert made.corpus.tests[0].source == tuple(sides(30, first=200)[1])


def test_the_record_says_all_that_decides_a_score(corpus, prepared):
    data = corpus()
    made = prepared(data, name="unseen", tokenizer="char", pairs=25, max_length=40)
    record = json.loads(json.dumps(made.record, allow_nan=False))
    assert (record["corpus"], record["synthetic"], record["direction"]) == ("unseen", False, "cy-fi")
    raw = (data / "unseen" / "train.cy").read_bytes()
    assert record["splits"]["train"]["source_sha256"] == hashlib.sha256(raw).hexdigest()
    used = record["used"]["train"]
    assert (used["pairs"], used["left_out"]) == (25, 35)
    head = b"".join(raw.splitlines(keepends=True)[:25])
    assert used["source_sha256"] == hashlib.sha256(head).hexdigest()
    lengths = [len(line) + 1 for line in made.corpus.train.source]  # a token for each character, and the end id
    fits = [length for length in lengths if length <= 40]
    assert used["longest_source"] == max(lengths)
    assert record["batches"]["pairs"] == len(fits) < 25
    assert record["batches"]["too_long"] == 25 - len(fits)
    assert record["batches"]["source_tokens"] == record["batches"]["target_tokens"] == sum(fits)
    assert record["tokenizer"] == {"kind": "char", "vocab": made.tokenizer.vocab, "key": made.tokenizer.key}
    assert record["max_length"] == 40
    assert record["used"]["val"]["in_training"] == 0
    assert record["used"]["val"]["unknown"] == 0


def test_the_same_settings_give_the_same_bytes_and_others_another_record(corpus, prepared):
    data = corpus()
    first = prepared(data, name="unseen")
    bytes_before = {name: path.read_bytes() for name, path in first.files.items()}
    again = prepared(data, name="unseen")
    assert again.record == first.record
    assert {name: path.read_bytes() for name, path in again.files.items()} == bytes_before
    for change in ({"lowercase": True}, {"pairs": 30}, {"lengths": (1, 9)}, {"direction": "fi-cy"}):
        other = prepared(data, name="unseen", **change)
        assert other.record["used"]["train"] != first.record["used"]["train"]
        assert other.record["splits"].keys() == first.record["splits"].keys()


def test_overlap_with_training_and_unknown_tokens_are_counted(corpus, prepared):
    english, finnish = sides(3)
    leaked = [*english[1:], "n1 n0"]
    data = corpus(
        test_a__cy="".join(f"{line}\n" for line in leaked).encode(),
        test_a__fi="".join(f"{line}!?\n" for line in finnish).encode(),
    )
    used = prepared(data, name="unseen", tokenizer="char").record["used"]
    assert used["test_a"]["in_training"] == 2
    assert used["test_a"]["unknown"] == 6


def test_the_tokenizer_is_made_of_training_text_and_nothing_else(corpus, prepared):
    """Each other file has a letter of its own in each line, which must stay unknown."""
    counts = {"val": 20, "test_a": 30, "test_b": 20}
    letters = iter("\u0105\u0107\u0119\u0142\u0144\u015b")
    changes = {
        f"{split}__{language}": "".join(f"{line} {letter}\n" for line in lines).encode()
        for split, count in counts.items()
        for language, lines, letter in zip(("cy", "fi"), sides(count), letters, strict=False)
    }
    assert len({data.decode()[-2] for data in changes.values()}) == 6
    made = prepared(corpus(**changes), name="unseen", tokenizer="char")
    used = made.record["used"]
    assert {split: used[split]["unknown"] for split in counts} == {split: 2 * count for split, count in counts.items()}
    assert set(made.tokenizer.pieces[4:]) == set("".join(made.corpus.train.source + made.corpus.train.target))


def test_lowercasing_comes_before_the_tokenizer_and_the_references(corpus, prepared):
    made = prepared(corpus(), name="unseen", lowercase=True, tokenizer="char")
    assert "o" in made.tokenizer.pieces
    assert "O" not in made.tokenizer.pieces
    assert made.corpus.tests[0].target[1].startswith("one ")
    assert made.record["lowercase"] is True


def test_lengths_filter_what_is_learnt_and_the_tokenizer_sees_only_that(corpus, prepared):
    made = prepared(corpus(), name="unseen", lengths=(2, 4), pairs=10, tokenizer="char")
    for pairs in (made.corpus.train, made.corpus.val):
        assert {len(line.split()) for line in pairs.source} == {2, 3, 4}
    assert made.corpus.train.source == tuple(line for line in sides(60)[0] if 2 <= len(line.split()) <= 4)[:10]
    assert max(len(line.split()) for line in made.corpus.tests[0].source) == 10  # tests are as they were
    assert "g" not in made.tokenizer.pieces  # of `eight`, which no short sentence has
    assert made.record["used"]["test_a"]["unknown"] > 0


def test_test_sets_are_split_by_source_words(corpus, prepared):
    data = corpus()
    made = prepared(data, name="unseen", test_lengths=((1, 3), (4, 100)))
    names = ["test_a[1-3]", "test_a[4-100]", "test_b[1-3]", "test_b[4-100]"]
    assert [test.name for test in made.corpus.tests] == names
    assert list(made.files) == ["train", "val", *names]
    assert [len(test) for test in made.corpus.tests] == [9, 21, 6, 14]
    assert {len(line.split()) for line in made.corpus.tests[0].source} == {1, 2, 3}
    assert made.record["used"]["test_b[4-100]"]["left_out"] == 6
    chosen = prepared(data, name="unseen", tests=("test_b",), test_lengths=((5, 5),))
    assert [test.name for test in chosen.corpus.tests] == ["test_b[5-5]"]


def test_the_validation_set_is_val_whatever_its_files_are_called(corpus, prepared):
    data = corpus()
    for language in ("cy", "fi"):
        (data / "unseen" / f"val.{language}").rename(data / "unseen" / f"dev.{language}")
    made = prepared(data, name="unseen", lengths=(1, 5))
    assert list(made.files) == ["train", "val", "test_a", "test_b"]
    assert made.corpus.val.name == "val"
    assert "dev" in made.record["splits"]
    assert (made.record["used"]["val"]["pairs"], made.record["used"]["val"]["left_out"]) == (10, 10)


def test_made_corpora_are_made_as_asked(prepared):
    made = prepared(name="synthetic", pairs=200, vocab=2000, direction="sov-svo", test_lengths=((4, 8), (20, 30)))
    assert made.record["synthetic"] is True
    assert made.record["direction"] == "sov-svo"
    assert [test.name for test in made.corpus.tests] == ["test[4-8]", "test[20-30]"]
    assert len(made.corpus.train) == 200
    assert {len(line.split()) for line in made.corpus.tests[0].target} <= set(range(4, 9))
    short = prepared(name="reverse", pairs=100, lengths=(2, 3), test_lengths=((7, 7),), tokenizer="char")
    assert {len(line.split()) for line in short.corpus.train.source} == {2, 3}
    assert short.record["splits"]["test[7-7]"]["pairs"] == 1000
    assert all(used["left_out"] == 0 for used in short.record["used"].values())
    recall = prepared(name="recall", pairs=100, vocab=512)
    assert recall.corpus.tests[0].name == "test[d1-2]"


def test_a_built_in_name_wins_and_a_path_selects_the_folder(corpus, prepared):
    data = corpus()
    (data / "unseen").rename(data / "copy")
    assert prepared(data, name="copy", pairs=50).record["synthetic"] is True
    assert prepared(data, name=str(data / "copy")).record["synthetic"] is False


LONG = b"x" * (MAX_LINE_CHARS + 1)


@pytest.mark.parametrize(
    ("changes", "fields", "said"),
    [
        # of the folder
        ({"train__fi": b"yksi\n"}, {}, r"train\.cy has 60 lines and train\.fi has 1"),
        ({"val__fi": b"a\n\n" * 10}, {}, r"val\.fi:2: an empty line \(and 9 more\)"),
        ({"train__cy": b"\xff\n" * 60}, {}, r"train\.cy:1: not UTF-8 text"),
        ({"test_a__cy": LONG}, {}, r"test_a\.cy:1: a line of 10001 characters"),
        ({"val__cy": None, "val__fi": None}, {}, r"missing val\.cy, val\.fi"),
        ({"train__cy": None, "val__cy": None, "test_a__cy": None, "test_b__cy": None}, {}, "needs two languages"),
        ({f"test_{x}__{y}": None for x in "ab" for y in ("cy", "fi")}, {}, "no test set in cy and fi"),
        ({"val__cy.gz": gzip.compress(b"x\n")}, {}, r"val\.cy and val\.cy\.gz are the same split"),
        # of what was asked for
        ({}, {"name": "unsen"}, "no corpus unsen in .*, did you mean unseen"),
        ({}, {"direction": "fi-en"}, "no direction fi-en"),
        ({}, {"tests": ("test_c",)}, "no test set test_c in cy and fi"),
        ({}, {"tests": ("test_a", "test_a")}, "tests: a test set is there twice"),
        (
            {},
            {"lengths": (30, 40)},
            "unseen: train has no sentence of 30 to 40 source words; there are 60 .* 1 to 10 w",
        ),
        ({}, {"test_lengths": ((1, 5), (31, 60))}, "unseen: test_a has no sentence of 31 to 60 .* there are 30 sent"),
        ({}, {"lengths": (5, 3)}, r"lengths: \[5, 3\] is not \[fewest, most\] words"),
        ({}, {"lengths": (5,)}, r"lengths: \[5\] is not"),
        ({}, {"test_lengths": ((0, 3),)}, r"test_lengths: \[0, 3\] is not"),
        ({}, {"test_lengths": ((1, 3), (1, 3))}, "test_lengths: a range is there twice"),
        ({}, {"pairs": 0}, "pairs: must be at least 1, got 0"),
        ({}, {"max_length": 2}, "unseen: nothing to train on: no sentence pair has at most 2 tokens a side; the short"),
        ({}, {"tokens": 2}, "nothing to train on: no sentence pair has at most 2 tokens a side"),
        ({}, {"tokenizer": "byte", "vocab": 259}, "tokenizer byte has 260 ids and the model's vocab is 259"),
        ({}, {"tokenizer": "char", "vocab": 3}, "ids and the model's vocab is 3; make vocab larger"),
        (
            {},
            {"tokenizer": "bpe", "vocab": 50},
            r"model.vocab is 50, but a bpe tokenizer of this text needs at least \d+",
        ),
        ({}, {"name": "synthetic", "direction": "en-de"}, "synthetic: no direction en-de; there is svo-sov, sov-svo"),
        ({}, {"name": "synthetic", "lengths": (1, 3)}, "lengths must be 4 <= fewest <= most, got 1, 3"),
        ({}, {"name": "copy", "direction": "out-in"}, "copy: no direction out-in; there is in-out"),
        ({}, {"name": "recall", "tests": ("test_d1",)}, "recall: no test set test_d1; there is test"),
    ],
)
def test_a_mistake_is_one_clear_line(corpus, prepared, changes, fields, said):
    with pytest.raises(DataError, match=said) as caught:
        prepared(corpus(**changes), **{"name": "unseen"} | fields)
    assert "\n" not in str(caught.value)
