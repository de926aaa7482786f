"""Scores of a training: of the stored translations, against the targets, each metric by its name; and of draws."""

from dataclasses import replace

import pytest
import sacrebleu
from scripted_learners import TEST, VAL, Workers, case, details

from t2bench.quality.floors import nearest
from t2bench.quality.mbr import choose
from t2bench.runner import train_launch as module
from t2bench.spec.quality import Decoding


def test_scores_are_those_of_the_stored_translations(train):
    record = train(Workers(), case())["vanilla"]
    first, second = record.observed["scores"]
    assert [first["test"], second["test"]] == ["test[7-9]", "test[4-6]"]
    written = details(train, record)
    references = [sample["reference"] for sample in written["samples"]]
    hypotheses = written["outputs"][0]["hypotheses"]
    assert hypotheses[: TEST // 2] == [sample["source"] for sample in written["samples"]][: TEST // 2]
    assert first["bleu"] == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score, abs=1e-9)
    assert record.metrics["bleu"].value == first["bleu"]
    assert (first["empty"], first["cut"], first["num_sentences"]) == (TEST // 2, 2, TEST)
    assert first["sentences_per_s"] == pytest.approx(TEST / 3)
    assert first["floors"]["copy"] == pytest.approx(100.0)
    known = (train.folder.parent / "copied" / "train.xa").read_text().splitlines()
    found = [known[row] for row in nearest(known, [sample["source"] for sample in written["samples"]])]
    assert first["floors"]["retrieval"] == pytest.approx(sacrebleu.corpus_bleu(found, [references]).score, abs=1e-9)


def test_outputs_are_compared_with_targets_and_every_metric_is_that_of_its_name(train):
    """Copies of the source, where the target has the words of the source in another order, and one more."""
    for split in ("val", "test"):
        lines = (train.folder.parent / "copied" / f"{split}.xa").read_text().splitlines()
        turned = [" ".join([*line.split()[2:], *line.split()[:2], "j"]) for line in lines]
        (train.folder.parent / "copied" / f"{split}.xb").write_text("".join(f"{line}\n" for line in turned))
        if split == "val":
            validated = sacrebleu.corpus_bleu(lines, [turned]).score
    record = train(Workers(right=lambda step: VAL, test_share=1.0), case())["vanilla"]
    assert [row["val_bleu"] for row in record.observed["curve"]] == pytest.approx([validated] * 3)
    written = details(train, record)
    outputs, references = written["outputs"][0]["hypotheses"], [sample["reference"] for sample in written["samples"]]
    wanted = {
        "bleu": sacrebleu.corpus_bleu(outputs, [references]).score,
        "chrf": sacrebleu.corpus_chrf(outputs, [references]).score,
        "chrfpp": sacrebleu.corpus_chrf(outputs, [references], word_order=2).score,
        "ter": sacrebleu.corpus_ter(outputs, [references]).score,
        "exact_match": 0.0,
    }
    assert len(set(wanted.values())) == 5
    for name, value in wanted.items():
        assert record.metrics[name].value == record.observed["scores"][0][name] == pytest.approx(value), name


class Drawing(Workers):
    """Draws three translations of every sentence: two that are nearly one, and something else before them."""

    def start(self):
        model = super().start()
        plain = model.more

        def more(max_s):
            answer = plain(max_s)
            for batch in answer["batches"]:
                batch["candidates"] = [[ids[::-1][:2], ids, [*ids, *ids[:1]]] for ids in batch["tokens"]]
                batch["tokens"] = []
            return answer

        model.more = more
        return model


@pytest.mark.parametrize("utility", ["chrf", "bleu"])
def test_of_several_draws_the_one_most_like_the_others_is_kept_by_its_utility(train, utility, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "choose", lambda draws, by: asked.append(by) or choose(draws, by))
    decode = (Decoding(method="mbr", samples=3, utility=utility),)
    plain = case()
    record = train(Drawing(test_share=1.0), replace(plain, quality=replace(plain.quality, decode=decode)))["vanilla"]
    kept = details(train, record)["outputs"][0]["hypotheses"]
    sources = [sample["source"] for sample in details(train, record)["samples"]]
    assert all(text.startswith(source) for text, source in zip(kept, sources, strict=True))
    assert set(asked) == {utility}
    entry = record.observed["scores"][0]
    assert entry["time_s"] > 3.0, "to choose takes time too, beside the three pieces of a second"
