"""Claims over seeds: false alarms and power by simulation, the margin, equivalence, and broken trainings.

Rejections of the paired t (primary), Welch's t and the exact sign-flip permutation at 5 %, in %, from 8000 simulated
comparisons (rho: correlation of the two scores of a seed; power for a true difference of 2 sd):

    noise           seeds   false alarms, rho 0   rho 0.5          one side 3 x as noisy   power, rho 0   rho 0.5
    normal          3       5.0   3.5   0         4.9   1.4   0    5.3   5.1   0           29  37   0     47  39   0
    normal          5       5.1   4.4   0         5.0   1.2   0    5.4   5.2   0           66  77   0     91  82   0
    normal          10      5.2   5.0   5.0       5.1   0.8   4.9  4.9   5.2   4.7         98  99  97    100 100 100
    t with 3 df     3       4.1   2.5   0         3.8   1.1   0    3.8   3.3   0           42  54   0     61  55   0
    t with 3 df     5       4.0   3.5   0         3.8   0.8   0    3.7   3.6   0           77  83   0     92  86   0
    t with 3 df     10      4.5   4.4   5.2       4.4   0.8   4.9  4.3   4.3   5.0         96  96  96     99  98  99
    1 in 10 -3 sd   3       4.7   3.1   0         4.4   1.1   0    4.5   4.1   0           21  25   0     34  24   0
    1 in 10 -3 sd   5       4.4   3.6   0         4.8   1.3   0    4.8   5.0   0           46  54   0     71  55   0
    1 in 10 -3 sd   10      5.1   4.7   5.5       4.8   0.8   4.9  5.7   5.7   5.9         84  87  84     98  93  98
"""

import statistics
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from t2bench.analysis import seeds, student
from t2bench.analysis.quality_results import Arm, highest_floor

FLOOR = highest_floor({"copy": 2.0, "retrieval": 7.1})


def arm(name, bleu, chrf=None, *, hashes=None, diverged=(), numbers=None):
    numbers = tuple(range(len(bleu))) if numbers is None else tuple(numbers)
    values = {"bleu": tuple(map(float, bleu)), "chrf": tuple(map(float, bleu if chrf is None else chrf))}
    return Arm(
        variant=name,
        seeds=numbers,
        values=values if bleu is not None and len(bleu) else {},
        spreads={},
        hashes=tuple(hashes or [f"{name}{n}" for n in numbers]),
        diverged=tuple(diverged),
        planned=len(numbers) + len(diverged),
        empty=0,
        cut=0,
        num_sentences=1000,
    )


def judged(reference, *others, margin=0.5, why_not="", agrees_by="chrf", same=False):
    arms = {each.variant: each for each in (reference, *others)}
    claims = [seeds.claim(each, reference, margin=margin, agrees_by=agrees_by, same_function=same) for each in others]
    found = seeds.with_verdicts(claims, arms, why_not=why_not)
    return found[0] if len(found) == 1 else found


def noise(kind, rng, shape):
    if kind == "normal":
        return rng.standard_normal(shape)
    if kind == "heavy":
        return rng.standard_t(3, shape) / np.sqrt(3)
    return rng.standard_normal(shape) - 3 * (rng.random(shape) < 0.1)


@pytest.mark.parametrize("kind", ["normal", "heavy", "bad seed"])
@pytest.mark.parametrize("count", [3, 5, 10])
def test_the_primary_test_keeps_its_level(kind, count):
    rng = np.random.default_rng([count, *kind.encode()])
    for rho, spread in ((0.0, 1.0), (0.5, 1.0), (0.0, 3.0)):
        shared = np.sqrt(rho) * noise(kind, rng, (8000, count))
        mine, theirs = (shared + sd * np.sqrt(1 - rho) * noise(kind, rng, (8000, count)) for sd in (1.0, spread))
        differences = mine - theirs
        t = differences.mean(axis=1) / (differences.std(axis=1, ddof=1) / np.sqrt(count))
        rejected = float((np.abs(t) > student.quantile(0.975, count - 1)).mean())
        assert 0.03 <= rejected <= 0.065, (rho, spread, rejected)


def test_the_claim_is_that_t_test():
    rng = np.random.default_rng(0)
    mine, theirs = rng.normal(25, 0.6, 5), rng.normal(24, 0.6, 5)
    found = judged(arm("ref", theirs), arm("new", mine))
    expected = scipy_stats.ttest_rel(mine, theirs)
    assert found.paired
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    interval = expected.confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == pytest.approx((interval.low, interval.high))
    one_sided = [
        scipy_stats.ttest_1samp(mine - theirs, bound, alternative=side).pvalue
        for bound, side in ((-0.5, "greater"), (0.5, "less"))
    ]
    assert found.within_p == pytest.approx(max(one_sided), rel=1e-6)
    turned = judged(arm("new", mine), arm("ref", theirs))
    assert turned.difference.value == pytest.approx(-found.difference.value)
    assert (turned.p_value, turned.within_p) == pytest.approx((found.p_value, found.within_p))


def test_other_seeds_are_compared_by_welch():
    mine, theirs = [25.0, 25.4, 25.9], [24.0, 24.2, 24.7, 24.1]
    found = judged(arm("ref", theirs), arm("new", mine, numbers=(10, 11, 12)))
    assert not found.paired
    assert found.p_value == pytest.approx(scipy_stats.ttest_ind(mine, theirs, equal_var=False).pvalue, rel=1e-6)


def test_seeds_that_one_side_lacks_are_left_out_of_the_pairs():
    found = judged(arm("ref", [24.0, 24.5, 24.1, 99.0]), arm("new", [25.0, 25.7, 25.2]))
    assert found.paired
    assert found.num_seeds == 3
    assert found.difference.value == pytest.approx(np.mean([1.0, 1.2, 1.1]))
    later = judged(arm("ref", [99.0, 24.0, 24.5, 24.1]), arm("new", [25.0, 25.7, 25.2], numbers=(1, 2, 3)))
    assert later.difference == found.difference, "pairs are of one seed, wherever it stands"
    assert (later.p_value, later.num_seeds) == (found.p_value, 3)


def test_a_spread_is_that_of_a_sample():
    values = [24.0, 24.9, 25.1, 23.7]
    found = seeds.spread(values)
    low, high = scipy_stats.t.interval(0.95, 3, np.mean(values), scipy_stats.sem(values))
    assert found.sd == pytest.approx(statistics.stdev(values))
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
    assert seeds.spread([24.0]).sd is None


@pytest.mark.parametrize(
    ("p_values", "proven"),
    [
        ((0.01, 0.02, 0.04), (True, True, True)),  # 0.05 / 3, 0.05 / 2 and 0.05 are enough, one after the other
        ((0.04, 0.01, 0.03), (False, True, False)),  # 0.03 is not below 0.05 / 2, and there it ends
        ((0.02, 0.02, 0.02), (False, False, False)),
    ],
)
def test_holms_rule_over_a_table_for_differences_and_for_equivalence(p_values, proven):
    """Differences over five seeds with exactly these p-values, before the rule."""
    pattern = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    pattern *= np.sqrt(5) / pattern.std(ddof=1)  # the standard error of its mean is 1
    reference = arm("ref", [25.0] * 5)
    means = [scipy_stats.t.ppf(1 - p / 2, 4) for p in p_values]
    found = judged(reference, *(arm(f"v{k}", 25.0 + mean + pattern) for k, mean in enumerate(means)))
    assert [claim.p_value for claim in found] == pytest.approx(p_values)
    assert tuple(claim.verdict == "better" for claim in found) == proven
    errors = [0.5 / scipy_stats.t.ppf(1 - p, 4) for p in p_values]
    found = judged(reference, *(arm(f"v{k}", 25.0 + error * pattern) for k, error in enumerate(errors)))
    assert [claim.within_p for claim in found] == pytest.approx(p_values)
    assert tuple(claim.verdict == "equivalent" for claim in found) == proven


def test_what_could_be_resolved_among_several_is_what_the_strictest_step_lets_through():
    pattern = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    found = judged(arm("ref", [25.0] * 5), *(arm(f"v{k}", 25.0 + k + pattern) for k in range(3)))
    error = pattern.std(ddof=1) / np.sqrt(5)
    critical = scipy_stats.t.ppf(1 - 0.05 / 6, 4)
    for claim in found:
        power = scipy_stats.nct.sf(critical, 4, claim.resolves / error)
        assert power == pytest.approx(0.9, abs=0.005)


def test_false_claims_are_rarer_than_the_level_and_holm_holds_the_family():
    rng = np.random.default_rng(3)
    false = 0
    for _ in range(80):
        scores = rng.normal(25, 0.6, (6, 5))
        found = judged(
            arm("ref", scores[0]), *(arm(f"v{k}", s, s + rng.normal(0, 0.5, 5)) for k, s in enumerate(scores[1:]))
        )
        false += any(claim.verdict in ("better", "worse") for claim in found)
    assert false <= scipy_stats.binom.ppf(0.999, 80, 0.05)


def test_equivalence_is_claimed_falsely_no_more_often_than_the_level():
    # The truth lies on the margin itself, the worst case.
    rng = np.random.default_rng(4)
    claimed = 0
    for _ in range(150):
        theirs = rng.normal(25, 0.1, 4)
        claimed += judged(arm("ref", theirs), arm("new", theirs + rng.normal(0.5, 0.1, 4))).verdict == "equivalent"
    assert claimed <= scipy_stats.binom.ppf(0.999, 150, 0.05)
    assert claimed > 0  # and it can be claimed at all


@pytest.mark.parametrize("sd", [0.6, 0.2])  # what is asked for beyond proof, the margin, binds for the smaller
def test_what_could_be_resolved_is_resolved_nine_times_in_ten(sd):
    spread = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    claim = judged(arm("ref", [25.0] * 5), arm("new", 25.0 + spread * sd / spread.std(ddof=1)))
    differences = np.random.default_rng(6).normal(claim.resolves, sd, (20_000, 5))
    mean, error = differences.mean(axis=1), differences.std(axis=1, ddof=1) / np.sqrt(5)
    found = (mean / error > student.quantile(0.975, 4)) & (mean >= claim.margin)
    assert float(found.mean()) == pytest.approx(0.90, abs=0.01)


def test_same_text_is_identical_and_nothing_else_is_computed():
    hashes = ["a", "b", "c"]
    found = judged(arm("ref", [1, 2, 3], hashes=hashes), arm("new", [1, 2, 3], hashes=hashes))
    assert found.verdict == "identical"
    assert (found.p_value, found.difference, found.sentences) == (None, None, {})
    one_other = judged(arm("ref", [1, 2, 3], hashes=hashes), arm("new", [1, 2, 3], hashes=["a", "b", "x"]))
    assert one_other.verdict != "identical"
    unknown = judged(arm("ref", [1, 2, 3], hashes=["", "", ""]), arm("new", [1, 2, 3], hashes=["", "", ""]))
    assert unknown.verdict != "identical"


def test_better_needs_proof_margin_and_the_second_metric():
    theirs = np.array([24.0, 24.5, 24.2, 24.4])
    clear = theirs + np.array([1.0, 1.1, 0.9, 1.05])
    assert judged(arm("ref", theirs), arm("new", clear)).verdict == "better"
    assert judged(arm("ref", clear), arm("new", theirs)).verdict == "worse"
    disagrees = judged(arm("ref", theirs), arm("new", clear, 40 - clear))
    assert disagrees.verdict == "unresolved"
    assert "chrF does not agree" in disagrees.why
    silent = judged(arm("ref", theirs, [50.0] * 4), arm("new", clear, [50.0] * 4))
    assert silent.verdict == "unresolved", "no difference is no agreement"
    noisy = judged(arm("ref", theirs), arm("new", theirs + np.array([3.0, -1.0, 2.0, 0.0])))
    assert noisy.verdict == "unresolved"
    small = judged(arm("ref", theirs), arm("new", theirs + np.array([0.41, 0.42, 0.40, 0.41])))
    assert small.verdict == "equivalent"  # proven to differ, and proven to differ by too little to matter
    between = judged(arm("ref", theirs), arm("new", theirs + np.array([0.2, 0.7, 0.35, 0.6])))
    assert between.verdict == "unresolved"
    assert "less than the margin" in between.why


def test_ter_agrees_where_it_falls():
    theirs = np.array([24.0, 24.5, 24.2])
    sides = [arm("ref", theirs), arm("new", theirs + np.array([1.0, 1.1, 0.9]))]
    falling = [replace(s, values={**s.values, "ter": tuple(100 - v for v in s.values["bleu"])}) for s in sides]
    assert judged(*falling, agrees_by="ter").verdict == "better"
    rising = [replace(s, values={**s.values, "ter": s.values["bleu"]}) for s in sides]
    assert judged(*rising, agrees_by="ter").verdict == "unresolved"


def test_one_function_computed_in_two_ways_is_never_better_or_worse():
    """Rounding drives trainings apart; what that comes to is noise, unless it is proven, and then it is a fault."""
    base = arm("math", [24.0, 25.0, 24.4])
    assert judged(base, arm("flash", [24.9, 24.1, 24.5]), same=True).verdict == "same function"
    assert judged(base, arm("flash", [24.9, 24.1, 24.5])).verdict == "unresolved"
    assert judged(base, arm("flash", [24.01, 25.01, 24.4]), same=True).verdict == "equivalent"
    assert judged(base, arm("flash", [24.0, 25.0, 24.4], hashes=["math0", "math1", "math2"]), same=True).verdict == (
        "identical"
    )
    faulty = judged(base, arm("flash", [22.0, 23.1, 22.4]), same=True)
    assert faulty.verdict == "undecidable"
    assert "although they compute the same function" in faulty.why
    assert judged(base, arm("flash", [24.9]), same=True).why == seeds.ONE_SEED


def test_one_seed_proves_nothing():
    found = judged(arm("ref", [20.0]), arm("new", [40.0]))
    assert found.verdict == "undecidable"
    assert found.why == "one seed proves nothing"
    assert found.difference.value == 20.0
    assert found.difference.low is None


def test_a_variant_that_breaks_down_is_neither_better_nor_equivalent():
    theirs = [24.0, 24.5, 24.2, 24.4]
    better = judged(arm("ref", theirs), arm("new", [26.0, 26.5, 26.3], diverged=(3,)))
    assert better.verdict == "undecidable"
    assert "new diverged in 1 of 4 seeds" in better.why
    equal = judged(arm("ref", theirs), arm("new", [24.01, 24.5, 24.2], diverged=(3,)))
    assert equal.verdict == "undecidable"
    worse = judged(arm("ref", theirs), arm("new", [22.0, 22.5, 22.3], diverged=(3,)))
    assert worse.verdict == "worse"
    assert "diverged in 1 of 4" in worse.why
    nothing = judged(arm("ref", theirs), arm("new", [], diverged=(0, 1, 2, 3)))
    assert nothing.verdict == "undecidable"
    assert nothing.why == "new diverged with every seed"


def test_a_reason_against_verdicts_stops_all_of_them_but_identity():
    hashes = ["a", "b", "c"]
    reference = arm("ref", [1, 2, 3], hashes=hashes)
    found = judged(reference, arm("far", [9, 10, 11]), arm("same", [1, 2, 3], hashes=hashes), why_not="50 sentences")
    assert [claim.verdict for claim in found] == ["undecidable", "identical"]
    assert found[0].why == "50 sentences"


def test_the_floor_to_pass_is_the_highest():
    assert highest_floor({}) is None
    found = highest_floor({"copy": 2.78, "retrieval": 1.13})
    assert (found.bleu, found.words) == (2.78, "the source as its own translation")
    assert highest_floor({"copy": 100.0, "retrieval": 1.13}).bleu == 1.13  # copying is the task
    sides = {name: arm(name, [2.0, 2.1, 2.2]) for name in ("ref", "new")}
    claims = [seeds.claim(sides["new"], sides["ref"], margin=0.5)]
    (claim,) = seeds.with_verdicts(claims, sides, floor=found)
    assert claim.why == "neither reaches the 2.8 BLEU of the source as its own translation"


def test_two_that_learned_nothing_are_not_called_equivalent():
    sides = [arm("ref", [0.1, 0.2, 0.1]), arm("new", [0.1, 0.1, 0.2])]
    claims = [seeds.claim(sides[1], sides[0], margin=0.5)]
    arms = {each.variant: each for each in sides}
    assert seeds.with_verdicts(claims, arms)[0].verdict == "equivalent"
    (found,) = seeds.with_verdicts(claims, arms, floor=FLOOR)
    assert found.verdict == "undecidable"
    assert found.why == "neither reaches the 7.1 BLEU of the nearest training sentence"
    # One that learned against one that did not is a finding.
    learned = {**arms, "new": arm("new", [20.0, 20.5, 20.2])}
    assert (
        seeds.with_verdicts([seeds.claim(learned["new"], sides[0], margin=0.5)], learned, floor=FLOOR)[0].verdict
        == "better"
    )


def test_an_interval_ends_where_its_scale_does():
    open_ended = seeds.spread((0.0, 0.1, 4.0)).interval
    cut = seeds.spread((0.0, 0.1, 4.0), (0.0, 100.0)).interval
    assert open_ended.low < 0 == cut.low
    assert cut.high == open_ended.high < 100
    assert seeds.spread((99.0, 90.0), (0.0, 100.0)).interval.high == 100
    assert seeds.spread((5.0,), (0.0, 100.0)).interval.low is None
