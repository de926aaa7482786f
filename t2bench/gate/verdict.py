"""All layers together: one verdict, one exit code, one sentence. Only 0 is green, and judging nothing is never 0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from t2bench.gate.results import EXIT_CODES, LAYER_WORDS, LAYERS, GateReport, GateRow, Layer, LayerSummary, Verdict

_ORDER = {"fail": 0, "missing": 0, "inconclusive": 1, "warn": 2, "demoted": 2, "improved": 3, "new": 3}


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """What the layers found, before it is weighed.

    Attributes:
        rows: of all layers.
        skipped: layer -> why it was not asked.
        failures: measurements that failed, in words: nothing is known about their cases.
        stale: why the baseline must be accepted anew, in words.
    """

    rows: Sequence[GateRow]
    skipped: Mapping[Layer, str]
    failures: Sequence[str] = ()
    stale: Sequence[str] = ()


def decide(findings: Findings) -> tuple[Verdict, str]:
    """The verdict and its headline. A proven regression outranks everything; what failed outranks what is open."""
    red = [row for row in findings.rows if row.red]
    judged = [row for row in findings.rows if row.layer in ("L1", "L2") and row.verdict in ("pass", "improved", "fail")]
    # One row that still passes says nothing of a counter that cannot be trusted.
    demoted = [row for row in findings.rows if row.verdict == "demoted"]
    open_rows = [row for row in findings.rows if row.verdict == "inconclusive"]
    if red:
        cases = len({row.case for row in red})
        first = red[0]
        return "regression", f"{_many(len(red), 'regression')} in {_many(cases, 'case')}: {_short(first)}"
    if findings.failures:
        return "failed", f"{_many(len(findings.failures), 'measurement')} failed: {findings.failures[0]}"
    if findings.stale:
        return "baseline", f"the baseline is stale: {findings.stale[0]}"
    if open_rows:
        return "inconclusive", f"{_many(len(open_rows), 'test')} undecided: {_short(open_rows[0])}"
    if not judged:
        why = "every counter was demoted" if demoted else "no metric was judged"
        return "inconclusive", f"nothing was decided: {why}"
    return "pass", f"no regression: {_many(len(judged), 'metric')} of {_many(len({r.case for r in judged}), 'case')}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _short(row: GateRow) -> str:
    return f"{row.case} {row.metric}: {row.why}"


def summaries(findings: Findings) -> tuple[LayerSummary, ...]:
    """One line per layer."""
    return tuple(_summary(layer, findings) for layer in LAYERS)


def _summary(layer: Layer, findings: Findings) -> LayerSummary:
    rows = [row for row in findings.rows if row.layer == layer]
    if not rows:
        why = findings.skipped.get(layer, "nothing to judge")
        return LayerSummary(layer=layer, verdict="skipped", words=f"{LAYER_WORDS[layer]}: {why}")
    verdicts = {row.verdict for row in rows}
    red = sum(row.red for row in rows)
    verdict: Literal["pass", "fail", "inconclusive", "warn", "skipped"] = "pass"
    if red:
        verdict = "fail"
    elif "inconclusive" in verdicts:
        verdict = "inconclusive"
    elif verdicts & {"warn", "demoted"}:
        verdict = "warn"
    counts = {name: sum(row.verdict == name for row in rows) for name in dict.fromkeys(row.verdict for row in rows)}
    words = ", ".join(f"{count} {name}" for name, count in counts.items())
    return LayerSummary(
        layer=layer, verdict=verdict, words=f"{LAYER_WORDS[layer]}: {words}", num_rows=len(rows), num_red=red
    )


def concluded(report: GateReport, findings: Findings) -> GateReport:
    """The report with verdict, exit code, headline, layers and rows in the order in which people want them."""
    verdict, headline = decide(findings)
    rows = sorted(findings.rows, key=lambda row: _ORDER.get(row.verdict, 4))
    return replace(
        report,
        verdict=verdict,
        exit_code=EXIT_CODES[verdict],
        headline=headline,
        layers=summaries(findings),
        rows=tuple(rows),
        power=power(findings.rows),
        warnings=(*report.warnings, *_loud(findings)),
    )


def _loud(findings: Findings) -> Iterable[str]:
    demoted = [row for row in findings.rows if row.verdict == "demoted"]
    if demoted:
        names = ", ".join(dict.fromkeys(row.metric for row in demoted))
        yield f"NOT EXACT: {names} differ between hash seeds in {_many(len({r.case for r in demoted}), 'case')}"
    yield from findings.failures
    yield from findings.stale


def power(rows: Iterable[GateRow]) -> str:
    """What a pass means: the change that would have been called a failure with 90 % probability."""
    parts = []
    paired = [row for row in rows if row.layer == "L2" and row.mde is not None and row.verdict != "advisory"]
    for metric in dict.fromkeys(row.metric for row in paired):
        members = [row for row in paired if row.metric == metric]
        worst = max(
            max((row.tolerance or 0.0) + (row.mde or 0.0), (row.tolerance or 0.0) + (row.detect or 0.0))
            for row in members
        )
        absolute = any(row.effect is None and row.base is not None for row in members)
        parts.append(f"{metric} by {worst:.3g}" if absolute else f"{metric} by {100 * worst:.3g} %")
    if any(row.layer == "L1" and row.verdict == "pass" for row in rows):
        parts.append("any counter by one")
    if not parts:
        return ""
    return f"a change for the worse of {', '.join(parts)} would have been caught" + (
        " (measured ones with 90 % probability)" if paired else ""
    )
