import dataclasses
import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from t2bench.analysis.results import Interval
from t2bench.report import cases, facts, headline, terminal, units, words
from t2bench.report.view import View


def shown(run, analysis, width=80, **options):
    file = options.pop("file", None) or io.StringIO()
    terminal.show(run, analysis, Console(file=file, width=width, **options), report_path="results/r/report.html")
    return file.getvalue() if isinstance(file, io.StringIO) else None


def faster(ratio):
    """A time ratio as a speed-up, written apart from the code under test."""
    return Interval(value=1 / ratio.value, low=1 / ratio.high, high=1 / ratio.low)


def test_every_number_of_the_speed_table_is_the_analysis(run_and_analysis):
    run, analysis = run_and_analysis
    text = shown(run, analysis, width=200)
    table = text[text.index("Speed: train_step/fp32") : text.index("Memory: train_step/fp32")]
    numbers = set(re.findall(r"[\d.]+x? (?:ms |s )?\[[^]]+\]", table))
    expected = {units.interval(e.interval, "s") for e in analysis.estimates if e.metric == "step_time_s"}
    expected |= {units.times(faster(e.ratio)) for e in analysis.effects}
    assert len(numbers) > 15
    assert numbers <= expected
    for effect in analysis.effects:
        assert units.times(faster(effect.ratio)) in table


def test_verdict_says_how_much_and_how_sure(run_and_analysis):
    text = " ".join(shown(*run_and_analysis).split())
    assert "flash is 1.708x [1.678, 1.740] faster than vanilla at L=4096" in text
    assert "L^1.71 [1.66, 1.76]" in text
    assert "L=310 [248, 372]" in text
    assert "vanilla against itself" in text
    assert "96 L^2 + 12288 L + 4096 bytes, exact" in text


def test_failures_and_refusals_are_rows_with_reasons(run_and_analysis):
    text = " ".join(shown(*run_and_analysis).split())
    for phrase in ("oom (predicted)", "refused", "crashed", "needs 12.4 GiB", "at least 512 tokens", "signal 9"):
        assert phrase in text
    assert "71 % of the wall time" in text
    assert "hw 1a2b3c4d" in text
    assert text.endswith("report: results/r/report.html")


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_lines_fit_the_width(run_and_analysis, width):
    for line in shown(*run_and_analysis, width=width).splitlines():
        assert cell_len(line) <= width, line


def test_about_one_screen_and_a_half(run_and_analysis):
    assert len(shown(*run_and_analysis).splitlines()) < 75


def test_plain_text_without_a_terminal(run_and_analysis):
    text = shown(*run_and_analysis)
    assert "\x1b" not in text
    assert text.isascii()


def test_no_color_is_respected(run_and_analysis, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text = shown(*run_and_analysis, force_terminal=True)
    assert not re.search(r"\x1b\[[\d;]*3\d", text)


def test_colour_on_a_terminal(run_and_analysis, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[32m" in shown(*run_and_analysis, force_terminal=True)


def test_one_launch_claims_no_interval(synthetic, tmp_path):
    text = " ".join(shown(*synthetic.make(tmp_path, launches=1)).split())
    assert "one launch: no interval" in text
    assert "1.71x faster than vanilla" in text
    assert "1 launch (fresh processes)" in text


@pytest.mark.parametrize("width", [40, 80])
def test_no_measured_case_at_all(synthetic, tmp_path, width):
    text = " ".join(shown(*synthetic.make(tmp_path, measured=False), width=width).split())
    assert "Nothing was measured" in text
    assert "signal 11" in text
    assert "n/a" in text


def test_an_ascii_stream_gets_replacements_instead_of_an_exception(synthetic, tmp_path):
    run, analysis = synthetic.make(tmp_path, names=("van\u7b80", "f\U0001f600", "c\udcff"))
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    shown(run, analysis, file=file)
    file.flush()
    assert b"van?" in raw.getvalue()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([True, False], "1 of 2 samples contended"),
        ([None, None], "contention not known"),
        ([True, None, False], "1 of 2 samples contended, contention of 1 more not known"),
    ],
)
def test_contention_that_the_machine_does_not_tell_is_not_none(run_and_analysis, flags, told):
    run, analysis = run_and_analysis
    record = next(r for r in run.records if r.pass_ == "time")
    entry = dataclasses.replace(record.metrics["step_time_s"], samples=(1.0,) * len(flags))
    changed = dataclasses.replace(
        record, turns={"round": list(range(len(flags))), "contended": flags}, metrics={"step_time_s": entry}
    )
    small = dataclasses.replace(run, records=(changed,))
    assert facts.honesty(small, analysis)[0].endswith(f"; {told}")
    table = cases.samples(View(run=small, analysis=analysis))
    assert table.rows[0][3].text == (units.NA if flags == [None, None] else "1")


def test_the_large_figures_are_of_the_fastest_variant(run_and_analysis):
    run, analysis = run_and_analysis
    first = headline.tiles(View(run=run, analysis=dataclasses.replace(analysis, ladder=())))[0]
    assert "flash" in first.meaning


def test_memory_is_the_variants_over_the_references():
    assert words.ratio(1.0, 2.0) == "0.50x"
    assert words.ratio(4.0, 2.0) == "2.0x"


def test_the_subject_says_of_which_workload_a_size_is(run_and_analysis):
    small, _ = run_and_analysis
    model = {"arch": "decoder", "width": 64, "heads": 2, "ff": 256, "dec_layers": 2, "vocab": 2048}
    suite = {**small.suite, "variants": [{"name": "a", "model": model}], "tokens_per_step": 1024}
    first = dataclasses.replace(small.records[0], workload="train_step", axes={"length": 64, "batch": 16})
    own = dataclasses.replace(first, workload="translate", axes={"length": 32, "batch": 8, "vocab": 500})
    alone, both = (
        facts.subject(dataclasses.replace(small, suite=suite, records=found)) for found in ((first,), (first, own))
    )
    assert alone.startswith("decoder with 2 layers, width 64, heads 2, ff 256, vocab 2048; 1024 tokens a step")
    assert "(" not in alone.partition(" thread")[0]
    assert both.startswith(
        "decoder with 2 layers, width 64, heads 2, ff 256, vocab 2048 (train_step), 500 (translate); "
        "1024 tokens a step (train_step)"
    )
    ladder = [dataclasses.replace(first, axes={**first.axes, "width": width}) for width in (64, 128)]
    assert "width 64 or 128, heads 2" in facts.subject(dataclasses.replace(small, suite=suite, records=tuple(ladder)))
