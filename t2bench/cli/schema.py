"""`t2bench schema`: the suite file's JSON Schema, so that editors complete and check suites."""

from __future__ import annotations

import json

import click


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of suite files.

    Save it, and begin a suite with `# yaml-language-server: $schema=PATH` to have an editor use it.
    """
    from t2bench.spec.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=1))
