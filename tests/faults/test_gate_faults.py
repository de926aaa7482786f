"""Faults of other benchmarks' gates and meters, each as a test that this project does not have it.

Found by reading their sources and trackers; the name of each test says the fault's opposite.
"""

import inspect
import json
import math

import numpy as np
import pytest

from t2bench.analysis import stats
from t2bench.analysis.launches import launches_of
from t2bench.gate import judge, paired
from t2bench.gate.completeness import completeness
from t2bench.gate.counted import Counted
from t2bench.gate.exact import exact
from t2bench.gate.policy import policy_of
from t2bench.gate.results import EXIT_CODES, GateReport, GateRow
from t2bench.gate.verdict import Findings, concluded, decide
from t2bench.records import Metric, Record
from t2bench.spec.gate import Gate

CASE = "train_step/fp32/L8/vanilla"


def ok(**values):
    return Counted(status="ok", backends=("math",), values=values or {"executed_flops": 100.0})


def judged(base, new):
    rows = completeness(base, new, {}) + exact(base, new, ("executed_flops", "saved_for_backward_bytes"))
    return rows, decide(Findings(rows=rows, skipped={}))[0]


def record_of(pass_, launch, **more):
    return Record(
        run="r",
        case=CASE,
        group="g",
        variant="v",
        workload="w",
        axes={},
        pass_=pass_,
        launch=launch,
        status="ok",
        **more,
    )


def timed(variant, launch, samples, *, status="ok", contended=None, metric="step_time_s", **more):
    count = len(samples)
    return Record(
        run="r",
        case=f"train_step/fp32/L8/{variant}",
        group="train_step/fp32/L8",
        variant=variant,
        workload="train_step",
        axes={},
        pass_="time",
        launch=launch,
        status=status,
        metrics={metric: Metric(value=float(np.median(samples)), unit="s", samples=tuple(samples))},
        turns={"round": list(range(count)), "contended": contended or [False] * count},
        **more,
    )


def test_01_one_regression_is_enough():
    """A check of `num_worse > 1` lets a single regression pass."""
    base = {CASE: ok(), "other": ok()}
    rows, verdict = judged(base, {CASE: ok(executed_flops=101.0), "other": ok()})
    assert sum(row.red for row in rows) == 1
    assert EXIT_CODES[verdict] == 1


@pytest.mark.parametrize("new", [{}, {"train_step/fp32/L8/renamed": ok()}])
def test_02_a_case_that_is_gone_or_renamed_is_red(new):
    assert judged({CASE: ok()}, new)[1] == "regression"


def test_03_a_regression_never_exits_0():
    red = [GateRow(case=CASE, metric="m", layer=layer, verdict="fail") for layer in ("L0", "L1", "L2")]
    good = GateRow(case=CASE, metric="m", layer="L1", verdict="pass")
    blank = GateReport(suite="s", suite_path="", base="", candidate="", verdict="pass", exit_code=0, headline="")
    for row in red:
        assert concluded(blank, Findings(rows=[good, row], skipped={})).exit_code == 1
    assert [name for name, code in EXIT_CODES.items() if code == 0] == ["pass"]


def test_04_peak_memory_is_a_peak_and_not_what_is_left():
    """Memory that was given back before the end counts."""
    import torch

    from t2bench.meters.counters import count

    def step():
        large = torch.empty(1 << 20)
        del large
        return torch.empty(8)

    assert count(step, held=()).peak_bytes >= 4 << 20


def test_05_samples_keep_their_order_and_none_is_dropped():
    """Sorting and trimming before storing makes drift and outliers invisible, and labels change places."""
    samples = [3.0, 1.0, 100.0, 2.0]
    (launch,) = launches_of([timed("vanilla", 0, samples)], "step_time_s")
    assert list(launch.values) == samples
    assert launch.median == 2.5


def test_06_an_unknown_device_has_no_peak_of_another():
    """Rates come from measuring this device; there is no table of names to fall back to."""
    from t2bench.meters import ceilings

    source = inspect.getsource(ceilings).lower()
    assert not any(name in source for name in ("a100", "h100", "b200"))


def test_07_flash_attention_on_a_cpu_has_flops():
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    from t2bench.meters.counters import count

    q_BHTK = torch.randn(1, 2, 16, 8)

    def step():
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return scaled_dot_product_attention(q_BHTK, q_BHTK, q_BHTK)

    counts = count(step, held=())
    assert counts.executed_flops == 4 * 1 * 2 * 16 * 16 * 8
    # And a sum that lacks a term is not gated as if it were whole.
    from t2bench.gate.counted import counted_cases

    lacking = [
        record_of(
            "counters",
            seed,
            metrics={"executed_flops": Metric(value=1.0, unit="flops"), "num_params": Metric(value=1.0, unit="1")},
            observed={"uncounted": ["aten.mystery"]},
        )
        for seed in (0, 1)
    ]
    assert "executed_flops" not in counted_cases(lacking, {CASE: {}}, 2)[CASE].values


def test_08_an_operator_is_not_timed_with_a_hot_cache_by_accident():
    """The attention operator alone on a GPU is timed cold; the policy is part of the record."""
    from t2bench.runner import worker

    source = inspect.getsource(worker)
    assert '"cold" if case.workload.kind == "attention" and self.device != "cpu"' in source
    assert '"cache_policy"' in source


def test_09_the_controller_blocks_and_does_not_spin():
    """A thousand waits for an answer cost next to no processor time of the waiting side."""
    import socket
    import threading
    import time

    from t2bench.runner.channel import Channel

    ours, theirs = socket.socketpair()
    timer = threading.Timer(0.5, lambda: theirs.sendall(b"{}\n"))
    timer.start()
    began = time.process_time()
    Channel(ours).receive(5.0)
    assert time.process_time() - began < 0.2
    timer.join()
    ours.close()
    theirs.close()


def test_10_what_cannot_be_measured_is_no_zero():
    assert json.loads(json.dumps(timed("v", 0, [1.0]).to_dict()))["metrics"]["step_time_s"]["value"] == 1.0
    record = record_of("memory", 0, metrics={"process_peak_bytes": Metric(value=None, unit="bytes")})
    base = Record.from_dict({**record.to_dict(), "case": CASE + "@base"})
    tests, broken = paired.tests_of([record, base], {CASE: CASE + "@base"}, policy_of(Gate()))
    assert (tests, broken) == ([], [])  # no test, rather than a test of two zeros
    assert decide(Findings(rows=[], skipped={}))[0] == "inconclusive"


def test_11_process_memory_is_the_most_of_several_lists_not_their_sum():
    """A process may be listed both under compute and under graphics."""
    from t2bench.meters import nvml

    source = inspect.getsource(nvml)
    assert "max(" in source
    assert "compute" in source
    assert "graphics" in source


def test_12_times_are_not_rounded_to_microseconds():
    tiny = 1.23456789e-7
    again = Record.from_dict(json.loads(json.dumps(timed("v", 0, [tiny]).to_dict())))
    assert again.metrics["step_time_s"].samples == (tiny,)


def test_13_disturbed_samples_are_marked_and_kept():
    """Discarding everything under throttling leaves nothing to judge."""
    disturbed = [True] * 5
    sides = [timed(name, launch, [1.0] * 5, contended=disturbed) for name in ("a", "a@base") for launch in range(3)]
    pairs = {"train_step/fp32/L8/a": "train_step/fp32/L8/a@base"}
    tests, _ = paired.tests_of(sides, pairs, policy_of(Gate()))
    assert [len(test.changes) for test in tests] == [3]


def test_14_no_spread_and_no_time_divide_nothing():
    same = np.zeros((1, 8))
    assert judge.first_look(same, np.full(1, 0.01), np.full(1, 0.02), 0.01)[0] == judge.PASS
    assert launches_of([timed("v", 0, [0.0, 0.0])], "step_time_s") == ()
    assert stats.median_interval([1.0, 1.0, 1.0]).low == pytest.approx(1.0)


def test_15_a_case_without_any_metric_is_no_success():
    assert judged({CASE: ok()}, {CASE: Counted(status="error", reason="it was not counted")})[1] == "regression"
    rows, verdict = judged({CASE: ok()}, {CASE: Counted(status="ok", backends=("math",), values={})})
    assert {row.verdict for row in rows if row.layer == "L1"} == {"missing"}
    assert verdict == "regression"


def test_16_a_search_is_a_search():
    """What is called bisection halves its bracket: the launches needed are found in about log2 of the range."""
    asked = []
    original = judge.detectable

    def watched(spread, launches, tests, alpha):
        asked.append(launches)
        return original(spread, launches, tests, alpha)

    judge.detectable = watched
    try:
        judge.launches_needed(0.02, 0.01, 4, 0.01)
    finally:
        judge.detectable = original
    assert len(asked) <= 2 + math.ceil(math.log2(judge.MAX_LAUNCHES))


def test_17_the_order_of_turns_favours_no_slot():
    """Strict alternation gives one side the same slot each time; here each side comes first equally often."""
    from t2bench.runner import order

    turns = order.rounds(2, seed="any")
    first = [next(turns)[0] for _ in range(200)]
    assert first.count(0) == 100
    assert first[:20] not in ([0, 1] * 10, [1, 0] * 10)


def test_18_usage_errors_have_a_code_that_nothing_else_means():
    """Make and argument parsers exit 2; a gate that means "no baseline" by 2 is green for years."""
    from t2bench.cli import common

    assert common.USAGE == 2
    assert 2 not in EXIT_CODES.values()
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
