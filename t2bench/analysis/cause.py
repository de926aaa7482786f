"""Why two times differ, as far as counting can say: FLOPs, bytes, kernels, or a host that could not keep up."""

from __future__ import annotations

import numpy as np

from t2bench.analysis.index import Index
from t2bench.analysis.launches import MEASURED

NOTABLE = 1.02  # a ratio of counts below this explains no difference of times
HOST_BOUND_SHARE = 0.5
_WORDS = {"executed_flops": "FLOPs", "bytes_touched": "bytes touched"}


def cause(side: tuple[Index, str], other: tuple[Index, str]) -> str:
    """One line on what changed from `other` to `side`; empty if neither was counted.

    Args:
        side: (run, case id) of the candidate or variant.
        other: likewise, of the baseline or reference.
    """
    (index, case), (its_index, its_case) = side, other
    new, old = index.values(case, "counters"), its_index.values(its_case, "counters")
    found = []
    counted = False
    for metric, words in _WORDS.items():
        if new.get(metric) and old.get(metric) and old[metric][0] > 0 and new[metric][0] > 0:
            counted = True
            ratio = new[metric][0] / old[metric][0]
            if max(ratio, 1 / ratio) >= NOTABLE:
                found.append(f"{ratio:.3g} x the {words}")
    ran, before = _backends(index, case), _backends(its_index, its_case)
    if ran and before and ran != before:
        found.append(f"{' and '.join(ran)} instead of {' and '.join(before)}")
    host = [words for words, (i, c) in (("here", side), ("there", other)) if _host_bound(i, c) > HOST_BOUND_SHARE]
    if host:
        found.append("bound by the host " + " and ".join(host))
    if not found and counted:
        return "equal FLOPs, bytes and kernels: look at launches of kernels, caches, the machine"
    return ", ".join(found)


def _backends(index: Index, case: str) -> tuple[str, ...]:
    records = (r for r in index.records.get(case, ()) if r.pass_ == "counters" and r.status in MEASURED)
    return tuple(sorted({str(name) for record in records for name in record.observed.get("backends") or ()}))


def _host_bound(index: Index, case: str) -> float:
    """Share of the turns in which the device waited for the host; 0 where that is not known."""
    flags = [bool(f) for r in index.time_records(case) for f in r.turns.get("host_bound", ()) if f is not None]
    return float(np.mean(flags)) if flags else 0.0
