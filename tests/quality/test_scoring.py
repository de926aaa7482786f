"""Scores and sentence statistics against sacreBLEU itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import sacrebleu
from hypothesis import example, given, settings
from hypothesis import strategies as st

from t2bench.quality import scoring
from t2bench.quality.errors import DataError
from t2bench.quality.scoring import bleu_of, chrf_of, quick_bleu, score, sentence_statistics

# Few words, so that outputs and references share n-grams; and what the metrics treat specially.
WORDS = st.sampled_from(
    ["ein", "Ein", "Mann", "schläft", ".", "a,b", "3.5", "(x)", "", " ", "&amp;", "\u65e5\u672c", "\u00a0"]
)
LINE = st.one_of(
    st.lists(WORDS, max_size=9).map(" ".join), st.text(st.characters(exclude_categories=["Cs"]), max_size=15)
)
CORPUS = st.lists(st.tuples(LINE, LINE), min_size=1, max_size=8)


def columns(pairs):
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


@settings(max_examples=150, deadline=None)
@given(CORPUS)
@example([("", "")])
@example([("", "ein Mann")])
@example([("ein Mann", "")])
@example([("a b c d e", "a b c d e"), ("", "x")])
def test_all_scores_are_those_of_sacrebleu(pairs):
    hypotheses, references = columns(pairs)
    found = score(hypotheses, references, references)
    assert found.bleu == sacrebleu.corpus_bleu(hypotheses, [references]).score == quick_bleu(hypotheses, references)
    assert found.chrf == sacrebleu.corpus_chrf(hypotheses, [references]).score
    assert found.chrfpp == sacrebleu.corpus_chrf(hypotheses, [references], word_order=2).score
    assert found.ter == sacrebleu.corpus_ter(hypotheses, [references]).score
    assert found.bleu_lc_tok == sacrebleu.corpus_bleu(hypotheses, [references], lowercase=True).score
    assert found.brevity_penalty == sacrebleu.corpus_bleu(hypotheses, [references]).bp
    assert found.num_sentences == len(pairs)


@settings(max_examples=150, deadline=None)
@given(CORPUS, st.data())
def test_sums_of_statistics_give_the_scores_of_any_resample(pairs, data):
    statistics = sentence_statistics(*columns(pairs))
    assert statistics.bleu.shape == (len(pairs), 10)
    assert statistics.chrf.shape == (len(pairs), 18)
    drawn = data.draw(st.lists(st.integers(0, len(pairs) - 1), min_size=1, max_size=12))
    hypotheses, references = columns([pairs[row] for row in drawn])
    bleu = sacrebleu.corpus_bleu(hypotheses, [references])
    sums = statistics.bleu[drawn].sum(axis=0)
    assert sums.tolist() == [bleu.sys_len, bleu.ref_len, *bleu.counts, *bleu.totals]
    assert bleu_of(sums) == pytest.approx(bleu.score, rel=1e-12, abs=0)
    assert chrf_of(statistics.chrf[drawn].sum(axis=0)) == sacrebleu.corpus_chrf(hypotheses, [references]).score


@settings(max_examples=100, deadline=None)
@given(CORPUS)
def test_statistics_give_the_scores_of_single_sentences_at_once(pairs):
    statistics = sentence_statistics(*columns(pairs))
    bleu = [sacrebleu.sentence_bleu(output, [reference]).score for output, reference in pairs]
    chrf = [sacrebleu.sentence_chrf(output, [reference]).score for output, reference in pairs]
    np.testing.assert_allclose(bleu_of(statistics.bleu, effective_order=True), bleu, rtol=1e-12, atol=0)
    assert chrf_of(statistics.chrf).tolist() == chrf


def test_signatures_are_those_that_sacrebleu_prints():
    found = score(["a b"], ["a c"], ["x"])
    version = sacrebleu.__version__
    assert found.signatures == {
        "bleu": f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}",
        "chrf": f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version}",
        "chrfpp": f"nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|version:{version}",
        "ter": f"nrefs:1|case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:{version}",
        "bleu_lc_tok": f"nrefs:1|case:lc|eff:no|tok:13a|smooth:exp|version:{version}",
    }
    assert set(found.signatures) <= set(asdict(found))


def test_the_command_line_of_sacrebleu_gives_the_same_number_and_signature(tmp_path):
    hypotheses = ["Ein Mann schläft auf der Bank.", "Zwei Hunde rennen, sehr schnell.", "Hallo"]
    references = ["Ein Mann schläft auf einer Bank.", "Zwei Hunde rennen sehr schnell.", "Hallo Welt"]
    for name, lines in (("hyp", hypotheses), ("ref", references)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", "ref", "-i", "hyp", "-f", "text", "-w", "9"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    found = score(hypotheses, references, references)
    assert said.startswith(f"BLEU|{found.signatures['bleu']} = {found.bleu:.9f} ")


def test_equal_and_empty_outputs_are_counted():
    references = ["ein Mann .", "zwei Hunde .", "drei", "vier"]
    found = score(["ein Mann .", "zwei hunde .", "", " \t"], references, references)
    assert (found.exact_match, found.empty, found.num_sentences) == (0.25, 2, 4)
    assert found.length_ratio == 6 / 8
    assert score(["drei ", " vier"], ["drei", "vier"], ["x", "y"]).exact_match == 0.0, "character by character"


def test_case_is_ignored_by_the_lowercased_score_alone():
    found = score(["zwei hunde rennen sehr schnell"], ["Zwei Hunde rennen sehr schnell"], ["x"])
    assert found.bleu_lc_tok == pytest.approx(100)
    assert max(found.bleu, found.chrf, found.chrfpp) < 90


def test_a_perfect_output_has_perfect_scores():
    references = ["ein Mann schläft auf einer Bank .", "zwei Hunde rennen schnell ."]
    found = score(references, references, references)
    assert (found.bleu, found.chrf, found.chrfpp, found.bleu_lc_tok) == pytest.approx((100, 100, 100, 100))
    assert (found.ter, found.brevity_penalty, found.length_ratio, found.exact_match) == (0, 1, 1, 1)


def test_buckets_are_corpus_scores_of_their_sentences():
    sources = [" ".join(["w"] * count) for count in (1, 2, 3, 3, 5, 9, 9)]
    references = [f"der Mann sieht den Hund Nummer {row} ." for row in range(7)]
    hypotheses = [line.replace("Hund", "Ball") if row % 2 else line[:-9] for row, line in enumerate(references)]
    found = score(hypotheses, references, sources, bounds=(2, 4, 5, 7))
    assert [(one.low, one.high, one.n) for one in found.buckets] == [(1, 2, 2), (3, 4, 2), (5, 5, 1), (8, None, 2)]
    for one, rows in zip(found.buckets, ((0, 1), (2, 3), (4,), (5, 6)), strict=True):
        outputs, wanted = [hypotheses[row] for row in rows], [references[row] for row in rows]
        assert one.bleu == pytest.approx(sacrebleu.corpus_bleu(outputs, [wanted]).score, rel=1e-12)
        assert one.chrf == sacrebleu.corpus_chrf(outputs, [wanted]).score
    standard = score(hypotheses, references, [" ".join(["w"] * n) for n in (8, 9, 12, 13, 17, 18, 40)])
    assert [(one.low, one.high, one.n) for one in standard.buckets] == [
        (1, 8, 1), (9, 12, 2), (13, 17, 2), (18, None, 2)]  # fmt: skip


def test_a_bucket_whose_outputs_are_too_short_for_bleu_has_what_sacrebleu_gives():
    """Nothing: a bucket is a corpus, and orders that it lacks are not left out as for single sentences."""
    outputs = ["zwei Hunde", "drei Hunde"]
    found = score([*outputs, "der Mann sieht den Hund"], [*outputs, "der Mann sieht den Hund"], ["w", "w", "w " * 20])
    assert [one.bleu for one in found.buckets] == pytest.approx([0.0, 100.0])
    assert sacrebleu.corpus_bleu(outputs, [outputs]).score == 0.0


def test_text_that_looks_tokenised_is_scored_without_a_warning(caplog):
    lines = [f"ein Mann {row} ." for row in range(120)]
    score(lines, lines, lines)
    quick_bleu(lines, lines)
    assert not caplog.records


@pytest.mark.parametrize(
    "lines", [([], [], []), (["a"], ["a", "b"], ["a"]), (["a"], ["a"], []), (["a", "b"], ["a"], ["a"])]
)
def test_lists_of_different_lengths_are_refused(lines):
    with pytest.raises(ValueError, match="one reference"):
        score(*lines)


@pytest.mark.parametrize("call", [quick_bleu, sentence_statistics])
def test_every_entrance_refuses_lists_of_different_lengths(call):
    with pytest.raises(ValueError, match="one reference"):
        call(["a", "b"], ["a"])


def test_a_sacrebleu_whose_counts_do_not_add_up_is_refused(monkeypatch):
    real = scoring.sentence_statistics

    def wrong(hypotheses, references):
        found = real(hypotheses, references)
        return scoring.SentenceStatistics(bleu=found.bleu, chrf=found.chrf + 1)

    monkeypatch.setattr(scoring, "sentence_statistics", wrong)
    with pytest.raises(DataError, match="do not add up"):
        score(["a b c"], ["a b d"], ["x"])


def test_without_sacrebleu_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    for call in (lambda: score(["a"], ["a"], ["a"]), lambda: quick_bleu(["a"], ["a"])):
        with pytest.raises(DataError, match=r"sacrebleu is not installed: pip install 'sacrebleu>=2\.6'"):
            call()


def test_importing_the_modules_imports_neither_torch_nor_sacrebleu():
    code = (
        "import sys; import t2bench.quality.scoring, t2bench.quality.mbr, t2bench.quality.floors; "
        "print([name for name in ('torch', 'sacrebleu') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
