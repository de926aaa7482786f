"""Tokenizers: ids, round trips, determinism, the cache, and decoding without sentencepiece."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from t2bench.quality.corpora import read_corpus
from t2bench.quality.errors import DataError
from t2bench.quality.language import LanguageSpec, make_corpus
from t2bench.quality.tokenizer import BOS, EOS, PAD, UNK, TokenizerSpec, cache_home, make_tokenizer

KINDS = ("bpe", "unigram", "char", "byte")


@pytest.fixture(scope="module")
def lines():
    corpus = make_corpus(LanguageSpec(train=600, val=10, test=10))
    return [*corpus.train.source, *corpus.train.target]


@pytest.fixture(scope="module")
def made(lines, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return {kind: make_tokenizer(TokenizerSpec(kind=kind, vocab=600), lines, cache=cache) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_training_text_comes_back_as_it_was(made, lines, kind):
    rows = made[kind].encode(lines)
    assert made[kind].decode(rows) == lines
    used = {number for row in rows for number in row}
    assert not used & {PAD, BOS, EOS, UNK}
    assert max(used) < made[kind].vocab <= 600
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)


@pytest.mark.parametrize("kind", ["bpe", "unigram", "byte"])
def test_any_text_comes_back_as_it_was(made, kind):
    @settings(max_examples=150, deadline=None)
    @given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\u2581\x00\n"), max_size=40))
    def check(text):
        (back,) = made[kind].decode(made[kind].encode([text]))
        assert back == text

    check()
    odd = [
        "  two  spaces\tand a tab ",
        "\u00a0no-break",
        "\u65e5\u672c\u8a9e \U0001f600",
        "e\u0301 \ufb01",
        "<0x41> <s> </s>",
    ]
    assert made[kind].decode(made[kind].encode(odd)) == odd


def test_unknown_characters_are_marked(made):
    assert made["char"].encode(["\u65e5"]) == [[UNK]]
    assert made["char"].decode([[UNK]]) == ["\u2047"]


def test_reading_stops_at_the_end_and_survives_nonsense(made):
    (row,) = made["bpe"].encode(["the dog ."])
    assert made["bpe"].decode([[BOS, *row, EOS, *row, PAD]]) == ["the dog ."]
    assert made["bpe"].decode([[], [EOS], [PAD, PAD]]) == ["", "", ""]
    assert made["byte"].decode([[4 + 0xE4, 4 + ord("a")]]) == ["\ufffda"]


def test_decoding_agrees_with_sentencepiece_on_any_ids(made):
    for kind in ("bpe", "unigram"):
        tokenizer = made[kind]
        processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
        first = len(["pad", "bos", "eos", "unk"]) + 256
        rows = [list(range(start, start + 7)) for start in range(first, tokenizer.vocab - 7, 5)]
        assert tokenizer.decode(rows) == processor.decode(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_text_gives_the_same_tokenizer_with_and_without_the_cache(made, lines, kind, tmp_path):
    spec = TokenizerSpec(kind=kind, vocab=600)
    fresh = make_tokenizer(spec, lines, cache=tmp_path)
    assert fresh == made[kind]
    assert make_tokenizer(spec, lines, cache=tmp_path) == fresh


def test_the_key_follows_text_and_settings(made, lines, tmp_path):
    keys = {made["bpe"].key, made["char"].key}
    keys.add(make_tokenizer(TokenizerSpec(kind="char", vocab=601), lines, cache=tmp_path).key)
    keys.add(make_tokenizer(TokenizerSpec(kind="char", vocab=600), lines[1:], cache=tmp_path).key)
    assert len(keys) == 4


@pytest.mark.parametrize("damage", [b"", b"{", b'{"spec": {}}', None])
def test_a_damaged_cache_is_made_again(lines, tmp_path, damage):
    spec = TokenizerSpec(kind="char", vocab=100)
    whole = make_tokenizer(spec, lines, cache=tmp_path)
    (path,) = (tmp_path / "tokenizers").iterdir()
    if damage is None:
        kept = json.loads(path.read_text())
        kept["pieces"][10] = "?!"
        damage = json.dumps(kept).encode()
    path.write_bytes(damage)
    assert make_tokenizer(spec, lines, cache=tmp_path) == whole
    assert json.loads(path.read_text())["pieces"] == list(whole.pieces)


def test_the_cache_is_where_the_setting_says(monkeypatch, tmp_path):
    monkeypatch.setenv("T2BENCH_CACHE", str(tmp_path / "here"))
    assert cache_home() == tmp_path / "here"
    monkeypatch.delenv("T2BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_home() == tmp_path / "t2bench"


def test_small_text_has_fewer_pieces_than_asked_for(tmp_path):
    for kind in ("bpe", "unigram"):
        tokenizer = make_tokenizer(TokenizerSpec(kind=kind, vocab=4000), ["a b c d", "d c b a"] * 5, cache=tmp_path)
        assert 260 < tokenizer.vocab < 300
        assert tokenizer.decode(tokenizer.encode(["d a b"])) == ["d a b"]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_that_only_a_model_knows_are_unknown(made, kind):
    """A model has as many ids as was asked for, and a small text yields fewer; what is untrained writes any of them."""
    tokenizer = made[kind]
    written = [tokenizer.vocab, tokenizer.vocab + 999, EOS]
    assert tokenizer.decode([written]) == ["\u2047\u2047"]


def test_many_rare_characters_do_not_break_it(tmp_path):
    text = ["".join(chr(0x4E00 + 97 * place + shift) for place in range(20)) for shift in range(60)]
    tokenizer = make_tokenizer(TokenizerSpec(vocab=2000), text, cache=tmp_path)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_wrong_settings_are_refused(tmp_path):
    with pytest.raises(DataError, match="no tokenizer bpa, did you mean bpe"):
        make_tokenizer(replace(TokenizerSpec(), kind="bpa"), ["a"], cache=tmp_path)
    for kind in ("bpe", "unigram"):
        with pytest.raises(DataError, match=r"model.vocab is 20, but .* needs at least 264") as caught:
            make_tokenizer(TokenizerSpec(kind=kind, vocab=20), ["a b c"], cache=tmp_path)
        said = str(caught.value)
        assert "raise model.vocab, or set quality.corpus.tokenizer to char or byte" in said
        assert not any(internal in said for internal in ("\n", ".cc", "_cast", "coverage"))
        assert make_tokenizer(TokenizerSpec(kind=kind, vocab=264), ["a b c"], cache=tmp_path).vocab == 264
        with pytest.raises(DataError, match="the training text is empty"):
            make_tokenizer(TokenizerSpec(kind=kind, vocab=300), [""], cache=tmp_path)


def test_without_sentencepiece_decoding_works_and_making_says_what_to_do(made, tmp_path):
    code = """
import sys
sys.modules["sentencepiece"] = None
import pickle
from t2bench.quality.tokenizer import TokenizerSpec, make_tokenizer
tokenizer, row = pickle.load(sys.stdin.buffer)
print(tokenizer.decode([row])[0])
try:
    make_tokenizer(TokenizerSpec(), ["a"])
except Exception as error:
    print(type(error).__name__, error)
print("torch" in sys.modules)
"""
    import pickle

    given_to = io.BytesIO()
    pickle.dump((made["bpe"], made["bpe"].encode(["the dog ."])[0]), given_to)
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], input=given_to.getvalue(), capture_output=True, check=True, cwd=root
    )
    first, second, third = done.stdout.decode().splitlines()
    assert first == "the dog ."
    assert second.startswith("DataError sentencepiece is not installed: pip install sentencepiece")
    assert third == "False"


def test_multi30k_comes_back_as_it_was(real, tmp_path):
    corpus = read_corpus(real("multi30k"), direction="en-de")
    tokenizer = make_tokenizer(TokenizerSpec(), [*corpus.train.source, *corpus.train.target], cache=tmp_path)
    assert tokenizer.vocab == 4000
    for test in corpus.tests:
        assert tokenizer.decode(tokenizer.encode(test.target)) == list(test.target)


@pytest.mark.parametrize("vocab", [1, 3, 4, 259])
def test_what_a_vocabulary_must_hold_is_said(vocab: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"model.vocab is {vocab}, but .* needs at least 26\d .* raise model.vocab"):
        make_tokenizer(TokenizerSpec(kind="bpe", vocab=vocab), ["a b c d"], cache=tmp_path)


SMALL, LETTERS = TokenizerSpec(kind="char", vocab=20), ["a b c d"]


def test_a_cache_that_is_a_file_is_done_without(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert make_tokenizer(SMALL, LETTERS, cache=file) == make_tokenizer(SMALL, LETTERS, cache=tmp_path / "folder")
    assert file.read_text() == "mine"


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert make_tokenizer(SMALL, LETTERS, cache=tmp_path).vocab == 9
    assert list((tmp_path / "tokenizers").iterdir()) == []
