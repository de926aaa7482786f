"""What a reader sees before anything is measured: lists, plans, counts, progress; at 80 columns."""

from __future__ import annotations

import io
import re

import pytest
from click.testing import CliRunner
from rich.console import Console

from t2bench.cli import plan as plan_command
from t2bench.cli.main import cli
from t2bench.cli.progress import Progress
from t2bench.records import Record
from t2bench.runner.preview import Preview
from t2bench.spec.loader import load_suite
from t2bench.spec.plan import expand
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


def test_a_log_hears_of_long_trainings_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    text, now = io.StringIO(), [0.0]
    monkeypatch.setattr("t2bench.cli.progress.time.monotonic", lambda: now[0])
    progress = Progress(Console(file=text, width=80))
    for second in range(0, 200, 10):
        now[0] = float(second)
        progress.working(f"translate/fp32/L64/vanilla seed 0: update {second} of 200", 0, 3, None)
    assert [line.rpartition("update ")[2] for line in text.getvalue().splitlines()] == [
        "60 of 200",
        "120 of 200",
        "180 of 200",
    ]


def test_what_the_user_sets_wins_over_quick() -> None:
    changes = all_overrides(("measure.launches=7",), 3, quick=True)
    assert changes.index("measure.launches=7") > changes.index("measure.launches=2")
    assert changes[-1] == "seed=3"


def total_of(suite: str, *overrides: str) -> str:
    """The line under the table of a plan whose cases nobody has predicted."""
    loaded = load_suite(suite, device="cpu", overrides=overrides)
    console = Console(file=io.StringIO(), width=1000, color_system=None)
    found = Preview(records=(), total_s=150.0, learning_s=60.0, memory_limit_bytes=0)
    plan_command._show_total(console, found, expand(loaded), loaded)
    return console.file.getvalue()


def test_a_plan_counts_seeds_and_updates_of_what_learns_and_rounds_of_what_is_timed() -> None:
    learned = "3 seeds of 900 updates for each case that learns: about "
    alone = total_of("label_smoothing")
    assert f" in 1 group, {learned}" in alone
    assert "rounds" not in alone
    mixed = total_of("quickstart")
    assert "5 launches of 3 rounds each: about " in mixed
    assert "; 1 seed of 700 updates for each case that learns: about " in mixed
    assert "; in all about " in mixed
    assert "learns" not in total_of("long_context")
    assert "5 seeds of 1,000 updates" in total_of("label_smoothing", "quality.seeds=5", "quality.recipe.steps=1000")
