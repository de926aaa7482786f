"""One folder of the user's data: the same by option, by variable and from Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from t2bench import api
from t2bench.cli.main import cli


class Stopped(Exception):
    """Raised in place of a run."""


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The folders that runs were asked to use, none of which begins."""
    folders = []

    def execute(suite, plan, options, observer):
        folders.append(options.data)
        raise Stopped

    monkeypatch.setattr(api, "execute", execute)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("T2BENCH_DATA", raising=False)
    return folders


def test_the_command_and_python_agree_on_the_folder(asked, monkeypatch, tmp_path):
    def both(by_option):
        words = ["run", "quickstart", "--device", "cpu", "--quiet", *(["--data", by_option] if by_option else [])]
        assert isinstance(CliRunner().invoke(cli, words).exception, Stopped)
        with pytest.raises(Stopped):
            api.run("quickstart", device="cpu", data=by_option)
        first, second = asked[-2:]
        assert first == second
        return first

    assert both(None) is None
    assert both("~/mine") == tmp_path / "mine"
    monkeypatch.setenv("T2BENCH_DATA", "/from/variable")
    assert both(None) == Path("/from/variable")
    assert both("given") == Path("given")
    monkeypatch.setenv("T2BENCH_DATA", "")
    assert both(None) is None
