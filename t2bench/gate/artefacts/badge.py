"""The verdict as a badge: an SVG of our own, and the JSON of shields.io's endpoint badge. No service is asked."""

from __future__ import annotations

import html
import json

from t2bench.gate.artefacts.words import VERDICT_WORDS
from t2bench.gate.results import GateReport
from t2bench.report import safe

# Name for shields.io, and the same colour for the SVG.
_COLORS = {
    "pass": ("brightgreen", "#3a7d1e"),
    "regression": ("red", "#b3261e"),
    "inconclusive": ("yellow", "#8a6100"),
    "baseline": ("lightgrey", "#5f6368"),
    "failed": ("orange", "#a34700"),
}
_CHARACTER_WIDTH = 7  # px, of Verdana at 11 px; wide enough for any word
_PADDING = 12


def badge_json(report: GateReport) -> str:
    """https://shields.io/badges/endpoint-badge: put the file where shields.io can read it."""
    color = _COLORS[report.verdict][0]
    data = {
        "schemaVersion": 1,
        "label": _label(report),
        "message": VERDICT_WORDS[report.verdict],
        "color": color,
        "isError": report.exit_code != 0,
    }
    return json.dumps(data) + "\n"


def badge_svg(report: GateReport) -> str:
    """A flat badge of 20 px height that needs no font, script or network."""
    label, message = _label(report), VERDICT_WORDS[report.verdict]
    left, right = (len(text) * _CHARACTER_WIDTH + _PADDING for text in (label, message))
    title = html.escape(f"{label}: {message}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" aria-label="{title}">'
        f"<title>{title}</title>"
        f'<rect width="{left}" height="20" fill="#444"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{_COLORS[report.verdict][1]}"/>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f'<text x="{left / 2:g}" y="14">{html.escape(label)}</text>'
        f'<text x="{left + right / 2:g}" y="14">{message}</text>'
        "</g></svg>\n"
    )


def _label(report: GateReport) -> str:
    return f"t2bench {safe.clean(report.suite, limit=40)}".strip()
