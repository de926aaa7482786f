"""The measured process: configured once, then asked to predict, check, count, weigh, or to take turns.

It imports the standard library, torch and numpy only, does exactly what the messages say, and says how it went. When
its channel closes it leaves. After an out-of-memory error it leaves too: leftovers would falsify what comes next.
"""

from __future__ import annotations

import dataclasses
import math
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t2bench.runner.channel import Channel, ChannelClosed
from t2bench.runner.plugins import Plugins
from t2bench.spec.case import Case

MEMORY_STEPS = 2  # the first step also pays for what libraries allocate once; both count


def run(sock: socket.socket) -> None:
    """Answer messages until the channel closes; never returns."""
    channel = Channel(sock)
    session = _Session()
    status = 0
    try:
        while True:
            message = channel.receive()
            answer, fatal = _answer(session, message)
            channel.send(answer)
            if fatal:
                break
    except ChannelClosed:
        pass
    except BaseException as error:  # the last resort: say why on stderr, which the scheduler keeps
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # no exit handlers of a forked interpreter's parent


def _answer(session: _Session, message: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The reply to a message, and whether the process must end after it."""
    from t2bench.meters.memory import classify_error

    try:
        operation = getattr(session, f"on_{message['op']}")
        return {"ok": True, **operation(message)}, False
    except Exception as error:
        status, reason = classify_error(_in_words(error))
        if status == "error":
            import traceback

            traceback.print_exc()
            place = session.plugins.blame(error)
            reason = f"{place}: {reason}" if place else reason
        return {"ok": False, "status": status, "reason": reason}, True


class _Session:
    """What a worker knows between messages; one `on_*` method per operation."""

    def __init__(self) -> None:
        self.device = "cpu"
        self.settings: dict[str, Any] = {}
        self.plugins = Plugins()
        self.origin: dict[str, Any] = {}

    def on_configure(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Threads, precision flags and the memory limit: set here, recorded with every launch."""
        from t2bench.meters import environment, memory

        self.device = message["device"]
        self.threads = int(message["threads"])
        self.plugins = Plugins(message.get("plugins", ()))
        self.settings = environment.configure(threads=self.threads)
        if message["memory_limit_bytes"]:
            self.settings["address_space_bytes"] = memory.limit_address_space(int(message["memory_limit_bytes"]))
        return {"settings": self.settings}

    def on_cuda_available(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Whether torch can use CUDA here."""
        import torch

        return {"available": torch.cuda.is_available()}

    def on_runtime(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Software and device facts for the environment file."""
        from t2bench.meters import environment, memory

        return {"runtime": environment.runtime(), "available_bytes": memory.available_bytes(self.device)}

    def on_ceilings(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Matrix product and copy rates of this device, per dtype."""
        from t2bench.meters.ceilings import measure

        return {"ceilings": {dtype: dataclasses.asdict(measure(self.device, dtype)) for dtype in message["dtypes"]}}

    def on_predict(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Counts of a case from fake tensors, and a rough time."""
        from t2bench.workloads.predict import estimate_time_s, predict

        case = self._case(message)
        metrics = {name: metric.value or 0.0 for name, metric in predict(case).items()}
        ceilings = message["ceilings"][case.dtype]
        step_s = estimate_time_s(metrics["executed_flops"], metrics["bytes_touched"], ceilings)
        metrics["predicted_step_time_s"] = step_s
        return {"metrics": metrics}

    def on_truth(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Numerics, causality, padding and back end against the float64 reference."""
        from t2bench.workloads.truth_modes import check_case

        case = self._case(message)
        return {"checks": [dataclasses.asdict(check) for check in check_case(case, device=self.device)]}

    def on_prove(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Truth, properties and oracle of a variant, which no case needs to be planned for."""
        from t2bench.parity.proof import prove
        from t2bench.spec.model import ModelSpec

        spec = ModelSpec.from_dict(message["model"])
        if spec.factory:
            self.plugins.load(spec.factory)
        proof = prove(
            spec, device="cuda" if self.device != "cpu" else "cpu", dtype=message["dtype"], seed=message["seed"]
        )
        return {"proof": proof.to_dict()}

    def on_rows(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Attention at the case's own length: some rows against the float64 definition."""
        from t2bench.attention.features import Features
        from t2bench.attention.rows import check_rows
        from t2bench.models.precision import PRECISIONS

        case = self._case(message)
        model, precision = case.model, PRECISIONS[case.dtype]
        if model.factory:  # nobody knows what attention it has
            return {"checks": []}
        causal = {"decoder": [True], "encoder": [False], "encdec": [True, False]}[model.arch]
        if case.workload.kind == "attention":
            causal = [case.workload.causal]
        checks = [
            check
            for masked in causal
            for check in check_rows(
                model.attention,
                heads=model.heads,
                kv_heads=model.num_kv_heads,
                head_dim=model.dim_per_head,
                length=case.length,
                causal=masked,
                backward=case.workload.trains,
                dtype=precision.compute,
                device=self.device,
                rounding=precision.rounding,
                features=Features.of(model),
                seed=case.seed,
            )
        ]
        return {"checks": [dataclasses.asdict(check) for check in checks]}

    def on_counters(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Exact counters of one real step, the kernels it ran, and its loss."""
        from t2bench.workloads.counting import count_case

        metrics, facts = count_case(self._case(message), lambda case: self._build(case, message))
        observed = {**facts, "checksum": _finite(facts["checksum"]), "settings": self._in_force(), **self.origin}
        return {"metrics": metrics, "observed": observed}

    def on_memory(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Peak memory of this fresh process over the first steps."""
        from t2bench.meters.memory import MemoryMeter, give_back_freed_memory

        case = self._case(message)
        gives_back = give_back_freed_memory()
        with MemoryMeter(self.device) as meter:
            workload = self._build(case, message)
            for _ in range(MEMORY_STEPS):
                workload.step(_no_mark)
        return {
            "metrics": {name: metric.value for name, metric in meter.metrics.items()},
            "observed": {
                "steps": MEMORY_STEPS,
                "settings": self._in_force(),
                **self.origin,
                "allocator": "gives back freed blocks" if gives_back else "as it comes",
            },
        }

    def on_learn(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Build the model that the next messages will train."""
        import torch

        from t2bench.models.precision import PRECISIONS
        from t2bench.translation.learner import Learner

        case = self._case(message)
        PRECISIONS[case.dtype].set_matmul()
        self.learner = Learner(case, message["files"], torch.device(self.device))
        return {}

    def on_learner(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """One piece of training, validation or translation."""
        answer: dict[str, Any] = getattr(self.learner, message["do"])(**message["arguments"])
        self._threads_in_force()
        return answer

    def on_open(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Build the workload that the next messages will time."""
        from t2bench.meters.clock import CachePolicy, make_clock

        case = self._case(message)
        began = time.perf_counter()
        self.case = case
        self.workload = self._build(case, message)
        cache: CachePolicy = "cold" if case.workload.kind == "attention" and self.device != "cpu" else "as_is"
        self.clock = make_clock(self.device, cache=cache, origin_s=0.0)
        self.cache_policy = cache
        self.build_s = time.perf_counter() - began
        return {}

    def on_warm(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Warm up until steady; the first call's loss is the launch's checksum."""
        from t2bench.meters.clock import calibrate_calls
        from t2bench.meters.steady import warm_up
        from t2bench.workloads.counting import compilation

        measure = message["measure"]
        began = time.perf_counter()
        checksum = self.workload.step(_no_mark)
        first_call_s = time.perf_counter() - began
        result = warm_up(
            self.clock,
            self.workload.step,
            self.workload.phases,
            min_calls=measure["warmup_calls"],
            min_s=measure["warmup_s"],
            max_s=measure["warmup_max_s"],
        )
        step_s = result.series_s[-1]
        calls = 1
        if step_s < measure["min_sample_s"]:
            calls = calibrate_calls(
                self.clock, self.workload.step, self.workload.phases, min_sample_s=measure["min_sample_s"]
            )
        return {
            "warmup_s": [first_call_s, *result.series_s],
            "steady": result.steady,
            "step_s": step_s,
            "calls": calls,
            "tokens": self.workload.tokens,
            "build_s": self.build_s,
            "busy_s": time.perf_counter() - began,
            "observed": {
                "checksum": _finite(float(checksum)),
                **compilation(self.case),
                "settings": self._in_force(),
                "cache_policy": self.cache_policy,
                "threads": self._threads_in_force(),
                **self.origin,
            },
        }

    def on_turn(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """One sample: untimed steps that refill the caches, then the timed window."""
        from t2bench.meters.contention import Contention, contended
        from t2bench.workloads.counting import compilation
        from t2bench.workloads.latency import shared_out

        began = time.perf_counter()
        for _ in range(message["settle"]):
            self.workload.step(_no_mark)
        compiled, before = compilation(self.case), Contention.read()
        timing = self.clock.turn(self.workload.step, message["calls"], self.workload.phases)
        delta = before.until(Contention.read())
        self._threads_in_force()
        metrics = {"step_time_s": timing.step_time_s}
        if self.workload.latencies:
            metrics |= shared_out(self.workload.latencies, timing.phase_times_s)
        elif len(self.workload.phases) > 1:
            metrics |= {f"{phase}_time_s": seconds for phase, seconds in timing.phase_times_s.items()}
        return {
            "metrics": metrics,
            "start_s": timing.start_s,
            "wait_s": delta.wait_s,
            # A turn in which something was compiled again is as little worth as one that had to wait.
            "contended": contended(delta, timing.wall_s, self.threads) or compilation(self.case) != compiled,
            "calls": timing.calls,
            "host_bound": timing.host_bound,
            "busy_s": time.perf_counter() - began,
        }

    def _in_force(self) -> dict[str, Any]:
        """The settings, and the precision that the case has set."""
        import torch

        precision = torch.get_float32_matmul_precision()
        threads = self._threads_in_force()
        return {**self.settings, "threads": threads, "matmul_precision": precision, "tf32": precision != "highest"}

    def _threads_in_force(self) -> int:
        """Threads within an operator, as torch has them after what the case has done.

        Raises:
            FactoryError: not those of every other variant, so nothing measured here could be compared.
        """
        import torch

        from t2bench.models.factories import FactoryError

        found = torch.get_num_threads()
        if found != self.threads:
            raise FactoryError(
                f"the variant's code has set torch to {found} thread(s), the run's variants have {self.threads}: "
                "leave torch.set_num_threads alone"
            )
        return found

    def _case(self, message: Mapping[str, Any]) -> Case:
        """The message's case, with the user's code imported if it needs that."""
        case = Case.from_dict(message["case"])
        self.origin = {}
        if case.model.factory:
            self.plugins.load(case.model.factory)
            self.origin = {"factory": self.plugins.identity(case.model.factory)}
        return case

    def _build(self, case: Case, message: Mapping[str, Any]) -> Any:
        import torch

        from t2bench.workloads.registry import build

        tokens = None if message["tokens"] is None else Path(message["tokens"])
        workload = build(case, device=torch.device(self.device), tokens=tokens)
        if "plant" in message:
            from t2bench.runner.plant import Planted

            return Planted(workload, message["plant"])
        return workload


def _in_words(error: Exception) -> Exception:
    """The error, or what it means to a user where torch does not say it."""
    from t2bench.models.compiled import without_compiler

    return without_compiler(error) or error


def _finite(value: float) -> float | None:
    """JSON has no NaN: None says that the value is not a number."""
    return value if math.isfinite(value) else None


def _no_mark(phase: str) -> None:
    """Phases are of interest to the clock only."""


if __name__ == "__main__":
    run(socket.socket(fileno=int(sys.argv[1])))
