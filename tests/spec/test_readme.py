"""What the README shows can be typed as it stands: its suites load, its commands and options exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from t2bench.cli.main import cli
from t2bench.spec.loader import load_suite, suite_names
from t2bench.spec.plan import expand
from t2bench.spec.presets import preset_names

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SUITES = re.findall(r"^```yaml\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = sorted(set(re.findall(r"`t2bench ([^`]+)`", README)))
OPTIONS = sorted(set(re.findall(r"`(--[^`]+)`", README)))


def parse(line: str) -> tuple[str, list[str]]:
    """The command's name and its positional arguments.

    Raises:
        click.UsageError: no such command or option, or an argument too many.
    """
    context = click.Context(cli, info_name="t2bench")
    name, command, arguments = cli.resolve_command(context, shlex.split(line))
    assert name is not None
    assert command is not None
    if isinstance(command, click.Group):
        context = click.Context(command, parent=context)
        _, command, arguments = command.resolve_command(context, list(arguments))
        assert command is not None
    _, rest, _ = command.make_parser(click.Context(command, parent=context)).parse_args(list(arguments))
    if rest:
        raise click.UsageError(f"{line}: unexpected {rest}")
    return name, [word for word in arguments if not word.startswith("-")]


def test_there_is_something_to_check() -> None:
    assert SUITES
    table = re.findall(r"^\| .* \| `t2bench .*` \|$", README, flags=re.MULTILINE)
    assert len(table) >= 5
    assert len(COMMANDS) >= len(table)
    assert OPTIONS


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("text", SUITES)
def test_every_suite_loads_and_has_cases(tmp_path: Path, text: str, device: str) -> None:
    path = tmp_path / "readme.yaml"
    path.write_text(text, encoding="utf-8")
    assert expand(load_suite(path, device=device)).cases


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses_and_names_what_exists(line: str) -> None:
    name, words = parse(line)
    if name in ("run", "plan"):
        assert all(word in suite_names() or (ROOT / word).is_file() for word in words)
    if name == "params":
        assert set(words) <= set(preset_names())


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_one_of_run(option: str) -> None:
    run = cli.get_command(click.Context(cli), "run")
    assert run is not None
    word = shlex.split(option)[0].partition("=")[0]
    assert word in {name for parameter in run.params for name in parameter.opts}
    assert parse(f"run {option}")[0] == "run"


@pytest.mark.parametrize("line", ["rnu quickstart", "run quickstart --sett a=1", "params vanilla --lenght 5"])
def test_what_does_not_exist_is_noticed(line: str) -> None:
    with pytest.raises(click.UsageError):
        parse(line)
