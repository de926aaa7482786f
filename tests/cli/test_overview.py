"""What a reader sees before anything is measured: lists, plans, counts, progress; at 80 columns."""

from __future__ import annotations

import io
import re

import pytest
from click.testing import CliRunner
from rich.console import Console

from t2bench.cli.main import cli
from t2bench.cli.progress import Progress
from t2bench.records import Record
from t2bench.spec.presets import preset_names
from t2bench.spec.shortcuts import all_overrides


def call(*arguments: str) -> str:
    result = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"}).invoke(cli, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_list_names_every_variant_once_in_a_screen() -> None:
    lines = call("list").splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= 80
    named = re.findall(r"[^\s,]+", " ".join(line for line in lines if line.startswith("  ")))
    assert sorted(named) == sorted(preset_names())


def test_long_list_has_summaries() -> None:
    summary = "GELU (tanh form) instead of ReLU"
    assert summary not in call("list")
    assert summary in call("list", "--long")


@pytest.mark.parametrize(
    ("names", "told"),
    [(("vanilla", "prenorm"), ""), (("vanilla", "gpt2"), "vocab (37000, 50257)"), (("modern", "llama"), "arch")],
)
def test_params_say_what_is_not_alike(names: tuple[str, str], told: str) -> None:
    shown = " ".join(call("params", *names).split())
    assert ("Not alike" in shown) == bool(told)
    assert told in shown


def test_back_ends_with_one_reason_share_a_row() -> None:
    shown = " ".join(call("show", "lstm").split())
    assert shown.count("no back ends") == 1


def test_a_reason_that_comes_back_is_said_once() -> None:
    text = io.StringIO()
    progress = Progress(Console(file=text, width=80))
    for place in range(20):
        case = f"train_step/fp32/L{64 << place}/vanilla"
        progress.recorded(
            Record(
                run="r",
                case=case,
                group=case.rpartition("/")[0],
                variant="vanilla",
                workload="train_step",
                axes={},
                pass_="time",
                launch=0,
                status="not_steady",
                reason=f"only {place} of 24 turns",
            )
        )
    assert text.getvalue().count("not_steady") == 2


def test_what_the_user_sets_wins_over_quick() -> None:
    changes = all_overrides(("measure.launches=7",), 3, quick=True)
    assert changes.index("measure.launches=7") > changes.index("measure.launches=2")
    assert changes[-1] == "seed=3"
