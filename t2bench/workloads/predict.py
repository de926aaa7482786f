"""predict: what a case will need, from its own code run on fake tensors. Nothing is allocated, nothing is computed.

Fake tensors have shapes but no contents, so the real step runs through in milliseconds at any length, and the counters
read the same bytes and FLOPs as on real tensors. All cases are predicted on fake CPU tensors of their dtype, since fake
CUDA tensors cannot be trained in a build without CUDA. Fused back ends that do not run there are predicted as
`sdpa_flash`: their needs grow alike, and differ from it by a few vectors a head. A compiled or quantized case is
predicted as the eager program in its dtype, which needs as much or more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from t2bench.meters.counters import Counts, count
from t2bench.models.precision import PRECISIONS
from t2bench.records import Metric
from t2bench.spec import cost, cost_decode
from t2bench.spec.case import Case
from t2bench.workloads.arrange import blank
from t2bench.workloads.attention import Attention
from t2bench.workloads.registry import Workload, around_model, model_for

_CPU = torch.device("cpu")
# They run on CUDA only (flex trains there only), and need what the fused kernel for CPUs needs.
_FUSED = ("sdpa_flash", "sdpa_efficient", "sdpa_cudnn", "flex", "varlen", "fa2", "fa3", "fa4")
_IN_SCORES = ("alibi", "t5_bias", "shaw", "txl")


def predict(case: Case) -> dict[str, Metric]:
    """Predict a case.

    Args:
        case: any case that `t2bench.spec.refusals` does not refuse.

    Returns:
        model_flops, executed_flops, saved_for_backward_bytes, tracked_peak_bytes, bytes_touched, num_params; and for
        one sequence (batch 1), whose growth with the length is exact: sequence_flops (executed),
        sequence_saved_bytes, sequence_peak_bytes. If it generates with a cache also kv_cache_bytes.
    """
    stand_in = _on_fake_cpu(case)
    with FakeTensorMode(allow_non_fake_inputs=True):
        counts, sequence = _count_both(stand_in)
        # Nobody has a formula for a user's own module: what its kernels do is what it asks for.
        num_params = _num_params(case) if case.model.factory else cost.num_params(case.model).total
    asked = counts.executed_flops
    if not case.model.factory:
        asked = cost.model_flops(case.model, case.workload, case.batch, case.length)
    return {
        "model_flops": Metric(value=asked, unit="flops"),
        "executed_flops": Metric(value=counts.executed_flops, unit="flops"),
        "saved_for_backward_bytes": Metric(value=counts.saved_bytes, unit="bytes"),
        "tracked_peak_bytes": Metric(value=counts.peak_bytes, unit="bytes"),
        "bytes_touched": Metric(value=counts.bytes_touched, unit="bytes"),
        "num_params": Metric(value=num_params, unit="1"),
        "sequence_flops": Metric(value=sequence.executed_flops, unit="flops"),
        "sequence_saved_bytes": Metric(value=sequence.saved_bytes, unit="bytes"),
        "sequence_peak_bytes": Metric(value=sequence.peak_bytes, unit="bytes"),
        **_kept(case),
    }


def _kept(case: Case) -> dict[str, Metric]:
    """Bytes of the keys and values (or states) that a batch is generated with, when the last token has been read."""
    if not case.workload.generates or case.model.cache == "off":
        return {}
    return {"kv_cache_bytes": Metric(value=cost_decode.cache_bytes(case), unit="bytes")}


def estimate_time_s(executed_flops: float, bytes_touched: float, ceilings: Mapping[str, Any]) -> float:
    """A rough step time: the roofline, max(FLOPs / FLOP/s, bytes / bytes/s), with both ceilings measured.

    Matrix products rarely reach the first ceiling, and fusion and caches beat the second, so expect a factor of two
    either way. It serves to say how long a run will take, never as a result.

    Args:
        executed_flops: of the step.
        bytes_touched: of the step, unfused.
        ceilings: `flops_per_s` and `bytes_per_s` of the device in the case's dtype.
    """
    return float(max(executed_flops / ceilings["flops_per_s"], bytes_touched / ceilings["bytes_per_s"]))


def _num_params(case: Case) -> int:
    """Trainable parameters, counted from the instance."""
    return sum(p.numel() for p in model_for(case, _CPU).parameters() if p.requires_grad)


def _on_fake_cpu(case: Case) -> Case:
    """The case as fake CPU tensors can run it: eager, unquantized, and fused attention by the one kernel for CPUs.

    That kernel has no dropout, no soft cap and no positions in the scores, which in the others cost next to no bytes.
    """
    model = replace(case.model, compile="off", quant="none")
    if model.attention in _FUSED:
        model = replace(model, attention="sdpa_flash", attention_dropout=0.0, attention_softcap=None)
        if model.padding == "nested":
            model = replace(model, padding="packed")
        if case.model.attention != "sdpa_flash" and model.position.kind in _IN_SCORES:
            model = replace(model, position=replace(model.position, kind="none"))
    return replace(case, model=model)


def _count_both(case: Case) -> tuple[Counts, Counts]:
    """Counts at the case's batch and at batch 1, with one model."""
    model = None if case.workload.kind == "attention" else model_for(case, _CPU)

    def counted(batch: int) -> Counts:
        at_batch = replace(case, batch=batch)
        workload: Workload
        if model is None:
            workload = Attention(at_batch, _CPU, PRECISIONS[case.dtype].compute)
        else:
            workload = around_model(at_batch, model, (blank(at_batch, _CPU),))
        return count(lambda: workload.step(lambda _: None), held=workload.held)

    counts = counted(case.batch)
    if case.batch == 1:
        return counts, counts
    if model is not None:
        model.zero_grad(set_to_none=True)
    return counts, counted(1)
