"""Parquet, tidy: one raw sample a row, with everything needed to select and group it in its columns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2bench.analysis.results import Analysis
from t2bench.export.measurements import facts
from t2bench.records import Record, Run

if TYPE_CHECKING:
    import pyarrow

_TEXT = ("run", "case", "group", "variant", "workload", "pass", "status", "reason", "dtype", "device", "metric", "unit")
_WHOLE = ("launch", "length", "batch", "seed", "sample", "round", "position")


def write(run: Run, analysis: Analysis, path: Path) -> None:
    """Write all records of a run.

    A metric that was sampled has a row per sample (`sample` counts from 0, with its `round`, `position`, `start_s` and
    `contended`); any other has one row whose `sample` is null. A record without metrics, such as a refusal, has one row
    without a metric, so that no case is missing. Matrix keys beyond the usual ones are text columns of their name.

    Raises:
        OSError: the path cannot be written.
    """
    import pyarrow
    import pyarrow.parquet

    found = [row for record in run.records for row in _rows(record)]
    extras = sorted({key for record in run.records for key in record.axes} - {*_TEXT, *_WHOLE, "ghost"})
    schema = _schema(extras).with_metadata({f"t2bench.{name}": value for name, value in facts(run).items()})
    for row in found:
        row.update({key: _text(row[key]) for key in (*_TEXT, *extras) if row.get(key) is not None})
    table = pyarrow.Table.from_pylist(found, schema=schema)
    temporary = path.with_name(f".{path.name}.part")
    pyarrow.parquet.write_table(table, temporary, compression="zstd")
    temporary.replace(path)


def _schema(extras: list[str]) -> pyarrow.Schema:
    import pyarrow

    fields = [(name, pyarrow.string()) for name in _TEXT]
    fields += [(name, pyarrow.int64()) for name in _WHOLE]
    fields += [("ghost", pyarrow.bool_()), ("contended", pyarrow.bool_())]
    fields += [("value", pyarrow.float64()), ("start_s", pyarrow.float64())]
    return pyarrow.schema(fields + [(name, pyarrow.string()) for name in extras])


def _text(value: Any) -> str:
    """A text that UTF-8 can hold: half of a surrogate pair, which JSON lets through, becomes a question mark."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _rows(record: Record) -> list[dict[str, Any]]:
    axes = {key: value for key, value in record.axes.items() if key != "value"}
    base: dict[str, Any] = {
        **axes,
        "run": record.run,
        "case": record.case,
        "group": record.group,
        "variant": record.variant,
        "workload": record.workload,
        "pass": record.pass_,
        "launch": record.launch,
        "status": record.status,
        "reason": record.reason,
    }
    found = []
    for name, metric in record.metrics.items():
        values = {"metric": name, "unit": metric.unit}
        if metric.samples is None:
            found.append({**base, **values, "value": metric.value})
        for place, sample in enumerate(metric.samples or ()):
            turn = {
                key: column[place]
                for key, column in record.turns.items()
                if key in ("round", "position", "start_s", "contended") and place < len(column)
            }
            found.append({**base, **values, **turn, "sample": place, "value": sample})
    return found or [base]
