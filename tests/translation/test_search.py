"""Search: greedy and beam search against the plainest means, and beam search against all sequences there are."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from tiny_models import (
    ENCDEC,
    ENDS,
    LSTM,
    SPECS,
    greedy_text,
    log_probabilities,
    make,
    may_be_written,
    score_of,
    sentences,
    translate,
)

from t2bench.models.transformer import Transformer
from t2bench.quality.batching import Ragged
from t2bench.quality.tokenizer import EOS
from t2bench.spec.axes import PositionSpec
from t2bench.spec.quality import Decoding
from t2bench.translation.search import Beam

GREEDY = Decoding(max_extra=4)
PENALTIES = [
    ("none", 0.0),
    ("length", 0.6),
    ("length", 1.0),
    ("length", 2.5),
    ("length", -1.0),
    ("gnmt", 0.6),
    ("gnmt", 3.0),
]
TINY = replace(ENCDEC, width=16, vocab=7, vocab_multiple=1)


def beam(width: int, penalty: str = "length", alpha: float = 1.0, extra: int = 4) -> Decoding:
    return Decoding(method="beam", beam=width, penalty=penalty, length_alpha=alpha, max_extra=extra)  # type: ignore[arg-type]


def divisor(penalty: str, alpha: float, length: int) -> float:
    return {"none": 1.0, "length": length**alpha, "gnmt": ((5 + length) / 6) ** alpha}[penalty]


def every_translation(model: Transformer, source: list[int], limit: int) -> list[tuple[list[int], float]]:
    """All texts that end within `limit` tokens, end included, and their log-probabilities."""
    letters = [token for token in may_be_written(model) if token != EOS]
    texts = [list(text) for text in product(letters, repeat=limit - 1)]
    steps_BTV = log_probabilities(model, source, texts)
    found: dict[tuple[int, ...], float] = {}
    for text, steps_TV in zip(texts, steps_BTV.tolist(), strict=True):
        score = 0.0
        for place in range(limit):
            found[tuple(text[:place])] = score + steps_TV[place][EOS]
            score += steps_TV[place][text[place]] if place < limit - 1 else 0.0
    return [(list(text), score) for text, score in found.items()]


@pytest.mark.parametrize("name", SPECS)
def test_greedy_takes_the_likeliest_token_each_time(name: str) -> None:
    model = make(SPECS[name], end=ENDS.get(name, 1.0))
    source = sentences(12)
    found = translate(model, source, GREEDY)
    for row in range(len(source)):
        ids = source[row].tolist()
        assert (found.tokens[row], found.cut[row]) == greedy_text(model, ids, len(ids) + 4)
        assert found.scores[row] == pytest.approx(score_of(model, ids, found.tokens[row], found.cut[row]), abs=2e-4)
    assert any(found.cut)
    assert not all(found.cut)


@pytest.mark.parametrize("name", ["encdec", "prefix", "lstm_bahdanau"])
@pytest.mark.parametrize(("penalty", "alpha"), PENALTIES)
def test_a_beam_of_one_is_greedy_search(name: str, penalty: str, alpha: float) -> None:
    model, source = make(SPECS[name], end=ENDS.get(name, 1.0)), sentences(40)
    one, greedy = translate(model, source, beam(1, penalty, alpha)), translate(model, source, GREEDY)
    assert one.tokens == greedy.tokens
    assert one.cut == greedy.cut
    assert one.scores == pytest.approx(greedy.scores, abs=1e-4)
    assert len({len(tokens) for tokens in one.tokens}) > 3


@pytest.mark.parametrize(("penalty", "alpha"), PENALTIES)
def test_a_beam_wide_enough_finds_the_best_of_all_translations(penalty: str, alpha: float) -> None:
    source = Ragged.of([[3], [4, 5], [6, 3], [5]])
    lengths = set()
    for seed in range(3):
        model = make(TINY, end=0.0, seed=seed, sharp=1.0)
        found = translate(model, source, beam(341, penalty, alpha, extra=3))
        for row in range(len(source)):
            ids = source[row].tolist()
            every = every_translation(model, ids, len(ids) + 3)
            text, score = max(every, key=lambda entry: entry[1] / divisor(penalty, alpha, len(entry[0]) + 1))
            assert found.tokens[row] == text
            assert found.scores[row] == pytest.approx(score, abs=1e-4)
            lengths.add(len(text))
    assert not any(found.cut)
    if (penalty, alpha) == ("length", 1.0):
        assert len(lengths) > 2


def plain_beam(model: Transformer, source: list[int], limit: int, width: int, penalty: str, alpha: float) -> list[int]:
    """Beam search with lists, and without a bound: it stops at K finished hypotheses or at the limit."""
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: list[tuple[float, list[int]]] = []
    for step in range(limit):
        steps_KV = log_probabilities(model, source, [text for _, text in live])[:, -1].tolist()
        candidates = sorted(
            ((score + row[token], text, token) for (score, text), row in zip(live, steps_KV, strict=True)
             for token in may_be_written(model)),
            key=lambda entry: -entry[0],
        )  # fmt: skip
        ends = [(score, text) for score, text, token in candidates[:width] if token == EOS]
        finished += [(score / divisor(penalty, alpha, step + 1), text) for score, text in ends]
        live = [(score, [*text, token]) for score, text, token in candidates if token != EOS][:width]
        if len(finished) >= width:
            break
    return max(finished, key=lambda entry: entry[0])[1] if finished else live[0][1]


@pytest.mark.parametrize(("penalty", "alpha"), PENALTIES)
@pytest.mark.parametrize(("width", "end"), [(2, 1.5), (6, 1.5), (20, 6.0)])
def test_beam_search_is_that_with_lists(width: int, end: float, penalty: str, alpha: float) -> None:
    """Where the end is likely, a short text leads until a long one, of which more is divided, overtakes it."""
    model, source = make(ENCDEC, end=end), sentences(8, longest=5)
    found = translate(model, source, beam(width, penalty, alpha))
    for row in range(len(source)):
        ids = source[row].tolist()
        assert found.tokens[row] == plain_beam(model, ids, len(ids) + 4, width, penalty, alpha)


@pytest.mark.parametrize("cache", ["on", "off", "static"])
@pytest.mark.parametrize(
    "name", ["encdec", "window", "shaw", "decoder", "prefix", "lstm", "gru_luong", "lstm_bahdanau"]
)
def test_the_score_is_that_of_the_text(name: str, cache: str) -> None:
    model, source = make(replace(SPECS[name], cache=cache), end=ENDS.get(name, 1.0)), sentences(12)  # type: ignore[arg-type]
    found = translate(model, source, beam(4))
    for row in range(len(source)):
        expected = score_of(model, source[row].tolist(), found.tokens[row], found.cut[row])
        assert found.scores[row] == pytest.approx(expected, abs=2e-4)
    assert len({tuple(tokens) for tokens in found.tokens}) > 3


@pytest.mark.parametrize("spec", [ENCDEC, replace(LSTM, score="additive")], ids=["encdec", "lstm"])
def test_an_empty_translation_is_a_translation(spec: object) -> None:
    model, source = make(spec, end=6.0), sentences(30)  # type: ignore[arg-type]
    empty = [score_of(model, source[row].tolist(), [], False) for row in range(len(source))]
    found = translate(model, source, beam(5, "none", 0.0))
    assert sum(not tokens for tokens in found.tokens) >= 20
    for score, text_score, tokens in zip(empty, found.scores, found.tokens, strict=True):
        assert text_score == pytest.approx(score, abs=1e-4) if not tokens else text_score >= score
    assert not any(found.cut)


def test_stopping_early_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound on what live hypotheses can reach: without it, the same comes out of more steps."""
    model, source = make(SPECS["encdec"], end=3.0), sentences(30)
    calls = []
    of_class = type(model).hidden
    monkeypatch.setattr(type(model), "hidden", lambda *args, **given: (calls.append(0), of_class(*args, **given))[1])
    for penalty, alpha in PENALTIES:
        calls.clear()
        early = translate(model, source, beam(5, penalty, alpha))
        steps = len(calls)
        with monkeypatch.context() as patched:
            patched.setattr(torch, "maximum", lambda a, b: torch.full_like(a, torch.inf))
            late = translate(model, source, beam(5, penalty, alpha))
        assert (early.tokens, early.scores) == (late.tokens, pytest.approx(late.scores, abs=1e-5))
        if penalty == "none":
            assert steps < len(calls) - steps


def test_what_is_cut_is_said() -> None:
    model, source = make(ENCDEC, end=-50.0), Ragged.of([[5] * 6, [7], [], [4, 9, 11]])
    for decoding in (GREEDY, beam(3), Decoding(method="sample", max_extra=4)):
        found = translate(model, source, decoding)
        assert found.cut == [True] * 4
        assert [len(tokens) for tokens in found.tokens] == [10, 5, 4, 7]
    model = make(ENCDEC, end=50.0)
    for decoding in (GREEDY, beam(3)):
        found = translate(model, source, decoding)
        assert found.cut == [False] * 4
        assert found.tokens == [[]] * 4


@pytest.mark.parametrize(("arch", "lengths"), [("encdec", [8, 8, 0]), ("decoder", [5, 0, 0])])
def test_a_table_of_positions_ends(arch: str, lengths: list[int]) -> None:
    """Sources of 2, 7 and 8 ids, and a table for 8."""
    spec = replace(ENCDEC, arch=arch, position=PositionSpec(kind="learned", max_len=8))  # type: ignore[arg-type]
    model, source = make(spec, end=-50.0), Ragged.of([[5, 6], [7] * 7, [8] * 8])
    for decoding in (Decoding(), beam(2, extra=50)):
        found = translate(model, source, decoding)
        assert found.cut == [True] * 3
        assert [len(tokens) for tokens in found.tokens] == lengths


class Script:
    """In place of a `Reader`: the end has probability 0.7 first, then 0 until it is certain at the tenth token."""

    keeps_shape = False

    def __init__(self) -> None:
        self.rows, self.step = 1, -1

    def first(self) -> torch.Tensor:
        self.step += 1
        logits_RV = torch.zeros(self.rows, 6)
        logits_RV[:, EOS] = {0: 0.7, 9: 1.0}.get(self.step, 0.0)
        logits_RV[:, 5] = {0: 0.3, 9: 0.0}.get(self.step, 1.0)
        return logits_RV.log()

    def next(self, token_R: torch.Tensor) -> torch.Tensor:
        self.rows = len(token_R)
        return self.first()

    def reorder(self, rows_R: torch.Tensor, *, same_source: bool = False) -> None:
        self.rows = len(rows_R)


@pytest.mark.parametrize(("penalty", "alpha", "length"), [("none", 1.0, 0), ("length", 1.0, 9), ("length", 0.1, 0)])
def test_a_long_text_may_overtake_a_short_one_much_later(penalty: str, alpha: float, length: int) -> None:
    search = Beam(Script(), torch.tensor([20]), 6, beam(3, penalty, alpha))  # type: ignore[arg-type]
    assert search.run().tokens == [[5] * length]
