"""What the commands share: their common options, and turning errors into one line and an exit code."""

from __future__ import annotations

import contextlib
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from t2bench.spec import shortcuts

if TYPE_CHECKING:
    from t2bench.spec.plugin import Plugin
    from t2bench.spec.suite import Variant

WORKER_TIMEOUT_S = 300.0
GOOD, USAGE, INCONCLUSIVE, BASELINE, FAILED, INTERRUPTED = 0, 2, 3, 4, 5, 130

all_overrides = shortcuts.all_overrides
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
            click.option(
                "--quick", is_flag=True, help="Two launches of four rounds: a look, which can hardly prove anything."
            ),
            click.option(
                "--data",
                metavar="DIR",
                envvar="T2BENCH_DATA",
                help="Folder of your data: .txt or .txt.gz documents, and corpora as folders in it "
                "[default: the texts that ship with Python].",
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


def variants_and_code(
    names: Sequence[str], suite: str | None, *, overrides: Sequence[str] = (), allow_code: bool
) -> tuple[tuple[Variant, ...], tuple[Plugin, ...]]:
    """Variants by name (all, if none is named) of a suite or built in, and the user's code that they need.

    Raises:
        SuiteErrors: the suite is wrong, a name is unknown, a field cannot be set, or code is needed and not allowed.
    """
    from t2bench.spec.loader import load_suite, load_variants
    from t2bench.spec.plugins import needed

    plugins = load_suite(suite, device="cpu").plugins if suite else {}
    variants = load_variants(names, overrides=overrides, suite=suite)
    factories = sorted({variant.model.factory for variant in variants} - {""})
    code = needed(plugins, factories, allow_code=allow_code, source=suite or "variants") if factories else ()
    return variants, code


QUICK_NOTE = (
    "--quick: two launches are a look. Only very large differences can be proven by them, and the intervals are wide."
)


def cell(value: Any) -> str:
    """A field's value as tables show it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {cell(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(part) for part in value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def fail(message: str, code: int = USAGE) -> NoReturn:
    """End the command with one line (or one per error) on stderr."""
    for line in message.splitlines() or [""]:
        click.echo(f"t2bench: {line}", err=True)
    sys.exit(code)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn what a user or a machine can get wrong into one line and the right exit code."""
    from t2bench.quality.errors import DataError
    from t2bench.records import RecordError
    from t2bench.runner.directory import DirectoryError
    from t2bench.runner.journal import RunLocked
    from t2bench.runner.launcher import LauncherGone, WorkerFailed
    from t2bench.runner.options import OptionError
    from t2bench.spec.errors import SuiteErrors

    try:
        yield
    except SuiteErrors as error:
        fail(str(error))
    except (DirectoryError, RunLocked, RecordError, OptionError, DataError) as error:
        fail(str(error))
    except WorkerFailed as error:
        fail(error.reason, FAILED)
    except LauncherGone as error:
        fail(f"{error}; what was recorded before is intact", FAILED)
    except OSError as error:
        fail(f"{error.filename or 'disk'}: {error.strerror or error}; what was recorded before is intact", FAILED)


@contextlib.contextmanager
def gate_errors() -> Iterator[None]:
    """As `user_errors`; a base that cannot be had or does not hold here is exit code 4.

    Python ends with 1 after an error that nobody expected, and to a gate 1 means that a regression is proven: such an
    error is shown whole and ends with 5.
    """
    from t2bench.gate.baseline import BaselineError
    from t2bench.runner.codebase import CodeBaseError

    try:
        with user_errors():
            yield
    except (BaselineError, CodeBaseError) as error:
        fail(str(error), BASELINE)
    except Exception:
        traceback.print_exc()
        fail("a fault of t2bench itself; nothing was decided", FAILED)


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
