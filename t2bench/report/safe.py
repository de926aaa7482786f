"""Making foreign text inert: names, reasons and host strings come from files that anyone may have written.

Every exporter passes every such text through one of these functions; nothing else stands between a variant called
`<script>` and a page.
"""

from __future__ import annotations

import re
import unicodedata

# Controls (C0, C1, escape), formats (bidirectional overrides, zero width), lone surrogates, line separators.
_DROPPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

# Our own intervals read better unescaped; a bracket that could open a link or a definition never qualifies.
_INTERVAL = re.compile(r"(\[[-+]?[\d.]+, [-+]?[\d.]+\](?![(\[:]))")


def clean(text: object, *, limit: int = 300) -> str:
    """The text on one line, without control characters, cut at `limit` characters."""
    kept = "".join(_plain(char) for char in str(text))
    kept = " ".join(kept.split())
    return kept if len(kept) <= limit else kept[: limit - 3] + "..."


def _plain(char: str) -> str:
    if char in "\t\n\r\v\f" or unicodedata.category(char) in {"Zl", "Zp"}:
        return " "
    if ord(char) & 0xFFFE == 0xFFFE:  # not characters: XML refuses them
        return ""
    return "" if unicodedata.category(char) in _DROPPED else char


def markdown(text: object) -> str:
    """The text for a Markdown paragraph or table cell: no markup, no HTML, no links, no maths, no cell borders."""
    parts = _INTERVAL.split(clean(text, limit=2000))
    return "".join(part if index % 2 else _escape_markdown(part) for index, part in enumerate(parts))


def _escape_markdown(text: str) -> str:
    text = re.sub(r"([\\`*\[\]|~$#!])", r"\\\1", text)
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)
    text = re.sub(r"&", "&amp;", text).replace("<", "&lt;").replace(">", "&gt;")
    # Bare addresses and mentions become links on most hosts; an entity keeps the look and stops that.
    text = text.replace("://", ":&#47;&#47;").replace("www.", "www&#46;")
    text = re.sub(r"(?<![A-Za-z0-9])@", "&#64;", text)
    return re.sub(r"^([-+=]|\d+[.)])(?=\s|$)", r"\\\1", text)


def code(text: object) -> str:
    """The text for the inside of a fenced Markdown block: it cannot close the fence."""
    lines = str(text).splitlines() or [""]
    return "\n".join("".join(_keep_tab(char) for char in line).replace("```", "'''") for line in lines)


def _keep_tab(char: str) -> str:
    return char if char == "\t" else _plain(char)


def label(text: object, *, limit: int = 28) -> str:
    """The text for a matplotlib label: shown as it is (callers switch maths off), and not hidden by a leading `_`."""
    kept = clean(text, limit=limit) or "?"
    return " " + kept if kept.startswith("_") else kept


def lines(text: object) -> str:
    """The text with its lines kept and every other control character dropped."""
    return "\n".join("".join(_keep_tab(char) for char in line) for line in str(text).splitlines())
