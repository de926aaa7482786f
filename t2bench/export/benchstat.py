"""The Go benchmark format, for benchstat: one line a launch, since launches are what may be compared.

Format: golang.org/design/14313-benchmark-format; unit metadata: golang.org/x/perf/benchfmt. The step time is `ns/op`,
which benchstat knows; every other metric is a unit of its own name. Counts say `assume=exact`, so that benchstat shows
any change of them and warns if they differ between launches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from t2bench.analysis.results import Analysis
from t2bench.export.measurements import Measurement, facts, measurements
from t2bench.records import Run

_STEP_TIME = "step_time_s"


def render(run: Run, analysis: Analysis) -> str:
    """A run as Go benchmark text."""
    found = measurements(run, analysis)
    lines = [f"{name}: {value}" for name, value in facts(run).items()]
    lines += list(dict.fromkeys(_metadata(item) for item in found))
    by_case: dict[str, list[Measurement]] = {}
    for item in found:
        by_case.setdefault(item.case, []).append(item)
    taken: set[str] = set()
    for items in by_case.values():
        name = _unique(_name(items[0]), taken)
        lines += [f"Benchmark{name} {line}" for line in _launches(items)]
    return "\n".join(lines) + "\n"


def _unit(item: Measurement) -> str:
    return "ns/op" if item.metric == _STEP_TIME else item.metric


def _metadata(item: Measurement) -> str:
    better = "higher" if item.higher_is_better else "lower"
    return f"Unit {_unit(item)} better={better}" + (" assume=exact" if item.exact else "")


def _name(item: Measurement) -> str:
    """`T2bench/workload=.../.../length=64`.

    The length comes last: a trailing `-8` of a name would be read as GOMAXPROCS.
    """
    axes = {key: value for key, value in item.axes.items() if key not in ("length", "device", "seed", "ghost")}
    parts = {"workload": item.workload, "variant": item.variant, **axes, "length": item.length}
    return "/".join(["T2bench", *(f"{_word(key)}={_word(value)}" for key, value in parts.items())])


def _word(text: object) -> str:
    """One field of a name: printable ASCII without the characters that structure the line."""
    return re.sub(r"[^!-~]+|[/=]", "_", str(text)) or "_"


def _unique(name: str, taken: set[str]) -> str:
    stem, copy = name, 2
    while name in taken:
        name, copy = f"{stem}/copy={copy}", copy + 1
    taken.add(name)
    return name


def _launches(items: Sequence[Measurement]) -> Iterator[str]:
    """One line a launch: samples behind it, then value and unit pairs."""
    steps = next((item for item in items if item.metric == _STEP_TIME), None)
    iterations = 1 if steps is None else max(1, steps.num_samples // len(steps.values))
    for launch in range(max(len(item.values) for item in items)):
        pairs = []
        for item in items:
            if item.exact or launch < len(item.values):
                value = item.values[0] if item.exact else item.values[launch]
                pairs.append(f"{_number(value * 1e9 if item is steps else value)} {_unit(item)}")
        yield f"{iterations} {' '.join(pairs)}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)
