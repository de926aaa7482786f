"""Translations in the terminal, in Markdown and on the page."""

import importlib.util
import io
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from t2bench.analysis.analyse import analyse
from t2bench.analysis.compare import compare
from t2bench.analysis.quality_results import Claim, Floor
from t2bench.records import Metric, Record
from t2bench.report import comparison, html, markdown, quality, terminal
from t2bench.report.content import build

# Another folder's helper: tests of every folder are imported on their own.
_spec = importlib.util.spec_from_file_location(
    "t2bench_tests_quality_runs", Path(__file__).parents[1] / "analysis" / "quality_runs.py"
)
made = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = made
_spec.loader.exec_module(made)
Learner, QualityRuns = made.Learner, made.QualityRuns

VARIANTS = {
    "vanilla": Learner(),
    "rope": Learner(wrong=0.2, pace=0.8),
    "flash": Learner(copies="vanilla"),
    "gelu": Learner(wrong=0.301),
    "slow": Learner(wrong=0.4, diverged=(1,), empty=2),
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    options = {"tests": ("test", "test[31-60]"), "ladder": ("vanilla", "gelu", "rope"), "target": 38.0}
    run = QualityRuns(variants=VARIANTS, **options).make(tmp_path_factory.mktemp("report"))
    return run, analyse(run)


def screen(run, analysis, width=80):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    terminal.show(run, analysis, console)
    return console.file.getvalue()


def test_the_verdict_comes_first_and_in_words(shown):
    verdict = build(*shown).verdict
    assert verdict[0].startswith("On test, greedy; SYNTHETIC xa-xb: vanilla reaches BLEU ")
    assert "the nearest training sentence would give 7.1" in verdict[0]
    assert "identical output: flash" in verdict[1]
    assert re.search(r"better: rope by \+[\d.]+ \[\+[\d.]+, \+[\d.]+\] BLEU", verdict[1])
    assert "slow diverged in 1 of 3 seeds" in verdict[1]
    assert re.search(r"no difference resolved: gelu \(could resolve [\d.]+ BLEU\)", verdict[1])
    assert not any("Nothing was measured" in sentence for sentence in verdict)


def test_every_title_of_synthetic_text_says_so(shown):
    content = build(*shown)
    titles = [table.title for table in (*content.quality, *content.samples)]
    assert len(titles) > 5
    assert all("SYNTHETIC" in title for title in titles)
    plots = re.findall(r"<figure>\s*<h3>([^<]*)</h3>", html.render(*shown))
    assert sum("SYNTHETIC" in title for title in plots) == 3


def test_trainings_are_counted_with_their_seeds(shown):
    said = " ".join(screen(*shown).split())
    assert "15 trainings from 3 seeds, the same for all variants" in said


def test_real_text_is_not_called_synthetic(tmp_path):
    run = QualityRuns(synthetic=False, corpus="multi30k", direction="en-de").make(tmp_path)
    content = build(run, analyse(run))
    assert content.quality[0].title == "Quality: test, greedy; multi30k en-de"
    assert "SYNTHETIC" not in screen(run, analyse(run))


def test_the_table_says_what_was_scored(shown):
    run, analysis = shown
    table = build(run, analysis).quality[0]
    rows = {row[0].text: [cell.text for cell in row] for row in table.rows}
    board = analysis.quality.boards[0]
    mean = board.arms[0].spreads["bleu"]
    assert rows["vanilla"][1] == f"{mean.interval.value:.2f} [{mean.interval.low:.2f}, {mean.interval.high:.2f}]"
    assert rows["vanilla"][4] == "reference"
    assert rows["rope"][4] == "better"
    assert rows["flash"][3:5] == ["0, exactly", "identical"]
    assert rows["slow"][2] == "2 of 3"
    assert rows["floor: copy"][1] == "0.50"
    assert rows["floor: retrieval"][1] == "7.10"
    assert table.notes[0].startswith("BLEU nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp")


def test_lowercased_text_has_the_score_of_old_tables_and_says_so(tmp_path):
    run = QualityRuns(lowercase=True, tests=("test", "other")).make(tmp_path)
    analysis = analyse(run)
    for board, table in zip(analysis.quality.boards, build(run, analysis).quality, strict=False):
        at = table.columns.index("BLEU lc-tok")
        for arm, row in zip(board.arms, table.rows, strict=False):
            # The made records put it 0.4 above BLEU.
            assert float(row[at].text) == pytest.approx(arm.spreads["bleu"].interval.value + 0.4, abs=0.006)
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert any(note.startswith("All text was lowercased first") for note in table.notes)
    texts = (screen(run, analysis), markdown.render(run, analysis), html.render(run, analysis))
    for text in (" ".join(each.split()) for each in texts):
        assert "BLEU lc-tok: BLEU of lowercased outputs and references" in text
        assert "case:mixed) are of lowercased text" in text
    assert max(map(len, texts[0].splitlines())) <= 80


def test_cased_text_has_no_lowercased_score(shown):
    assert all("BLEU lc-tok" not in table.columns for table in build(*shown).quality)
    assert "lowercased" not in screen(*shown)


def test_eighty_columns_are_enough(shown):
    text = screen(*shown)
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text
    assert "not reached in" in text
    assert "n/a" not in text.split("Cost of training")[0]


def test_one_range_of_lengths_is_no_table_and_no_mark_needs_no_note(tmp_path):
    run = QualityRuns().make(tmp_path)
    for record in run.records:
        for entry in record.observed["scores"]:
            entry["buckets"] = [{**bucket, "n": 500} for bucket in entry["buckets"]]
    table = next(t for t in build(run, analyse(run)).quality if t.title.startswith("Quality by source length"))
    assert not any("~" in cell.text for row in table.rows for cell in row)
    assert "~" not in table.notes[0]
    for record in run.records:
        for entry in record.observed["scores"]:
            entry["buckets"] = entry["buckets"][:1]
    assert not any(t.title.startswith("Quality by source length") for t in build(run, analyse(run)).quality)


def test_length_buckets_show_their_size_and_mark_the_small(shown):
    table = next(t for t in build(*shown).quality if t.title.startswith("Quality by source length"))
    counts = [int(cell.text) for cell in table.rows[0][1:]]
    assert sum(counts) == 220
    assert max(counts) < 200
    assert all(cell.text.endswith(" ~") for cell in table.rows[1][1:])


def test_markdown_and_page_have_samples_side_by_side(shown):
    text, page = markdown.render(*shown), html.render(*shown)
    for heading in ("Samples: ", "Wins: ", "Losses: ", "This test set only, not the training noise: "):
        assert f"## {heading}" in text
        assert f"<h3>{heading}" in page
    assert "vanilla, flash" in text  # equal translations share a line
    assert len(text.encode()) < markdown.LIMIT_BYTES
    assert len(page.encode()) < 500_000


def test_the_page_draws_curves_and_prices(shown):
    page = html.render(*shown)
    for title in ("Learning against updates", "Learning against training time", "Learning against tokens trained on"):
        assert title in page
    assert "Quality and training time" in page
    assert "Quality and peak memory" not in page  # nothing was counted here
    assert '<section id="quality">' in page
    assert '<section id="speed">' not in page


def test_memory_is_a_price_where_it_is_known(shown):
    run, _ = shown
    plans = []
    for place, record in enumerate({r.case: r for r in run.records}.values()):
        fields = {name: getattr(record, name) for name in ("run", "case", "group", "variant", "workload", "axes")}
        metrics = {"tracked_peak_bytes": Metric(value=1e8 * (1 + place), unit="bytes")}
        plans.append(Record(**fields, pass_="plan", launch=0, status="ok", metrics=metrics))
    run = replace(run, records=(*plans, *run.records))
    assert "Quality and peak memory of a step" in html.render(run, analyse(run))


def test_a_run_of_times_has_no_quality(run_and_analysis):
    content = build(*run_and_analysis)
    assert content.quality == ()
    assert content.samples == ()
    assert 'id="quality"' not in html.render(*run_and_analysis)


@pytest.mark.parametrize(
    "options", [{"seeds": 1}, {"sentences": 30}, {"details": False}, {"target": None}, {"floors": {}}]
)
def test_every_kind_of_run_can_be_shown(tmp_path, options):
    run = QualityRuns(**options).make(tmp_path)
    analysis = analyse(run)
    text = screen(run, analysis)
    assert "Quality: test, greedy; SYNTHETIC xa-xb" in text
    assert html.render(run, analysis)
    assert markdown.render(run, analysis)
    if options.get("seeds") == 1:
        assert "one seed proves nothing" in text
        words = " ".join(text.split())
        assert re.search(r"On test, greedy; SYNTHETIC xa-xb: BLEU [\d.]+ \(vanilla\) and [\d.]+ \(rope\); ", words)
        assert "; one seed proves nothing about their differences." in words
        assert "Against vanilla" not in words
        assert "Student's" not in words
        assert "Holm" not in words


def test_nothing_finished_is_said(tmp_path):
    run = QualityRuns(variants={"vanilla": Learner(diverged=(0, 1, 2)), "rope": Learner(diverged=(0, 1, 2))}).make(
        tmp_path
    )
    text = screen(run, analyse(run))
    assert "Nothing was translated: no training was finished." in text
    assert "diverged: loss NaN at step 180" in text
    assert html.render(run, analyse(run))


def test_hostile_text_stays_text(tmp_path):
    evil = "<script>alert(1)</script>[red]\x1b[31m|"
    run = QualityRuns(variants={evil: Learner(), "b": Learner(wrong=0.2)}, corpus=evil, direction=evil).make(tmp_path)
    analysis = analyse(run)
    page = html.render(run, analysis)
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert "\x1b" not in screen(run, analysis)
    assert "<script>" not in markdown.render(run, analysis)


def test_compared_runs_say_what_they_compare(tmp_path):
    one, two = QualityRuns().make(tmp_path / "a"), QualityRuns(text_seed=1).make(tmp_path / "b")
    (found,) = compare([one, two])
    tables = comparison.tables(found)
    assert "SYNTHETIC" in tables[0].title
    assert [row[-1].text for row in tables[0].rows] == ["not compared", "not compared"]
    assert "vanilla and rope: not compared: training text: " in tables[0].notes[-1]
    (same,) = compare([one, one])
    assert [row[-1].text for row in comparison.tables(same)[0].rows] == ["identical", "identical"]
    assert len(comparison.flat(same)) == 2
    assert all(len(row) == len(comparison.COLUMNS) for row in comparison.flat(same))
    comparison.plain(same)


def test_points_keep_their_sign_and_two_decimals():
    from t2bench.analysis.results import Interval

    assert quality.points(Interval(value=1.0, low=-0.5, high=2.5), "+") == "+1.00 [-0.50, +2.50]"
    assert quality.points(Interval(value=24.4)) == "24.40"
    assert quality.points(None) == "n/a"
    assert quality.points(Interval(value=-1e-9, low=-0.001, high=0.0), "+") == "+0.00 [+0.00, +0.00]"


def test_text_that_was_trained_on_is_told(tmp_path, shown):
    run = QualityRuns(in_training=17).make(tmp_path)
    told = "Of the sentences to translate 17 are in the training text too"
    assert told in " ".join(screen(run, analyse(run)).split())
    assert "in the training text too" not in screen(*shown)


def test_a_variant_without_scores_does_not_hide_that_the_others_are_paired(tmp_path):
    variants = {"vanilla": Learner(), "rope": Learner(wrong=0.2), "wild": Learner(diverged=(0, 1, 2))}
    run = QualityRuns(variants=variants).make(tmp_path)
    assert "Difference to vanilla, paired by seed." in " ".join(screen(run, analyse(run)).split())


def test_no_difference_beyond_the_scale_is_said_to_be_resolvable():
    claim = Claim(variant="a", reference="b", verdict="unresolved", margin=0.5, resolves=357.8)
    assert quality.told(claim).text == "unresolved (could resolve nothing)"
    assert quality.told(replace(claim, resolves=3.1)).text == "unresolved (could resolve 3.1 BLEU)"


def test_a_floor_is_not_shown_as_nothing(tmp_path):
    run = QualityRuns(floors={"copy": 0.002, "retrieval": 0.0104}).make(tmp_path)
    assert "the nearest training sentence would give 0.01." in " ".join(screen(run, analyse(run)).split())


@pytest.mark.parametrize(
    ("bleu", "shown"), [(0.0, "0.0"), (0.004, "less than 0.01"), (0.0085, "0.01"), (0.25, "0.2"), (7.11, "7.1")]
)
def test_a_floor_as_text(bleu, shown):
    assert Floor(bleu=bleu, words="x").shown == shown


@pytest.mark.parametrize(("cut", "tone"), [(6, ""), (7, "failed")])
def test_outputs_that_were_cut_alarm_from_one_in_a_hundred_on(tmp_path, cut, tone):
    run = QualityRuns().make(tmp_path)
    for record in run.records:
        record.observed["scores"][0]["cut"] = cut // 3 + (record.launch < cut % 3)
    table = quality.boards(analyse(run).quality)[0]
    assert [row[table.columns.index("cut")].tone for row in table.rows[:2]] == [tone, tone]


def test_copying_is_said_to_be_no_floor_where_it_is_the_task(tmp_path, shown):
    run = QualityRuns(floors={"copy": 100.0, "retrieval": 7.1}).make(tmp_path)
    words = "Copying is the task here, and so no floor."
    assert words in " ".join(screen(run, analyse(run)).split())
    assert words not in " ".join(screen(*shown).split())


def test_seeds_that_not_all_variants_have_are_told(tmp_path):
    run = QualityRuns().make(tmp_path)
    assert "6 trainings from 3 seeds, the same for all variants" in screen(run, analyse(run))
    fewer = replace(run, records=tuple(r for r in run.records if (r.variant, r.launch) != ("rope", 1)))
    assert "5 trainings from 3 seeds; not all variants have all" in screen(fewer, analyse(fewer))
