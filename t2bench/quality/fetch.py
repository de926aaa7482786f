"""Fetching Multi30k from its official repository: pinned, checked, resumable, never packaged.

Each file is fetched compressed into `NAME.gz.part`, continued from where it was cut off, unpacked, folded (every run of
whitespace, no-break spaces included, becomes one space), compared with its SHA-256 and only then put in place. A file
that is already there with the right hash is not fetched again.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path

from t2bench.quality.catalogue import MULTI30K, Known
from t2bench.quality.errors import DataError

COMMIT = "a3d2e0d26b56f3846f66a952536ffed4e401d05a"
OFFICIAL = f"https://raw.githubusercontent.com/multi30k/dataset/{COMMIT}/data/task1/raw"
MIRROR_VARIABLE = "T2BENCH_MIRROR"  # URLs with the same files, separated by spaces, tried before the official one

ATTEMPTS = 5
TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 16

Say = Callable[[str], None]


class _Cut(Exception):
    """The connection ended early or the server is in trouble; another attempt continues."""


class _Refused(Exception):
    """This server will not give the right file, however often it is asked."""


def mirrors(wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Base URLs in the order in which they are tried: those wanted, those of T2BENCH_MIRROR, the official one."""
    return tuple(dict.fromkeys([*wanted, *os.environ.get(MIRROR_VARIABLE, "").split(), OFFICIAL]))


def get_multi30k(root: Path, *, urls: Sequence[str] = (), say: Say, pause_s: float = 1.0) -> Path:
    """Fetch what is missing of Multi30k.

    Args:
        root: folder to make the folder `multi30k` in.
        urls: base URLs to try before the official one.
        say: is told what happens, line by line.
        pause_s: before the second attempt; twice as long before each further one.

    Returns:
        The corpus's folder.

    Raises:
        DataError: a file could be had from nowhere; those fetched before it stay.
    """
    folder = root / MULTI30K.name
    folder.mkdir(parents=True, exist_ok=True)
    bases = mirrors(urls)
    for name, sha256 in MULTI30K.sha256.items():
        path = folder / name
        if path.is_file() and sha256_of(path.read_bytes()) == sha256:
            say(f"{name}: already there")
            continue
        _get_file(path, sha256, bases, say, pause_s)
    write_origin(folder, MULTI30K, f"{OFFICIAL}\nwhitespace folded to single spaces, nothing else changed")
    return folder


def write_origin(folder: Path, known: Known, origin: str) -> None:
    """Say in the folder where the text is from and what may be done with it."""
    text = f"{known.summary}\n{origin}\n{known.license_note}.\nCite: {known.citation}.\n"
    write_atomically(folder / "ORIGIN.txt", text.encode())


def _get_file(path: Path, sha256: str, bases: Sequence[str], say: Say, pause_s: float) -> None:
    failures = []
    for base in bases:
        url = f"{base.rstrip('/')}/{path.name}.gz"
        try:
            write_atomically(path, _from_server(url, path.with_name(f"{path.name}.gz.part"), sha256, say, pause_s))
        except _Refused as error:
            failures.append(f"{url}: {error}")
            continue
        say(f"{path.name}: fetched and checked")
        return
    tried = "; ".join(failures)
    raise DataError(f"{path.name} could not be fetched: {tried} (--mirror URL or {MIRROR_VARIABLE} names other places)")


def _from_server(url: str, part: Path, sha256: str, say: Say, pause_s: float) -> bytes:
    """The text behind a URL, unpacked, folded and checked."""
    leftover = part.is_file()  # of an earlier call, perhaps from another server
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(pause_s * 2 ** (attempt - 1))
        try:
            _download(url, part)
        except _Cut as error:
            say(f"{url}: {error}; {'no more attempts' if attempt == ATTEMPTS - 1 else 'trying again'}")
            reason = str(error)
            continue
        try:
            text = clean(gzip.decompress(part.read_bytes()))
            found = sha256_of(text)
            reason = f"its text has SHA-256 {found[:12]}..., not {sha256[:12]}..."
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            found, reason = "", f"not gzipped UTF-8 text ({error})"
        part.unlink()
        if found == sha256:
            return text
        if not leftover:
            raise _Refused(reason)
        leftover = False  # what was continued may have been the beginning of something else: once from the start
    kept = "; the part that came is kept and will be continued" if part.is_file() else ""
    raise _Refused(f"{reason}, {ATTEMPTS} times{kept}")


def _download(url: str, part: Path) -> None:
    """Bring `part` to its full length.

    Raises:
        _Cut: it is not complete yet.
        _Refused: the server has no such file.
    """
    have = part.stat().st_size if part.is_file() else 0
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "t2bench", "Accept-Encoding": "identity"})
        if have:
            request.add_header("Range", f"bytes={have}-")
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            continued = reply.status == 206 and reply.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            expected = reply.headers.get("Content-Length")
            received = 0
            with part.open("ab" if continued else "wb") as file:
                while chunk := reply.read(_CHUNK_BYTES):
                    file.write(chunk)
                    received += len(chunk)
            if expected is not None and received < int(expected):
                raise _Cut(f"cut off after {received} of {expected} bytes")
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left to send, or the part is of another file: the hash will tell
            return
        if error.code >= 500 or error.code == 429:
            raise _Cut(f"HTTP {error.code} {error.reason}") from error
        raise _Refused(f"HTTP {error.code} {error.reason}") from error
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise _Cut(f"no connection ({getattr(error, 'reason', None) or error})") from error
    except ValueError as error:  # urllib's word for a malformed URL
        raise _Refused(str(error)) from error


def clean(raw: bytes) -> bytes:
    r"""Fold whitespace: every run of it, no-break spaces included, to one space; none at the ends; lines end with `\n`.

    Raises:
        UnicodeDecodeError: not UTF-8.
    """
    lines = raw.decode("utf-8").removesuffix("\n").split("\n")
    return "".join(f"{' '.join(line.split())}\n" for line in lines).encode()


def sha256_of(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Put a file in place, whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(data)
    os.replace(temporary, path)
