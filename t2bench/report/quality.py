"""Translations: the verdict in words and the tables, one for each test set and decoding, never of two corpora."""

from __future__ import annotations

from collections.abc import Sequence

from t2bench.analysis.quality_results import Arm, Board, Claim, Quality, QualityVerdict, Scope, copying_is_the_task
from t2bench.analysis.results import Interval
from t2bench.analysis.seeds import MIN_SENTENCES, ONE_SEED, diverged
from t2bench.report import units
from t2bench.report.safe import clean
from t2bench.report.table import Cell, Table, Tone
from t2bench.report.words import listed
from t2bench.spec.errors import counted

SYNTHETIC = "SYNTHETIC"
FLOORS = {"copy": "floor: copy", "retrieval": "floor: retrieval"}
FLOOR_WORDS = (
    "Floors need no model: the source itself as its translation (copy), and the translation of the training sentence "
    "that is most like it (retrieval)."
)
LC_TOK = "BLEU lc-tok"
LC_TOK_WORDS = (
    f"{LC_TOK}: BLEU of lowercased outputs and references, tokenised by 13a, mean over seeds: to be set beside "
    "published BLEU of lowercased, tokenised text and nothing else. It is close to such numbers, not the same: they "
    "are of Moses' tokenizer, after punctuation was normalised."
)
MAX_NAMED = 6
MANY_CUT = 0.01  # a sound model, too, fails to end now and then
_FULL_BLEU = 100.0
_WORDS: dict[QualityVerdict, str] = {
    "identical": "identical",
    "same function": "same function",
    "better": "better",
    "worse": "worse",
    "equivalent": "equivalent",
    "unresolved": "unresolved",
    "undecidable": "not judged",
}
_TONES: dict[QualityVerdict, Tone] = {"better": "better", "worse": "worse", "undecidable": "muted"}


def points(value: Interval | None, sign: str = "") -> str:
    """BLEU points: `24.40 [22.93, 25.87]`, with a sign for differences."""
    if value is None:
        return units.NA
    # Adding 0 turns a rounded -0.0 into 0.0.
    shown = [f"{round(x, 2) + 0.0:{sign}.2f}" for x in (value.value, value.low, value.high) if x is not None]
    return shown[0] if len(shown) < 3 else f"{shown[0]} [{shown[1]}, {shown[2]}]"


def named(scope: Scope) -> str:
    """`test, greedy; multi30k en-de`, or `...; SYNTHETIC xa-xb`: no title or sentence hides what is synthetic."""
    corpus = SYNTHETIC if scope.synthetic else ""
    name = "" if scope.corpus.lower() == corpus.lower() else scope.corpus
    text = " ".join(filter(None, [corpus, name, scope.direction, "lowercased" if scope.lowercase else ""]))
    return f"{scope.test}, {scope.decoding}; {text}"


def verdict(quality: Quality | None) -> tuple[str, ...]:
    """For each primary table: where the reference stands, and how the others compare with it if that can be said."""
    if quality is None:
        return ()
    primary = [board for board in quality.boards if board.primary]
    if not primary:
        return ("Nothing was translated: no training was finished.",)
    told: list[str] = []
    for board in primary:
        where = f" ({board.scope.group})" if len(primary) > 1 else ""
        if board.claims and all(claim.why == ONE_SEED for claim in board.claims.values()):
            told.append(f"On {named(board.scope)}{where}: {_single(board)}.")
            continue
        told.append(f"On {named(board.scope)}{where}: {_standing(board)}.")
        if board.claims:
            told.append(f"Against {board.reference}: {_compared(board)}.")
    return tuple(told)


def _single(board: Board) -> str:
    """Every variant's score, since nothing can be said of their differences."""
    reached = [f"{points(arm.spreads['bleu'].interval)} ({arm.variant})" for arm in board.arms if "bleu" in arm.spreads]
    return f"BLEU {listed(reached, MAX_NAMED)}{_beside(board)}; {ONE_SEED} about their differences"


def _beside(board: Board) -> str:
    floor = board.floor
    return "" if floor is None else f"; {floor.words} would give {floor.shown}"


def _standing(board: Board) -> str:
    arms = {arm.variant: arm for arm in board.arms}
    arm = arms.get(board.reference, board.arms[0])
    spread = arm.spreads.get("bleu")
    if spread is None:
        return f"{arm.variant} {diverged(arm) or 'has no score'}"
    seeds = f"mean of {spread.num_seeds} seeds" if spread.num_seeds > 1 else ONE_SEED
    return f"{arm.variant} reaches BLEU {points(spread.interval)} ({seeds}){_beside(board)}"


def _compared(board: Board) -> str:
    by_verdict: dict[QualityVerdict, list[Claim]] = {}
    for claim in board.claims.values():
        by_verdict.setdefault(claim.verdict, []).append(claim)
    return "; ".join(part for word in _WORDS for part in [_group_words(word, by_verdict.get(word, []))] if part)


def _group_words(word: QualityVerdict, claims: Sequence[Claim]) -> str:
    if not claims:
        return ""
    if word == "identical":
        return f"identical output: {listed([c.variant for c in claims], MAX_NAMED)}"
    if word == "same function":
        found = [f"{c.variant} ({points(c.difference, '+')} BLEU by rounding)" for c in claims]
        return f"the same function, trained apart: {listed(found, MAX_NAMED)}"
    if word == "equivalent":
        return f"equivalent within {claims[0].margin:g} BLEU: {listed([c.variant for c in claims], MAX_NAMED)}"
    if word == "unresolved":
        return f"no difference resolved: {listed([_unresolved(c) for c in claims], MAX_NAMED)}"
    if word == "undecidable":
        return _not_judged(claims)
    ordered = sorted(claims, key=lambda c: -abs(c.difference.value if c.difference else 0.0))
    found = [f"{c.variant} by {points(c.difference, '+')} BLEU{_aside(c.why)}" for c in ordered]
    return f"{word}: {listed(found, MAX_NAMED)}"


def _not_judged(claims: Sequence[Claim]) -> str:
    reasons: dict[str, list[str]] = {}
    for claim in claims:
        reasons.setdefault(claim.why, []).append(claim.variant)
    return "; ".join(f"not judged: {listed(names, MAX_NAMED)}{_aside(why)}" for why, names in reasons.items())


def _resolves(claim: Claim) -> str:
    if claim.resolves is None or not units.known(claim.resolves):
        return ""
    return f"could resolve {claim.resolves:.1f} BLEU" if claim.resolves < _FULL_BLEU else "could resolve nothing"


def _unresolved(claim: Claim) -> str:
    seen = _resolves(claim)
    return f"{claim.variant}{_aside('; '.join(filter(None, [claim.why, seen])))}"


def _aside(text: str) -> str:
    return f" ({clean(text, limit=160)})" if text else ""


def boards(quality: Quality | None) -> tuple[Table, ...]:
    """One table for each scope; the verdict's own first."""
    several = quality is not None and len(quality.groups) > 1
    found = quality.boards if quality else ()
    return tuple(_board(board, several, first=place == 0) for place, board in enumerate(found))


def _board(board: Board, several: bool, *, first: bool) -> Table:
    scores = ("sd", "chrF", "BP", "empty", "cut", "TER", "exact")
    old = (LC_TOK,) if _shows_lc_tok(board) else ()
    columns = ("variant", "BLEU", "seeds", "difference", "verdict", *old, *scores)
    rows = [_row(board, arm) for arm in board.arms]
    blank = tuple(Cell(text="") for _ in columns[2:])
    for name, words in FLOORS.items():
        if name in board.floors:
            value = board.floors[name]
            rows.append((Cell(text=words, tone="muted"), Cell(text=f"{value:.2f}", order=value, tone="muted"), *blank))
    where = f" ({board.scope.group})" if several else ""
    return Table(
        title=f"Quality: {named(board.scope)}{where}",
        columns=columns,
        rows=tuple(rows),
        notes=tuple(_notes(board, first=first)),
    )


def _row(board: Board, arm: Arm) -> tuple[Cell, ...]:
    claim, spread = board.claims.get(arm.variant), arm.spreads.get("bleu")
    seeds = f"{len(arm.seeds)}" if len(arm.seeds) == arm.planned else f"{len(arm.seeds)} of {arm.planned}"
    total = arm.num_sentences * len(arm.seeds)
    return (
        Cell(text=arm.variant),
        Cell(text=points(spread.interval) if spread else units.NA, order=spread.interval.value if spread else None),
        Cell(text=seeds, order=len(arm.seeds), tone="failed" if arm.diverged else ""),
        _difference(claim),
        _verdict_cell(board, arm, claim),
        *((_mean(arm, "bleu_lc_tok", 2),) if _shows_lc_tok(board) else ()),
        _number(spread.sd if spread else None, 2),
        _mean(arm, "chrf", 2),
        _mean(arm, "brevity_penalty", 3),
        Cell(text=str(arm.empty), order=arm.empty, tone="failed" if arm.empty else ""),
        Cell(text=str(arm.cut), order=arm.cut, tone="failed" if arm.cut > MANY_CUT * total else ""),
        _mean(arm, "ter", 2),
        _mean(arm, "exact_match", 3),
    )


def _shows_lc_tok(board: Board) -> bool:
    """Only where the text was lowercased: beside cased text the number would be taken for a second score."""
    return board.scope.lowercase and any("bleu_lc_tok" in arm.spreads for arm in board.arms)


def _number(value: float | None, places: int) -> Cell:
    return Cell(text=units.NA if value is None else f"{value:.{places}f}", order=value)


def _mean(arm: Arm, metric: str, places: int) -> Cell:
    spread = arm.spreads.get(metric)
    return _number(None if spread is None else spread.interval.value, places)


def _difference(claim: Claim | None) -> Cell:
    if claim is None or claim.difference is None:
        return Cell(text="0, exactly" if claim is not None and claim.verdict == "identical" else "", tone="muted")
    return Cell(text=points(claim.difference, "+"), order=claim.difference.value)


def _verdict_cell(board: Board, arm: Arm, claim: Claim | None) -> Cell:
    if arm.variant == board.reference:
        return Cell(text="reference", tone="muted")
    if claim is None:
        return Cell(text=units.NA, tone="muted")
    return Cell(text=_WORDS[claim.verdict], tone=_TONES.get(claim.verdict, "even"))


def told(claim: Claim | None, note: str = "") -> Cell:
    """A claim, or why there is none, as one cell."""
    if claim is None:
        return Cell(text=note or units.NA, tone="muted")
    seen = _resolves(claim) if claim.verdict == "unresolved" else ""
    why = "; ".join(filter(None, [claim.why, seen]))
    return Cell(text=_WORDS[claim.verdict] + _aside(why), tone=_TONES.get(claim.verdict, "even"))


def _notes(board: Board, *, first: bool) -> list[str]:
    """The first table also says what all of them have in common."""
    scope = board.scope
    count = max((arm.num_sentences for arm in board.arms), default=0)
    notes = [
        f"BLEU {scope.signature or 'signature n/a'}" + (f"; chrF {scope.chrf_signature}" * bool(scope.chrf_signature))
    ]
    several = max((len(arm.seeds) for arm in board.arms), default=0) > 1
    mean = " BLEU is the mean over seeds, which are trainings, with Student's 95 % interval." if several else ""
    notes.append(f"{counted(count, 'sentence')}.{mean}")
    if scope.lowercase:
        notes.append("All text was lowercased first, references too: cased scores (case:mixed) are of lowercased text.")
    notes += [LC_TOK_WORDS] if _shows_lc_tok(board) and first else []
    notes += list(board.notes)
    notes += [_rule(board)] if board.claims and first and several else []
    if board.claims and not board.primary:
        notes.append("Judged as a family of its own, beside the table that the verdict is about.")
    warned: dict[str, list[str]] = {}
    for arm in board.arms:
        warned.setdefault("; ".join(arm.warnings), []).append(arm.variant)
    notes += [f"{listed(names, MAX_NAMED)}: {text}." for text, names in warned.items() if text]
    notes += [f"{_unresolved(c)}: no difference resolved." for c in board.claims.values() if c.verdict == "unresolved"]
    notes += _reasons(board)
    notes += _ladder(board)
    if board.floors and first:
        notes.append(FLOOR_WORDS + " Copying is the task here, and so no floor." * copying_is_the_task(board.floors))
    return notes


def _rule(board: Board) -> str:
    claim = next(iter(board.claims.values()))
    same = any(each.verdict == "same function" for each in board.claims.values())
    paired = "paired by seed" if all(c.paired for c in board.claims.values() if c.difference) else "over seeds"
    agrees = {"chrf": "chrF", "ter": "TER"}[claim.agrees_by]
    return (
        f"Difference to {board.reference}, {paired}. Better or worse: proven over seeds (5 % over all rows, Holm), at "
        f"least {claim.margin:g} BLEU, and {agrees} agrees. Equivalent: within {claim.margin:g} BLEU by two one-sided "
        "tests."
        + " Same function: equal by its axes and by the checks before training; its difference is noise."
        * same
    )


def _reasons(board: Board) -> list[str]:
    told: dict[str, list[str]] = {}
    for claim in board.claims.values():
        if claim.verdict == "undecidable" and claim.why and not any(claim.why in note for note in board.notes):
            told.setdefault(claim.why, []).append(claim.variant)
    return [f"Not judged: {listed(names, MAX_NAMED)}: {why}." for why, names in told.items()]


def _ladder(board: Board) -> list[str]:
    if not board.rungs:
        return []
    steps = []
    for rung in board.rungs:
        value = (
            "identical" if rung.verdict == "identical" else f"{points(rung.difference, '+')}, {_WORDS[rung.verdict]}"
        )
        steps.append(f"{rung.reference} to {rung.variant} {value}")
    return [f"Ladder, each step against the one before: {'; '.join(steps)}."]


def sentence_tests(quality: Quality | None) -> tuple[Table, ...]:
    """Side information, so labelled: what it tells apart are outputs, not variants."""
    made = []
    for board in quality.boards if quality else ():
        rows = [
            (
                Cell(text=claim.variant),
                Cell(text=str(seed), order=seed),
                Cell(text=points(test.difference, "+"), order=test.difference.value),
                Cell(text=f"{test.p_value:.3f}", order=test.p_value),
            )
            for claim in board.claims.values()
            for seed, test in claim.sentences.items()
        ]
        if rows:
            note = (
                "Difference of BLEU with the paired bootstrap's 95 % interval; p of approximate randomisation. They "
                "know the choice of these sentences only: two seeds of one model often differ by them. No claim rests "
                "on them."
            )
            title = f"This test set only, not the training noise: {named(board.scope)}"
            columns = ("variant", "seed", f"against {board.reference}", "p")
            made.append(Table(title=title, columns=columns, rows=tuple(rows), notes=(note,)))
    return tuple(made)


def buckets(quality: Quality | None) -> tuple[Table, ...]:
    """BLEU by length of the source, primary tables only; one range would be the table above again."""
    made = []
    for board in quality.boards if quality else ():
        ranges = dict.fromkeys((b.low, b.high, b.num_sentences) for arm in board.arms for b in arm.buckets)
        if not board.primary or len(ranges) < 2:
            continue
        columns = [f"{low}-{high}" if high is not None else f"{low}+" for low, high, _ in ranges]
        rows = [(Cell(text="sentences", tone="muted"), *(Cell(text=str(n), tone="muted") for *_, n in ranges))]
        for arm in board.arms:
            scores = {(b.low, b.high, b.num_sentences): b.bleu for b in arm.buckets}
            cells = (_bucket(scores.get(key), key[2]) for key in ranges)
            rows.append((Cell(text=arm.variant), *cells))
        few = (
            f" ~ fewer than {MIN_SENTENCES} sentences: one output's own interval is several BLEU wide, and nothing is "
            "concluded from it."
        )
        note = "BLEU, mean over seeds, by words of the source." + few * any(n < MIN_SENTENCES for *_, n in ranges)
        title = f"Quality by source length: {named(board.scope)}"
        made.append(Table(title=title, columns=("words", *columns), rows=tuple(rows), notes=(note,)))
    return tuple(made)


def _bucket(score: float | None, count: int) -> Cell:
    if score is None:
        return Cell(text=units.NA, tone="muted")
    few = count < MIN_SENTENCES
    return Cell(text=f"{score:.2f}{' ~' if few else ''}", order=score, tone="muted" if few else "")
