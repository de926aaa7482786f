"""From text to numbers and back: sentencepiece (joint BPE or unigram), characters, bytes.

Ids 0 to 3 are padding, begin, end and unknown, in every kind. A tokenizer is made from both sides of the training text
and from nothing else; the same text and settings give the same tokenizer, which is kept in a cache folder under the
hash of both. Only making one and encoding with it import sentencepiece: decoding needs the pieces alone.

Round trips: `byte` gives back any text; `bpe` and `unigram` any text, since what is in no piece is spelled in bytes and
nothing is normalised; `char` what is made of characters of the training text. (U+2581, sentencepiece's mark of a space,
comes back as a space.)
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

from t2bench.quality.errors import DataError
from t2bench.spec.errors import did_you_mean, printable

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
CACHE_VARIABLE = "T2BENCH_CACHE"

Kind = Literal["bpe", "unigram", "char", "byte"]

_SPACE = "\u2581"
_UNKNOWN = "\u2047"  # what an unknown character is written as
_SCHEMA = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerSpec:
    """Which tokenizer to make.

    Attributes:
        kind: `bpe` (Sennrich et al. 2016) or `unigram` (Kudo 2018) over both languages jointly, `char` or `byte`.
        vocab: number of ids, at most; less where the text yields no more. `byte` always has 260.
    """

    kind: Kind = "bpe"
    vocab: int = 4000


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenizer:
    """A tokenizer.

    Attributes:
        spec: what was asked for.
        key: hash of the settings, of the text it was made from, and of the library that made it.
        pieces: what each id stands for.
        model: sentencepiece's own file; empty for `char` and `byte`.
    """

    spec: TokenizerSpec
    key: str
    pieces: tuple[str, ...]
    model: bytes = field(repr=False)

    @property
    def vocab(self) -> int:
        """Number of ids."""
        return len(self.pieces)

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """Ids of each line, without begin and end."""
        if self.spec.kind == "byte":
            return [[len(SPECIALS) + byte for byte in line.encode()] for line in lines]
        if self.spec.kind == "char":
            ids = {piece: number for number, piece in enumerate(self.pieces) if number >= len(SPECIALS)}
            return [[ids.get(character, UNK) for character in line] for line in lines]
        processor = _sentencepiece().SentencePieceProcessor(model_proto=self.model)
        encoded: list[list[int]] = processor.encode(list(lines), num_threads=1)
        return encoded

    def decode(self, rows: Iterable[Iterable[int]]) -> list[str]:
        """Text of each row of ids; reading stops at the end id, padding and begin are left out.

        An id from `vocab` on, which a model with a larger vocabulary may write, is written as one that is unknown.
        """
        return [self._decode(row) for row in rows]

    def _decode(self, row: Iterable[int]) -> str:
        out = bytearray()
        for number in row:
            if number == EOS:
                break
            if number in (PAD, BOS):
                continue
            known = number != UNK and number < len(self.pieces)
            out += _spelled(self.pieces[number]) if known else _UNKNOWN.encode()
        text = out.decode(errors="replace")
        if self.spec.kind in ("char", "byte"):
            return text
        return text.replace(_SPACE, " ").removeprefix(" ")

    def record(self) -> dict[str, Any]:
        """What a record must hold about it."""
        return {"kind": self.spec.kind, "vocab": self.vocab, "key": self.key}


def _spelled(piece: str) -> bytes:
    """The bytes a piece stands for: `<0x41>` is one byte."""
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.encode()


def cache_home() -> Path:
    """The folder of what can be made again: T2BENCH_CACHE, else the user's cache folder (XDG)."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "t2bench"


def make_tokenizer(spec: TokenizerSpec, lines: Sequence[str], *, cache: Path | None = None) -> Tokenizer:
    """Make a tokenizer, or take it from the cache.

    Args:
        spec: which.
        lines: the training text, both languages.
        cache: folder to keep it in; None for `cache_home()`.

    Returns:
        The tokenizer. It is the same whether or not it was in the cache.

    Raises:
        DataError: the kind is unknown, the vocabulary is too small for the text, or sentencepiece is not installed.
    """
    if spec.kind not in get_args(Kind):
        near = did_you_mean(spec.kind, get_args(Kind)) or f"; there are {', '.join(get_args(Kind))}"
        raise DataError(f"no tokenizer {printable(str(spec.kind))}{near}")
    key = _key(spec, lines)
    path = (cache or cache_home()) / "tokenizers" / f"{key}.json"
    kept = _load(path, key)
    if kept is not None:
        return kept
    made = _make(spec, key, lines)
    with contextlib.suppress(OSError):  # what cannot be kept, on a disk that is full or for reading only, is made again
        _keep(path, made)
    return made


def _key(spec: TokenizerSpec, lines: Sequence[str]) -> str:
    library = metadata.version("sentencepiece") if spec.kind in ("bpe", "unigram") and _sentencepiece() else ""
    digest = hashlib.sha256(json.dumps([_SCHEMA, asdict(spec), library], sort_keys=True).encode())
    if spec.kind != "byte":
        for line in lines:
            digest.update(line.encode() + b"\n")
    return digest.hexdigest()[:16]


def _sentencepiece() -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise DataError(
            "sentencepiece is not installed: pip install sentencepiece (or use kind char or byte)"
        ) from error
    return sentencepiece


def _make(spec: TokenizerSpec, key: str, lines: Sequence[str]) -> Tokenizer:
    if spec.kind == "byte":
        pieces = (*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)))
        return Tokenizer(spec=spec, key=key, pieces=pieces, model=b"")
    if spec.kind == "char":
        counts = Counter(character for line in lines for character in line)
        ranked = sorted(counts, key=lambda character: (-counts[character], character))
        pieces = (*SPECIALS, *ranked[: spec.vocab - len(SPECIALS)])
        return Tokenizer(spec=spec, key=key, pieces=pieces, model=b"")
    model = _train(spec, lines)
    processor = _sentencepiece().SentencePieceProcessor(model_proto=model)
    return Tokenizer(
        spec=spec, key=key, pieces=tuple(processor.id_to_piece(list(range(processor.vocab_size())))), model=model
    )


def _train(spec: TokenizerSpec, lines: Sequence[str]) -> bytes:
    model = io.BytesIO()
    try:
        _sentencepiece().SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type=spec.kind,
            vocab_size=spec.vocab,
            hard_vocab_limit=False,
            byte_fallback=True,
            character_coverage=0.9999,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            max_sentence_length=1 << 20,  # bytes; longer lines would be left out without a word
            num_threads=1,
            pad_id=PAD,
            bos_id=BOS,
            eos_id=EOS,
            unk_id=UNK,
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as error:  # sentencepiece has no other way to say it
        raise DataError(_fault(spec, lines, str(error))) from error
    return model.getvalue()


def _fault(spec: TokenizerSpec, lines: Sequence[str], said: str) -> str:
    """What to do about it; sentencepiece names its own source files and settings."""
    if not any(line.strip() for line in lines):
        return f"no {spec.kind} tokenizer can be made: the training text is empty"
    needed = re.search(r"smaller than required_chars\D*\d+ vs (\d+)", said)
    if needed or spec.vocab < 256 + len(SPECIALS):  # of fewer ids than specials it says nothing
        fewest = needed[1] if needed else 256 + len(SPECIALS)
        return (
            f"model.vocab is {spec.vocab}, but a {spec.kind} tokenizer of this text needs at least {fewest} (256 "
            f"bytes, {len(SPECIALS)} specials and its characters): raise model.vocab, or set quality.corpus.tokenizer "
            "to char or byte"
        )
    plain = re.sub(r"^\w+: \S+\(\d+\) \[.*?\]\s*", "", " ".join(said.split()))
    return f"sentencepiece cannot make {spec.vocab} {spec.kind} pieces of this text: {plain or 'it gives no reason'}"


def _load(path: Path, key: str) -> Tokenizer | None:
    """What is kept under this name, unless it cannot be read, is damaged, or is of another format."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        model = base64.b64decode(kept["model"])
        pieces = tuple(kept["pieces"])
        if kept["sha256"] != _contents(pieces, model):
            return None
        return Tokenizer(spec=TokenizerSpec(**kept["spec"]), key=key, pieces=pieces, model=model)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(path: Path, made: Tokenizer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {
        "spec": asdict(made.spec),
        "pieces": made.pieces,
        "model": base64.b64encode(made.model).decode(),
        "sha256": _contents(made.pieces, made.model),
    }
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".json")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(kept, file)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _contents(pieces: Sequence[str], model: bytes) -> str:
    return hashlib.sha256(json.dumps(list(pieces)).encode() + model).hexdigest()
