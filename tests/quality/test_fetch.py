"""Fetching from a server on loopback: cleaning, hashes, cut connections, mirrors, refusals; help pages to pairs."""

from __future__ import annotations

import gzip
import os
import re
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from t2bench.quality import fetch, lohelp
from t2bench.quality.errors import DataError
from t2bench.quality.fetch import clean, get_multi30k, sha256_of

RAW = {
    "train.en": "A  man\u00a0sleeps. \n Two dogs\trun.\n" + "A woman sings.\n" * 4000,
    "train.de": "Ein Mann schläft.\nZwei Hunde rennen.\n" + "Eine Frau singt.\n" * 4000,
}
CLEANED = {name: clean(text.encode()) for name, text in RAW.items()}


@dataclass
class Shelf:
    """What the server has, how it misbehaves, and what it was asked for."""

    files: dict[str, bytes]
    cut_after: list[int] = field(default_factory=list)  # bytes of the coming replies, after which the line goes dead
    statuses: list[int] = field(default_factory=list)  # of the coming replies
    ranges: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    shelf: Shelf

    def log_message(self, *_):
        pass

    def do_GET(self):
        wanted = self.headers.get("Range", "")
        self.shelf.asked.append((self.path, wanted))
        if self.shelf.statuses:
            self.send_error(self.shelf.statuses.pop(0))
            return
        data = self.shelf.files.get(self.path.rpartition("/")[2])
        if data is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.shelf.ranges else 0
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = start + self.shelf.cut_after.pop(0) if self.shelf.cut_after else len(data)
        self.wfile.write(data[start:end])


@pytest.fixture
def serve(monkeypatch):
    """Start servers; the first one is the official one."""
    servers = []
    known = replace(fetch.MULTI30K, sha256={name: sha256_of(text) for name, text in CLEANED.items()})
    monkeypatch.setattr(fetch, "MULTI30K", known)
    monkeypatch.delenv("T2BENCH_MIRROR", raising=False)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)

    def start(**changes):
        shelf = Shelf(files={f"{name}.gz": packed(text) for name, text in RAW.items()}, **changes)
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"shelf": shelf}))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        shelf.url = f"http://127.0.0.1:{server.server_port}/raw"
        if not servers:
            monkeypatch.setattr(fetch, "OFFICIAL", shelf.url)
        servers.append(server)
        return shelf

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def packed(text: str) -> bytes:
    return gzip.compress(text.encode(), compresslevel=0, mtime=0)  # uncompressed, so that there is something to cut


def get(root: Path, **options) -> list[str]:
    said: list[str] = []
    get_multi30k(root, say=said.append, pause_s=0.0, **options)
    return said


def whole(root: Path) -> bool:
    return all((root / "multi30k" / name).read_bytes() == text for name, text in CLEANED.items())


def test_whitespace_is_folded_and_nothing_else_changed():
    assert clean("a\u00a0\u2003 b\t\n  c \u200bd\n".encode()) == "a b\nc \u200bd\n".encode()
    assert clean(clean(RAW["train.en"].encode())) == CLEANED["train.en"]
    assert clean(b"no end") == b"no end\n"


def test_files_are_fetched_checked_and_cleaned(serve, tmp_path):
    shelf = serve()
    get(tmp_path)
    assert whole(tmp_path)
    assert [path for path, _ in shelf.asked] == ["/raw/train.en.gz", "/raw/train.de.gz"]
    origin = (tmp_path / "multi30k/ORIGIN.txt").read_text()
    assert "non-commercial" in origin
    assert shelf.url in origin
    assert sorted(os.listdir(tmp_path / "multi30k")) == ["ORIGIN.txt", "train.de", "train.en"]  # nothing half done


def test_what_is_there_is_not_fetched_again(serve, tmp_path):
    shelf = serve()
    get(tmp_path)
    (tmp_path / "multi30k/train.de").write_text("changed by hand\n")
    shelf.asked.clear()
    assert "train.en: already there" in get(tmp_path)
    assert [path for path, _ in shelf.asked] == ["/raw/train.de.gz"]
    assert whole(tmp_path)


def test_cut_connections_are_continued(serve, tmp_path):
    shelf = serve(cut_after=[1000, 2000, 30_000])
    said = get(tmp_path)
    assert [wanted for _, wanted in shelf.asked] == ["", "bytes=1000-", "bytes=3000-", "bytes=33000-", ""]
    assert sum("cut off after" in line for line in said) == 3
    assert whole(tmp_path)


def test_a_server_without_ranges_starts_over(serve, tmp_path):
    serve(cut_after=[1000], ranges=False)
    get(tmp_path)
    assert whole(tmp_path)


def test_a_part_is_continued_by_the_next_call(serve, tmp_path):
    shelf = serve(cut_after=[500] * fetch.ATTEMPTS)
    with pytest.raises(DataError, match=r"train\.en could not be fetched: .*cut off after 500 of .*5 times; the part"):
        get(tmp_path)
    assert not (tmp_path / "multi30k/train.en").exists()
    assert (tmp_path / "multi30k/train.en.gz.part").stat().st_size == 2500
    shelf.asked.clear()
    get(tmp_path)
    assert shelf.asked[0][1] == "bytes=2500-"
    assert whole(tmp_path)


@pytest.mark.parametrize("leftover", [b"of something else", b"x" * 1_000_000])
def test_a_part_of_something_else_is_given_up(serve, tmp_path, leftover):
    serve()
    (tmp_path / "multi30k").mkdir()
    (tmp_path / "multi30k/train.en.gz.part").write_bytes(leftover)
    get(tmp_path)
    assert whole(tmp_path)


def test_wrong_text_is_never_put_in_place(serve, tmp_path):
    shelf = serve()
    shelf.files["train.de.gz"] = packed("etwas anderes\n")
    with pytest.raises(DataError, match=r"train\.de could not be fetched: .*its text has SHA-256 .*, not ") as caught:
        get(tmp_path)
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path / "multi30k")) == ["train.en"]  # what was right stays
    shelf.files["train.de.gz"] = b"no gzip"
    with pytest.raises(DataError, match="not gzipped UTF-8 text"):
        get(tmp_path)


def test_a_missing_file_is_not_asked_for_twice(serve, tmp_path):
    shelf = serve()
    del shelf.files["train.en.gz"]
    with pytest.raises(DataError, match=r"HTTP 404 .*\(--mirror URL or T2BENCH_MIRROR names other places\)"):
        get(tmp_path)
    assert len(shelf.asked) == 1


def test_trouble_of_the_server_is_waited_out(serve, tmp_path):
    serve(statuses=[503, 429, 500])
    get(tmp_path)
    assert whole(tmp_path)


def test_mirrors_come_first_and_the_official_one_last(serve, tmp_path, monkeypatch):
    official, empty, wrong = serve(), serve(), serve()
    empty.files.clear()
    wrong.files = dict.fromkeys(wrong.files, packed("x\n"))
    monkeypatch.setenv("T2BENCH_MIRROR", f"{wrong.url}/ ")
    get(tmp_path, urls=[empty.url])
    assert whole(tmp_path)
    assert len(empty.asked) == len(wrong.asked) == len(official.asked) == 2
    assert fetch.mirrors(["u"]) == ("u", f"{wrong.url}/", official.url)


def test_nobody_there(serve, tmp_path, monkeypatch):
    shelf = serve()
    monkeypatch.setattr(fetch, "OFFICIAL", "http://127.0.0.1:9/raw")
    with pytest.raises(DataError, match="no connection"):
        get(tmp_path)
    get(tmp_path, urls=["not a url", shelf.url])
    assert whole(tmp_path)


PAGE = """<html><body><p>no id</p><h1 id="hd_id1">The {0} title of it</h1>
<p id="par_id2" class="x">Choose <span class="emph">Edit &amp;&nbsp;Copy</span><br>to {0}&#32;copy.</p>
<p id="par_id3">On {0} <span hidden="true" class="MAC">Command</span><span hidden="true">Ctrl</span></p>
<p id="par_id4">once {0}</p><p id="par_id4">twice {0}</p><p id="bm_id5">a bookmark</p></body></html>"""


def test_paragraphs_of_a_page():
    assert lohelp.paragraphs(PAGE.format("big")) == {
        "hd_id1": "The big title of it",
        "par_id2": "Choose Edit & Copy to big copy.",
    }


@pytest.mark.parametrize(
    ("source", "target", "fine"),
    [
        ("Inserts a new row below the cell.", "Fügt eine neue Zeile unter der Zelle ein.", True),
        ("Inserts a row", "Fügt eine Zeile ein", False),
        ("Inserts a new row below the cell.", "Fügt ein", False),
        ("Inserts a new row below the cell.", "Fügt " * 20, False),
        ("Open the file menu bar", "open the file Menu bar", False),
        ("Call MsgBox(text) to show the words.", "Rufen Sie MsgBox auf, um die Worte zu zeigen.", False),
        ("See 1234 5678 9012 3456 7890.", "Siehe dort die Zahlen 1234 und 5678.", False),
    ],
)
def test_which_pairs_are_used(source, target, fine):
    assert lohelp.usable(source, target) is fine


def test_pages_are_paired_split_and_without_repetition(tmp_path):
    for number in range(60):
        for language, words in (("en-US", "one page of {} and more words"), ("de", "eine von {} Seiten in dem Band")):
            path = tmp_path / language / f"text/{number}.html"
            path.parent.mkdir(parents=True, exist_ok=True)
            # two pages say the same in one language and differ in the other
            path.write_text(f'<p id="par_id1">{words.format("abcdefghij"[number % 10] * (number // 20 + 1))}</p>')
    (tmp_path / "en-US/text/alone.html").write_text('<p id="par_id1">a page without any translation</p>')
    texts = lohelp.corpus_of(tmp_path)
    english = [line for name, lines in texts.items() if name.endswith(".en") for line in lines]
    assert len(english) == len(set(english)) == 30
    assert all(len(texts[f"{split}.en"]) == len(texts[f"{split}.de"]) for split in ("train", "val", "test"))
    shares = [lohelp.split_of(f"page{number}.html") for number in range(4000)]
    assert 0.03 < shares.count("test") / 4000 < 0.07
    assert 0.03 < shares.count("val") / 4000 < 0.07


def test_without_debian_tools_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="made from Debian packages, which needs apt-get and dpkg-deb: not found here"):
        lohelp.get_lohelp(tmp_path, say=lambda _: None)


def test_what_apt_says_is_passed_on(tmp_path, monkeypatch):
    for tool in lohelp.TOOLS:
        script = tmp_path / tool
        script.write_text("#!/bin/sh\necho 'E: No candidate' >&2\nexit 100\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(
        DataError, match=re.escape("cannot download the packages: E: No candidate (is 'apt-get update'")
    ):
        lohelp.get_lohelp(tmp_path, say=lambda _: None)
