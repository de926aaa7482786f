"""What can be wrong with data, said in one line that also says what would be right."""

from __future__ import annotations


class DataError(Exception):
    """A corpus, a download or a tokenizer's text cannot be used; `str()` is the line for the user."""
