"""Sweeps: quality and latency at every threshold, and the points no other point beats."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import generated
import hypothesis.strategies as st
import numpy as np
import oracle
import pytest
from hypothesis import HealthCheck, assume, given, settings
from small_replays import case, replayed, three

from cascade_eval import bounds, metrics, replay, thresholds
from cascade_eval.cascade import All, Cascade, Leaf, Signal, Tier
from cascade_eval.thresholds import windows

some = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


# Against the oracle


@st.composite
def sweepable(draw):
    """Draw two or three tiers with one gate to move, alone or behind another leaf; timeouts and hedging as they come."""
    leaf = Leaf(Signal("confidence"), threshold=0.5, surer=draw(st.sampled_from(["higher", "lower"])), name="moved")
    gate = draw(st.sampled_from([leaf, leaf, All((Leaf(Signal("margin"), threshold=0.5), leaf))]))
    others = [Tier("first", "mini", draw(generated.leaf()), draw(st.sampled_from([None, 1.0])), draw(st.booleans()))]
    tiers = [*(others if draw(st.booleans()) else []), Tier("moved", "small", gate, None, draw(st.booleans()))]
    return Cascade("swept", (*tiers, Tier("top", "flagship", None, draw(st.sampled_from([None, 2.0])))))


def moved_to(cascade, threshold):
    tiers = list(cascade.tiers)
    tier = tiers[-2]
    gate = (
        replace(tier.gate, threshold=threshold)
        if isinstance(tier.gate, Leaf)
        else All((tier.gate.gates[0], replace(tier.gate.gates[1], threshold=threshold)))
    )
    tiers[-2] = replace(tier, gate=gate)
    return replace(cascade, tiers=tuple(tiers))


def plain_quality(cascade, recorded, cases):
    """Mean weighted score of what was served, None where more cases were scored than were served a score."""
    total = weights = missing = 0
    for one in cases:
        outcome = oracle.decide(cascade, recorded, one)
        if outcome.settled is None:
            continue
        served = oracle.quality(cascade, recorded, one, outcome)
        weight = Fraction(oracle.weight_of(one))
        scored = any(recorded.cell(one, tier.model, "score") is not None for tier in cascade.tiers)
        if served is not None:
            total, weights = total + weight * Fraction(served), weights + weight
        # A failed flagship serves nothing, which is worth nothing, whether or not anything was scored.
        missing += weight * scored - weight * (served is not None)
    return float(total / weights) if weights and missing <= 0 else None


def plain_latencies(cascade, recorded, cases):
    """Latencies of the resolved cases, None where one is unknown."""
    outcomes = [oracle.decide(cascade, recorded, one) for one in cases]
    return [outcome.latency for outcome in outcomes if outcome.settled is not None]


@some
@given(sweepable(), generated.recordings(most=10))
def test_quality_and_latency_at_a_threshold_are_those_of_the_replay_with_it(cascade, recorded):
    """At every distinct value the mean score and both latency quantiles are what one finds case by case."""
    batch = generated.Scenario(cascade, recorded).batch()
    curve = thresholds.sweep(replay.run(cascade, batch, generated.RULES), "moved")
    graded = any(recorded.has(tier.model, "score") for tier in cascade.tiers)
    for i, threshold in enumerate(curve.thresholds.tolist()):
        at = moved_to(cascade, threshold)
        quality = plain_quality(at, recorded, recorded.cases) if graded else None
        np.testing.assert_allclose(curve.quality[i], math.nan if quality is None else quality)
        seconds = plain_latencies(at, recorded, recorded.cases)
        expected = [math.nan] * 2
        if seconds and None not in seconds:
            expected = np.quantile(seconds, [0.5, 0.95], method="inverted_cdf").tolist()
        np.testing.assert_equal([curve.latency_p50[i], curve.latency_p95[i]], expected)


def plain_rates(cascade, recorded):
    """Escalation, disagreement, cost and compared cases, each added up case by case; NaN where unknown."""
    whole = oracle.tally(cascade, recorded).get((), oracle.Counts()).weighted
    compared = whole["sampled agree"] + whole["sampled disagree"]
    started, paid = whole["decided"], whole["flagship cost of paired"]
    priced = paid and whole["resolved"] - whole["cost paired"] <= Fraction(1, 100) * started
    return [
        float(whole["escalated"] / started) if started else math.nan,
        float(whole["sampled disagree"] / compared) if compared else math.nan,
        float(whole["cost of paired"] / paid) if priced else math.nan,
        float(compared),
    ]


@some
@given(sweepable(), generated.recordings(most=10), st.sampled_from([0.95, 0.8]))
def test_rates_and_cost_at_a_threshold_are_those_of_the_replay_with_it(cascade, recorded, confidence):
    """At every distinct value, with weights, audits, caches and unknown costs as they come; bounds for plain cases only."""
    batch = generated.Scenario(cascade, recorded).batch()
    replayed_ = replay.run(cascade, batch, generated.RULES, context=metrics.Context((), confidence=confidence))
    curve = thresholds.sweep(replayed_, "moved")
    for i, threshold in enumerate(curve.thresholds.tolist()):
        expected = plain_rates(moved_to(cascade, threshold), recorded)
        found = [getattr(curve, name)[i] for name in ("escalation", "disagreement", "cost", "kept")]
        np.testing.assert_allclose(found, expected)
    if not recorded.columns & {(None, name) for name in ("weight", "cluster", "audit_probability")}:
        kept = curve.kept > 0
        wrong = np.rint(curve.disagreement[kept] * curve.kept[kept])
        low, high = bounds.rate(wrong, curve.kept[kept], confidence=confidence)
        np.testing.assert_allclose([curve.low[kept], curve.high[kept]], [low, high])


@some
@given(sweepable(), generated.recordings(most=10))
def test_what_a_value_promises_is_counted_with_what_came(cascade, recorded):
    """Each case that reads the gate and has a value and a known comparison is in its bin, escalated ones too."""
    batch = generated.Scenario(cascade, recorded).batch()
    done = replay.run(cascade, batch, generated.RULES)
    [place] = [place for place in thresholds.places(cascade) if place.tier.name == "moved"]
    tried = thresholds.edges(np.array([0.3, 0.6]), np.ones(2, dtype=int), surer=place.leaf.surer)
    table = thresholds.count(cascade, done.decisions, done.columns, (), {place.name: tried})[
        f"reliability.{place.name}"
    ]
    value = done.columns.value(place.tier, place.number, place.leaf)
    agrees = done.columns.agrees(place.tier.model, cascade.flagship.model)
    expected = np.zeros((3, 3))
    for i, one in enumerate(recorded.cases):
        reads = {(position, number) for position, number, _ in oracle.decide(cascade, recorded, one).reads}
        if (
            (place.position, place.number) in reads
            and not one.get("cached")
            and agrees[i] >= 0
            and np.isfinite(value[i])
        ):
            expected[tried.bins(value[i : i + 1])[0]] += [1, agrees[i] == 1, value[i]]
    np.testing.assert_allclose(table[0] if len(table) else np.zeros((3, 3)), expected)


@pytest.mark.parametrize(("cases", "known"), [(99, False), (100, True)])
def test_a_cost_is_known_while_one_in_a_hundred_is_not(cases, known):
    """The cost of one case may be unknown of a hundred, and not of ninety-nine."""
    paid = {"mini": {"cost_usd": 0.01}, "flagship": {"cost_usd": 0.10}}
    rows = [case(0, 0.5, flagship={"cost_usd": 0.10}), *(case(i, 0.5, **paid) for i in range(1, cases))]
    [cost] = thresholds.sweep(replayed(rows)).cost
    assert cost == pytest.approx(0.1) if known else math.isnan(cost)


@some
@given(generated.recordings(least=3, most=12))
def test_quality_and_latency_of_a_slice_are_of_its_own_cases(recorded):
    """A cohort's curve is that of a replay of its cases alone."""
    assume(recorded.has(None, "language"))
    cascade = Cascade("c", (Tier("moved", "small", Leaf(Signal("confidence"), 0.5)), Tier("top", "flagship")))
    batch = generated.Scenario(cascade, recorded).batch()
    for slice_ in replay.run(cascade, batch, generated.RULES).cohorts("language"):
        mine = thresholds.sweep(slice_)
        alone = thresholds.sweep(replay.run(cascade, batch.take(slice_.chosen), generated.RULES))
        for name in ("quality", "latency_p50", "latency_p95"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(alone, name))


# On paper


def scored(confidence, *, mini, top, seconds=(1.0, 5.0)):
    def of(score, second):
        return {"score": score, "latency_s": second}

    return [
        case(i, level, mini=of(low, seconds[0] + i), flagship=of(high, seconds[1] + i))
        for i, (level, low, high) in enumerate(zip(confidence, mini, top, strict=True))
    ]


def test_quality_rises_with_the_flagship_and_latency_with_both():
    """Four cases worked out by hand: the served scores, and the seconds of mini alone or of mini and the flagship."""
    curve = thresholds.sweep(replayed(scored([0.1, 0.4, 0.6, 0.9], mini=[0, 0.5, 1, 1], top=[1, 1, 0, 1])))
    assert curve.quality.tolist() == [2.5 / 4, 3.5 / 4, 1, 3 / 4]
    # Settled 1, 2, 3, 4 seconds; escalated 6, 8, 10, 12.
    assert curve.latency_p50.tolist() == [2, 3, 4, 6]
    assert curve.latency_p95.tolist() == [4, 6, 8, 10]


def test_what_is_unknown_of_more_than_one_case_in_a_hundred_is_unknown():
    """One missing score or latency in fifty blanks what depends on it, one in two hundred does not."""
    for size, known in ((50, False), (200, True)):
        cases = scored(np.linspace(0, 1, size), mini=[1.0] * size, top=[0.0] * size)
        del cases[-1]["models"]["mini"]["score"]
        del cases[-1]["models"]["mini"]["latency_s"]
        curve = thresholds.sweep(replayed(cases))
        assert curve.thresholds[0] == 0
        found = [curve.quality[0], curve.latency_p50[0], curve.latency_p95[0]]
        assert np.isfinite(found).tolist() == [known] * 3


def test_nothing_recorded_is_nothing_measured():
    """Without scores or latencies there is neither, and it is not zero."""
    curve = thresholds.sweep(replayed([case(0, 0.2), case(1, 0.7)]))
    assert np.isnan([curve.quality, curve.latency_p50, curve.latency_p95]).all()


def test_counts_of_batches_add_up_to_the_same_quality():
    """Scores are counted by bin, so that two halves of the cases add up to the whole."""
    rng = np.random.default_rng(4)
    cases = scored(rng.integers(0, 9, 60) / 8, mini=rng.random(60), top=rng.random(60))
    whole = replayed(cases)
    [place] = thresholds.places(whole.cascade)
    tried = thresholds.edges(np.arange(9) / 8, np.ones(9, dtype=int))
    parts = [
        thresholds.count(one.cascade, one.decisions, one.columns, (), {place.name: tried})
        for one in (replayed(cases[:23]), replayed(cases[23:]))
    ]
    read = thresholds.read(parts[0] + parts[1], 0, place, tried)
    np.testing.assert_allclose(read.quality, thresholds.sweep(whole).quality)
    assert np.isnan(read.latency_p50).all(), "a histogram for every bin would not fit: only in memory"


def test_weights_count_in_quality():
    """A case of weight 3 counts three times."""
    cases = scored([0.2, 0.8], mini=[0, 1], top=[1, 0])
    for one, weight in zip(cases, (1.0, 3.0), strict=True):
        one["weight"] = weight
    assert thresholds.sweep(replayed(cases)).quality.tolist() == [3 / 4, 1.0]


# Windows and fronts


@settings(deadline=None)
@given(st.data(), st.integers(1, 30))
def test_window_quantiles_are_those_of_each_window(data, width):
    """Every window's quantile is an order statistic of its known values, whatever is absent or unknown."""
    values = np.array(
        data.draw(st.lists(st.sampled_from([1.0, 2.0, 2.5, 7.0, math.nan]), min_size=2 * width, max_size=2 * width))
    )
    present = np.array(data.draw(st.lists(st.booleans(), min_size=2 * width, max_size=2 * width)))
    first = np.arange(width + 1)
    found = windows.quantiles(values, present, first, width, (0.05, 0.5, 0.95), unknown=0.3)
    for j in first:
        here = values[j : j + width][present[j : j + width]]
        known = here[~np.isnan(here)]
        expected = [math.nan] * 3
        if len(known) and len(here) - len(known) <= 0.3 * len(here):
            expected = np.quantile(known, [0.05, 0.5, 0.95], method="inverted_cdf")
        np.testing.assert_array_equal(found[:, j], expected)


POINTS = st.lists(st.tuples(*[st.sampled_from([0.0, 0.1, 0.2, 0.5, math.nan])] * 2), max_size=20)


@settings(deadline=None)
@given(POINTS)
def test_the_front_is_what_nothing_beats(points):
    """A point is on the front exactly where no other is as good in both and better in one; equal ones stand once."""
    found = thresholds.front([x for x, _ in points], [y for _, y in points]).tolist()
    known = [p for p in points if not any(map(math.isnan, p))]
    best = {p for p in known if not any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in known)}
    assert [points[i] for i in found] == sorted(best)
    assert all(points.index(points[i]) == i for i in found)


def test_a_sweeps_front_is_cheaper_or_better_at_each_step():
    """Along a front disagreement falls as cost rises."""
    rng = np.random.default_rng(1)
    cases = [
        case(i, level, agrees=rng.random() < level, mini={"cost_usd": 0.01}, flagship={"cost_usd": 0.1})
        for i, level in enumerate(rng.random(300))
    ]
    curve = thresholds.sweep(replayed(cases))
    on = thresholds.front(curve.cost, curve.disagreement)
    assert np.all(np.diff(curve.cost[on]) > 0)
    assert np.all(np.diff(curve.disagreement[on]) < 0)


def test_the_second_gate_has_its_own_quality():
    """Moving the second gate changes what its own cases are served, and nobody else's."""
    cases = scored([0.9, 0.1, 0.1], mini=[1, 0, 0], top=[0, 1, 1])
    for one, (level, score) in zip(cases, ((0.9, 0.0), (0.2, 0.5), (0.8, 0.5)), strict=True):
        one["models"]["medium"] = {"answer": "a", "confidence": level, "score": score, "latency_s": 1.0}
    curve = thresholds.sweep(replayed(cases, three(0.5, 0.5)), "medium")
    assert curve.thresholds.tolist() == [0.2, 0.8, 0.9]
    assert curve.quality == pytest.approx([2 / 3, 2.5 / 3, 1])
