"""Ours beside torch.nn, transformers and x-transformers: the same architecture, weights, data, loss and optimizer.

    make peers                                  the whole series (about 25 minutes on one core of a quiet machine)
    python tests/benchmarks/peers.py --quick --only 'llama/decode/*'
    python tests/benchmarks/peers.py --document docs/peers.md -o results/peers/cpu-2core.json --launches 0

A launch is a fresh process. In it the parties of a cell take turns in balanced random order; its estimate is the
median log ratio of their times, and the interval is Student's t over launches. Results are written after each launch,
and a series that was interrupted goes on where it stopped. `--launches 0` only writes the document.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT)]

from peers_document import document, summary  # noqa: E402

from t2bench.meters.environment import worker_environment  # noqa: E402

# Imported once, before processes are forked off: transformers imports its models and `generate` only when asked to.
MODELS = ("marian", "t5", "bert", "gpt2", "llama", "bloom")
PRELOAD = [
    "torch._dynamo",
    "x_transformers",
    "transformers.generation.utils",
    *(f"transformers.models.{name}.modeling_{name}" for name in MODELS),
    "peers_launch",
]
ENCDEC, OTHERS = ((16, 64), (4, 256)), ((8, 128), (2, 1024))
ARCHITECTURES = {
    "vanilla": ENCDEC, "t5": ENCDEC, "bert": OTHERS, "gpt2": OTHERS, "llama": OTHERS, "bloom": OTHERS,
}  # fmt: skip


def series(device: str) -> list[Any]:
    """The cells of the whole table: everything at the short length; the long one eagerly, and in fp32."""
    from peers_launch import Cell

    found = []
    for architecture, shapes in ARCHITECTURES.items():
        for short, (batch, length) in zip((True, False), shapes, strict=True):
            for dtype in ("fp32", "bf16"):
                for mode in ("eager", "compiled"):
                    for workload in ("forward", "train", "decode"):
                        decodes = workload == "decode"
                        left_out = (
                            (decodes and (architecture == "bert" or mode == "compiled" or not short))
                            or (mode == "compiled" and not short)
                            or (dtype == "bf16" and not short and device == "cpu")
                        )
                        if not left_out:
                            found.append(
                                Cell(
                                    architecture=architecture, batch=batch, length=length, dtype=dtype, mode=mode,
                                    workload=workload,
                                )
                            )  # fmt: skip
    return found


def measure(cells: list[Any], args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Add the launches that are missing, launches outside, cells inside; written after each."""
    from peers_launch import launch

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    jobs = [(number, cell) for number in range(args.launches) for cell in cells]
    begun = time.monotonic()
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for done, (number, cell) in enumerate(jobs):
            entry = results["cells"].setdefault(cell.name, {})
            if str(number) in entry:
                continue
            found = pool.submit(
                launch, [cell], number, args.rounds, args.new_tokens, args.device, number == 0
            ).result()[cell.name]
            entry[str(number)] = found
            args.output.parent.mkdir(parents=True, exist_ok=True)
            args.output.write_text(json.dumps(results, indent=1) + "\n")
            share = f"[{done + 1}/{len(jobs)}, {time.monotonic() - begun:.0f} s]"
            print(f"{share} launch {number + 1}: {summary(cell.name, found)}", file=sys.stderr, flush=True)


def wanted(cells: Iterable[Any], patterns: list[str]) -> list[Any]:
    """The cells whose names match any of the patterns; all if there is none."""
    found = [cell for cell in cells if not patterns or any(fnmatch.fnmatch(cell.name, each) for each in patterns)]
    if not found:
        raise SystemExit(f"--only {' '.join(patterns)} matches no cell; cells look like llama/decode/eager/fp32/8x128")
    return found


def main() -> None:
    """Read the options, measure, write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launches", type=int, default=5, help="fresh processes for each cell (5)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each party in a launch (3)")
    parser.add_argument("--new-tokens", type=int, default=64, help="tokens to decode (64)")
    parser.add_argument("--only", nargs="+", default=[], metavar="GLOB", help="cells, such as 'llama/decode/*'")
    parser.add_argument("--quick", action="store_true", help="3 launches of 2 rounds: a glance, and labelled as such")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "results/peers/cpu-2core.json", metavar="JSON")
    parser.add_argument("--document", type=Path, metavar="FILE", help="write the table there, such as docs/peers.md")
    args = parser.parse_args()
    if args.quick and args.launches:
        args.launches, args.rounds = 3, 2
    # What the measured processes start with; one thread, and the same allocator for all.
    os.environ |= worker_environment(1) | {"HF_HUB_OFFLINE": "1"}
    settings = {"launches": args.launches, "rounds": args.rounds, "new_tokens": args.new_tokens, "quick": args.quick}
    results: dict[str, Any] = {"device": args.device, "settings": settings, "cells": {}}
    if args.output.exists():
        results = json.loads(args.output.read_text())
    if args.launches:
        kept = ("rounds", "new_tokens", "quick")
        if results["device"] != args.device or any(results["settings"][name] != settings[name] for name in kept):
            parser.error(f"{args.output} holds a series of other settings: give another file with -o, or delete it")
        results["settings"] = settings
        from t2bench.meters.environment import host, runtime

        results["environment"] = {"host": host(), "runtime": runtime()}
        measure(wanted(series(args.device), args.only), args, results)
    text = document(results)
    if args.document:
        args.document.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
