"""Latencies: metrics of a workload that are a phase's time divided among tokens."""

from __future__ import annotations

Latencies = dict[str, tuple[str, int]]  # metric -> (phase, number of tokens that share its time)


def shared_out(latencies: Latencies, phase_times_s: dict[str, float]) -> dict[str, float]:
    """Metric -> seconds a token."""
    return {name: phase_times_s[phase] / tokens for name, (phase, tokens) in latencies.items()}
