"""The Python interface: run a suite, get a `Run`.

>>> import t2bench
>>> run = t2bench.run("suites/long_context.yaml", overrides=["measure.rounds=5"])  # doctest: +SKIP
>>> run.frame()  # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from t2bench.records import Run
from t2bench.runner.devices import suite_for_device
from t2bench.runner.execute import execute
from t2bench.runner.observer import Observer, Silent
from t2bench.runner.options import Options, default_isolation
from t2bench.spec.plan import expand
from t2bench.spec.shortcuts import all_overrides


def run(
    suite: str | os.PathLike[str] = "quickstart",
    *,
    device: str = "auto",
    only: str | None = None,
    overrides: Sequence[str] = (),
    data: str | os.PathLike[str] | None = None,
    directory: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    threads: int | None = None,
    isolation: str | None = None,
    max_time_s: float | None = None,
    argv: Sequence[str] = (),
    allow_code: bool = False,
    seed: int | None = None,
    quick: bool = False,
    observer: Observer | None = None,
) -> Run:
    """Measure a suite and return what was recorded.

    Args:
        suite: path of a suite file, or the name of a built-in suite.
        device: `auto`, `cpu` or `cuda`.
        only: glob on case ids or variant names; the other cases are left out.
        overrides: `key=value` changes to the suite, as `--set` takes them.
        data: folder of your data: corpora are folders in it (or itself), its text files make the token streams. None
            for `T2BENCH_DATA`; without either, the text that ships with Python and the corpora of `t2bench data list`.
        directory: run directory; None chooses `results/<suite>/<time>`, or continues an unfinished run there.
        fresh: never continue an earlier run.
        threads: threads of each measured process; None for all allowed physical cores but one.
        isolation: `fork` (default on Linux) or `spawn`.
        max_time_s: stop starting launches after this many seconds.
        argv: command line to record.
        allow_code: permit the suite's plugins to be imported, in the measured processes; they run with all your rights.
        seed: of weights, batches and turn order; None for the suite's.
        quick: two launches of four rounds: a look, which can hardly prove anything.
        observer: watches the run.

    Raises:
        t2bench.spec.loader.SuiteErrors: the suite is wrong; one line per error with file, line and column.
        t2bench.runner.directory.DirectoryError: the run directory cannot be used.
        t2bench.runner.journal.RunLocked: another process writes to it.
        t2bench.runner.launcher.WorkerFailed: no measured process can be started.
        t2bench.runner.launcher.LauncherGone: the process that starts them died twice; what was recorded is intact.
    """
    watch = observer or Silent()
    overrides = all_overrides(overrides, seed, quick=quick)
    loaded, plugins = suite_for_device(suite, device, watch, overrides=overrides, allow_code=allow_code)
    data = data or os.environ.get("T2BENCH_DATA") or None
    options = Options(
        directory=None if directory is None else Path(directory),
        fresh=fresh,
        only=only,
        data=None if data is None else Path(data).expanduser(),
        threads=threads,
        isolation=isolation or default_isolation(),
        max_time_s=max_time_s,
        argv=tuple(argv),
        plugins=plugins,
    )
    return Run.load(execute(loaded, expand(loaded, only=only), options, watch))
