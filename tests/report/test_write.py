import os

import pytest

from t2bench.report import html, markdown
from t2bench.report.write import write_reports


def test_both_files_are_written_whole(run_and_analysis):
    run, analysis = run_and_analysis
    assert write_reports(run, analysis) == run.path / "report.html"
    assert (run.path / "report.md").read_text() == markdown.render(run, analysis)
    assert sorted(p.name for p in run.path.iterdir()) == ["report.html", "report.md"]


def test_a_failed_write_leaves_the_old_report_and_no_debris(run_and_analysis, monkeypatch):
    run, analysis = run_and_analysis
    (run.path / "report.md").write_text("old")
    monkeypatch.setattr(html, "render", lambda run, analysis: "page")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_reports(run, analysis)
    assert [p.name for p in run.path.iterdir()] == ["report.md"]
    assert (run.path / "report.md").read_text() == "old"


def test_markdown_stays_below_its_limit_by_design(synthetic, tmp_path):
    run, analysis = synthetic.make(tmp_path, names=tuple(c * 280 for c in "abc"), words="w" * 2000)
    text = markdown.render(run, analysis)
    assert len(text.encode()) < markdown.LIMIT_BYTES
    assert text.startswith("# quickstart on cpu")
