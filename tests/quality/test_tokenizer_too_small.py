"""A vocabulary that is too small for any text: sentencepiece is silent about it, and users must not be."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2bench.quality.errors import DataError
from t2bench.quality.tokenizer import TokenizerSpec, make_tokenizer


@pytest.mark.parametrize("vocab", [1, 3, 4, 259])
def test_what_a_vocabulary_must_hold_is_said(vocab: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"model.vocab is {vocab}, but .* needs at least 26\d .* raise model.vocab"):
        make_tokenizer(TokenizerSpec(kind="bpe", vocab=vocab), ["a b c d"], cache=tmp_path)
