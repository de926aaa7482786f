"""`t2bench data`: which parallel text is here, whether it is sound, and fetching what is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from t2bench.cli import common

if TYPE_CHECKING:
    from t2bench.quality.corpora import Corpus, Pairs

SAMPLES = 2
BUILT_IN = {
    "synthetic": (("svo", "sov"), "a generated language pair"),
    "copy": (("in", "out"), "generated strings of symbols, to be copied"),
    "reverse": (("in", "out"), "the same strings, to be reversed"),
    "recall": (("in", "out"), "generated keys and values: the value of a key, near or far, is wanted"),
}

data_option = click.option(
    "--data",
    metavar="DIR",
    envvar="T2BENCH_DATA",
    help="Folder of your data: a corpus, or a folder of corpora [default: t2bench in your data folder].",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable result on stdout.")


@click.group("data")
def command() -> None:
    """List, check and fetch parallel text for quality.

    A corpus is a folder with train.LANG, val.LANG and test*.LANG of two languages or more, plain or .gz, one sentence a
    line. The synthetic language pair and the tasks copy, reverse and recall need no folder.
    """


@command.command("list")
@data_option
@json_option
def list_corpora(data: str | None, as_json: bool) -> None:
    """List the corpora that are here and those that can be had."""
    from t2bench.quality.catalogue import KNOWN, corpora_in, data_home
    from t2bench.quality.corpora import scan
    from t2bench.spec.quality import MADE

    home = data_home(data)
    rows: list[dict[str, Any]] = [
        {"name": name, "state": "built in", "languages": list(languages), "summary": summary}
        for name, (languages, summary) in BUILT_IN.items()
    ]
    with common.user_errors():
        for name, path in corpora_in(home).items():
            summary = KNOWN[name].summary if name in KNOWN else str(path)
            if name in MADE:
                summary = f"{path} (by its path only: the name is that of a built-in corpus)"
            rows.append({"name": name, "state": "here", "languages": list(scan(path).languages), "summary": summary})
    here = {row["name"] for row in rows}
    for name, known in KNOWN.items():
        if name not in here:
            rows.append({"name": name, "state": f"t2bench data get {name}", "languages": [], "summary": known.summary})
    if as_json:
        click.echo(json.dumps({"folder": str(home), "corpora": rows}, indent=1))
        return
    click.echo(f"corpora in {home}{'' if home.is_dir() else ' (no such folder yet)'}")
    for row in rows:
        click.echo(f"{row['name']:12s} {row['state']}: {', '.join([*row['languages'], row['summary']])}")


@command.command("check")
@click.argument("name", default="")
@click.option("--direction", metavar="SRC-TGT", default="", help="For example de-en [default: if there are two].")
@data_option
@json_option
def check(name: str, direction: str, data: str | None, as_json: bool) -> None:
    """Read a corpus as a run would, and say what is in it.

    NAME is a corpus in the folder, a path, or one that is made (`synthetic`, `copy`, `reverse`, `recall`); it may be
    left out where the folder has only one.
    """
    from t2bench.quality.prepare import find_corpus
    from t2bench.spec.quality import CorpusSpec

    with common.user_errors():
        corpus = find_corpus(CorpusSpec(name=name, direction=direction), data)
    doubts = _doubts(corpus)
    facts = {**corpus.record(), "known_text": _known_text(corpus), "overlap": _overlap(corpus), "doubts": doubts}
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    click.echo(f"{corpus.name}{' (SYNTHETIC)' if corpus.synthetic else ''}, {corpus.direction}: {corpus.description}")
    for pairs in (corpus.train, corpus.val, *corpus.tests):
        click.echo(_line(pairs))
    if facts["known_text"] is not None:
        known = "as `t2bench data get` makes it" if facts["known_text"] else "not what `t2bench data get` makes"
        click.echo(f"text: {known}")
    for split, count in facts["overlap"].items():
        click.echo(f"{split}: {count} source sentences are in train too")
    for doubt in doubts:
        click.echo(doubt)
    for source, target in list(zip(corpus.val.source, corpus.val.target, strict=True))[:SAMPLES]:
        click.echo(f"  {source}\n    {target}")


@command.command("get")
@click.argument("name")
@click.option("--mirror", "mirrors", multiple=True, metavar="URL", help="Where to look first [also T2BENCH_MIRROR].")
@data_option
def get(name: str, mirrors: tuple[str, ...], data: str | None) -> None:
    """Fetch a corpus: multi30k (downloaded) or lohelp (made from two Debian packages)."""
    from t2bench.quality.catalogue import KNOWN, data_home
    from t2bench.quality.fetch import get_multi30k
    from t2bench.quality.lohelp import get_lohelp
    from t2bench.spec.errors import did_you_mean

    if name not in KNOWN:
        common.fail(f"no corpus {name} to fetch{did_you_mean(name, KNOWN) or '; there are ' + ', '.join(KNOWN)}")
    click.echo(f"{KNOWN[name].license_note}.\nCite: {KNOWN[name].citation}.", err=True)

    def say(line: str) -> None:
        click.echo(line, err=True)

    with common.user_errors():
        root = data_home(data)
        folder = get_multi30k(root, urls=mirrors, say=say) if name == "multi30k" else get_lohelp(root, say=say)
    click.echo(str(folder))


def _known_text(corpus: Corpus) -> bool | None:
    """Whether every file is the known one; None for a corpus that is not known."""
    from t2bench.quality.catalogue import KNOWN

    known = KNOWN.get(corpus.name)
    if known is None or corpus.synthetic:
        return None
    return all(
        known.sha256.get(f"{pairs.name}.{language}") == sha256
        for pairs in (corpus.train, corpus.val, *corpus.tests)
        for language, sha256 in (
            (corpus.source_language, pairs.source_sha256),
            (corpus.target_language, pairs.target_sha256),
        )
    )


def _overlap(corpus: Corpus) -> dict[str, int]:
    """How many source sentences of each other split the model has learned from."""
    learned = set(corpus.train.source)
    return {pairs.name: sum(line in learned for line in pairs.source) for pairs in (corpus.val, *corpus.tests)}


def _doubts(corpus: Corpus) -> list[str]:
    """What makes scores on this text prove less than it seems."""
    from t2bench.analysis.seeds import MIN_SENTENCES

    found = [
        f"{pairs.name}: only {len(pairs)} pairs: proves little, and a run judges nothing below {MIN_SENTENCES}"
        for pairs in corpus.tests
        if len(pairs) < MIN_SENTENCES
    ]
    for pairs in (corpus.train, corpus.val, *corpus.tests):
        same = sum(source == target for source, target in zip(pairs.source, pairs.target, strict=True))
        if 2 * same >= len(pairs) and not corpus.synthetic:  # to copy is a task that is made
            found.append(f"{pairs.name}: {same} of {len(pairs)} pairs are the same on both sides")
    return found


def _line(pairs: Pairs) -> str:
    import numpy as np

    sides = []
    for lines in (pairs.source, pairs.target):
        words = np.array([len(line.split()) for line in lines])
        sides.append(f"{words.mean():.1f} words (p95 {np.percentile(words, 95):.0f}, most {words.max()})")
    hashes = f"{pairs.source_sha256[:12]} {pairs.target_sha256[:12]}"
    return f"{pairs.name}: {len(pairs)} pairs, {sides[0]} to {sides[1]}, sha256 {hashes}"
