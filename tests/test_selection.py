"""Thresholds chosen with a guarantee, and the deferral curves of the literature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from cascade_eval import bounds, thresholds

BLOCKS = [0.95, 0.90, 0.85, 0.80, 0.75]


def blocks(sizes, wrong, values=BLOCKS):
    """Make so many cases at each value, so many of which disagree."""
    value = np.repeat(values, sizes)
    return value, np.concatenate([np.arange(n) < k for n, k in zip(sizes, wrong, strict=True)])


def test_a_single_walk_stops_where_the_worked_example_stops():
    """Forty cases at five values: the certified threshold is 0.80, where the point estimate would take 0.75."""
    value, wrong = blocks([40] * 5, [0, 1, 1, 6, 12])
    found = thresholds.select(value, wrong, at_most=0.10, starts=(), grid=BLOCKS)
    assert found.threshold == 0.80
    assert [step.disagreeing for step in found.steps] == [0, 1, 2, 8, 20]
    assert [step.kept for step in found.steps] == [40, 80, 120, 160, 200]
    assert [round(step.p, 5) for step in found.steps] == [0.01478, 0.00216, 0.00033, 0.01735, 0.55917]
    assert found.steps[-1].disagreeing / found.steps[-1].kept <= 0.10


def test_starts_have_power_where_they_should():
    """At delta 0.10 shared by three walks the starts for a target of 5% are 165, 428 and 1,957 kept cases."""
    needed = [bounds.power_needed(share * 0.05, 0.05, alpha=0.1 / 3, power=0.8)[0] for share in (0.25, 0.5, 0.75)]
    assert needed == [165, 428, 1957]
    alone = [bounds.power_needed(share * 0.05, 0.05, alpha=0.1, power=0.8)[0] for share in (0.25, 0.5, 0.75)]
    assert alone == [105, 282, 1224]


def test_joint_harm_is_certified_over_all_cases():
    """n=200 with 1, 3, 5 and 9 harmed cases: p-values and threshold of the worked example; conformal goes further."""
    value, wrong = blocks([50] * 4, [1, 2, 2, 4], [0.9, 0.8, 0.7, 0.6])
    found = thresholds.select(value, wrong, at_most=0.05, harm="joint", starts=(), grid=[0.9, 0.8, 0.7, 0.6])
    assert [round(step.p, 4) for step in found.steps] == [0.0004, 0.0090, 0.0623, 0.4547]
    assert found.threshold == 0.7
    assert thresholds.conformal(value, wrong, at_most=0.05) == 0.6


def test_nothing_certified_is_no_threshold_with_the_reason_and_what_would_suffice():
    """Too few cases give None and a number; a signal without information gives None and says so."""
    value, wrong = blocks([20] * 5, [0, 0, 0, 1, 1])
    few = thresholds.select(value, wrong, at_most=0.05)
    assert few.threshold is None
    assert few.escalation == 1.0
    assert few.needed is not None
    assert f"{few.needed:,} labelled cases probably would" in few.reason
    blind = thresholds.select(np.linspace(0, 1, 500), np.arange(500) % 5 == 0, at_most=0.05)
    assert blind.threshold is None
    assert "route these cases to the flagship" in blind.reason


def test_lower_can_be_surer_and_missing_values_escalate():
    """A threshold on the negated value is the negated threshold; NaN is kept by none."""
    rng = np.random.default_rng(5)
    value = rng.random(3000)
    wrong = rng.random(3000) < 0.2 * (1 - value)
    higher = thresholds.select(value, wrong, at_most=0.1)
    lower = thresholds.select(-value, wrong, at_most=0.1, surer="lower")
    assert higher.threshold is not None
    assert lower.threshold == -higher.threshold
    missing = thresholds.select(np.append(value, [math.nan] * 100), np.append(wrong, [True] * 100), at_most=0.1)
    assert missing.step is not None
    assert missing.step.kept == (value >= missing.threshold).sum()
    assert missing.escalation == 1 - missing.step.kept / 3100
    none = thresholds.select([math.nan] * 5, [False] * 5, at_most=0.1)
    assert (none.threshold, none.steps, none.needed) == (None, (), None)


def slow_walks(kept, bad, nobs, target, delta, starts):
    """Mark certified steps one by one; each walk begins where its test first has power 0.8, and shares delta."""
    level, marks = delta / max(len(starts), 1), [False] * len(kept)
    for share in starts or [None]:
        enough = 0
        if share is not None:
            first, _ = bounds.power_needed(share * target, target, alpha=level, power=0.8)
            enough = min(math.inf if first is None else first, 0.95 * nobs)
        for i, (n, k) in enumerate(zip(kept, bad, strict=True)):
            if n < enough:
                continue
            if n == 0 or binom.cdf(k, n, target) > level:
                break
            marks[i] = True
    return marks


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 6)), min_size=1, max_size=12),
    st.integers(0, 100),
    st.sampled_from([0.05, 0.1, 0.2]),
    st.sampled_from([0.05, 0.1, 0.3]),
    st.sampled_from([(), (0.5,), (0.25, 0.5, 0.75)]),
)
def test_the_walks_are_those_taken_one_step_at_a_time(blocks, escalated, target, delta, starts):
    """Which steps are certified, and every p-value, for whatever counts each step adds."""
    kept = np.cumsum([good + bad for good, bad in blocks])
    bad = np.cumsum([bad for _, bad in blocks])
    nobs = int(kept[-1]) + escalated
    p, found = thresholds.certified(kept, bad, nobs, at_most=target, delta=delta, starts=starts)
    assert found.tolist() == slow_walks(kept, bad, nobs, target, delta, starts)
    assert p == pytest.approx(np.where(kept > 0, binom.cdf(bad, kept, target), 1.0))
    joint, _ = thresholds.certified(kept, bad, nobs, at_most=target, delta=delta, harm="joint", starts=())
    assert joint == pytest.approx(binom.cdf(bad, nobs, target) if nobs else np.ones(len(kept)))


@pytest.mark.parametrize(
    ("options", "level", "rate", "share"),
    [
        ({}, 0.05 / 3, 1.5 / 101, 0.25),
        ({"starts": (0.5,)}, 0.05, 1.5 / 101, 0.25),
        ({"harm": "joint"}, 0.05 / 3, 1.5 / 401, 1.0),
    ],
    ids=["three walks", "one walk", "joint"],
)
def test_the_cases_needed_are_those_the_best_observed_rate_takes(options, level, rate, share):
    """1 of 100 at one value, half wrong at the others: enough cases for that rate to pass in a quarter of them."""
    value, wrong = blocks([100] * 4, [1, 50, 50, 50], [0.9, 0.8, 0.7, 0.6])
    found = thresholds.select(value, wrong, at_most=0.04 if "harm" not in options else 0.006, delta=0.05, **options)
    _, always = bounds.power_needed(rate, found.target, alpha=level, power=0.8)
    assert found.threshold is None
    assert found.needed == math.ceil(always / share)
    assert "400 labelled cases certify no threshold" in found.reason


def test_the_reason_counts_what_was_certified():
    """Disagreement is a share of the kept cases, joint harm one of all cases."""
    value, wrong = blocks([200] * 2, [2, 100], [0.9, 0.8])
    found = thresholds.select(value, wrong, at_most=0.05)
    assert found.reason == "2 of 200 kept cases disagree: at most 5% is certified with 90% confidence"
    joint = thresholds.select(value, wrong, at_most=0.05, harm="joint")
    assert joint.reason == "2 of 400 cases are kept and disagree: at most 5% is certified with 90% confidence"


def test_a_few_lucky_cases_do_not_hide_a_hopeless_signal():
    """From 30 kept cases on their disagreement counts: 29 agreeing cases leave hope, as many as 30 do."""
    for kept, hopeless in ((29, True), (30, False)):
        value, wrong = blocks([kept, 100], [0, 60], [0.9, 0.8])
        found = thresholds.select(value, wrong, at_most=0.05)
        assert found.threshold is None
        assert ("route these cases to the flagship" in found.reason) == hopeless
        assert (found.needed is None) == hopeless


@pytest.mark.parametrize("risk", ["flat, over the target", "flat, within", "informative", "one cohort miscalibrated"])
def test_the_chosen_threshold_is_over_the_target_no_more_often_than_promised(risk):
    """Over 150 seeded draws of 1,000 cases the true disagreement exceeds 5% in at most delta (10%) of them.

    Where there is much to keep, one is chosen in most of them: never to choose would be no feat.
    """
    rng = np.random.default_rng(11)
    draws, over, chosen = 150, 0, 0
    population = rng.beta(2, 1, 20_000)
    truth = _risk(risk, population, rng)
    for _ in range(draws):
        picked = rng.integers(0, len(population), 1000)
        wrong = rng.random(1000) < truth[picked]
        found = thresholds.select(population[picked], wrong, at_most=0.05)
        if found.threshold is not None:
            chosen += 1
            over += truth[population >= found.threshold].mean() > 0.05
    assert over <= draws * 0.1 + 3 * math.sqrt(draws * 0.09)
    assert chosen > draws / 2 or risk not in {"flat, within", "informative"}


def _risk(kind, confidence, rng):
    if kind == "flat, over the target":
        return np.full(len(confidence), 0.0505)
    if kind == "flat, within":
        return np.full(len(confidence), 0.03)
    risk = 0.35 * (1 - confidence) ** 1.2
    if kind == "informative":
        return risk
    return np.where(rng.random(len(confidence)) < 0.2, np.maximum(risk, 0.25), risk)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.05, 0.1, 0.3]))
def test_a_certified_step_is_proven_by_its_own_exact_bound(seed, target):
    """Whatever is chosen, its own upper bound at the walk's level lies within the target."""
    rng = np.random.default_rng(seed)
    value = np.round(rng.random(400), 2)
    wrong = rng.random(400) < 0.3 * (1 - value)
    found = thresholds.select(value, wrong, at_most=target)
    if found.step is not None:
        _, high = bounds.rate(found.step.disagreeing, found.step.kept, confidence=1 - 0.1 / 3)
        assert high <= target + 1e-9
        assert found.escalation == 1 - np.mean(value >= found.threshold)


ANSWERS = ([0.2, 0.4, 0.6, 0.8, 0.9], [0, 0, 1, 1, 1], [1, 1, 0, 1, 1])


def test_the_curve_of_the_worked_example():
    """Quality, sequential cost, APGR, CPT and the lift in quality per dollar."""
    found = thresholds.curve(*ANSWERS, flagship_cost=10.0)
    np.testing.assert_allclose(found.quality, [0.6, 0.8, 1, 0.8, 0.8, 0.8])
    np.testing.assert_allclose(found.cost, [1, 3, 5, 7, 9, 11])
    assert thresholds.apgr(found) == pytest.approx(1.1)
    assert thresholds.cpt(found, 0.5) == pytest.approx(0.1)
    assert thresholds.cpt(found, 0.8) == pytest.approx(0.16)
    assert thresholds.ibc_lift(found, 0.4) == pytest.approx(3.5)
    gated = thresholds.curve(*ANSWERS, flagship_cost=10.0, gate_cost=1.0)
    assert thresholds.ibc_lift(gated, 0.4) == pytest.approx(2.6)
    assert (found.oracle, found.lost) == (0.4, 0.2)


def test_the_hull_drops_what_a_mixture_beats():
    """Two of six points lie under the hull; its mean height is the published figure."""
    cost, quality = [1, 2, 3, 5, 7, 10], [0.6, 0.5, 0.75, 0.8, 0.78, 0.82]
    assert thresholds.hull(cost, quality)[0].tolist() == [1, 3, 5, 10]
    assert thresholds.aiq(cost, quality) == pytest.approx(0.77222, abs=5e-6)


def test_a_flagship_that_is_no_better_has_no_recovered_gap():
    """PGR and all that is built on it are undefined, and say so by None."""
    found = thresholds.curve([0.1, 0.9], [1, 1], [1, 0])
    assert thresholds.pgr(found) is None
    assert thresholds.apgr(found) is None
    assert thresholds.cpt(found, 0.5) is None


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_within_a_tied_block_does_not_matter(seed):
    """Shuffling tied cases changes nothing: the curve is straight within a block."""
    rng = np.random.default_rng(seed)
    confidence = np.round(rng.random(40), 1)
    cheap, flagship = rng.integers(0, 2, 40), rng.integers(0, 2, 40)
    order = rng.permutation(40)
    left = thresholds.curve(confidence, cheap, flagship)
    right = thresholds.curve(confidence[order], cheap[order], flagship[order])
    np.testing.assert_allclose(left.quality, right.quality)
