"""What CI shows of a gate: read back by what reads it, cut by what cuts it, and inert whatever it is called."""

import html
import importlib.util
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from junitparser import xunit2

from t2bench.analysis.results import Interval
from t2bench.gate.artefacts.annotations import MAX_ROWS, workflow_commands
from t2bench.gate.artefacts.badge import badge_json, badge_svg
from t2bench.gate.artefacts.junit import junit
from t2bench.gate.artefacts.markdown import comment, summary
from t2bench.gate.artefacts.words import change, value
from t2bench.gate.artefacts.write import write_artefacts
from t2bench.gate.results import ROW_VERDICTS, GateReport, GateRow, LayerSummary

_path = Path(__file__).parents[1] / "export" / "test_export_injection.py"
_spec = importlib.util.spec_from_file_location("t2bench_tests_export_payloads", _path)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
PAYLOADS = _module.PAYLOADS


def timed(case="train_step/fp32/L128/vanilla", verdict="fail", **changes):
    row = GateRow(
        case=case,
        metric="step_time_s",
        layer="L2",
        verdict=verdict,
        why="executes 12 % more FLOPs",
        unit="s",
        base=Interval(value=0.1, low=0.099, high=0.101),
        new=Interval(value=0.112, low=0.111, high=0.113),
        effect=Interval(value=1.12, low=1.10, high=1.14),
        tolerance=0.03,
        detect=0.05,
        mde=0.021,
        p_value=1e-5,
        num_launches=8,
        line=7,
    )
    return replace(row, **changes)


def counted(**changes):
    row = GateRow(
        case="train_step/fp32/L128/vanilla+flash",
        metric="saved_for_backward_bytes",
        layer="L1",
        verdict="fail",
        why="one tensor more",
        unit="bytes",
        base=Interval(value=16_044_036.0),
        new=Interval(value=16_044_040.0),
        effect=Interval(value=16_044_040 / 16_044_036),
        line=9,
    )
    return replace(row, **changes)


def report(*rows, verdict="regression", **changes):
    codes = {"pass": 0, "regression": 1, "inconclusive": 3, "baseline": 4, "failed": 5}
    made = GateReport(
        suite="ci",
        suite_path="suites/ci.yaml",
        base="commit abc",
        candidate="commit def",
        verdict=verdict,
        exit_code=codes[verdict],
        headline="one thing is worse",
        layers=(LayerSummary(layer="L1", verdict="fail", words="24 counters"),),
        rows=rows,
        self_check=("A/A passed",),
        power="a slowdown of 8 % would have been caught with 90 % probability",
        fingerprint={"hw": "aa"},
        machine="A CPU",
        duration_s=12.5,
        version="0.1",
    )
    return replace(made, **changes)


def test_numbers_are_told_to_the_digit_where_digits_count():
    row = counted()
    assert (value(row, row.base), value(row, row.new)) == ("16,044,036 bytes", "16,044,040 bytes")
    assert change(row) == "+4 bytes (+2.5e-05 %)"
    assert change(counted(new=row.base, effect=Interval(value=1.0))) == "none"
    assert value(row, None) == "n/a"
    assert change(timed()) == "+12.0 % [+10.0, +14.0]"


def test_summary_shows_failures_first_and_everything_once():
    text = summary(report(timed(verdict="pass"), timed(verdict="inconclusive"), counted()))
    assert text.index("Proven worse") < text.index("Inconclusive: 1") < text.index("Passed: 1")
    assert text.startswith("## t2bench gate: ci\n\n**REGRESSION: one thing is worse**")
    assert "a slowdown of 8 % would have been caught" in text
    assert "executes 12 % more FLOPs" in text
    assert "16,044,036 bytes | 16,044,040 bytes" in text
    assert text.count("<details>") == text.count("</details>") == 1


def test_every_row_verdict_has_its_place():
    for verdict in ROW_VERDICTS:
        assert "vanilla | step_time_s" in summary(report(timed(verdict=verdict))).replace("\\", "")


def test_a_comment_begins_with_its_hidden_marker():
    text = comment(report(timed(), suite="a -->b"))
    assert re.fullmatch(r"<!-- t2bench-gate:[A-Za-z0-9_.-]+ -->", text.splitlines()[0])
    assert comment(report(suite="x")).splitlines()[0] != comment(report(suite="y")).splitlines()[0]


@pytest.mark.parametrize(("render", "limit"), [(summary, 1 << 20), (comment, 65_536)])
def test_what_is_too_long_is_cut_where_it_hurts_least(render, limit):
    long = "w" * 400
    failing = [timed(case=f"train_step/fp32/L{n}/red", why=long) for n in range(40)]
    passing = [timed(case=f"train_step/fp32/L{n}/green", verdict="pass", why=long) for n in range(20_000)]
    text = render(report(*failing, *passing, self_check=()))
    assert len(text.encode()) < limit
    assert text.count("/red") == 40
    shown = text.count("/green")
    left_out = int(re.search(r"(\d+) more lines did not fit here; gate.json has them", text)[1])
    assert shown + left_out == 20_000


def test_even_failures_alone_are_cut():
    text = comment(report(*(timed(why="w" * 1000) for _ in range(500))))
    assert len(text.encode()) < 65_536
    assert text.count("| step_time_s |") > 20
    assert "more lines did not fit" in text


@pytest.mark.parametrize("payload", PAYLOADS, ids=ascii)
def test_markdown_stays_inert(payload):
    rows = [timed(case=payload, metric=payload, why=payload), counted(unit=payload, verdict="pass")]
    words = {"suite": payload, "base": payload, "candidate": payload, "headline": payload, "power": payload}
    hostile = report(*rows, **words, machine=payload, version=payload, warnings=(payload,), self_check=(payload,))
    for render in (summary, comment):
        text = render(hostile)
        bare = re.sub(r"<!-- t2bench-gate:[A-Za-z0-9_.-]* -->|</?(?:details|summary|sub)>", "", text)
        assert not re.search(r"<|://|(?<!\S)@\w|www\.", bare)
        assert text.count("<!--") == (render is comment)
        for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
        assert not any((ord(char) < 32 and char != "\n") or char in "\x7f\x9b\u202e\u2066\u2028" for char in text)


def parse_command(line):
    """What the Actions runner makes of a line: command, properties, message (its own unescaping rules)."""
    found = re.fullmatch(r"::([a-z-]+) (.*?)::(.*)", line)
    command, properties, message = found.groups()

    def unescape(text, pairs):
        for code, char in pairs:
            text = text.replace(code, char)
        return text

    data = (("%0D", "\r"), ("%0A", "\n"), ("%25", "%"))
    split = dict(pair.split("=", 1) for pair in properties.split(","))
    both = (("%3A", ":"), ("%2C", ","), *data)
    return command, {key: unescape(text, both) for key, text in split.items()}, unescape(message, data)


def test_annotations_mark_the_line_of_the_suite_file():
    first, last = workflow_commands(report(timed()))
    assert parse_command(first) == (
        "error",
        {"file": "suites/ci.yaml", "line": "7", "title": "step_time_s: fail"},
        "train_step/fp32/L128/vanilla: +12.0 % [+10.0, +14.0]: executes 12 % more FLOPs",
    )
    command, _, message = parse_command(last)
    assert (command, message) == ("error", "REGRESSION: one thing is worse")


def test_nine_annotations_and_one_that_sums_up():
    rows = [timed(verdict="inconclusive") for _ in range(5)] + [timed(line=n) for n in range(30)]
    lines = workflow_commands(report(*rows))
    assert len(lines) == MAX_ROWS + 1 == 10
    assert all(line.startswith("::error ") for line in lines)
    assert "26 more rows" in lines[-1]


@pytest.mark.parametrize(
    ("verdict", "level"),
    [
        ("pass", "notice"),
        ("inconclusive", "warning"),
        ("regression", "error"),
        ("baseline", "error"),
        ("failed", "error"),
    ],
)
def test_the_sum_is_there_also_without_rows(verdict, level):
    (line,) = workflow_commands(report(verdict=verdict))
    assert line.startswith(f"::{level} ")


def test_a_built_in_suite_has_no_file_to_mark():
    for path in ("quickstart", "/abs/ci.yaml", "../ci.yaml"):
        assert all("file=" not in line for line in workflow_commands(report(timed(), suite_path=path)))


@pytest.mark.parametrize("payload", PAYLOADS, ids=ascii)
def test_annotations_stay_one_command_a_line(payload):
    hostile = report(
        timed(case=payload, metric=payload, why=payload),
        suite=payload,
        suite_path=f"{payload}.yaml",
        headline=payload,
    )
    lines = workflow_commands(hostile)
    assert len("".join(f"{line}\n" for line in lines).splitlines()) == len(lines) == 2
    for line in lines:
        command, properties, message = parse_command(line)
        assert command == "error"
        assert set(properties) <= {"file", "line", "title"}
        assert "::" not in message


def test_junit_is_read_by_its_parser():
    rows = [timed(), timed(verdict="inconclusive", metric="x"), timed(verdict="pass", case="a/b/c"), counted()]
    parsed = xunit2.JUnitXml.fromstring(junit(report(*rows)).encode())
    suites = {suite.name: suite for suite in parsed}
    assert suites.keys() == {"gate", "train_step/fp32/L128", "a/b"}
    group = suites["train_step/fp32/L128"]
    assert (group.tests, group.failures, group.skipped, group.errors) == (3, 2, 1, 0)
    assert (parsed.tests, parsed.failures, parsed.errors) == (5, 3, 0)
    case = next(iter(group))
    (failure,) = case.result
    assert (failure.type, case.name, case.classname) == (
        "regression",
        "vanilla step_time_s (L2)",
        "train_step/fp32/L128",
    )
    properties = {entry.name: entry.value for entry in case.properties()}
    assert float(properties["effect_low"]) == 1.10
    assert float(properties["p_value"]) == 1e-5
    assert properties["verdict"] == "fail"
    assert (case._elem.get("file"), case._elem.get("line")) == ("suites/ci.yaml", "7")


@pytest.mark.parametrize("verdict", ["regression", "inconclusive", "baseline", "failed", "pass"])
def test_junit_without_rows_is_green_only_if_the_gate_is(verdict):
    parsed = xunit2.JUnitXml.fromstring(junit(report(verdict=verdict)).encode())
    (suite,) = parsed
    assert parsed.tests == suite.tests == 1
    assert (suite.failures + suite.errors + suite.skipped == 0) is (verdict == "pass")


def test_a_missing_case_is_a_failure():
    row = timed(verdict="missing", new=None, effect=None, why="not in the candidate")
    (case,) = [case for suite in xunit2.JUnitXml.fromstring(junit(report(row)).encode()) for case in suite][1:]
    assert case.result[0].type == "missing"
    assert "new n/a" in case.result[0].text


@pytest.mark.parametrize("payload", PAYLOADS, ids=ascii)
def test_junit_stays_inert(payload):
    hostile = report(
        timed(case=payload, metric=payload, why=payload, unit=payload),
        suite=payload,
        suite_path=payload,
        base=payload,
        headline=payload,
        machine=payload,
    )
    root = ET.fromstring(junit(hostile))
    tags = [element.tag for element in root.iter() if element.tag != "property"]
    assert " ".join(tags) == ("testsuites testsuite properties testcase failure testsuite testcase properties failure")


@pytest.mark.parametrize("verdict", ["regression", "inconclusive", "baseline", "failed", "pass"])
def test_badges_say_the_verdict(verdict):
    made = report(verdict=verdict)
    data = json.loads(badge_json(made))
    assert data["schemaVersion"] == 1
    assert data.keys() == {"schemaVersion", "label", "message", "color", "isError"}
    assert data["isError"] is (verdict != "pass")
    root = ET.fromstring(badge_svg(made))
    assert [element.text for element in root.iter() if element.tag.endswith("}text")] == ["t2bench ci", data["message"]]
    assert (data["color"] == "brightgreen") is (verdict == "pass")


@pytest.mark.parametrize("payload", PAYLOADS, ids=ascii)
def test_badges_stay_inert(payload):
    made = report(suite=payload)
    root = ET.fromstring(badge_svg(made))
    assert {element.tag.rpartition("}")[2] for element in root.iter()} == {"svg", "title", "rect", "g", "text"}
    assert json.loads(badge_json(made))["label"].startswith("t2bench")
    assert "<script" not in html.unescape("") + badge_svg(made)


def test_all_files_are_written(tmp_path):
    files = write_artefacts(report(timed(), counted()), tmp_path / "out")
    assert [path.name for path in files] == [
        "gate.json",
        "summary.md",
        "comment.md",
        "annotations.txt",
        "junit.xml",
        "badge.svg",
        "badge.json",
    ]
    assert all(path.stat().st_size for path in files)
    assert GateReport.load(tmp_path / "out").rows == report(timed(), counted()).rows
