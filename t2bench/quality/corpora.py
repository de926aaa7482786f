r"""Parallel text: a folder with `train.LANG`, `val.LANG` and any number of `test*.LANG`, plain or `.gz`.

One sentence a line; line N of one language is the translation of line N of the other. Lines end with `\n` and nothing
else ends a line (a carriage return before it is dropped). Hashes are of the decompressed bytes: a folder and its
compressed copy are the same corpus in every record.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2bench.quality.errors import DataError
from t2bench.spec.errors import did_you_mean, listing, printable

MAX_LINE_CHARS = 10_000  # no sentence is longer; a file without line ends is
VALIDATION = ("val", "valid", "dev")  # names for one thing; a folder has one of them

_FILE = re.compile(r"(?P<split>train|val|valid|dev|test[\w.+-]*?)\.(?P<language>[A-Za-z]{2,3}(?:[_-]\w+)?)(?:\.gz)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """One split.

    Attributes:
        name: of the split, for example `test_2016_flickr`.
        source: sentences to translate.
        target: their translations, in the same order.
        source_sha256: of the source file's bytes; of text in no file, of the bytes that a file of it would have.
        target_sha256: likewise.
    """

    name: str
    source: tuple[str, ...]
    target: tuple[str, ...]
    source_sha256: str
    target_sha256: str

    def __len__(self) -> int:
        return len(self.source)


def made_pairs(name: str, source: Sequence[str], target: Sequence[str]) -> Pairs:
    """Sentences that are in no file."""
    source_hash, target_hash = (
        hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest() for lines in (source, target)
    )
    return Pairs(
        name=name,
        source=tuple(source),
        target=tuple(target),
        source_sha256=source_hash,
        target_sha256=target_hash,
    )


def part_name(test: str, low: int, high: int, kind: str = "") -> str:
    """Name of a part of a test set: `test[31-60]` by source words, `test[d1-8]` by another kind of number."""
    return f"{test}[{kind}{low}-{high}]"


def part_range(name: str) -> tuple[int, int]:
    """The range in what `part_name` made; (0, 0) for a test set that is no part of another."""
    match = re.search(r"\[[a-z]*([0-9]+)-([0-9]+)\]$", name)
    return (int(match[1]), int(match[2])) if match else (0, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """Parallel text in one direction.

    Attributes:
        name: of the folder, or of the generated language.
        source_language: code as in the file names.
        target_language: code as in the file names.
        train: pairs to learn from.
        val: pairs to choose by.
        tests: pairs to judge by, each a table of its own.
        synthetic: sentences of a generated language; such scores are never put beside those of real text.
        description: where it comes from, for people.
    """

    name: str
    source_language: str
    target_language: str
    train: Pairs
    val: Pairs
    tests: tuple[Pairs, ...]
    synthetic: bool
    description: str

    @property
    def direction(self) -> str:
        """`en-de`: from English to German."""
        return f"{self.source_language}-{self.target_language}"

    def record(self) -> dict[str, Any]:
        """What a record must hold so that scores of different text cannot be taken for each other."""
        return {
            "corpus": self.name,
            "synthetic": self.synthetic,
            "direction": self.direction,
            "description": self.description,
            "splits": {
                pairs.name: {
                    "pairs": len(pairs),
                    "source_sha256": pairs.source_sha256,
                    "target_sha256": pairs.target_sha256,
                }
                for pairs in (self.train, self.val, *self.tests)
            },
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """The files of a folder, before any is read.

    Attributes:
        root: the folder.
        files: split -> language -> file.
        notes: files that look as if they belonged to the corpus and do not.
    """

    root: Path
    files: dict[str, dict[str, Path]]
    notes: tuple[str, ...]

    @property
    def validation(self) -> str:
        """Name of the validation split, as the folder has it; `val` if it has none."""
        return next((name for name in VALIDATION if name in self.files), "val")

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages with training and validation text."""
        return tuple(sorted(set(self.files.get("train", {})) & set(self.files.get(self.validation, {}))))

    def tests(self, languages: Collection[str]) -> tuple[str, ...]:
        """Test sets that exist in all these languages."""
        return tuple(
            name for name in sorted(self.files) if name.startswith("test") and set(languages) <= set(self.files[name])
        )


def is_corpus(root: Path) -> bool:
    """Whether the folder holds training text of some language."""
    return root.is_dir() and any(_is_train(path) for path in root.iterdir())


def _is_train(path: Path) -> bool:
    match = _FILE.fullmatch(path.name)
    return match is not None and match["split"] == "train"


def scan(root: Path) -> Folder:
    """Find the splits and languages of a folder.

    Raises:
        DataError: there is no such folder, a file is there twice, or the validation set has two names.
    """
    if not root.is_dir():
        beside = sorted(path.name for path in root.parent.iterdir() if path.is_dir()) if root.parent.is_dir() else []
        raise DataError(f"{printable(str(root))}: no such folder{did_you_mean(root.name, beside)}")
    files: dict[str, dict[str, Path]] = {}
    notes = []
    for path in sorted(root.iterdir()):
        match = _FILE.fullmatch(path.name)
        if match is None or not path.is_file():
            if path.is_file() and path.name.startswith(("train", "val", "dev", "test")):
                notes.append(f"{path.name} is not taken: not SPLIT.LANGUAGE or SPLIT.LANGUAGE.gz")
            continue
        languages = files.setdefault(match["split"], {})
        if match["language"] in languages:
            twice = languages[match["language"]].name
            raise DataError(f"{root}: {twice} and {path.name} are the same split and language; remove one")
        languages[match["language"]] = path
    named = [name for name in VALIDATION if name in files]
    if len(named) > 1:
        raise DataError(f"{root}: several validation sets ({', '.join(named)}); keep one")
    return Folder(root=root, files=files, notes=tuple(notes))


def read_corpus(root: Path, *, direction: str = "", tests: Sequence[str] = ()) -> Corpus:
    """Read a corpus in one direction.

    Args:
        root: the folder.
        direction: `SOURCE-TARGET`, for example `de-en`. May be left empty for a folder with two languages: from English
            if it is one of them, else in the order of the alphabet.
        tests: names of the test sets wanted; empty for all that exist in both languages.

    Returns:
        The corpus.

    Raises:
        DataError: files are missing, are not UTF-8, differ in their number of lines, or hold empty or absurd lines.
    """
    folder = scan(root)
    source, target = _direction(folder, direction)
    chosen = _tests(folder, (source, target), tests)
    train, val, *rest = (read_pairs(folder, name, source, target) for name in ("train", folder.validation, *chosen))
    return Corpus(
        name=root.resolve().name,
        source_language=source,
        target_language=target,
        train=train,
        val=val,
        tests=tuple(rest),
        synthetic=False,
        description=f"{source} to {target} text of {root.resolve().name}, {len(train)} training pairs",
    )


def _direction(folder: Folder, direction: str) -> tuple[str, str]:
    there = folder.languages
    if len(there) < 2:
        raise DataError(f"{folder.root}: {_missing(folder)}")
    choices = [f"{source}-{target}" for source in there for target in there if source != target]
    if not direction:
        if len(there) > 2:
            raise DataError(f"{folder.root} has {', '.join(there)}: say which direction, for example {choices[0]}")
        first = "en" if "en" in there else there[0]
        return first, next(language for language in there if language != first)
    for source in there:  # a code may hold a hyphen itself: pt-BR
        if direction.startswith(f"{source}-") and direction in choices:
            return source, direction.removeprefix(f"{source}-")
    near = did_you_mean(direction, choices)
    raise DataError(f"{folder.root}: no direction {printable(direction)}{near or f'; there are {listing(choices)}'}")


def _missing(folder: Folder) -> str:
    """Why there is no pair of languages: what is there, and what is not."""
    found = [path.name for languages in folder.files.values() for path in languages.values()]
    if not found:
        others = sorted(path.name for path in folder.root.iterdir())
        return (
            "no parallel text (wanted train.LANG, val.LANG and test*.LANG of two languages, plain or .gz; "
            f"there {'is ' + listing(others) if others else 'is nothing'})"
        )
    train, val = (set(folder.files.get(name, {})) for name in ("train", folder.validation))
    wanted = sorted(train | val)
    absent = [f"train.{code}" for code in wanted if code not in train]
    absent += [f"{folder.validation}.{code}" for code in wanted if code not in val]
    if not absent:
        return f"parallel text needs two languages; there is only {listing(found)}"
    return f"missing {', '.join(absent)}; there is {listing(found)}"


def _tests(folder: Folder, languages: tuple[str, str], wanted: Sequence[str]) -> tuple[str, ...]:
    there = folder.tests(languages)
    pair = " and ".join(languages)
    if not there:
        raise DataError(f"{folder.root}: no test set in {pair} (wanted test*.{languages[0]} and test*.{languages[1]})")
    for name in wanted:
        if name not in there:
            near = did_you_mean(name, there) or f"; there are {listing(there)}"
            raise DataError(f"{folder.root}: no test set {printable(name)} in {pair}{near}")
    return tuple(wanted) or there


def read_pairs(folder: Folder, split: str, source: str, target: str) -> Pairs:
    """Read one split of a folder.

    Raises:
        DataError: as `read_corpus`.
    """
    source_path, target_path = (folder.files[split][language] for language in (source, target))
    (source_lines, source_hash), (target_lines, target_hash) = read_lines(source_path), read_lines(target_path)
    if len(source_lines) != len(target_lines):
        raise DataError(
            f"{folder.root}: {source_path.name} has {len(source_lines)} lines and {target_path.name} has "
            f"{len(target_lines)}; line N of one must be the translation of line N of the other"
        )
    return Pairs(
        name=split,
        source=source_lines,
        target=target_lines,
        source_sha256=source_hash,
        target_sha256=target_hash,
    )


def read_lines(path: Path) -> tuple[tuple[str, ...], str]:
    """The sentences of a file and the SHA-256 of its (decompressed) bytes.

    Raises:
        DataError: the file is not gzip as its name says, not UTF-8, empty, or has an empty or absurdly long line.
    """
    raw = path.read_bytes()
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: not a whole gzip file ({error})") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{raw[error.start]:02x}"
        raise DataError(f"{path}:{line}: not UTF-8 text ({byte}); convert it, e.g. with iconv -t UTF-8") from error
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
    _check(path, lines)
    return tuple(lines), hashlib.sha256(raw).hexdigest()


def _check(path: Path, lines: Iterable[str]) -> None:
    empty = []
    number = 0
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE_CHARS:
            raise DataError(
                f"{path}:{number}: a line of {len(line)} characters (at most {MAX_LINE_CHARS}); "
                "is there one sentence a line?"
            )
        if not line or line.isspace():
            empty.append(number)
    if not number:
        raise DataError(f"{path}: the file is empty")
    if empty:
        more = f" (and {len(empty) - 1} more)" if len(empty) > 1 else ""
        raise DataError(f"{path}:{empty[0]}: an empty line{more}; remove it together with the same line of the other")
