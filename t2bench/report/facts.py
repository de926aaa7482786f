"""What stands behind the numbers: machine, software, protocol, command. Read from the run's environment, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from t2bench.analysis.results import Analysis
from t2bench.records import Record, Run
from t2bench.report import units
from t2bench.spec.errors import counted


def title(run: Run) -> str:
    """Suite and device: `quickstart on cpu`."""
    name = str(run.suite.get("name") or run.id)
    device = run.suite.get("device") or next((r.axes["device"] for r in run.records if r.axes.get("device")), None)
    return f"{name} on {device}" if device else name


def subject(run: Run) -> str:
    """What was measured, in one line: model, tokens, text, threads. Without these a speed-up is quoted as a law."""
    variants = run.suite.get("variants")
    points = _points(run)
    first = variants[0] if isinstance(variants, (list, tuple)) and variants else {}
    model = first.get("model", {}) if isinstance(first, Mapping) else {}
    parts = [_model(model, points)] if isinstance(model, Mapping) and model else []
    parts += _tokens(run.suite.get("tokens_per_step"), points)
    data = run.environment.get("data")
    sources = data.values() if isinstance(data, Mapping) else ()
    parts += list(
        dict.fromkeys(str(s["description"]) for s in sources if isinstance(s, Mapping) and "description" in s)
    )
    threads = _mapping(run, "torch").get("threads")
    parts += [counted(threads, "thread")] if isinstance(threads, int) else []
    return "; ".join(parts)


def _points(run: Run) -> dict[str, list[Mapping[str, Any]]]:
    """Workload -> the points that it was run at. A suite's own model holds only where a point does not change it."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in run.records:
        points = found.setdefault(record.workload, [])
        if record.axes not in points:
            points.append(record.axes)
    return found


def _model(model: Mapping[str, Any], points: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """`decoder with 2 layers, width 64, heads 2, ff 256; vocab 2048 (train_step), 500 (translate)`."""

    def sizes(name: str) -> str:
        by_kind = {kind: _values(name, model, at) for kind, at in points.items()} or {"": str(model[name])}
        kinds: dict[str, list[str]] = {}
        for kind, values in by_kind.items():
            kinds.setdefault(values, []).append(kind)
        if len(kinds) == 1:
            return next(iter(kinds))
        return ", ".join(f"{values} ({', '.join(of)})" for values, of in kinds.items())

    layers = {"encdec": ("enc_layers", "dec_layers"), "encoder": ("enc_layers",)}.get(
        str(model.get("arch")), ("dec_layers",)
    )
    depth = "+".join(sizes(name) if name in model else units.NA for name in layers)
    rest = ", ".join(f"{name} {sizes(name)}" for name in ("width", "heads", "ff", "vocab") if name in model)
    return f"{model.get('arch', 'model')} with {depth} layers, {rest}"


def _values(name: str, model: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> str:
    return " or ".join(dict.fromkeys(str(point.get(name, model[name])) for point in points))


def _tokens(tokens: Any, points: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """`1024 tokens a step`, with the workloads where others have batches of their own."""
    if not isinstance(tokens, int) or tokens <= 1:
        return []
    kinds = [kind for kind, at in points.items() if any(_fills(point, tokens) for point in at)]
    if points and not kinds:
        return []
    return [f"{tokens} tokens a step" + (f" ({', '.join(kinds)})" if len(kinds) < len(points) else "")]


def _fills(point: Mapping[str, Any], tokens: int) -> bool:
    """Whether the batch is as large as the tokens of a step ask for; of what is not known it is taken to be."""
    length, batch = point.get("length"), point.get("batch")
    if not isinstance(length, int) or not isinstance(batch, int) or length < 1:
        return True
    return batch == max(1, tokens // length)


def _mapping(run: Run, key: str) -> Mapping[str, Any]:
    value = run.environment.get(key)
    return value if isinstance(value, Mapping) else {}


def _trained(records: Sequence[Record]) -> str:
    """How many trainings there were, and whether all variants had the same seeds."""
    seeds: dict[str, set[int]] = {}  # a launch is one seed
    for record in records:
        seeds.setdefault(record.case, set()).add(record.launch)
    every = set().union(*seeds.values())
    told = f"{counted(len(records), 'training')} from {counted(len(every), 'seed')}"
    if any(mine != every for mine in seeds.values()):
        return f"{told}; not all variants have all"
    return f"{told}, the same for all variants" if len(seeds) > 1 else told


def honesty(run: Run, analysis: Analysis) -> tuple[str, ...]:
    """What a careful reader asks first, in a few short lines."""
    rounds = [len(set(r.turns.get("round", ()))) for r in run.records if r.pass_ == "time" and r.turns.get("round")]
    trained = [r for r in run.records if r.pass_ == "quality"]
    if trained and not analysis.launches:
        return tuple(filter(None, [_trained(trained), fingerprint(run)]))
    plural = "launch" if analysis.launches == 1 else "launches"
    behind = f"{analysis.launches} {plural}"
    if rounds:
        span = f"{min(rounds)}" if min(rounds) == max(rounds) else f"{min(rounds)} to {max(rounds)}"
        behind += f" (fresh processes) x {span} rounds"
    flags = [flag for r in run.records if r.pass_ == "time" for flag in r.turns.get("contended", ())]
    if flags:
        behind += f"; {_contention(flags)}"
    inside = f"{units.percent(analysis.inside_fraction)} of the wall time was inside timed windows and warm-up"
    if analysis.inside_fraction is None:
        inside = "share of the wall time inside timed windows: n/a"
    lines = [behind, inside, fingerprint(run)]
    return tuple(line for line in lines if line)


def _contention(flags: Sequence[bool | None]) -> str:
    """How many samples waited for a processor, where the machine tells."""
    known = [flag for flag in flags if flag is not None]
    if not known:
        return "contention not known"
    unknown = f", contention of {len(flags) - len(known)} more not known" if len(known) < len(flags) else ""
    return f"{sum(map(bool, known))} of {len(known)} samples contended{unknown}"


def fingerprint(run: Run) -> str:
    """One line that two comparable runs share: `hw 1a2b  sw 3c4d  proto 5e6f`."""
    prints = run.environment.get("fingerprint")
    if not isinstance(prints, Mapping):
        return ""
    return "fingerprint: " + ", ".join(f"{key} {value}" for key, value in prints.items())


def rows(run: Run) -> tuple[tuple[str, str], ...]:
    """The environment as (name, value) rows, nested names joined by dots, without the suite and the plan."""
    found: list[tuple[str, str]] = []
    for key, value in run.environment.items():
        if key not in ("suite", "plan", "argv"):
            _flatten(str(key), value, found)
    return tuple(found)


def _flatten(name: str, value: Any, found: list[tuple[str, str]]) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _flatten(f"{name}.{key}", inner, found)
    elif value is None:
        found.append((name, units.NA))
    elif isinstance(value, (list, tuple)):
        found.append((name, ", ".join(map(str, value))))
    elif name.endswith("_bytes") and isinstance(value, (int, float)) and not isinstance(value, bool):
        found.append((name, units.quantity(value, "bytes")))
    else:
        found.append((name, str(value)))


def command(run: Run) -> str:
    """The command line that made the run, quoted for a shell; empty if it is not known."""
    import shlex

    argv = run.environment.get("argv")
    if isinstance(argv, str):
        return argv
    if not isinstance(argv, (list, tuple)) or not argv:
        return ""
    return shlex.join(map(str, argv))


def suite_yaml(run: Run) -> str:
    """The resolved suite as saved beside the records; empty if the file is gone."""
    try:
        return (run.path / "suite.yaml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def subtitle(run: Run) -> str:
    """Machine, software and date in one line, as far as the run knows them."""
    host, torch = _mapping(run, "host"), _mapping(run, "torch")
    machine = next((str(host[key]) for key in ("gpu", "device_name", "cpu", "cpu_model") if host.get(key)), "")
    version = f"torch {torch['torch']}" if torch.get("torch") else ""
    started = str(run.environment.get("started") or "")[:16].replace("T", " ")
    return "  |  ".join(part for part in (machine, version, started, f"run {run.id}") if part)
