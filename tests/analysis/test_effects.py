"""Paired effects: what is paired, what is left out, what is said about it."""

import math

import numpy as np
import pytest

from t2bench.analysis.effects import (
    NOT_PAIRED_ROUNDS,
    Pair,
    exact_effect,
    null_summary,
    paired_logs,
    timed_effect,
    unpaired_effect,
    with_family_verdicts,
)
from t2bench.analysis.launches import launches_of
from t2bench.records import Metric, Record

PAIR = Pair(group="g", metric="step_time_s", variant="v", reference="r")


def test_launch_estimate_is_the_median_over_shared_rounds(samples):
    reference = [samples(0, [1.0, 1.0, 1.0, 1.0], turns=((0, 0), (1, 0), (2, 0), (9, 0)))]
    variant = [samples(0, [2.0, 4.0, 800.0, 99.0], turns=((2, 0), (1, 0), (0, 0), (5, 0)))]
    logs = paired_logs(variant, reference)
    assert logs.launches == (0,)
    assert logs.values[0] == pytest.approx(math.log(4.0))


def test_effect_is_the_mean_over_launches_with_its_t_interval(samples):
    ratios = [0.5, 0.55, 0.6]
    reference = [samples(k, [1.0, 3.0, 2.0]) for k in range(3)]
    variant = [samples(k, [r, 3 * r, 2 * r]) for k, r in enumerate(ratios)]
    effect = timed_effect(PAIR, variant, reference)
    logs = np.log(ratios)
    half = 4.302652729749464 * logs.std(ddof=1) / math.sqrt(3)
    assert effect.ratio.value == pytest.approx(math.exp(logs.mean()))
    assert effect.ratio.low == pytest.approx(math.exp(logs.mean() - half))
    assert effect.ratio.high == pytest.approx(math.exp(logs.mean() + half))
    # 6.796 standard errors: scipy.stats.nct.sf(4.302652729749464, 2, 6.796) is 0.900.
    assert effect.mde == pytest.approx(math.expm1(6.796 * half / 4.302652729749464), rel=1e-3)
    assert (effect.paired, effect.num_launches, effect.verdict) == (True, 3, "lower")


def test_wandering_speed_of_the_machine_cancels(samples):
    wander = np.exp(np.random.default_rng(0).normal(0, 1, (3, 8)))
    reference = [samples(k, row) for k, row in enumerate(wander)]
    variant = [samples(k, 0.9 * row) for k, row in enumerate(wander)]
    effect = timed_effect(PAIR, variant, reference)
    assert effect.ratio.low == pytest.approx(0.9)
    assert effect.ratio.high == pytest.approx(0.9)


def test_contended_rounds_are_left_out_while_half_are_clean(samples):
    dirty = np.array([True, False, False, True])
    reference = [samples(0, [1.0, 1.0, 1.0, 1.0]), samples(1, [1.0, 1.0, 1.0, 1.0])]
    variant = [samples(0, [2.0, 50.0, 50.0, 2.0], clean=dirty), samples(1, [2.0, 2.0, 2.0, 2.0])]
    effect = timed_effect(PAIR, variant, reference)
    assert effect.ratio.value == pytest.approx(2.0)
    assert not [w for w in effect.warnings if "contention" in w]
    # Clean on one side is not enough: a round counts as clean only if both samples are.
    mostly = [samples(0, [1.0, 3.0, 3.0, 1.0], clean=np.array([True, False, False, True])), reference[1]]
    worse = [samples(0, [6.0, 6.0, 6.0, 6.0], clean=np.array([False, True, True, False])), variant[1]]
    effect = timed_effect(PAIR, worse, mostly)
    assert effect.ratio.value == pytest.approx(math.sqrt(math.sqrt(12.0) * 2.0))
    assert "in 1 of 2 launches fewer than half" in effect.warnings[0]


def test_one_launch_is_undecidable_and_two_are_warned_about(samples):
    pairs = [([samples(k, [0.1] * 3) for k in range(n)], [samples(k, [1.0] * 3) for k in range(n)]) for n in (1, 2)]
    one, two = (timed_effect(PAIR, *pair) for pair in pairs)
    assert (one.verdict, one.ratio.low, one.mde, one.p_value) == ("undecidable", None, None, None)
    assert one.ratio.value == pytest.approx(0.1)
    assert any("2 launches" in warning for warning in two.warnings)


def test_launches_without_shared_rounds_are_compared_unpaired_and_say_so(samples):
    reference = [samples(k, [1.0, 1.1, 0.9]) for k in range(3)]
    others = [samples(k, [2.0, 2.2, 1.8]) for k in range(5, 8)]
    alternating = [samples(k, [2.0, 2.2, 1.8], in_turns=False) for k in range(3)]
    for variant in (others, alternating):
        effect = timed_effect(PAIR, variant, reference)
        assert not effect.paired
        assert NOT_PAIRED_ROUNDS in effect.warnings
        assert effect.ratio.value == pytest.approx(2.0)
    assert timed_effect(PAIR, [], reference) is None


def test_unpaired_needs_positive_values():
    assert unpaired_effect(PAIR, [1.0], [0.0]) is None
    assert unpaired_effect(PAIR, [], [1.0]) is None
    assert unpaired_effect(PAIR, [3.0], [2.0]).ratio.value == pytest.approx(1.5)


def test_counted_effects_are_identities():
    assert exact_effect(PAIR, 50.0, 100.0).verdict == "lower"
    assert exact_effect(PAIR, 100.0, 100.0).verdict == "not distinguishable"
    huge = 10**17
    assert exact_effect(PAIR, huge + 16, huge).verdict == "higher"
    found = exact_effect(PAIR, 3.0, 2.0)
    assert (found.exact, found.ratio.value, found.ratio.low, found.mde) == (True, 1.5, None, 0.0)
    assert exact_effect(PAIR, 1.0, 0.0) is None
    assert exact_effect(PAIR, 0.0, 0.0).ratio.value == 1.0


def test_family_rule_asks_more_of_each_effect_and_says_so(samples):
    def effect(group, ratios, **labels):
        pair = Pair(group=group, metric="step_time_s", variant="v", reference="r", **labels)
        sides = ([samples(k, [r] * 3) for k, r in enumerate(row)] for row in (ratios, [1.0] * 3))
        return timed_effect(pair, *sides)

    weak = effect("weak", [0.95, 0.96, 0.97])
    nothing = [effect(f"null{i}", [0.99, 1.01, 1.0]) for i in range(5)]
    strong = effect("strong", [0.500, 0.501, 0.502])
    ghost = effect("ghost", [0.95, 0.96, 0.97], ghost=True)
    assert weak.verdict == "lower"
    alone = with_family_verdicts([weak])
    assert alone[0].verdict == "lower"
    judged = with_family_verdicts([weak, *nothing, strong, ghost])
    assert judged[0].verdict == "not distinguishable"
    assert "among 7 effects" in judged[0].warnings[-1]
    assert judged[0].ratio == weak.ratio
    assert judged[-2].verdict == "lower"
    assert judged[-1].verdict == "lower", "a ghost is judged by its own interval"
    null = null_summary(judged)
    assert (null.num_effects, null.num_covering) == (1, 0)
    assert null.widest == pytest.approx(1 - ghost.ratio.value)
    assert null_summary([weak]) is None


def test_a_difference_of_the_stated_size_is_found_among_ten_effects_with_nine_in_ten(samples):
    """Five launches whose spread is exactly what the statement was made from; nine other effects are null."""
    generator, error = np.random.default_rng(5), 0.01

    def effect(group, logs):
        pair = Pair(group=group, metric="step_time_s", variant="v", reference="r")
        sides = ([samples(k, [math.exp(value)]) for k, value in enumerate(row)] for row in (logs, [0.0] * 5))
        return timed_effect(pair, *sides)

    shape = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    known = shape * error * math.sqrt(5) / shape.std(ddof=1)
    stated = with_family_verdicts([effect(f"g{i}", known) for i in range(10)])[0].mde
    found = 0
    for _ in range(400):
        draws = generator.normal(0, error * math.sqrt(5), (10, 5))
        draws[0] += math.log1p(stated)
        judged = with_family_verdicts([effect(f"g{i}", row) for i, row in enumerate(draws)])
        found += judged[0].verdict == "higher"
    assert 0.85 <= found / 400 <= 0.95


def record(launch=0, status="ok", value=None, samples_=(), turns=None, **observed):
    return Record(
        run="r",
        case="c",
        group="g",
        variant="v",
        workload="w",
        axes={},
        pass_="time",
        launch=launch,
        status=status,
        metrics={"step_time_s": Metric(value=value, unit="s", samples=samples_ or None)},
        turns=turns or {},
        observed=observed,
    )


def test_reading_launches_leaves_out_what_was_not_measured():
    found = launches_of(
        [
            record(
                launch=1,
                samples_=(2.0, None, float("inf"), 4.0),
                turns={"round": [0, 1, 1, 1], "contended": [0, 0, 0, 1]},
            ),
            record(launch=0, value=7.0),
            record(launch=2, status="crashed", samples_=(1.0,)),
            record(launch=3, status="not_steady", samples_=(3.0,), interleave="launches"),
            record(launch=4, value=None),
        ],
        "step_time_s",
    )
    assert [launch.launch for launch in found] == [0, 1, 3]
    assert found[0].median == 7.0
    assert found[1].values.tolist() == [2.0, 4.0]
    assert found[1].turns == ((0, 0), (1, 2))
    assert found[1].clean.tolist() == [True, False]
    assert not found[2].in_turns
    assert launches_of([record(samples_=(1.0,))], "forward_time_s") == ()


def test_a_launchs_own_value_is_the_median_of_its_clean_samples_while_half_are_clean(samples):
    half, fewer = np.array([True, False, False, True]), np.array([False, False, False, True])
    assert samples(0, [2.0, 50.0, 50.0, 4.0], clean=half).median == 3.0
    assert samples(0, [2.0, 50.0, 50.0, 4.0], clean=fewer).median == 27.0
    assert samples(0, [2.0, 3.0, 100.0]).median == 3.0


def test_a_launch_recorded_twice_keeps_the_later_record():
    found = launches_of([record(value=1.0), record(value=2.0)], "step_time_s")
    assert [launch.median for launch in found] == [2.0]
