"""Help pages of LibreOffice as parallel text, made from two Debian packages where `apt-get` and `dpkg-deb` are at hand.

Every paragraph and heading of a page has the same id in every language, so pairs are exact human translations. Nothing
is installed: the packages are downloaded, unpacked beside each other, read and thrown away.

Whole pages go to training, validation or test, by a hash of the page's name. What is left out: texts outside 4 to 60
English or 3 to 70 German words; a ratio of characters outside 0.4 to 2.2; more than 70 % of the German words in the
English too (untranslated); English with less than 80 % letters and spaces, or with signs of code; texts with variants
for macOS; ids that a page has twice; English sentences that were there before (no source of val or test is in train).
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

from t2bench.quality.catalogue import LOHELP
from t2bench.quality.errors import DataError
from t2bench.quality.fetch import sha256_of, write_atomically, write_origin

PACKAGES = {"en": "libreoffice-help-en-us", "de": "libreoffice-help-de"}
FOLDERS = {"en": "en-US", "de": "de"}
VERSION = "4:7.4.7-1+deb12u14"  # the one whose hashes are known
TOOLS = ("apt-get", "dpkg-deb")

_PARAGRAPH = re.compile(r"p|h[1-6]")
_IDS = ("par_id", "hd_id", "tit")
_CODE = re.compile(r"[{}\[\]<>=\\|;]|\w\(|\w_\w")


def get_lohelp(root: Path, *, say: Callable[[str], None]) -> Path:
    """Make the corpus.

    Args:
        root: folder to make the folder `lohelp` in.
        say: is told what happens, line by line.

    Returns:
        The corpus's folder.

    Raises:
        DataError: the tools are not there, apt knows no such package, or the result is not what it must be.
    """
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        raise DataError(f"lohelp is made from Debian packages, which needs {' and '.join(absent)}: not found here")
    with tempfile.TemporaryDirectory(prefix="t2bench-lohelp-") as temporary:
        unpacked, version = _unpack(Path(temporary), say)
        texts = corpus_of(unpacked)
    if not all(texts.values()):
        raise DataError(f"lohelp: the packages of version {version} hold no help pages that could be paired")
    files = {name: "".join(f"{line}\n" for line in lines).encode() for name, lines in texts.items()}
    if version == VERSION:
        wrong = [name for name, data in files.items() if sha256_of(data) != LOHELP.sha256[name]]
        if wrong:
            raise DataError(f"lohelp: {', '.join(wrong)} did not come out as known for version {version}")
        say(f"version {version}: the text is the known one")
    else:
        say(f"version {version}: hashes are known for {VERSION} only; scores on the two are not comparable")
    folder = root / LOHELP.name
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_atomically(folder / name, data)
    write_origin(folder, LOHELP, f"Debian packages {', '.join(PACKAGES.values())}, version {version}")
    return folder


def _unpack(folder: Path, say: Callable[[str], None]) -> tuple[Path, str]:
    """Download and unpack both packages; the folder that holds the help of all languages, and the version."""
    say(f"downloading {' and '.join(PACKAGES.values())}")
    wanted = [f"{package}={VERSION}" for package in PACKAGES.values()]
    done = _call(["apt-get", "download", *wanted], folder)
    if done.returncode != 0:  # this version has left the archive, or apt follows another release
        done = _call(["apt-get", "download", *PACKAGES.values()], folder)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["it does not say why"])[-1]
        raise DataError(f"lohelp: apt-get cannot download the packages: {said} (is 'apt-get update' needed?)")
    versions = set()
    for package in sorted(folder.glob("*.deb")):
        _call(["dpkg-deb", "-x", str(package), "unpacked"], folder, must=True)
        versions.add(_call(["dpkg-deb", "-f", str(package), "Version"], folder, must=True).stdout.strip())
    if len(versions) != 1:
        raise DataError(f"lohelp: the two packages are of different versions: {', '.join(sorted(versions))}")
    return folder / "unpacked/usr/share/libreoffice/help", versions.pop()


def _call(command: list[str], folder: Path, *, must: bool = False) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if must and done.returncode != 0:
        raise DataError(f"lohelp: {' '.join(command)} failed: {done.stderr.strip()}")
    return done


def corpus_of(help_folder: Path) -> dict[str, list[str]]:
    """Pair, filter and split all pages.

    Args:
        help_folder: holds a folder of HTML pages for each language.

    Returns:
        `SPLIT.LANGUAGE` -> lines.
    """
    texts: dict[str, list[str]] = {f"{split}.{code}": [] for split in ("train", "val", "test") for code in PACKAGES}
    seen: set[str] = set()
    english = help_folder / FOLDERS["en"]
    pages = sorted(path.relative_to(english).as_posix() for path in english.rglob("*.html"))
    for page in pages:
        for source, target in _pairs(help_folder, page):
            if source not in seen and usable(source, target):
                seen.add(source)
                texts[f"{split_of(page)}.en"].append(source)
                texts[f"{split_of(page)}.de"].append(target)
    return texts


def split_of(page: str) -> str:
    """Split of a page, by its name: 5 % validation, 5 % test."""
    share = int.from_bytes(hashlib.sha256(page.encode()).digest()[:4], "big") / 2**32
    return "test" if share < 0.05 else "val" if share < 0.10 else "train"


def usable(source: str, target: str) -> bool:
    """Whether a pair passes the filters (see the module)."""
    words, target_words = source.split(), target.split()
    if not (4 <= len(words) <= 60 and 3 <= len(target_words) <= 70):
        return False
    if not 0.4 <= len(target) / len(source) <= 2.2:
        return False
    known = {word.casefold() for word in words}
    if sum(word.casefold() in known for word in target_words) > 0.7 * len(target_words):
        return False
    plain = sum(character.isalpha() or character == " " for character in source)
    return plain >= 0.8 * len(source) and not _CODE.search(source)


def _pairs(help_folder: Path, page: str) -> Iterator[tuple[str, str]]:
    paths = [help_folder / FOLDERS[code] / page for code in ("en", "de")]
    if all(path.is_file() for path in paths):
        english, german = (paragraphs(path.read_text(encoding="utf-8")) for path in paths)
        for name, text in english.items():
            if name in german:
                yield text, german[name]


def paragraphs(page: str) -> dict[str, str]:
    """Texts of a page by id, whitespace folded; without those that hold variants or occur twice."""
    reader = _Reader()
    reader.feed(page)
    count = Counter(name for name, _ in reader.found)
    return {name: text for name, text in reader.found if count[name] == 1}


class _Reader(HTMLParser):
    """Collects paragraphs and headings that have an id; they do not nest."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, str]] = []
        self._name = ""
        self._tag = ""
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if _PARAGRAPH.fullmatch(tag):
            name = values.get("id") or ""
            self._name, self._tag, self._text = (name if name.startswith(_IDS) else ""), tag, []
        elif tag == "br":
            self._text.append(" ")
        elif "hidden" in values:  # one text for macOS and one for all others, of which a script shows one
            self._name = ""

    def handle_endtag(self, tag: str) -> None:
        if self._name and tag == self._tag:
            self.found.append((self._name, " ".join("".join(self._text).split())))
            self._name = ""

    def handle_data(self, data: str) -> None:
        self._text.append(data)
