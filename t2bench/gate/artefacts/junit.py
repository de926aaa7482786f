"""The gate as JUnit XML: a suite per group, a test per case and metric, the numbers as properties.

A proven regression is a failure of type `regression`; what could not be decided is skipped, never passed. A suite of
its own holds the verdict of the whole, so that a gate that judged nothing cannot look like one that passed.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

from t2bench.analysis.results import Interval
from t2bench.gate.artefacts import words
from t2bench.gate.results import GateReport, GateRow
from t2bench.report import safe


def junit(report: GateReport) -> str:
    """The report as JUnit XML."""
    root = ET.Element("testsuites", name=_text(f"t2bench gate {report.suite}"))
    groups: dict[str, list[GateRow]] = {}
    for row in report.rows:
        groups.setdefault(words.group_of(row), []).append(row)
    _verdict_suite(root, report)
    for group, rows in groups.items():
        _group_suite(root, report, group, rows)
    _count(root, root.iter("testcase"))
    del root.attrib["skipped"]  # the schema has it for suites only
    root.set("time", f"{report.duration_s:.3f}")
    ET.indent(root, " ")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _verdict_suite(root: ET.Element, report: GateReport) -> None:
    suite = ET.SubElement(root, "testsuite", name="gate")
    facts = {"base": report.base, "candidate": report.candidate, "power": report.power, "machine": report.machine}
    _properties(suite, {**facts, "exit_code": str(report.exit_code), "t2bench": report.version})
    case = ET.SubElement(suite, "testcase", classname="gate", name="verdict", time=f"{report.duration_s:.3f}")
    _ending(case, report)
    _count(suite, suite.iter("testcase"))
    suite.set("time", f"{report.duration_s:.3f}")


def _ending(case: ET.Element, report: GateReport) -> None:
    sentence = _text(words.headline(report))
    if report.verdict == "regression":
        ET.SubElement(case, "failure", type="regression", message=sentence)
    elif report.verdict == "inconclusive":
        ET.SubElement(case, "skipped", message=sentence)
    elif report.exit_code != 0:
        ET.SubElement(case, "error", type=report.verdict, message=sentence)


def _group_suite(root: ET.Element, report: GateReport, group: str, rows: Sequence[GateRow]) -> None:
    suite = ET.SubElement(root, "testsuite", name=_text(group))
    for row in rows:
        name = f"{row.case.removeprefix(group + '/')} {row.metric} ({row.layer})"
        case = ET.SubElement(suite, "testcase", classname=_text(group), name=_text(name), time="0")
        case.set("file", _text(report.suite_path))
        case.set("line", str(int(row.line)))
        _properties(case, dict(_numbers(row)))
        message = _text(words.finding(row))
        if row.red:
            failure = ET.SubElement(case, "failure", type="missing" if row.verdict == "missing" else "regression")
            failure.set("message", message)
            failure.text = _text(f"base {words.value(row, row.base)}, new {words.value(row, row.new)}. {message}")
        elif row.verdict == "inconclusive":
            ET.SubElement(case, "skipped", message=message)
    _count(suite, suite.iter("testcase"))
    suite.set("time", "0")


def _properties(element: ET.Element, values: dict[str, str]) -> None:
    holder = ET.SubElement(element, "properties")
    for name, value in values.items():
        ET.SubElement(holder, "property", name=name, value=_text(value))


def _numbers(row: GateRow) -> Iterator[tuple[str, str]]:
    yield from (("verdict", row.verdict), ("layer", row.layer), ("unit", row.unit), ("why", row.why))
    for name, interval in (("base", row.base), ("new", row.new), ("effect", row.effect)):
        if interval is not None:
            yield from _interval(name, interval)
    numbers = (("tolerance", row.tolerance), ("detect", row.detect), ("mde", row.mde), ("p_value", row.p_value))
    for name, number in (*numbers, ("num_launches", row.num_launches)):
        if number is not None and math.isfinite(number):
            yield name, repr(number)


def _interval(name: str, interval: Interval) -> Iterator[tuple[str, str]]:
    for suffix, number in (("", interval.value), ("_low", interval.low), ("_high", interval.high)):
        if number is not None and math.isfinite(number):
            yield f"{name}{suffix}", repr(number)


def _count(element: ET.Element, cases: Iterator[ET.Element]) -> None:
    found = list(cases)
    element.set("tests", str(len(found)))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(name, str(sum(case.find(tag) is not None for case in found)))


def _text(text: object) -> str:
    return safe.clean(text, limit=2000)
