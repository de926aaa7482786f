"""What a gate must find, and what it must not: known defects with the exit code that each must give.

The defects are planted in real measurements (`t2bench.runner.plant`), in the suite, or in a stored baseline; nothing
here knows how. `t2bench gate --self-test` runs them all on the user's own machine and suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Defect = Literal[
    "none", "saved_tensor", "flop", "removed_case", "renamed_case", "swapped_back_end", "corrupted_baseline", "slowdown"
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """One experiment.

    Attributes:
        defect: what is planted.
        exit_code: what the gate must answer.
        words: for people.
        timed: needs launches in turns, not only counters.
    """

    defect: Defect
    exit_code: int
    words: str
    timed: bool = False


SCENARIOS = (
    Scenario(defect="none", exit_code=0, words="nothing changed: counters"),
    Scenario(defect="saved_tensor", exit_code=1, words="one more tensor saved for backward (4 bytes)"),
    Scenario(defect="flop", exit_code=1, words="one more product of two numbers"),
    Scenario(defect="removed_case", exit_code=1, words="a case is gone"),
    Scenario(defect="renamed_case", exit_code=1, words="a case has another name"),
    Scenario(defect="swapped_back_end", exit_code=1, words="another attention back end than declared"),
    Scenario(defect="corrupted_baseline", exit_code=4, words="one character of the stored baseline changed"),
    Scenario(defect="none", exit_code=0, words="nothing changed: times, in turns", timed=True),
    Scenario(defect="slowdown", exit_code=1, words="every step slower by tolerance + detect", timed=True),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What the gate answered.

    Attributes:
        scenario: the experiment.
        exit_code: of the gate.
        headline: of the gate.
    """

    scenario: Scenario
    exit_code: int
    headline: str

    @property
    def ok(self) -> bool:
        """Whether that was right."""
        return self.exit_code == self.scenario.exit_code


def self_test(play: Callable[[Scenario], tuple[int, str]], scenarios: Iterable[Scenario] = SCENARIOS) -> list[Outcome]:
    """Play all scenarios.

    Args:
        play: runs a gate with the defect; its exit code and headline.
        scenarios: which.
    """
    found = []
    for scenario in scenarios:
        code, headline = play(scenario)
        found.append(Outcome(scenario=scenario, exit_code=code, headline=headline))
    return found


def verdict(outcomes: Iterable[Outcome]) -> int:
    """0 if every answer was right; 3 if only times were left open (a machine too noisy to decide); 1 otherwise."""
    wrong = [outcome for outcome in outcomes if not outcome.ok]
    if not wrong:
        return 0
    return 3 if all(outcome.scenario.timed and outcome.exit_code == 3 for outcome in wrong) else 1
