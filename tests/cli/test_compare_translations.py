"""`t2bench compare` of runs with translations, at 80 columns: no reason is cut off, and nothing untrue is said."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from t2bench.cli import compare
from t2bench.records import encode

_path = Path(__file__).parents[1] / "analysis" / "quality_runs.py"
_spec = importlib.util.spec_from_file_location("t2bench_tests_quality_runs_cli", _path)
made = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = made
_spec.loader.exec_module(made)


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """Compares runs, given as options and the number of their first seed; returns exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*runs, arguments=()):
        paths = []
        for place, (first_seed, options) in enumerate(runs):
            path = tmp_path / f"run{place}"
            run = made.QualityRuns(**options).make(path)
            records = [replace(r, axes={**r.axes, "seed": r.axes["seed"] + first_seed}) for r in run.records]
            (path / "records.jsonl").write_bytes(b"".join(map(encode, records)))
            (path / "environment.json").write_text(json.dumps({**run.environment, "run": path.name}))
            paths.append(str(path))
        result = CliRunner().invoke(compare.command, [*paths, *arguments], catch_exceptions=False)
        return result.exit_code, result.stdout, result.stderr

    return call


def unwrapped(text):
    return " ".join(text.split())


def test_why_other_text_is_not_compared_is_told_whole_and_once(compared):
    code, out, said = compared((0, {"corpus": "plain"}), (0, {"corpus": "html", "text_seed": 1}))
    (note,) = (part for part in unwrapped(out).split(" intervals. ") if part.startswith("vanilla and rope:"))
    assert note.startswith("vanilla and rope: not compared: corpus: plain -> html; training text: ")
    assert "test text: " in note
    assert note.endswith(".")
    assert max(map(len, out.splitlines())) <= 80
    assert "\u2026" not in out
    assert (code, said) == (3, "t2bench: nothing was compared; the tables say why\n")


def test_why_nothing_is_judged_is_told_whole(compared):
    wrong = {name: made.Learner(wrong=0.9) for name in ("vanilla", "rope")}
    code, out, said = compared(
        (0, {"variants": wrong}), (0, {"variants": {n: made.Learner(wrong=0.91) for n in wrong}})
    )
    told = "vanilla and rope: not judged: neither reaches the 7.1 BLEU of the nearest training sentence."
    assert told in unwrapped(out)
    assert (code, said) == (0, "")


@pytest.mark.parametrize(("first", "paired"), [(0, True), (1, True), (2, False), (9, False)])
def test_fewer_than_two_shared_seeds_are_told(compared, first, paired):
    other = {"variants": {"vanilla": made.Learner(wrong=0.2), "rope": made.Learner(wrong=0.4)}}
    code, out, _ = compared((0, {}), (first, other))
    assert code == 0
    assert ("vanilla and rope: not paired by seed" in unwrapped(out)) is not paired
    assert ("2 alone is shared): 0, 1, 2 -> 2, 3, 4" in unwrapped(out)) is (first == 2)
    assert ("seeds (not paired): 0, 1, 2 -> 9, 10, 11" in unwrapped(out)) is (first == 9)


def test_a_variant_that_one_run_lacks_says_so(compared):
    fewer = {"variants": {"vanilla": made.Learner()}}
    assert "not in the baseline" in compared((0, fewer), (0, {}))[1]
    assert "not in the candidate" in compared((0, {}), (0, fewer))[1]


def test_trainings_that_all_diverged_are_not_compared(compared):
    lost = {name: made.Learner(diverged=(0, 1, 2)) for name in ("vanilla", "rope")}
    code, _, said = compared((0, {"variants": lost}), (0, {}))
    assert code == 3
    assert len(said.splitlines()) == 1


def test_one_variant_has_nothing_beside_it(compared):
    code, _, said = compared((0, {"variants": {"vanilla": made.Learner()}}))
    assert (code, said) == (3, "t2bench: nothing to compare: only one variant was measured\n")


@pytest.mark.parametrize("format_", ["md", "csv", "json"])
def test_every_format_has_the_reason(compared, format_):
    runs = ((0, {"corpus": "plain"}), (0, {"corpus": "web"}))
    code, out, _ = compared(*runs, arguments=("--format", format_))
    assert code == 3
    assert "corpus: plain -&gt; web" in out or "corpus: plain -> web" in out or r"plain \-\> web" in out
