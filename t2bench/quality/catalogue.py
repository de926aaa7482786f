"""Where corpora are looked for, which ones are known by name, and what their files must hash to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from t2bench.quality.corpora import is_corpus
from t2bench.quality.errors import DataError
from t2bench.spec.errors import did_you_mean, listing, printable
from t2bench.spec.quality import MADE

DATA_VARIABLE = "T2BENCH_DATA"


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """A corpus that `t2bench data get` can fetch.

    Attributes:
        name: of its folder.
        summary: one line.
        license_note: printed before anything is fetched.
        citation: what to cite.
        sha256: file name -> SHA-256 of the text as it is kept.
    """

    name: str
    summary: str
    license_note: str
    citation: str
    sha256: dict[str, str]


_MULTI30K = """
test_2016_flickr.cs 45adb85f688de8407fddcbe1b36dca15d12aab868149b337e2576f2d6d2ff8d8
test_2016_flickr.de 4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16
test_2016_flickr.en 399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182
test_2016_flickr.fr dd64ea1883b68f55c887118839b434edc68b1dae3be6064c3bd5ab38033ddc6b
test_2017_flickr.de 0ae2c070897390d162c867271596ca6d6c9bc4fdcf6bb153621eb46eb19a027b
test_2017_flickr.en 89f1090381c6663a596cb69df930ed331b1f3869a0863774ab9471748ab29f45
test_2017_flickr.fr 57ee019ef4b802206799177fe667097dcd32fd031a92e86938fcbfea97f727f8
train.cs a11662d19f326cf23dee86baad5b664200c78ae0d1be82efd60c9298acbb0583
train.de 550c2612c7ae45ed46754e67c3011fde500b1bf88592a376e2ed6126903766f7
train.en f7cb7c7d411f6039a15de94de8c4d1709fada7b7474791598fd18451ec62427d
train.fr 87fd0969fd5d58acc23d2b8d024261df5177e1120c65b54011ca634736dcd661
val.cs d53827e469b0a1ca8d57e9e26b2b64c4bc4b33f5479c7b03ae87ae5c882c3e33
val.de c02c1d05fb89dba12b00503a2744b1105d45fef287501fd701b4fea5b1fca3e5
val.en 1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227
val.fr 3a61fe933a20608d6102b5d94dd0870ce8502d1cbec73511afff489ddab0c756
"""
_LOHELP = """
test.de 0c7d2a4ff35dc769971de1475f207f75677ee687aaf08fbd9e7738eefd8982a1
test.en b8bdcd8f9c569c7476941d24ec3069e17471a5648e72ee0c55dcf9dfc033ef0d
train.de f0dbc5cd91dfa5ac91365b72ceca4e61dda7136d27027f40571a1efbc995fd83
train.en a0a685ec7c5c024452cf6eae9efeba5ca21bae88108bceaf1929bdb06fe27912
val.de f1acf0695fc5a228a7a0efd4f79ab8e17af9883b1720a203b4183a6c5e99ebbe
val.en eb2a081a56f6d83a8b6ab6db71d97a1b06a0a10560f8dd9ad1c7e3bd2d73f7b3
"""


def _hashes(table: str) -> dict[str, str]:
    words = table.split()
    return dict(zip(words[::2], words[1::2], strict=True))


MULTI30K = Known(
    name="multi30k",
    summary="image captions, English, German, French and Czech; 29,000 short training pairs",
    license_note="Multi30k has no licence file; its texts are described as CC BY-NC-SA 4.0. For non-commercial "
    "research only: measure with it, do not redistribute it",
    citation="Elliott, Frank, Sima'an, Specia 2016, Multi30K: Multilingual English-German Image Descriptions; French "
    "and test 2017: Elliott, Frank, Barrault, Bougares, Specia 2017; Czech: Barrault et al. 2018",
    sha256=_hashes(_MULTI30K),
)
LOHELP = Known(
    name="lohelp",
    summary="help pages of LibreOffice 7.4, English and German; 19,877 longer training pairs",
    license_note="LibreOffice help is under the MPL-2.0 (LibreOffice contributors, Oracle)",
    citation="The Document Foundation, LibreOffice 7.4 help",
    sha256=_hashes(_LOHELP),
)
KNOWN: dict[str, Known] = {known.name: known for known in (MULTI30K, LOHELP)}


def data_home(data: str | Path | None = None) -> Path:
    """The folder that corpora are in: `data`, else T2BENCH_DATA, else the user's data folder (XDG)."""
    chosen = data or os.environ.get(DATA_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "t2bench"


def corpora_in(root: Path) -> dict[str, Path]:
    """Corpora of a folder by name: itself, if it is one, and the folders in it."""
    if not root.is_dir():
        return {}
    found = {root.resolve().name: root} if is_corpus(root) else {}
    return found | {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and is_corpus(path)}


def locate(name: str = "", data: str | Path | None = None) -> Path:
    """The folder of a corpus.

    Args:
        name: of the corpus, or a path of its folder; empty for the only one that is there.
        data: folder to look in, or the corpus itself (see `data_home`).

    Raises:
        DataError: it is not there, with what is; or there are several and none is named.
    """
    if name and is_corpus(Path(name).expanduser()):
        return Path(name).expanduser()
    home = data_home(data)
    found = corpora_in(home)
    if name in found:
        return found[name]
    if not name and len(found) == 1:
        return next(iter(found.values()))
    if not name and found:
        raise DataError(f"{home} has several corpora: name one of {listing(found)}")
    where = f"in {home}" if home.is_dir() else f"because there is no folder {home}"
    if name in KNOWN:
        raise DataError(f"no corpus {name} {where}; 't2bench data get {name}' fetches it")
    near = did_you_mean(name, [*found, *KNOWN, *MADE])
    there = f"; there is {listing(found)}" if found else ""
    what = f"no corpus {printable(name)}" if name else "no parallel text"
    raise DataError(f"{what} {where}{near or there} (--data DIR or {DATA_VARIABLE} says where to look)")
