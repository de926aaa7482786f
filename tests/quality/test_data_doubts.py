"""`t2bench data check` says what makes scores on a sound corpus prove little."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from t2bench.cli.data import command


def check(*arguments: str) -> str:
    result = CliRunner(env={"T2BENCH_DATA": None}).invoke(command, ["check", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def corpus(root: Path, num_tests: int, *, target: str) -> str:
    for split, count in (("train", 10), ("val", 4), ("test", num_tests)):
        (root / f"{split}.en").write_text("".join(f"{split} {n}\n" for n in range(count)))
        (root / f"{split}.de").write_text("".join(target.format(split=split, n=n) for n in range(count)))
    return str(root)


def test_a_small_test_set_proves_little(tmp_path: Path) -> None:
    path = corpus(tmp_path, 199, target="{n} {split}\n")
    assert "test: only 199 pairs: proves little, and a run judges nothing below 200" in check(path)
    assert len(json.loads(check(path, "--json"))["doubts"]) == 1


def test_the_same_file_on_both_sides_is_seen(tmp_path: Path) -> None:
    said = check(corpus(tmp_path, 200, target="{split} {n}\n"))
    assert "train: 10 of 10 pairs are the same on both sides" in said
    assert "proves little" not in said


def test_of_sound_text_and_of_made_text_nothing_is_doubted(tmp_path: Path) -> None:
    sound = corpus(tmp_path, 200, target="{n} {split}\n")
    assert [json.loads(check(name, "--json"))["doubts"] for name in (sound, "copy")] == [[], []]
