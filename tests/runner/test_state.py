"""What a run knows of itself: when it may be continued, and which cases are tried again."""

import pytest

from t2bench.records import Record
from t2bench.runner.directory import DirectoryError, read_environment
from t2bench.runner.journal import Journal
from t2bench.runner.machine import Machine
from t2bench.runner.observer import Silent
from t2bench.runner.options import Options
from t2bench.runner.state import RunState
from t2bench.spec.case import Plan
from t2bench.spec.loader import load_suite

MACHINE = Machine(setup={}, runtime={"torch": "2.11"}, ceilings={}, memory_limit_bytes=1)
TEXT = {"corpora": [{"corpus": "mine", "used": {"train": {"source_sha256": "a"}}}]}
OTHER = {"corpora": [{"corpus": "mine", "used": {"train": {"source_sha256": "b"}}}]}


def record(status, launch=0):
    return Record(
        run="r/1", case="c", group="g", variant="v", workload="translate", axes={}, pass_="quality", launch=launch,
        status=status,
    )  # fmt: skip


@pytest.fixture
def state(tmp_path):
    """The state of a run as one execution after the other finds it."""

    def opened(text, *records):
        with Journal(tmp_path / "run") as journal:
            found = RunState(journal.path.parent, journal, Silent(), read_environment(tmp_path / "run"))
            suite = load_suite("quickstart", device="cpu")
            plan = Plan(cases=(), refusals=(), reference="v")
            found.describe(suite, plan, Options(), MACHINE, "digest", text, isolation="fork")
            found.append(records)
            found.save()
            return found

    return opened


def test_a_run_goes_on_with_the_text_it_began_with_and_no_other(state):
    state(TEXT, record("ok"))
    state(TEXT)
    with pytest.raises(DirectoryError, match="the text has changed"):
        state(OTHER)


def test_before_anything_is_recorded_the_text_may_change(state, tmp_path):
    state(TEXT)
    state(OTHER)
    assert read_environment(tmp_path / "run")["data"] == OTHER


@pytest.mark.parametrize(
    ("status", "ended"), [("ok", False), ("diverged", False), ("not_steady", False), ("crashed", True), ("oom", True)]
)
def test_a_divergence_leaves_the_other_seeds_to_be_tried_and_a_crash_does_not(state, status, ended):
    assert ("c" in state(TEXT, record(status)).ended) == ended
    assert ("c" in state(TEXT).ended) == ended, "and the same in the next execution"
