"""t2bench: what each modernisation of the transformer buys you, measured on your hardware, with intervals.

>>> import t2bench
>>> result = t2bench.run("quickstart", device="cpu")  # doctest: +SKIP
>>> result.frame().query("metric == 'step_time_s'")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t2bench.api import run
    from t2bench.models.factories import variant
    from t2bench.records import Run

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "run", "variant"]


def __getattr__(name: str) -> Any:
    """Import the public names on first use: `import t2bench` itself stays instant and without torch."""
    if name == "run":
        from t2bench.api import run

        return run
    if name == "Run":
        from t2bench.records import Run

        return Run
    if name == "variant":
        from t2bench.models.factories import variant

        return variant
    raise AttributeError(f"module 't2bench' has no attribute '{name}'")
