"""Token streams: deterministic, complete, reversible."""

import gzip
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from t2bench.workloads.text import MIN_VOCAB, SEPARATOR, write_tokens

TEXT = "the cat sat on the mat.\nThe dog\u2028barked: \u00e9t\u00e9! the end\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "texts"
    (root / "sub").mkdir(parents=True)
    (root / "b.txt").write_bytes(TEXT.encode())
    (root / "sub/a.txt.gz").write_bytes(gzip.compress(b"zipped words"))
    (root / "a.txt").write_bytes(b"first document\r\n")
    (root / "empty.txt").write_bytes(b"\n")
    (root / "ignored.md").write_bytes(b"not text")
    return root


def read_back(path: Path, folder_text: list[str], vocab: int) -> list[str]:
    """Decode with nothing but the documented layout: bytes are 2 to 257; pieces are ranked by frequency."""
    import re
    from collections import Counter

    counts: Counter[str] = Counter()
    for text in folder_text:
        counts.update(re.findall(r" ?\w+| ?[^\w\s]+|\s", text))
    ranked = sorted(counts, key=lambda piece: (-counts[piece], piece))[: vocab - 258]
    documents, current = [], bytearray()
    for token in np.load(path):
        if token == SEPARATOR:
            documents.append(current.decode())
            current = bytearray()
        elif token < 258:
            current.append(token - 2)
        else:
            current += ranked[token - 258].encode()
    assert not current
    return documents


@pytest.mark.parametrize("vocab", [1000, MIN_VOCAB])
def test_documents_come_back_in_order(folder: Path, tmp_path: Path, vocab: int) -> None:
    out = tmp_path / "t.npy"
    long = " ".join(f"word{i}" for i in range(200))
    (folder / "c.txt").write_text(long)
    source = write_tokens(out, vocab=vocab, data=folder, min_tokens=10)
    documents = ["first document\r\n", TEXT, long, "zipped words"]
    assert read_back(out, documents, vocab) == documents
    assert source.documents == 4
    assert source.tokens == len(np.load(out))
    assert int(np.load(out).max()) < vocab


def test_a_short_text_is_repeated_and_says_so(folder: Path, tmp_path: Path) -> None:
    once = write_tokens(tmp_path / "a.npy", vocab=1000, data=folder, min_tokens=1)
    more = write_tokens(tmp_path / "b.npy", vocab=1000, data=folder, min_tokens=1000)
    a, b = np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy")
    assert len(b) == more.tokens == 1000
    assert np.array_equal(b, np.resize(a, 1000))
    assert "repeated to 1000" in more.description
    assert "repeated" not in once.description


def test_the_hash_is_of_the_tokens(folder: Path, tmp_path: Path) -> None:
    source = write_tokens(tmp_path / "a.npy", vocab=1000, data=folder, min_tokens=1)
    assert source.sha256 == hashlib.sha256(np.load(tmp_path / "a.npy").astype("<u2").tobytes()).hexdigest()


@pytest.mark.parametrize(("vocab", "dtype"), [(65536, np.uint16), (65537, np.int32)])
def test_the_file_is_mappable_and_small(folder: Path, tmp_path: Path, vocab: int, dtype: type) -> None:
    write_tokens(tmp_path / "a.npy", vocab=vocab, data=folder, min_tokens=1)
    assert np.load(tmp_path / "a.npy", mmap_mode="r").dtype == dtype


def test_the_shipped_text_is_long_enough_and_the_same_in_every_process(tmp_path: Path) -> None:
    here = write_tokens(tmp_path / "a.npy", vocab=8000, data=None, min_tokens=50_000)
    code = (
        "import sys; from pathlib import Path; from t2bench.workloads.text import write_tokens;"
        f"print(write_tokens(Path({str(tmp_path / 'b.npy')!r}), vocab=8000, data=None, min_tokens=50_000).sha256,"
        "'torch' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "5"}, capture_output=True, text=True, check=True
    ).stdout
    assert out.split() == [here.sha256, "False"]
    assert here.tokens >= 50_000
    assert "repeated" not in here.description
    tokens = np.load(tmp_path / "a.npy")
    assert (tokens >= 258).mean() > 0.5  # words, not bytes, for the most part


def test_no_text_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no text found"):
        write_tokens(tmp_path / "a.npy", vocab=1000, data=tmp_path, min_tokens=1)


def parallel(root: Path) -> Path:
    root.mkdir(parents=True)
    for name in ("train.en", "train.de", "val.en", "val.de", "test.en", "test.de"):
        (root / name).write_text("a sentence\n")
    (root / "ORIGIN.txt").write_text("a note beside a corpus is no document\n")
    return root


def test_documents_beside_corpora_are_taken_and_nothing_of_the_corpora(folder: Path, tmp_path: Path) -> None:
    alone = write_tokens(tmp_path / "a.npy", vocab=1000, data=folder, min_tokens=1)
    parallel(folder / "corpus")
    beside = write_tokens(tmp_path / "b.npy", vocab=1000, data=folder, min_tokens=1)
    assert beside == alone
    assert beside.description.startswith("text files in texts: 3 documents")


def test_a_folder_with_corpora_only_gives_the_shipped_text_and_says_so(tmp_path: Path) -> None:
    corpus = parallel(tmp_path / "data" / "corpus")
    shipped = write_tokens(tmp_path / "a.npy", vocab=1000, data=None, min_tokens=1)
    for data in (corpus, corpus.parent):
        source = write_tokens(tmp_path / "b.npy", vocab=1000, data=data, min_tokens=1)
        assert source.sha256 == shipped.sha256
        assert source.description.startswith(f"text that ships with Python ({data.name} has parallel text only): ")


def test_a_missing_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        write_tokens(tmp_path / "a.npy", vocab=1000, data=tmp_path / "nowhere", min_tokens=1)


def test_binary_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"x\.txt: not UTF-8"):
        write_tokens(tmp_path / "a.npy", vocab=1000, data=tmp_path, min_tokens=1)


def test_the_vocabulary_has_a_minimum(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 300"):
        write_tokens(tmp_path / "a.npy", vocab=299, data=None, min_tokens=1)
