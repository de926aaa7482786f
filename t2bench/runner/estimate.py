"""How long what is left will take: from predictions at first, from measured launches as soon as there are any."""

from __future__ import annotations

from collections.abc import Sequence

from t2bench.records import Record
from t2bench.spec.case import Case
from t2bench.spec.quality import Decoding, QualitySpec
from t2bench.spec.suite import Measure

START_S = 0.3  # forking, building and closing one worker
CHECKS_STEPS = 8  # steps' worth of time that truth, counters and memory take, once per case
# Of what learns.
DISPATCH_S = 5e-3  # starting the hundreds of operators of an update, which a roofline does not know
SENTENCES = 1000  # of a validation or test set
SENTENCE_SHARE = 1 / 4  # of the case's length that a sentence has on average
SCORES_S = 1.0  # scores of a test set; TER of long outputs that are all wrong takes longer


class Estimator:
    """Learns from records; answers in seconds.

    Args:
        measure: how much is measured.
    """

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._step_s: dict[str, float] = {}
        self._checked: set[str] = set()
        self._launch_s: dict[str, float] = {}
        self.predicted_peak_bytes: dict[str, float] = {}

    def learn(self, record: Record) -> None:
        """Take a plan record's prediction."""
        if record.pass_ == "counters":
            self._checked.add(record.case)
        if record.pass_ == "plan" and record.status == "ok":
            self._step_s[record.case] = record.metrics["predicted_step_time_s"].value or 0.0
            self.predicted_peak_bytes[record.case] = record.metrics["tracked_peak_bytes"].value or 0.0

    def took(self, group: str, seconds: float) -> None:
        """A launch of this group, without the checks before it, took so long."""
        self._launch_s[group] = seconds

    def launch_s(self, cases: Sequence[Case]) -> float:
        """Seconds of the next launch of a group, checks included where they are still to be done."""
        known = [case for case in cases if case.id in self._step_s]
        if not known:
            return 0.0
        group = known[0].group
        timed = self._launch_s.get(group)
        if timed is None:
            timed = sum(START_S + self._work_s(case) for case in known)
        unchecked = [case for case in known if case.id not in self._checked and not case.ghost]
        return timed + sum(3 * START_S + CHECKS_STEPS * self._step_s[case.id] for case in unchecked)

    def _work_s(self, case: Case) -> float:
        step_s = self._step_s[case.id]
        return self._turns_s(step_s) if case.quality is None else _training_s(case, case.quality, step_s)

    def _turns_s(self, step_s: float) -> float:
        measure = self._measure
        warm_up = max(measure.warmup_s, min(measure.warmup_calls, 1 + measure.warmup_s / max(step_s, 1e-9)) * step_s)
        return warm_up + measure.rounds * (max(step_s, measure.min_sample_s) + step_s)


def _training_s(case: Case, quality: QualitySpec, step_s: float) -> float:
    """Seconds of one training, its validations and the translations after it.

    A token is written in about the time that it takes to train on one: a third of the work, three times less efficient,
    for each hypothesis. How long sentences are is not known before the text is read, which may not be there yet.
    """
    recipe, corpus = quality.recipe, quality.corpus
    tests = max(1, len(corpus.tests)) * max(1, len(corpus.test_lengths))
    written = len(recipe.validation_steps) + tests * sum(map(_hypotheses, quality.decode))
    written_steps = written * SENTENCES * SENTENCE_SHARE / case.batch
    steps = recipe.steps * recipe.accumulate + written_steps
    return steps * (step_s + DISPATCH_S) + tests * len(quality.decode) * SCORES_S


def _hypotheses(decoding: Decoding) -> int:
    """Texts that are written for each source."""
    return {"beam": decoding.beam, "mbr": decoding.samples}.get(decoding.method, 1)
