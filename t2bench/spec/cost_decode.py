"""What a case that generates keeps in memory for it, from the case alone."""

from __future__ import annotations

from dataclasses import replace

from t2bench.spec.case import DTYPE_BYTES, Case
from t2bench.spec.cost import kv_bytes


def cache_bytes(case: Case) -> int:
    """Bytes of keys and values (or states) when the last token has been read, for all rows; 0 without a cache.

    An encoder-decoder keeps those of its source as well, once. A growing cache may have room for more, of which nothing
    is read.
    """
    spec = case.model
    if spec.cache == "off":
        return 0
    if spec.arch != "encdec" or spec.recurrence != "none":
        return case.batch * kv_bytes(spec, case.length if spec.recurrence != "none" else case.last_length, case.dtype)
    of_source = spec.num_dec_layers * 2 * spec.num_kv_heads * spec.dim_per_head * case.length * DTYPE_BYTES[case.dtype]
    new = case.workload.new_tokens if case.workload.kind == "decode" else 1
    read = case.last_length if spec.cache == "static" else new
    return case.batch * (of_source + kv_bytes(replace(spec, arch="decoder"), read, case.dtype))
