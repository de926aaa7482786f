"""`t2bench data`: what is printed, and what a mistake costs."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from t2bench.cli.data import command
from t2bench.quality import fetch
from t2bench.spec.quality import MADE


def call(*arguments):
    return CliRunner(env={"T2BENCH_DATA": None}).invoke(command, [*arguments])


def test_list_tells_what_is_here_and_what_can_be_had(folder):
    root = folder()
    result = call("list", "--data", str(root.parent))
    assert result.exit_code == 0, result.output
    assert "corpus       here: de, en" in result.stdout
    assert "multi30k     t2bench data get multi30k" in result.stdout
    rows = json.loads(call("list", "--data", str(root.parent), "--json").stdout)["corpora"]
    assert [row["name"] for row in rows] == [*MADE, "corpus", "multi30k", "lohelp"]


def test_check_reads_what_a_run_would(folder):
    root = folder({"test.en": b"a man sleeps .\n"})
    result = call("check", "--data", str(root))
    assert result.exit_code == 0, result.output
    assert "corpus, en-de: en to de text of corpus, 2 training pairs" in result.stdout
    assert "test: 1 source sentences are in train too" in result.stdout
    facts = json.loads(call("check", str(root), "--direction", "de-en", "--json").stdout)
    assert facts["direction"] == "de-en"
    assert facts["known_text"] is None
    assert facts["overlap"] == {"val": 0, "test": 0}


def test_the_synthetic_language_is_labelled():
    result = call("check", "synthetic", "--direction", "sov-svo")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("synthetic (SYNTHETIC), sov-svo: synthetic language of seed 0")


@pytest.mark.parametrize("task", ["copy", "reverse", "recall"])
def test_the_tasks_are_labelled_and_need_no_folder(task):
    result = call("check", task)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(
        f"{task} (SYNTHETIC), in-out: synthetic task {task} of seed 0, 20000 training pairs"
    )
    assert "source sentences are in train too" in result.stdout
    assert all(f"]: {count} source" not in result.stdout for count in range(1, 9))


def test_a_folder_with_the_name_of_a_built_in_corpus_is_had_by_its_path(folder):
    root = folder(name="copy")
    listed = call("list", "--data", str(root.parent)).stdout
    assert f"{root} (by its path only: the name is that of a built-in corpus)" in listed
    assert call("check", "copy", "--data", str(root.parent)).stdout.startswith("copy (SYNTHETIC)")
    assert call("check", str(root)).stdout.startswith("copy, en-de: en to de text of copy")


def test_text_of_a_known_name_is_compared(folder):
    result = call("check", str(folder(name="multi30k")))
    assert "text: not what `t2bench data get` makes" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "corpse"], "no corpus corpse in {data}, did you mean corpus? (--data DIR"),
        (["check", "corpus", "--direction", "en-fr"], "no direction en-fr, did you mean en-de?"),
        (["check", "synthetic", "--direction", "en-de"], "synthetic: no direction en-de; there is svo-sov, sov-svo"),
        (["get", "multi30"], "no corpus multi30 to fetch, did you mean multi30k?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(folder, arguments, said):
    data = str(folder().parent)
    result = call(*arguments, "--data", data)
    assert result.exit_code == 2, result.output
    assert said.format(data=data) in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_get_prints_the_licence_first_and_the_folder_last(monkeypatch, tmp_path):
    given = {}

    def fetched(root, *, urls, say):
        given.update(root=root, urls=urls)
        return root / "multi30k"

    monkeypatch.setattr(fetch, "get_multi30k", fetched)
    result = call("get", "multi30k", "--data", str(tmp_path), "--mirror", "http://mirror")
    assert result.exit_code == 0, result.output
    assert "non-commercial" in result.stderr.splitlines()[0]
    assert result.stdout == f"{tmp_path / 'multi30k'}\n"
    assert given == {"root": tmp_path, "urls": ("http://mirror",)}
