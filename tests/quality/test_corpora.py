"""Parallel text folders: what is read, what is refused, and how that is said."""

from __future__ import annotations

import gzip
import hashlib
import re

import pytest

from t2bench.quality.catalogue import MULTI30K, corpora_in, data_home, locate
from t2bench.quality.corpora import MAX_LINE_CHARS, read_corpus, scan
from t2bench.quality.errors import DataError


def test_a_folder_with_two_languages_needs_no_direction(folder):
    root = folder()
    corpus = read_corpus(root)
    assert corpus.direction == "en-de"
    assert corpus.train.source == ("a man sleeps .", "two dogs run .")
    assert corpus.train.target == ("ein Mann schläft .", "zwei Hunde rennen .")
    assert not corpus.synthetic
    assert [test.name for test in corpus.tests] == ["test"]
    written = corpus.record()
    raw = (root / "val.de").read_bytes()
    assert written["splits"]["val"]["target_sha256"] == hashlib.sha256(raw).hexdigest()
    assert written["direction"] == "en-de"


def test_the_other_direction_swaps_sides_and_hashes(folder):
    root = folder()
    there, back = read_corpus(root, direction="en-de"), read_corpus(root, direction="de-en")
    assert back.train.source == there.train.target
    assert back.train.source_sha256 == there.train.target_sha256
    assert back.direction == "de-en"


def test_compressed_text_is_the_same_corpus(folder):
    plain = folder()
    packed = plain.parent / "packed"
    packed.mkdir()
    for path in plain.iterdir():
        (packed / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert read_corpus(packed).record()["splits"] == read_corpus(plain).record()["splits"]


def test_only_line_feeds_end_lines(folder):
    odd = "a\u2028b\x0bc\x85d\x1ce"
    root = folder({"val.en": f"{odd}\r\n".encode(), "val.de": "\ufeffx".encode()})
    corpus = read_corpus(root)
    assert corpus.val.source == (odd,)
    assert corpus.val.target == ("x",)  # neither the byte order mark nor a missing last line end matters


def test_unseen_languages_names_of_validation_and_several_test_sets(folder):
    root = folder(dict.fromkeys(("val.en", "val.de", "test.en", "test.de", "train.de")))
    for name in ("train.pt-BR", "dev.en", "dev.pt-BR", "test_news.en", "test_news.pt-BR", "test_talks.en",
                 "test_talks.pt-BR", "test_odd.en"):  # fmt: skip
        (root / name).write_text("um\ndois\n", encoding="utf-8")
    corpus = read_corpus(root, direction="pt-BR-en")
    assert (corpus.source_language, corpus.target_language) == ("pt-BR", "en")
    assert corpus.val.name == "dev"
    assert [test.name for test in corpus.tests] == ["test_news", "test_talks"]  # test_odd has one language
    assert [test.name for test in read_corpus(root, tests=["test_talks"]).tests] == ["test_talks"]
    with pytest.raises(DataError, match="no test set test_talk in en and pt-BR, did you mean test_talks"):
        read_corpus(root, tests=["test_talk"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train.de": b"nur eine Zeile\n"}, r"train\.en has 2 lines and train\.de has 1"),
        ({"val.de": b"\n"}, r"val\.de:1: an empty line"),
        ({"train.en": b"a\n \t\n", "train.de": b"a\nb\n"}, r"train\.en:2: an empty line"),
        ({"train.en": b"a\n\n\n\n"}, r"train\.en:2: an empty line \(and 2 more\)"),
        ({"train.de": b"gut\n\xe4rger\n"}, r"train\.de:2: not UTF-8 text \(byte 0xe4\)"),
        ({"train.de": b"a" * (MAX_LINE_CHARS + 1)}, r"train\.de:1: a line of 10001 characters"),
        ({"test.de": b""}, r"test\.de: the file is empty"),
        ({"val.de": None}, r"missing val\.de; there is test\.de, test\.en, train\.de"),
        ({"train.de": None, "val.de": None, "test.de": None}, r"needs two languages; there is only"),
        ({"test.de": None}, r"no test set in en and de"),
        ({"dev.en": b"x\n"}, r"several validation sets \(val, dev\)"),
        ({"val.de": None, "val.de.gz": b"no gzip"}, r"val\.de\.gz: not a whole gzip file"),
        ({"val.de": None, "val.de.gz": gzip.compress(b"x" * 999)[:20]}, r"val\.de\.gz: not a whole gzip file"),
        ({"val.de.gz": gzip.compress(b"x\n")}, r"val\.de and val\.de\.gz are the same split and language"),
    ],
)
def test_a_bad_corpus_gives_one_clear_line(folder, changes, said):
    with pytest.raises(DataError, match=said) as caught:
        read_corpus(folder(changes))
    assert "\n" not in str(caught.value)


def test_wrong_names_are_answered_with_the_nearest(folder):
    root = folder()
    with pytest.raises(DataError, match="no direction de-fr, did you mean de-en"):
        read_corpus(root, direction="de-fr")
    with pytest.raises(DataError, match="no such folder, did you mean corpus"):
        read_corpus(root.with_name("korpus"))
    empty = root.with_name("empty")
    empty.mkdir()
    with pytest.raises(DataError, match=r"no parallel text \(wanted train.LANG.*there is nothing"):
        read_corpus(empty)
    for language in ("fr", "cs"):
        for split in ("train", "val", "test"):
            (root / f"{split}.{language}").write_text("x\n")
    with pytest.raises(DataError, match="has cs, de, en, fr: say which direction, for example"):
        read_corpus(root)


def test_files_that_nearly_belong_are_named(folder):
    root = folder({"train.german": b"x\n", "notes.txt": b"x\n"})
    assert scan(root).notes == ("train.german is not taken: not SPLIT.LANGUAGE or SPLIT.LANGUAGE.gz",)


def test_corpora_are_located_by_name_setting_and_path(folder, monkeypatch, tmp_path):
    first = folder()
    monkeypatch.setenv("T2BENCH_DATA", str(tmp_path))
    assert locate() == first
    second = folder(name="other")
    assert set(corpora_in(tmp_path)) == {"corpus", "other"}
    assert locate("other") == second
    assert locate(str(first), data="/nowhere") == first
    assert locate(data=second) == second
    with pytest.raises(DataError, match="several corpora: name one of corpus, other"):
        locate()
    with pytest.raises(DataError, match=r"no corpus othr in .*did you mean other"):
        locate("othr")
    with pytest.raises(DataError, match="'t2bench data get multi30k' fetches it"):
        locate("multi30k")
    monkeypatch.delenv("T2BENCH_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    assert data_home() == tmp_path / "share/t2bench"
    with pytest.raises(DataError, match=r"no parallel text because there is no folder .*T2BENCH_DATA says where"):
        locate()


def test_multi30k_is_read_in_every_direction(real):
    root = real("multi30k")
    for direction in ("en-de", "de-en", "en-fr", "cs-en"):
        corpus = read_corpus(root, direction=direction)
        assert (len(corpus.train), len(corpus.val)) == (29_000, 1_014)
        assert corpus.train.source_sha256 == MULTI30K.sha256[f"train.{corpus.source_language}"]
        names = [test.name for test in corpus.tests]
        assert names == (["test_2016_flickr"] if "cs" in direction else ["test_2016_flickr", "test_2017_flickr"])


def test_every_refusal_names_its_file(folder):
    with pytest.raises(DataError) as caught:
        read_corpus(folder({"val.de": b"\n"}))
    assert re.match(r"/.*/corpus/val\.de:1: ", str(caught.value))
