"""What the commands share: their common options, and turning errors into one line and an exit code."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click

GOOD, USAGE, INCONCLUSIVE, FAILED, INTERRUPTED = 0, 2, 3, 5, 130

Command = TypeVar("Command", bound=Callable[..., Any])


allow_code_option = click.option(
    "--allow-code", is_flag=True, help="Let the suite's plugins run, in the measured processes, with your rights."
)


def suite_options(function: Command) -> Command:
    """The options of every command that takes a suite."""
    for option in reversed(
        (
            click.argument("suite", default="quickstart"),
            click.option(
                "--device",
                type=click.Choice(["auto", "cpu", "cuda"]),
                default="auto",
                show_default=True,
                help="Which of the suite's profiles to use.",
            ),
            click.option("--only", metavar="GLOB", help="Only cases or variants that match, e.g. '*/L1024/*'."),
            click.option(
                "--set",
                "overrides",
                multiple=True,
                metavar="KEY=VALUE",
                help="Change the suite, e.g. --set measure.rounds=20. Repeatable.",
            ),
            click.option("--seed", type=int, help="Seed of weights, batches and turn order."),
            click.option("--quick", is_flag=True, help="Fewer replicates: a look, not a result."),
            click.option(
                "--data",
                metavar="DIR",
                envvar="T2BENCH_DATA",
                help="Folder with .txt or .txt.gz documents [default: the texts that ship with Python].",
            ),
            click.option(
                "--threads",
                type=click.IntRange(min=1),
                help="Threads per measured process [default: physical cores less one].",
            ),
            allow_code_option,
            click.option("--json", "as_json", is_flag=True, help="Machine-readable result on stdout."),
        )
    ):
        function = option(function)
    return function


QUICK = ("measure.launches=2", "measure.rounds=4", "measure.warmup_s=0.2")


def all_overrides(overrides: tuple[str, ...], seed: int | None, *, quick: bool) -> list[str]:
    """`--set` and its short forms as one list; what the user set by hand wins over `--quick`."""
    changes = [*(QUICK if quick else ()), *overrides]
    return changes if seed is None else [*changes, f"seed={seed}"]


def fail(message: str, code: int = USAGE) -> NoReturn:
    """End the command with one line (or one per error) on stderr."""
    for line in message.splitlines() or [""]:
        click.echo(f"t2bench: {line}", err=True)
    sys.exit(code)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn what a user or a machine can get wrong into one line and the right exit code."""
    from t2bench.records import RecordError
    from t2bench.runner.directory import DirectoryError
    from t2bench.runner.execute import OptionError
    from t2bench.runner.journal import RunLocked
    from t2bench.runner.launcher import WorkerFailed
    from t2bench.spec.errors import SuiteErrors

    try:
        yield
    except SuiteErrors as error:
        fail(str(error))
    except (DirectoryError, RunLocked, RecordError, OptionError) as error:
        fail(str(error))
    except WorkerFailed as error:
        fail(error.reason, FAILED)
    except OSError as error:
        fail(f"{error.filename or 'disk'}: {error.strerror or error}; what was recorded before is intact", FAILED)


@contextlib.contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: workers are killed, files are whole, the exit code is 130."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
