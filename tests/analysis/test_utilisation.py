"""Utilisation by hand: FLOPs over seconds over a ceiling."""

import pytest

from t2bench.analysis.utilisation import mfu


def test_utilisation() -> None:
    assert mfu(2e9, 0.5, 8e9).value == pytest.approx(0.5)
    assert mfu(2e9, 0.5, 8e9).error == ""
    assert mfu(4e9, 0.5, 8e9).error == ""
    assert "107%" in mfu(4.28e9, 0.5, 8e9).error
