"""`t2bench doctor`: what this machine can measure, how well, and what would make it better."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from t2bench.cli import common

GIB = 1 << 30
QUIET_LOAD = 0.3  # runnable processes besides us, per core, from which measurements suffer


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable result on stdout.")
def command(as_json: bool) -> None:
    """Say what this machine can measure: device, torch, threads, memory, measured ceilings, and what disturbs."""
    with common.user_errors():
        found = examine()
    if as_json:
        print(json.dumps(found, indent=1))
        return
    for name, text in [*_lines(found), *(("advice", advice) for advice in found["advice"])]:
        click.echo(click.wrap_text(f"{name:<12} {text}", 80, subsequent_indent=" " * 13))


def examine() -> dict[str, Any]:
    """Facts about the machine, and advice.

    Raises:
        WorkerFailed: no worker can be started (torch missing or broken).
    """
    from t2bench.meters import environment as env
    from t2bench.runner.launcher import launcher
    from t2bench.runner.options import default_isolation

    host = env.host()
    threads = env.default_threads()
    isolation = default_isolation()
    began = time.monotonic()
    start = launcher(isolation, env.worker_environment(threads))
    try:
        server_s = time.monotonic() - began
        began = time.monotonic()
        worker = start.start()
        cuda = bool(worker.ask({"op": "cuda_available"}, 60.0)["available"])
        worker_s = time.monotonic() - began
        device = "cuda" if cuda else "cpu"
        worker.ask({"op": "configure", "device": device, "threads": threads, "memory_limit_bytes": None}, 60.0)
        facts = worker.ask({"op": "runtime"}, 60.0)
        dtypes = ["fp32", "bf16"]
        ceilings = worker.ask({"op": "ceilings", "dtypes": dtypes}, 120.0)["ceilings"]
        worker.close()
    finally:
        start.close()
    return {
        "device": device,
        "host": host,
        "torch": facts["runtime"],
        "available_bytes": facts["available_bytes"],
        "ceilings": ceilings,
        "threads": threads,
        "isolation": isolation,
        "server_start_s": server_s,
        "worker_start_s": worker_s,
        "fingerprint": env.fingerprint(host, facts["runtime"]),
        "advice": _advice(host, facts["runtime"]),
    }


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    host, torch = found["host"], found["torch"]
    ceilings = ", ".join(f"{dtype} {c['flops_per_s'] / 1e9:,.0f} GFLOP/s" for dtype, c in found["ceilings"].items())
    copy = max(c["bytes_per_s"] for c in found["ceilings"].values())
    lines = [
        (
            "device",
            found["device"] + ("" if found["device"] == "cuda" else f" ({host['nvml'].removeprefix('NVML: ')})"),
        ),
        ("cpu", f"{host['cpu']}, {host['allowed_cores']} of {host['logical_cores']} cores usable"),
        ("memory", f"{found['available_bytes'] / GIB:.1f} GiB free of {host['ram_bytes'] / GIB:.1f} GiB"),
        ("torch", f"{torch['torch']}, CUDA {torch['cuda'] or 'not built in'}, Python {host['python']}"),
        ("threads", f"{found['threads']} per measured process, waiting passively"),
        ("denormals", "flushed to zero" if torch["flush_denormal"] else "not flushed: this CPU cannot"),
        ("ceilings", f"{ceilings}, copy {copy / 1e9:.1f} GB/s (measured now)"),
        (
            "isolation",
            f"{found['isolation']}: server {found['server_start_s']:.1f} s, then "
            f"{1000 * found['worker_start_s']:.0f} ms a worker",
        ),
        ("fingerprint", " ".join(f"{name} {value}" for name, value in found["fingerprint"].items())),
    ]
    return lines + [("gpu", f"{gpu['name']}, {(gpu['total_bytes'] or 0) / GIB:.0f} GiB") for gpu in host["gpus"]]


def _advice(host: dict[str, Any], torch: dict[str, Any]) -> list[str]:
    advice = []
    load, cores = host["load_1min"], host["allowed_cores"]
    if load is not None and load > QUIET_LOAD * cores:
        advice.append(
            f"the machine is busy (load {load:.1f}, usable cores: {cores}): stop other programs before you measure"
        )
    if host["governor"] not in (None, "performance"):
        advice.append(f"the CPU governor is '{host['governor']}': 'performance' measures more steadily")
    if host["turbo"]:
        advice.append("turbo is on: clocks depend on temperature; intervals will be wider")
    if host["gpus"] and torch["cuda"] is None:
        advice.append("there is an NVIDIA GPU, but this torch was built without CUDA")
    return advice or ["none: nothing here speaks against measuring"]
