"""Hostile names, reasons and host strings through every exporter: each reader gets data, never markup or commands."""

import csv
import importlib.util
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from t2bench.analysis.analyse import analyse
from t2bench.export import latex, table
from t2bench.export.registry import EXPORTERS, export, render

_path = Path(__file__).parents[1] / "report" / "test_injection.py"
_spec = importlib.util.spec_from_file_location("t2bench_tests_payloads", _path)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

PAYLOADS = (
    *_module.PAYLOADS,
    "=cmd|' /C calc'!A0", '=HYPERLINK("https://evil.example","x")', "\t=1+1", "\r=1+1", " =1+1", "\uff1d1+1", "%0A=1",
    "+1", '"a","b"', "a,b;c\td", "a\n=1+1", "'=1",
    "\\input{/etc/passwd}", "\\write18{id}", "}\\end{tabular}\\input{x}", "%\n\\input{x}", "\\\\[1cm]", "[x]", "*",
    "^^5cinput{x}",
    "a&b", "#1", "{", "$x$", "~", "``", "\\csname x\\endcsname", "\\immediate\\openout",
    "Benchmark", "x 1 5 ns/op", "x\nBenchmarkEvil 1 5 ns/op", "Unit ns/op better=higher", "x\nUnit ns/op assume=exact",
    "foo-8",
    "variant=evil/length=1", "a/b=c", "\u00a01\u00a05\u00a0ns/op", "key: value",
    "::error file=x::y", "::set-output name=a::b", "%0A::error::x", "\n::add-mask::x", "x-bencher-ignore",
    "NaN", "null",
)  # fmt: skip
assert len(PAYLOADS) >= 100
BATCHES = [
    tuple(f"{PAYLOADS[(i + k) % len(PAYLOADS)]}" + "~" * k for k in range(3)) for i in range(0, len(PAYLOADS), 2)
]
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]")


@pytest.fixture
def hostile(make, tmp_path):
    def build(batch):
        run = make(tmp_path, names=batch, words=" ".join(batch))
        return run, analyse(run)

    return build


@pytest.fixture
def plain(make, tmp_path):
    run = make(tmp_path)
    return run, analyse(run)


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: ascii(batch[0])[:20])
def test_json_formats_have_the_shape_of_a_plain_run(hostile, plain, batch):
    for name in ("gha-smaller", "gha-bigger", "bencher", "google-benchmark", "pytorch", "pytest-benchmark"):
        text = render(name, *hostile(batch))
        assert text.isascii()
        assert not set(text) & set("<>&")
        assert shape(json.loads(text)) == shape(json.loads(render(name, *plain))), name
    entries = json.loads(render("gha-smaller", *hostile(batch)))
    assert len({entry["name"] for entry in entries}) == len(entries)
    for entry in entries:
        assert not CONTROLS.search(entry["name"])
        assert not set(entry["name"]) & set("`|\n")


def shape(data):
    """Types and own keys of JSON data; keys that are case ids count only."""
    if isinstance(data, dict):
        if any("train_step/" in key for key in data):
            return sorted(str(shape(value)) for value in data.values())
        return {key: shape(value) for key, value in data.items()}
    if isinstance(data, list):
        return [shape(value) for value in data]
    return type(data).__name__


def test_names_that_look_alike_stay_apart(hostile):
    run, analysis = hostile(("a\nb", "a b", "a\x00 b"))
    assert len(json.loads(render("bencher", run, analysis))) == 6
    names = [entry["name"] for entry in json.loads(render("gha-bigger", run, analysis))]
    assert len(set(names)) == 6
    lines = render("benchstat", run, analysis).splitlines()
    assert len({line.split()[0] for line in lines if line.startswith("Benchmark")}) == 6


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: ascii(batch[0])[:20])
def test_csv_keeps_its_cells_and_runs_nothing(hostile, plain, batch):
    text = render("csv", *hostile(batch))
    rows, expected = list(csv.reader(io.StringIO(text))), list(csv.reader(io.StringIO(render("csv", *plain))))
    assert [len(row) for row in rows] == [len(row) for row in expected]
    for row in rows[1:]:
        for cell in row:
            assert not CONTROLS.search(cell)
            assert "\n" not in cell
            # What Excel, LibreOffice and Sheets take for a formula, after the trimming that some of them do.
            risky = cell.strip().startswith(("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "|", "%"))
            assert not risky or is_number(cell), cell


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("payload", PAYLOADS, ids=ascii)
def test_latex_text_prints_itself(payload):
    text = latex.escape(payload)
    assert text.isascii()
    assert text.isprintable() or not text
    rest = re.sub(
        r"\\(textbackslash|textasciicircum|textasciitilde|textless|textgreater|textbar|textasciigrave)\{\}", "", text
    )
    rest = re.sub(r"\\[{}$&#%_]", "", rest)
    rest = rest.replace("-{}", "").replace("{[}", "").replace("{]}", "").replace("{*}", "")
    assert not set(rest) & set('\\{}$&#%_^~[]*<>|`"'), rest


@pytest.mark.parametrize("batch", BATCHES[::3], ids=lambda batch: ascii(batch[0])[:20])
def test_latex_files_keep_their_structure(hostile, plain, batch):
    text, calm = render("latex", *hostile(batch)), render("latex", *plain)
    own = r"(?m)^%|^\\(?:begin|end)\{\w+\}|\\(?:caption|toprule|midrule|bottomrule|centering|paragraph)\b"
    assert [m.rstrip() for m in re.findall(own, text)] == [m.rstrip() for m in re.findall(own, calm)]
    assert text.isascii()
    assert not CONTROLS.search(text)
    shown = re.sub(r"(?m)^%.*", "", text)
    assert not re.search(r"\\(input|write|openout|csname|immediate|end\{tabular\}\\input)", shown)


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: ascii(batch[0])[:20])
def test_benchstat_lines_are_only_ours(hostile, plain, batch):
    text, calm = render("benchstat", *hostile(batch)), render("benchstat", *plain)
    lines, expected = text.splitlines(), calm.splitlines()
    assert [kind(line) for line in lines] == [kind(line) for line in expected]
    assert [line for line in lines if line.startswith("Unit")] == [line for line in expected if line.startswith("Unit")]
    results = [line.split() for line in lines if line.startswith("Benchmark")]
    assert [fields[1:] for fields in results] == [x.split()[1:] for x in expected if x.startswith("Benchmark")]
    for fields in results:
        assert re.fullmatch(r"BenchmarkT2bench/[!-~]+", fields[0])
        assert not re.search(r"-\d+$", fields[0])
        assert len(re.findall(r"/(?!copy=)", fields[0])) == 5
    assert len({fields[0] for fields in results}) == 6


def kind(line):
    return line.split(" ")[0] if line.startswith("Unit") or ": " in line else "Benchmark"


def test_cells_that_a_spreadsheet_would_run_are_marked():
    assert table.cell("=1+1") == "'=1+1"
    assert table.cell("\t@x") == "'@x"
    assert table.cell("+rope") == "'+rope"
    assert table.cell("vanilla+rope") == "vanilla+rope"
    assert table.cell(-1.5) == -1.5


@pytest.mark.parametrize("name", [name for name, e in EXPORTERS.items() if e.kind != "text" and name != "wandb"])
def test_files_stay_where_they_were_told_to(hostile, tmp_path, name):
    pytest.importorskip(EXPORTERS[name].library, reason=f"{name} needs t2bench[{EXPORTERS[name].extra}]")
    for number, batch in enumerate(
        [("../../etc", "/abs", "a\x00b"), ("..", ".", "\ud800lone"), ("x" * 400, "\u202e", " ")]
    ):
        home = tmp_path / "deep" / "er" / str(number)
        home.mkdir(parents=True)
        run, analysis = hostile(batch)
        export(name, run, analysis, home / "out")
        assert [path.name for path in home.iterdir()] == ["out"]
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_of_every_payload_compiles(make, tmp_path):
    text = ""
    for batch in BATCHES:
        run = make(tmp_path, names=batch, words=" ".join(batch))
        text += render("latex", run, analyse(run)) + "\\clearpage\n"
    (tmp_path / "tables.tex").write_text(text)
    head = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
    (tmp_path / "main.tex").write_text(head + "\\input{tables}\n\\end{document}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
