"""One launch of one group: a fresh process per variant, all warm, taking turns in balanced random order.

Exactly one worker works at a time; the scheduler blocks on its answer. A worker that fails becomes a row and leaves
the order; the others go on. Rounds in which any variant had to wait for a processor are kept, marked, and followed by
extra rounds until enough clean ones exist.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from t2bench.records import Metric, Record
from t2bench.runner import order
from t2bench.runner.launcher import Launcher, Worker, WorkerFailed
from t2bench.runner.recording import Recorder
from t2bench.spec.case import Case
from t2bench.spec.suite import Limits, Measure

SETTLE_BELOW_S = 1.0  # a step shorter than this is preceded, in each turn, by one untimed step that refills the caches
# What a compiled case may need beyond its limit, at its first steps: max-autotune measures many kernels.
COMPILE_TIMEOUT_S = 900.0
TURN_COLUMNS = ("round", "position", "start_s", "wait_s", "contended", "calls", "host_bound")


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """What makes one case of a bench different from the others.

    Attributes:
        launcher: starts its workers, which may come from another code base; None for the bench's own.
        case: the case in that code base's own terms; None for the bench's.
        plant: a known defect, for self-tests (see `t2bench.runner.plant`).
    """

    launcher: Launcher | None = None
    case: Mapping[str, Any] | None = None
    plant: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every launch needs.

    Attributes:
        launcher: starts fresh workers.
        setup: the message that configures a worker (device, threads, memory limit).
        tokens: vocabulary size -> token file.
        measure: how much is measured.
        limits: what a case may use.
        recorder: makes records.
        seed: of the turn order.
        sides: case id -> what is different about it.
    """

    launcher: Launcher
    setup: dict[str, Any]
    tokens: dict[int, Path]
    measure: Measure
    limits: Limits
    recorder: Recorder
    seed: int
    sides: Mapping[str, Side] = field(default_factory=dict)

    def open(self, case: Case | None = None) -> Worker:
        """A fresh, configured worker, of the code base that the case belongs to.

        Raises:
            WorkerFailed: it did not come up.
        """
        side = self.sides.get(case.id) if case is not None else None
        worker = ((side.launcher if side else None) or self.launcher).start()
        try:
            worker.ask({"op": "configure", **self.setup}, self.limits.case_timeout_s)
        except WorkerFailed:
            worker.close()
            raise
        return worker

    def job(self, op: str, case: Case, **more: Any) -> dict[str, Any]:
        """The message that asks a worker to do `op` with `case`."""
        side = self.sides.get(case.id, Side())
        tokens = self.tokens.get(case.model.vocab)
        payload = case.to_dict() if side.case is None else dict(side.case)
        planted = {"plant": dict(side.plant)} if side.plant else {}
        return {"op": op, "case": payload, "tokens": None if tokens is None else str(tokens), **planted, **more}

    def timeout_s(self, case: Case) -> float:
        """Seconds that a worker may take to answer about `case`."""
        return self.limits.case_timeout_s + (0.0 if case.model.compile == "off" else COMPILE_TIMEOUT_S)

    def ask_fresh(self, op: str, case: Case) -> dict[str, Any]:
        """Do `op` with `case` in a process of its own.

        Raises:
            WorkerFailed: it did not come up, or did not answer.
        """
        worker = self.open(case)
        try:
            return worker.ask(self.job(op, case), self.timeout_s(case))
        finally:
            worker.close()


@dataclass(slots=True)
class _Player:
    """One variant in a launch: its worker while it lives, its samples, and how it ended."""

    case: Case
    worker: Worker | None = None
    warm: dict[str, Any] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    status: str = "ok"
    reason: str = ""
    busy_s: float = 0.0

    def fail(self, error: WorkerFailed) -> None:
        self.status, self.reason = error.status, error.reason
        self.leave()

    def leave(self) -> None:
        if self.worker is not None:
            self.worker.close()
            self.worker = None


def measure_launch(
    bench: Bench, cases: Sequence[Case], launch: int, *, interleave: str, watch: Callable[[str], None]
) -> tuple[list[Record], float]:
    """Measure one launch of a group.

    Args:
        bench: what every launch needs.
        cases: the variants that take turns (equal group).
        launch: number of the replicate; also seeds the order.
        interleave: `token` (all workers alive, one works) or `launches` (one worker alive at a time, for groups that do
            not fit in memory together; the record says so).
        watch: told what is going on.

    Returns:
        One record per case, and the seconds spent inside warm-up and timed windows.
    """
    players = [_Player(case) for case in cases]
    batches = [players] if interleave == "token" else [[p] for p in _shuffled(players, bench.seed, launch)]
    for batch in batches:
        try:
            _play(bench, batch, launch, watch)
        finally:
            for player in batch:
                player.leave()
    records = [_record(bench, player, launch, interleave) for player in players]
    return records, sum(player.busy_s for player in players)


def _shuffled(players: list[_Player], seed: int, launch: int) -> list[_Player]:
    return [players[i] for i in next(order.rounds(len(players), seed=f"{seed}/launch {launch}"))]


def _play(bench: Bench, players: list[_Player], launch: int, watch: Callable[[str], None]) -> None:
    measure = bench.measure
    first_order = _shuffled(players, bench.seed, launch)
    for player in first_order:
        watch(f"warming up {player.case.id}")
        with _failing(player):
            player.worker = bench.open(player.case)
            timeout_s = bench.timeout_s(player.case)
            player.worker.ask(bench.job("open", player.case), timeout_s)
            player.warm = player.worker.ask({"op": "warm", "measure": asdict(measure)}, timeout_s)
            player.busy_s += player.warm["busy_s"]
    alive = [p for p in players if p.worker is not None]
    if not alive:
        return
    watch(f"timing {players[0].case.group}")
    settle = 1 if max(p.warm["step_s"] for p in alive) < SETTLE_BELOW_S else 0
    seed = f"{bench.seed}/{players[0].case.group}/{launch}"
    _take_turns(bench, players, order.rounds(len(players), seed=seed), settle)


def _take_turns(bench: Bench, players: list[_Player], orders: Iterator[tuple[int, ...]], settle: int) -> None:
    clean = 0
    for number in range(bench.measure.max_rounds):
        if clean >= bench.measure.rounds or not any(p.worker for p in players):
            return
        contended = False
        for position, index in enumerate(next(orders)):
            player = players[index]
            if player.worker is None:
                continue
            with _failing(player):
                turn = player.worker.ask(
                    {"op": "turn", "calls": player.warm["calls"], "settle": settle}, bench.limits.case_timeout_s
                )
                player.busy_s += turn["busy_s"]
                player.samples.append({**turn, "round": number, "position": position})
                contended = contended or bool(turn["contended"])
        clean += not contended


@contextlib.contextmanager
def _failing(player: _Player) -> Iterator[None]:
    try:
        yield
    except WorkerFailed as error:
        player.fail(error)


def _record(bench: Bench, player: _Player, launch: int, interleave: str) -> Record:
    observed = {
        **player.warm.get("observed", {}),
        "interleave": interleave,
        "isolation": bench.launcher.isolation,
        "backend_requested": player.case.backend_requested,
        "warmup_s": player.warm.get("warmup_s", []),
        "steady": player.warm.get("steady"),
        "build_s": player.warm.get("build_s"),
        "busy_s": player.busy_s,
    }
    status, reason = _verdict(player, bench.measure)
    if not player.samples:
        return bench.recorder.record(
            player.case, "time", launch=launch, status=status, reason=reason, observed=observed
        )
    sampled = {
        name: Metric(
            value=_median([s["metrics"][name] for s in player.samples]),
            unit="s",
            samples=tuple(s["metrics"][name] for s in player.samples),
        )
        for name in player.samples[0]["metrics"]
    }
    step_s = sampled["step_time_s"].value
    tokens = player.warm.get("tokens", player.case.tokens)
    return bench.recorder.record(
        player.case,
        "time",
        launch=launch,
        status=status,
        reason=reason,
        values={"tokens_per_s": tokens / step_s if step_s else None},
        sampled=sampled,
        turns={name: [s[name] for s in player.samples] for name in TURN_COLUMNS},
        observed=observed,
    )


def _verdict(player: _Player, measure: Measure) -> tuple[str, str]:
    """Status of a launch whose worker lived: steady and undisturbed enough to count?"""
    if player.status != "ok":
        return player.status, player.reason
    clean = sum(not s["contended"] for s in player.samples)
    needed = math.floor(measure.clean_share * measure.rounds)
    if clean < needed:
        return (
            "not_steady",
            f"could not measure: only {clean} of {len(player.samples)} turns were free of waiting for a processor "
            f"({needed} needed); stop other programs or use fewer threads",
        )
    if not player.warm["steady"]:
        return "not_steady", f"step time still drifting after {measure.warmup_max_s:g} s of warm-up"
    return "ok", ""


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
