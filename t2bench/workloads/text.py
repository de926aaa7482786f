"""Token streams of real text. NumPy and the standard library only: the parent process writes them, workers map them.

Real text rather than random ids, because embedding look-ups and losses depend on how often a token occurs. By default
it is the English that ships with Python: the language reference of `pydoc_data`, then the standard library's sources.

Tokens: 0 separates documents, 1 is the mask token, 2 to 257 are the 256 bytes, the rest are the most frequent pieces
(a word or a punctuation mark with the space before it), most frequent first. What is not among them is spelled in
bytes. The vocabulary is made from the same text, so that equal texts and sizes give equal tokens everywhere.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from t2bench.quality.catalogue import corpora_in
from t2bench.quality.corpora import is_corpus

SEPARATOR = 0
MASK = 1
_FIRST_BYTE = 2
_FIRST_PIECE = _FIRST_BYTE + 256
MIN_VOCAB = 300

_PIECE = re.compile(r" ?\w+| ?[^\w\s]+|\s")
_CHARS_PER_TOKEN = 5  # more than any tokenization here yields, so that the first guess usually suffices
_MIN_CHARS = 1_000_000  # frequencies of words settle with this much text
_MAX_CHARS = 8_000_000  # more would only delay the start: a longer stream repeats itself


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenSource:
    """What was written.

    Attributes:
        sha256: of the tokens, as little-endian numbers.
        documents: documents read.
        tokens: length of the stream.
        description: what it is, for the report.
    """

    sha256: str
    documents: int
    tokens: int
    description: str


def write_tokens(path: Path, *, vocab: int, data: Path | None, min_tokens: int) -> TokenSource:
    """Tokenise text and write the stream as an `.npy` file (uint16 or int32), to be opened with `mmap_mode="r"`.

    Args:
        path: file to write.
        vocab: number of token ids, at least MIN_VOCAB.
        data: folder that is searched for documents, `*.txt` and `*.txt.gz` (UTF-8), in it and below, except in folders
            of parallel text. If there are none but corpora, or if it is None, the text that ships with Python is taken.
        min_tokens: length of the stream, at least. A shorter text is repeated, and the description says so.

    Returns:
        What was written.

    Raises:
        ValueError: the vocabulary is too small, or a file is not UTF-8 text.
        FileNotFoundError: there is no such folder, or it holds neither documents nor corpora.
    """
    if vocab < MIN_VOCAB:
        raise ValueError(f"vocab must be at least {MIN_VOCAB} (256 bytes, two marks, some words), got {vocab}")
    wanted_chars = min(_MAX_CHARS, max(_MIN_CHARS, _CHARS_PER_TOKEN * min_tokens))
    documents, origin = _documents(data, wanted_chars)
    ids = _tokenise(documents, vocab)
    description = f"{origin}: {len(documents)} documents, {len(ids)} tokens"
    if len(ids) < min_tokens:
        repeats = -(-min_tokens // len(ids))
        ids = np.tile(ids, repeats)[:min_tokens]
        description += f", repeated to {min_tokens}"
    stream = ids.astype("<u2" if vocab <= 1 << 16 else "<i4")
    np.save(path, stream)
    return TokenSource(
        sha256=hashlib.sha256(stream.tobytes()).hexdigest(),
        documents=len(documents),
        tokens=len(stream),
        description=description,
    )


def _documents(data: Path | None, wanted_chars: int) -> tuple[list[str], str]:
    """Text, and where it is from."""
    origin = "text that ships with Python"
    if data is not None:
        if not data.is_dir():
            raise FileNotFoundError(f"{data}: no such folder")
        found = _take(_folder(data), wanted_chars)
        if found:
            return found, f"text files in {data.name or data}"
        if not corpora_in(data):
            raise FileNotFoundError(
                f"{data}: no text found (looked for non-empty *.txt and *.txt.gz in it and below, and for corpora)"
            )
        origin += f" ({data.name or data} has parallel text only)"
    return _take(_shipped(), wanted_chars), origin


def _tokenise(documents: list[str], vocab: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """All documents, a separator after each."""
    pieces = [_PIECE.findall(document) for document in documents]
    counts = Counter(chain.from_iterable(pieces))
    ranked = sorted(counts, key=lambda piece: (-counts[piece], piece))
    frequent = ranked[: vocab - _FIRST_PIECE]
    spelling: dict[str, tuple[int, ...]] = {
        piece: tuple(_FIRST_BYTE + byte for byte in piece.encode()) for piece in ranked[len(frequent) :]
    }
    spelling |= {piece: (_FIRST_PIECE + rank,) for rank, piece in enumerate(frequent)}
    separator = ((SEPARATOR,),)
    streams = (chain(map(spelling.__getitem__, document), separator) for document in pieces)
    return np.fromiter(chain.from_iterable(chain.from_iterable(streams)), dtype=np.int32)


def _take(documents: Iterable[str], wanted_chars: int) -> list[str]:
    """Documents from the front, until there is enough text."""
    taken: list[str] = []
    num_chars = 0
    for document in documents:
        taken.append(document)
        num_chars += len(document)
        if num_chars >= wanted_chars:
            break
    return taken


def _shipped() -> Iterator[str]:
    """The language reference by topic, then the standard library's modules by name."""
    from pydoc_data.topics import topics

    for _, text in sorted(topics.items()):
        yield text
    library = Path(sysconfig.get_path("stdlib"))
    for source in sorted(library.glob("*.py")):
        yield source.read_text(encoding="utf-8")


def _folder(root: Path) -> Iterator[str]:
    """Every non-empty text file below `root`, in the order of their relative paths. Line ends are kept as they are.

    What lies beside the files of a corpus is about them (its origin, its licence) and no document.
    """
    found = [path for path in root.rglob("*") if path.name.endswith((".txt", ".txt.gz")) and path.is_file()]
    corpora = {folder for folder in {path.parent for path in found} if is_corpus(folder)}
    found = [path for path in found if path.parent not in corpora]
    for path in sorted(found, key=lambda p: p.relative_to(root).as_posix()):
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8 text ({error})") from error
        if text.strip():
            yield text
