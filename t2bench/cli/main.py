"""The command line. Commands are loaded when they are called, so that `--help` answers at once."""

from __future__ import annotations

import difflib
import importlib
import sys

import click

from t2bench import __version__

# name -> (module that defines `command`, one line for the overview); the overview must not import the modules
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("t2bench.cli.run", "Measure a suite and report."),
    "plan": ("t2bench.cli.plan", "Show what a run would do and need, before it does."),
    "report": ("t2bench.cli.report", "Show a run again and rewrite its reports."),
    "compare": ("t2bench.cli.compare", "Compare variants of a run, or runs with each other."),
    "export": ("t2bench.cli.export", "Write a run in another tool's format."),
    "gate": ("t2bench.cli.gate", "Has anything got worse? A verdict with an exit code."),
    "calibrate": ("t2bench.cli.calibrate", "Find out what this machine's gate can resolve."),
    "baseline": ("t2bench.cli.baseline", "Accept, show, compare and pin baselines."),
    "list": ("t2bench.cli.listing", "List variants, suites, axes, back ends, workloads or metrics."),
    "params": ("t2bench.cli.params", "Count a variant's parameters, FLOPs and cache bytes."),
    "show": ("t2bench.cli.show", "Show what a variant changes, costs and can run on."),
    "check-variant": ("t2bench.cli.check_variant", "Prove variants right: float64, properties, other libraries."),
    "doctor": ("t2bench.cli.doctor", "Say what this machine can measure, and how well."),
    "data": ("t2bench.cli.data", "List, check and fetch parallel text for quality."),
    "schema": ("t2bench.cli.schema", "Print the JSON Schema of suite files."),
    "new": ("t2bench.cli.new", "Write a commented suite file to start from."),
}

EXIT_CODES = """
Exit codes: 0 good; 1 regression proven; 2 usage or suite error; 3 nothing to decide on, or undecided;
4 baseline missing, stale or of another machine; 5 a measurement failed; 130 interrupted (what was measured is kept).
"""


class _Lazy(click.Group):
    """A group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else f"; there are {', '.join(COMMANDS)}"
            ctx.fail(f"no such command '{args[0]}'{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog=EXIT_CODES,
)
@click.version_option(__version__, prog_name="t2bench")
def cli() -> None:
    """What does each modernisation of the transformer buy you, on your hardware?

    \b
    t2bench run                            the quickstart suite, a minute or two on a CPU
    t2bench run suites/long_context.yaml   time and memory over sequence length
    t2bench list variants                  what can be compared
    """  # noqa: D301 (click reads the backspace character as "keep these lines")


def main() -> None:
    """Entry point of the `t2bench` command and of `python -m t2bench`."""
    try:
        cli.main(prog_name="t2bench", standalone_mode=True)
    except BrokenPipeError:  # the reader of our output has enough
        sys.stderr.close()
        sys.exit(0)
