"""`t2bench new`: a commented suite file to start from."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import click

from t2bench.cli import common
from t2bench.spec.errors import printable

STARTER = """\
# What question does this suite answer?
# Check it with `t2bench plan {path}`, run it with `t2bench run {path}`.
schema: 1
name: {name}
summary: "One line for reports"

# Effects are measured against this variant (default: the first).
reference: vanilla

# Built-in variants (`t2bench list variants`), or your own as a base and what differs from it
# (`t2bench list axes`).
variants:
  - vanilla
  - vanilla+flash
  - {{name: vanilla+rope, base: vanilla+flash, set: {{position: rope}}}}

# Laid over every variant, so that all have the same size.
model: {{arch: decoder, width: 128, heads: 4, ff: 512, dec_layers: 2, vocab: 2048}}

# Every combination is a case. Any model field may be an axis too, for example heads: [2, 4].
matrix:
  workload: [train_step]
  dtype: [fp32]
  length: [128, 256, 512]

# Sequences per step: tokens_per_step / length, at least 1. Or give batch under matrix.
tokens_per_step: 1024

# Launches are fresh processes, the replicates behind every interval; rounds are samples within one.
measure: {{launches: 3, rounds: 5}}

# Cases that are not run, with the reason that reports show:
# exclude:
#   - {{match: {{variant: vanilla, length: [512]}}, reason: "needs too much memory"}}

# What another kind of device should do differently:
profiles:
  cuda:
    matrix: {{dtype: [bf16], length: [512, 1024, 2048]}}
    tokens_per_step: 16384
"""

EXTENDING = """\
# What question does this suite answer that {base} does not?
# Check it with `t2bench plan {path}`, run it with `t2bench run {path}`.
schema: 1
name: {name}

# Everything comes from there but for what stands here. Mappings are merged key by key, lists replaced whole.
extends: {base}

measure: {{rounds: 8}}

# variants: [vanilla, transformer2]
# matrix: {{length: [128, 256, 512]}}
# profiles: {{cuda: {{tokens_per_step: 16384}}}}
"""


@click.command("new")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--base", metavar="SUITE", help="A suite to extend: a built-in one, or a file beside or below PATH.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def command(path: Path, base: str | None, force: bool) -> None:
    """Write a commented suite file to PATH."""
    if path.suffix not in (".yaml", ".yml"):
        common.fail(f"{printable(str(path))}: a suite file's name ends in .yaml")
    if not str(path).isprintable():  # the file names itself in its comments
        common.fail(f"{printable(str(path))}: a suite file's path has printable characters only")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", path.stem).lstrip("._-")[:60] or "my_suite"
    text = STARTER.format(path=path, name=name)
    if base is not None:
        text = EXTENDING.format(path=path, name=name, base=_base(path, base))
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        common.fail(f"{path} exists; --force replaces it")
    except OSError as error:
        common.fail(f"{path}: cannot be written ({error.strerror})")
    click.echo(path)


def _base(path: Path, base: str) -> str:
    """How the new file names its base."""
    from t2bench.spec.loader import SuiteErrors, load_suite, suite_names

    try:
        load_suite(base, device="cpu")
    except SuiteErrors as error:
        common.fail(str(error))
    if base in suite_names():
        return base
    target, folder = Path(base).resolve(), path.parent.resolve()
    if not target.is_relative_to(folder):
        common.fail(f"{base}: a base must be in the new file's folder or below it ({folder})")
    return json.dumps(os.fspath(target.relative_to(folder)), ensure_ascii=False)
