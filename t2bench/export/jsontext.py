"""JSON as every exporter writes it."""

from __future__ import annotations

import json
from typing import Any


def dumps(data: Any) -> str:
    """The data as JSON text in ASCII.

    `<`, `>` and `&` are written as escapes, so that the text stays data inside a page's script element too.

    Raises:
        ValueError: a number is NaN or infinite; no measured value is.
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, indent=1)
    # Outside strings JSON has none of these characters.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026") + "\n"
