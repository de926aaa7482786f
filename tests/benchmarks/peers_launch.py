"""One launch of one architecture: agree, count, then take turns.

Runs in a fresh process. All parties of a cell are built once; before anything is timed their outputs must agree.

Shape letters: B batch, T length.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from peers_axes import chosen
from peers_parties import ARCHITECTURES, Ours, cast, shared_weights
from torch import Tensor

from t2bench.meters.counters import count
from t2bench.meters.environment import configure
from t2bench.runner.order import rounds
from t2bench.workloads.batches import Batch
from t2bench.workloads.train_step import adamw

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TOLERANCE = 2e-4  # of fp32 outputs, |a - b| / (1 + |b|)
ROUNDED = 2.0  # in bf16 we may lose twice what the first library loses, as the parity rule says
OURS = "t2bench"
Step = Callable[[], Tensor]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is compared, all parties on the same.

    Attributes:
        mode: `eager` or `compiled`.
        workload: `forward`, `train` or `decode`.
    """

    architecture: str
    batch: int
    length: int
    dtype: str
    mode: str
    workload: str

    @property
    def name(self) -> str:
        """For people and for `--only`."""
        return f"{self.architecture}/{self.workload}/{self.mode}/{self.dtype}/{self.batch}x{self.length}"


def launch(
    cells: list[Cell], number: int, num_rounds: int, new_tokens: int, device: str, counting: bool
) -> dict[str, Any]:
    """Measure cells of one architecture, batch and dtype.

    Args:
        cells: which.
        number: of the launch; decides the order of turns.
        num_rounds: rounds of turns.
        new_tokens: to decode.
        device: `cpu` or `cuda`.
        counting: count peak memory as well (it is the same in each launch).

    Returns:
        Cell name -> party -> {"wall_s": [...], "cpu_s": [...], "peak_bytes": int, "axes": {...}}.
    """
    configure(1)
    gc.disable()
    return {
        cell.name: _measured(cell, number, num_rounds, new_tokens, torch.device(device), counting) for cell in cells
    }


def _measured(
    cell: Cell, number: int, num_rounds: int, new_tokens: int, device: torch.device, counting: bool
) -> dict[str, Any]:
    batch = _batch(cell, number, device)
    parties, axes = _parties(cell, device)
    agreement = _agree(cell, parties, batch, device)
    steps = {name: _step(cell, party, batch, new_tokens) for name, party in parties.items()}
    peaks = {}
    if counting and cell.mode == "eager" and cell.workload != "decode":
        for name, step in steps.items():
            held = (*parties[name].module.parameters(), *parties[name].module.buffers())
            step()  # tables that the first call makes
            peaks[name] = count(step, held=held).peak_bytes
    for step in steps.values():
        step()
    found: dict[str, Any] = {name: {"wall_s": [], "cpu_s": []} for name in parties}
    names = list(parties)
    for order in islice(rounds(len(names), seed=f"{cell.name}/{number}"), num_rounds):
        for index in order:
            gc.collect()
            wall_s, cpu_s = _timed(steps[names[index]], device)
            found[names[index]]["wall_s"].append(wall_s)
            found[names[index]]["cpu_s"].append(cpu_s)
    for name, value in found.items():
        value["agreement"] = agreement.get(name)
        if name in peaks:
            value["peak_bytes"] = peaks[name]
    found[OURS]["axes"] = axes
    gc.collect()
    return found


def _timed(step: Step, device: torch.device) -> tuple[float, float]:
    if device.type == "cuda":
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def _parties(cell: Cell, device: torch.device, dtype: str = "") -> tuple[dict[str, Any], dict[str, str]]:
    architecture = ARCHITECTURES[cell.architecture]
    kind = DTYPES[dtype or cell.dtype]
    spec, axes = chosen(architecture.spec, cell, device.type)
    weights, _ = shared_weights(architecture)
    parties: dict[str, Any] = {OURS: Ours(spec, weights, kind, device)}
    for name, make in architecture.peers.items():
        party = make(architecture.spec, weights, shared_weights(architecture)[1])
        cast(party.module, kind, device)
        parties[name] = party
    return parties, axes


def _batch(cell: Cell, number: int, device: torch.device) -> Batch:
    spec = ARCHITECTURES[cell.architecture].spec
    generator = torch.Generator().manual_seed(number)

    def draw() -> Tensor:
        return torch.randint(3, spec.vocab, (cell.batch, cell.length), generator=generator).to(device)

    tokens_BT, labels_BT = draw(), draw()
    return Batch(tokens_BT=tokens_BT, labels_BT=labels_BT, source_BS=draw() if spec.arch == "encdec" else None)


def _step(cell: Cell, party: Any, batch: Batch, new_tokens: int) -> Step:
    """One call of the cell's work; the same wrapping for every party."""
    compiled = cell.mode == "compiled"
    if cell.workload == "train":
        party.module.train()
        optimizer = adamw(party.module)
        loss_of = torch.compile(party.loss, dynamic=False) if compiled else party.loss

        def train() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(batch)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return train
    party.module.eval()
    outputs = torch.compile(party.outputs, dynamic=False) if compiled else party.outputs

    def infer() -> Tensor:
        with torch.inference_mode():
            return party.generate(batch, new_tokens) if cell.workload == "decode" else outputs(batch)

    return infer


def _agree(cell: Cell, parties: dict[str, Any], batch: Batch, device: torch.device) -> dict[str, float]:
    """Largest scaled difference of each peer from us.

    Raises:
        AssertionError: somebody computes something else.
    """
    found: dict[str, float] = {}
    with torch.inference_mode():
        outputs = {name: _plain(party, batch) for name, party in parties.items()}
        if cell.dtype == "fp32":
            for name, out in outputs.items():
                found[name] = float(((out - outputs[OURS]).abs() / (1 + out.abs())).max())
                assert found[name] <= TOLERANCE, f"{cell.name}: {name} differs from ours by {found[name]:.2g}"
            return found
        exact_BTV = _plain(_parties(cell, device, "fp32")[0][OURS], batch)
        lost = {name: float((out - exact_BTV).square().mean().sqrt()) for name, out in outputs.items()}
        allowed = ROUNDED * max(value for name, value in lost.items() if name != OURS)
        assert lost[OURS] <= allowed, (
            f"{cell.name}: ours loses {lost[OURS]:.2g} to rounding, peers half of {allowed:.2g}"
        )
        size = float(exact_BTV.square().mean().sqrt())
        for name, value in lost.items():
            assert value <= 0.05 * size, f"{cell.name}: {name} is {value:.2g} off, outputs are about {size:.2g}"
        return lost


def _plain(party: Any, batch: Batch) -> Tensor:
    party.module.eval()
    return party.outputs(batch).float()
