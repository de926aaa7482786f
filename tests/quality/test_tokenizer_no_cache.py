"""A cache folder that cannot be used costs time, never the run."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from t2bench.quality.tokenizer import TokenizerSpec, make_tokenizer

SPEC, LINES = TokenizerSpec(kind="char", vocab=20), ["a b c d"]


def test_a_cache_that_is_a_file_is_done_without(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert make_tokenizer(SPEC, LINES, cache=file) == make_tokenizer(SPEC, LINES, cache=tmp_path / "folder")
    assert file.read_text() == "mine"


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert make_tokenizer(SPEC, LINES, cache=tmp_path).vocab == 9
    assert list((tmp_path / "tokenizers").iterdir()) == []
