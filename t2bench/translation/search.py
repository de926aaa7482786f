"""Search: the translations of a batch of sources by a model.

    extend   one text a source, each token chosen by a `Choose`: the likeliest (greedy), or drawn
    beam     the K best beginnings of each source side by side

A text ends with the end id, or is cut at its limit of tokens. Padding, the begin id and ids that only round up the
vocabulary are never written; they keep their share of the softmax, as in training, so that every score is the model's
own log-probability. Scores are sums of log-probabilities in float32, the end included.

**Beam search** is that of fairseq (Ott et al. 2019). In each step the candidates of a source are all its K live
hypotheses with every token. An end among the K best candidates is a finished hypothesis; the K best candidates without
an end live on. So K = 1 is greedy search, and an empty translation is a hypothesis like any other. A source is done
when it has K finished hypotheses, or when no live one can be better than the best finished one: only the best is
returned, so this changes nothing. A live hypothesis of score s, which can end with n_1 to n_2 tokens, gets at best the
larger one of s / penalty(n_1) and s / penalty(n_2): its score can only fall, and every penalty is monotonic in the
length. Only if nothing has finished at the limit, the best live hypothesis is returned, as one that is cut.

Shape letters: N sources, R rows (one for each text that is still written), B sources that are not done, K live
hypotheses, C candidates, L tokens at most, V vocabulary (padded).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from t2bench.quality.tokenizer import BOS, EOS, PAD
from t2bench.spec.quality import Decoding
from t2bench.translation.reader import Reader

DROP_SHARE = 0.9  # rows are dropped when no more than this share of them is still needed
STEPS_PER_LOOK = 8  # on a GPU, steps between two looks at what has ended: a look waits for the device


class Choose(Protocol):
    """Chooses tokens."""

    def __call__(self, logits_RV: Tensor, rows_R: Tensor, step: int) -> Tensor:
        """One token for each row, int64 (R,).

        Args:
            logits_RV: float32; minus infinity where nothing may be written.
            rows_R: which of the N texts each row is.
            step: tokens before this one.
        """


@dataclass(frozen=True, slots=True)
class Found:
    """Texts of a batch, on the host.

    Attributes:
        tokens: of each text, without its end.
        cut: whether the text has no end.
        scores: sums of log-probabilities.
    """

    tokens: list[list[int]]
    cut: list[bool]
    scores: list[float]


def greedy(logits_RV: Tensor, rows_R: Tensor, step: int) -> Tensor:
    """The likeliest token; of equally likely ones the first. A `Choose`."""
    return logits_RV.argmax(dim=-1)


def extend(reader: Reader, limits_N: Tensor, vocab: int, choose: Choose, *, copies: int = 1) -> Found:
    """Write texts, each by itself.

    Args:
        reader: of the sources.
        limits_N: int64, for each text; tokens at most, 1 or more.
        vocab: ids from here on are never written.
        choose: the next tokens.
        copies: texts for each source, which stand together; the prompt is read once for all of them.
    """
    num, longest, device = len(limits_N), int(limits_N.max()), limits_N.device
    tokens_NL = torch.full((num, longest), EOS, device=device)
    scores_N = torch.zeros(num, device=device)
    rows_R = torch.arange(num, device=device)
    ended_R, limits_R = torch.zeros(num, dtype=torch.bool, device=device), limits_N
    logits_RV = reader.first()
    if copies > 1:
        source_R = rows_R // copies
        reader.reorder(source_R)
        logits_RV = logits_RV.index_select(0, source_R)
    for step in range(longest):
        norm_R = logits_RV.logsumexp(dim=-1)
        _forbid(logits_RV, vocab)
        token_R = choose(logits_RV, rows_R, step)
        gained_R = logits_RV.gather(1, token_R[:, None])[:, 0] - norm_R
        tokens_NL[rows_R, step] = token_R
        scores_N[rows_R] += gained_R.masked_fill(ended_R, 0.0)
        ended_R = ended_R | (token_R == EOS) | (limits_R <= step + 1)
        if step + 1 == longest:
            break
        if _looks(step, device):
            live_R = _still_needed(~ended_R, reader.keeps_shape)
            if live_R is not None:
                if not len(live_R):
                    break
                reader.reorder(live_R)
                token_R, rows_R, limits_R = token_R[live_R], rows_R[live_R], limits_R[live_R]
                ended_R = ended_R[live_R]
        logits_RV = reader.next(token_R)
    return _on_host(tokens_NL, limits_N, scores_N)


def penalty_of(decoding: Decoding, num_tokens: Tensor | int) -> Tensor | float:
    """What a score is divided by; see `Decoding.penalty`. `num_tokens` counts the end."""
    if decoding.penalty == "none":
        return 1.0
    base = num_tokens if decoding.penalty == "length" else (num_tokens + 5) / 6
    divisor: Tensor | float = base**decoding.length_alpha
    return divisor


def _forbid(logits_RV: Tensor, vocab: int) -> None:
    """Exclude what may not be written, in place."""
    for banned in (PAD, BOS):
        logits_RV[:, banned] = -torch.inf
    logits_RV[:, vocab:] = -torch.inf


def _looks(step: int, device: torch.device) -> bool:
    return device.type == "cpu" or step % STEPS_PER_LOOK == STEPS_PER_LOOK - 1


def _still_needed(needed_R: Tensor, keeps_shape: bool) -> Tensor | None:
    """Which rows (or sources) to go on with, int64: none of them when all are done; None for all as they are."""
    count = int(needed_R.sum())
    if count and (keeps_shape or count > DROP_SHARE * len(needed_R)):
        return None
    return needed_R.nonzero()[:, 0]


def _on_host(tokens_NL: Tensor, limits_N: Tensor, scores_N: Tensor) -> Found:
    tokens, cut = [], []
    for row, limit in zip(tokens_NL.tolist(), limits_N.tolist(), strict=True):
        ends = EOS in row[:limit]
        tokens.append(row[: row.index(EOS)] if ends else row[:limit])
        cut.append(not ends)
    return Found(tokens, cut, scores_N.tolist())


class _Best:
    """The best finished hypothesis of each of N sources so far."""

    def __init__(self, num: int, longest: int, device: torch.device) -> None:
        self.tokens_NL = torch.full((num, longest), EOS, device=device)
        self.scores_N = torch.zeros(num, device=device)
        self.penalised_N = torch.full((num,), -torch.inf, device=device)

    def offer(self, sources_B: Tensor, better_B: Tensor, tokens_BT: Tensor, score_B: Tensor, value_B: Tensor) -> None:
        """Keep these where they are better."""
        length = tokens_BT.shape[1]
        old_BT = self.tokens_NL[sources_B, :length]
        self.tokens_NL[sources_B, :length] = torch.where(better_B[:, None], tokens_BT, old_BT)
        self.scores_N[sources_B] = torch.where(better_B, score_B, self.scores_N[sources_B])
        self.penalised_N[sources_B] = torch.where(better_B, value_B, self.penalised_N[sources_B])


class Beam:
    """Beam search over one batch. `run` it once.

    Args:
        reader: of the sources.
        limits_N: int64; tokens at most, 1 or more.
        vocab: ids from here on are never written.
        decoding: its `beam`, `penalty` and `length_alpha`.
    """

    def __init__(self, reader: Reader, limits_N: Tensor, vocab: int, decoding: Decoding) -> None:
        self._reader = reader
        self._vocab = vocab
        self._decoding = decoding
        self._limits_N = limits_N
        num, self._longest, device = len(limits_N), int(limits_N.max()), limits_N.device
        self._device = device
        self._best = _Best(num, self._longest, device)
        # Of the sources that are not done. The first step has one hypothesis, the empty beginning.
        self._sources_B = torch.arange(num, device=device)
        self._limits_B = limits_N
        self._finished_B = torch.zeros(num, dtype=torch.int64, device=device)
        self._done_B = torch.zeros(num, dtype=torch.bool, device=device)
        self._scores_BK = torch.zeros(num, 1, device=device)
        self._tokens_BKT = torch.empty(num, 1, 0, dtype=torch.int64, device=device)

    def run(self) -> Found:
        """The best text of each source."""
        logits_RV = self._reader.first()
        for step in range(self._longest):
            origin_BK, same_shape = self._step(logits_RV, step)
            if step + 1 == self._longest:
                break
            kept_B = None
            if _looks(step, self._device):
                kept_B = _still_needed(~self._done_B, self._reader.keeps_shape)
            if kept_B is not None:
                if not len(kept_B):
                    break
                self._keep(kept_B)
                origin_BK = origin_BK[kept_B]
            self._reader.reorder(origin_BK.flatten(), same_source=same_shape and kept_B is None)
            logits_RV = self._reader.next(self._tokens_BKT[:, :, -1].flatten())
        return _on_host(self._best.tokens_NL, self._limits_N, self._best.scores_N)

    def _step(self, logits_RV: Tensor, step: int) -> tuple[Tensor, bool]:
        """One more token: the rows (B, K) that live on, and whether there were as many before."""
        beam = self._decoding.beam
        num, width = self._scores_BK.shape
        scores_BC, parent_BC, token_BC = self._candidates(logits_RV)
        ends_BC = token_BC == EOS
        self._finish(scores_BC, parent_BC, ends_BC, step)
        # The K best that do not end: stable, so that they stay sorted.
        live_BK = ends_BC.to(torch.int8).argsort(dim=1, stable=True)[:, :beam]
        self._scores_BK = scores_BC.gather(1, live_BK)
        parent_BK, token_BK = parent_BC.gather(1, live_BK), token_BC.gather(1, live_BK)
        history_BKT = self._tokens_BKT.gather(1, parent_BK[:, :, None].expand(-1, -1, step))
        self._tokens_BKT = torch.cat((history_BKT, token_BK[:, :, None]), dim=2)
        self._judge(step)
        first_B1 = torch.arange(num, device=self._device)[:, None] * width
        return first_B1 + parent_BK, width == beam

    def _candidates(self, logits_RV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The 2 K best candidates of each source, the best first: scores, parents and tokens, each (B, C).

        Of one hypothesis no more than K tokens and the end can be among them and count. Where there are fewer than 2 K,
        ends with a score of minus infinity fill up, and where fewer than K live on they do too.
        """
        beam = self._decoding.beam
        num, width = self._scores_BK.shape
        norm_R = logits_RV.logsumexp(dim=-1)
        _forbid(logits_RV, self._vocab)
        top_RC, token_RC = logits_RV.topk(min(beam + 1, logits_RV.shape[1]), dim=-1)
        top_RC = top_RC - norm_R[:, None]
        per_row = top_RC.shape[1]
        joint_BC = (top_RC.view(num, width, per_row) + self._scores_BK[:, :, None]).flatten(1)
        scores_BC, place_BC = joint_BC.topk(min(2 * beam, joint_BC.shape[1]), dim=-1)
        parent_BC = place_BC // per_row
        token_BC = token_RC.view(num, width * per_row).gather(1, place_BC)
        lacking = 2 * beam - scores_BC.shape[1]
        if lacking > 0:
            scores_BC = torch.nn.functional.pad(scores_BC, (0, lacking), value=-torch.inf)
            parent_BC = torch.nn.functional.pad(parent_BC, (0, lacking))
            token_BC = torch.nn.functional.pad(token_BC, (0, lacking), value=PAD)
        return scores_BC, parent_BC, token_BC

    def _finish(self, scores_BC: Tensor, parent_BC: Tensor, ends_BC: Tensor, step: int) -> None:
        """Take the hypotheses that end among the K best candidates."""
        beam = self._decoding.beam
        ends_BK = ends_BC[:, :beam] & scores_BC[:, :beam].isfinite() & ~self._done_B[:, None]
        self._finished_B = self._finished_B + ends_BK.sum(dim=1)
        # All that end now are of one length, so the best score is the best after the penalty too.
        first_B1 = ends_BK.to(torch.int8).argmax(dim=1, keepdim=True)
        score_B = scores_BC.gather(1, first_B1)[:, 0]
        value_B = score_B / penalty_of(self._decoding, step + 1)
        better_B = ends_BK.any(dim=1) & (value_B > self._best.penalised_N[self._sources_B])
        parent_B11 = parent_BC.gather(1, first_B1)[:, :, None]
        text_BT = self._tokens_BKT.gather(1, parent_B11.expand(-1, -1, step))[:, 0]
        end_B1 = torch.full_like(first_B1, EOS)
        self._best.offer(self._sources_B, better_B, torch.cat((text_BT, end_B1), dim=1), score_B, value_B)

    def _judge(self, step: int) -> None:
        """Which sources are done, and what becomes of those at their limit."""
        score_B, value_B = self._scores_BK[:, 0], self._best.penalised_N[self._sources_B]
        soonest, latest = (penalty_of(self._decoding, n) for n in (step + 2, self._limits_B))
        hopeless_B = torch.maximum(score_B / soonest, score_B / latest) <= value_B
        at_limit_B = self._limits_B <= step + 1
        cut_B = at_limit_B & ~self._done_B & value_B.isinf()
        self._best.offer(self._sources_B, cut_B, self._tokens_BKT[:, 0], score_B, value_B)
        self._done_B = self._done_B | at_limit_B | hopeless_B | (self._finished_B >= self._decoding.beam)

    def _keep(self, kept_B: Tensor) -> None:
        """Go on with these sources only."""
        names = ("_sources_B", "_limits_B", "_finished_B", "_done_B", "_scores_BK", "_tokens_BKT")
        for name in names:
            setattr(self, name, getattr(self, name)[kept_B])
