"""Two gates at once: what every pair of thresholds does, and the cheapest pair that is certified."""

from __future__ import annotations

import math
from dataclasses import replace

import generated
import hypothesis.strategies as st
import numpy as np
import oracle
import pytest
from hypothesis import HealthCheck, assume, given, settings
from small_replays import case, gate, replayed, three, two

from cascade_eval import bounds, replay, thresholds
from cascade_eval.cascade import All, Cascade, Leaf, Signal, Tier
from cascade_eval.thresholds import paths, selection

some = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])


# Against the oracle


@st.composite
def gated_twice(draw):
    """Draw three tiers with a single signal at either gate; routes, timeouts and hedging as they come."""
    leaf = st.builds(
        Leaf,
        st.sampled_from(
            [Signal("confidence"), Signal("margin"), Signal("judge", {"model": "judge"}), Signal("self_consistency")]
        ),
        threshold=st.sampled_from([*generated.GRID, 0.4]),
        surer=st.sampled_from(["higher", "higher", "lower"]),
    )
    timeout = st.sampled_from([None, None, 1.0])
    tiers = (
        Tier("first", "mini", draw(leaf), draw(timeout), draw(st.booleans())),
        Tier("second", "small", draw(leaf), draw(timeout), draw(st.booleans())),
        Tier("top", "flagship"),
    )
    return Cascade("twice", tiers, draw(generated.routes(["second", "top"])))


def at(cascade, first, second):
    tiers = [
        replace(tier, gate=replace(tier.gate, threshold=value))
        for tier, value in zip(cascade.tiers[:2], (first, second), strict=True)
    ]
    return replace(cascade, tiers=(*tiers, cascade.tiers[2]))


def ratio(numerator, denominator):
    return float(numerator / denominator) if denominator else math.nan


@some
@given(gated_twice(), generated.recordings(least=2, most=8))
def test_a_cell_is_the_replay_with_those_two_thresholds(cascade, recorded):
    """At every pair escalation, disagreement, kept cases and cost are exactly what the oracle counts there."""
    batch = generated.Scenario(cascade, recorded).batch()
    found = thresholds.pair(replay.run(cascade, batch, generated.RULES))
    assert found.tiers == ("first", "second")
    for i, first in enumerate(found.first.tolist()):
        for j, second in enumerate(found.second.tolist()):
            counts = oracle.tally(at(cascade, first, second), recorded)[()].weighted
            compared = counts["sampled agree"] + counts["sampled disagree"]
            np.testing.assert_equal(found.escalation[i, j], ratio(counts["escalated"], counts["decided"]))
            np.testing.assert_equal(found.disagreement[i, j], ratio(counts["sampled disagree"], compared))
            assert found.kept[i, j] == compared
            unpriced = counts["resolved"] - counts["cost paired"]
            if not unpriced:
                expected = ratio(counts["cost of paired"], counts["flagship cost of paired"])
                np.testing.assert_equal(found.cost[i, j], expected)
            elif unpriced > 0.01 * counts["decided"]:
                assert np.isnan(found.cost[i, j])


@some
@given(gated_twice(), generated.recordings(least=2, most=8))
def test_every_value_and_the_thresholds_in_use_are_tried(cascade, recorded):
    """Where values are few every one that comes to a gate is a threshold, and so is the one in use, most kept first."""
    columns = replay.Columns(generated.Scenario(cascade, recorded).batch(), generated.RULES)
    found = thresholds.pair(replay.run(cascade, columns, generated.RULES))
    assert found.complete
    for position, tried in enumerate((found.first, found.second)):
        leaf = cascade.tiers[position].gate
        values = columns.value(cascade.tiers[position], 0, leaf)
        recorded_here = {*values[~np.isnan(values)].tolist(), leaf.threshold}
        assert leaf.threshold in tried
        assert {*tried.tolist()} <= recorded_here
        assert sorted(tried, reverse=leaf.surer == "lower") == tried.tolist()


@some
@given(gated_twice(), generated.recordings(least=3, most=8))
def test_a_cohorts_table_is_that_of_its_cases_alone(cascade, recorded):
    """Slicing by cohort and then trying pairs is trying pairs of the cohort's own cases."""
    batch = generated.Scenario(cascade, recorded).batch()
    assume(batch.has(None, "language"))
    for slice_ in replay.run(cascade, batch, generated.RULES).cohorts("language"):
        mine = thresholds.pair(slice_)
        alone = thresholds.pair(replay.run(cascade, batch.take(slice_.chosen), generated.RULES))
        for name in ("first", "second", "escalation", "disagreement", "low", "high", "cost", "kept", "quality"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(alone, name))


# On paper


def staged(rows):
    """Cases of (mini, medium) confidence, whether each agrees, and its score where there is one."""
    cases = []
    for i, (first, second, agrees, middle) in enumerate(rows):
        one = case(i, first, agrees=agrees, mini={"cost_usd": 0.01, "score": float(agrees)})
        one["models"]["medium"] = {
            "answer": "a" if middle else "b",
            "confidence": second,
            "cost_usd": 0.03,
            "score": float(middle),
        }
        one["models"]["flagship"] |= {"cost_usd": 0.1, "score": 1.0}
        cases.append(one)
    return cases


ROWS = [(0.9, 0.1, True, True), (0.2, 0.6, False, True), (0.1, 0.8, False, False), (None, 0.9, True, True)]


def test_three_fates_on_paper():
    """Four cases, a tie, a missing value: escalation, disagreement, cost and quality worked out by hand."""
    found = thresholds.pair(replayed(staged(ROWS), three(0.2, 0.6)))
    assert found.first.tolist() == [0.1, 0.2, 0.9]
    assert found.second.tolist() == [0.1, 0.6, 0.8, 0.9]
    # Mini keeps cases 0, 1, 2, then 0, 1, then 0; medium all the others, then those at 0.6 and more, and so on.
    assert found.escalation.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0.25], [0, 0, 0.25, 0.5]]
    np.testing.assert_allclose(
        found.disagreement, [[2 / 4] * 4, [2 / 4] * 3 + [1 / 3], [1 / 4, 1 / 4, 1 / 3, 0]], rtol=1e-12
    )
    assert found.cost[0, 0] == pytest.approx((0.04 + 0.03) / 0.4)
    assert found.cost[2, 3] == pytest.approx((0.04 + 0.09 + 0.2) / 0.4)
    assert found.quality[0].tolist() == [2 / 4] * 4
    assert found.quality[2].tolist() == [3 / 4, 3 / 4, 3 / 4, 1.0]
    low, high = bounds.rate([1, 0], [3, 2])
    np.testing.assert_allclose(found.low[2, 2:], low)
    np.testing.assert_allclose(found.high[2, 2:], high)
    assert found.front() == [(0, 0), (2, 0), (2, 3)]
    assert found.front("escalation") == [(2, 0), (2, 3)]


def test_many_values_become_quantiles_and_never_more_than_asked_for():
    """Two columns of 3,000 values become 201 thresholds each, those in use among them, and each cell stays exact."""
    rng = np.random.default_rng(2)
    values, agree = rng.random((3000, 2)), rng.random((3000, 2)) < 0.8
    rows = [(a, b, bool(x), bool(y)) for (a, b), (x, y) in zip(values, agree, strict=True)]
    cases = staged(rows)
    found = thresholds.pair(replayed(cases, three(0.31, 0.77)))
    assert (len(found.first), len(found.second), found.complete) == (201, 201, False)
    assert 0.31 in found.first
    assert 0.77 in found.second
    for i, j in ((0, 0), (40, 170), (200, 200), (100, 3)):
        alone = replayed(cases, three(found.first[i], found.second[j]))
        assert found.escalation[i, j] == alone.escalation.value
        assert found.disagreement[i, j] == alone.disagreement.value
        assert found.cost[i, j] == pytest.approx(alone.cost.value)
        assert found.quality[i, j] == pytest.approx(alone.quality.value)
    assert thresholds.pair(replayed(cases, three(0.31, 0.77)), points=11).first.shape == (11,)


@pytest.mark.parametrize(
    "column", [{"weight": 2.0}, {"audit_probability": 0.5}, {"cluster": "one"}], ids=lambda column: next(iter(column))
)
def test_a_sample_of_unknown_worth_has_no_bounds(column):
    """Weighted, audited and clustered cases are worth fewer plain ones: no bounds rather than wrong ones."""
    cases = [one | column for one in staged(ROWS)]
    found = thresholds.pair(replayed(cases, three(0.2, 0.6)))
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()


@pytest.mark.parametrize(
    "cascade",
    [
        two(),
        Cascade(
            "c", (Tier("a", "mini", All((gate(0.1), gate(0.2)))), Tier("b", "medium", gate(1)), Tier("top", "flagship"))
        ),
    ],
)
def test_another_shape_is_refused(cascade):
    """Two tiers, or a gate of several signals, have no pair, and the error says what has."""
    with pytest.raises(ValueError, match="takes three tiers, and a gate of one signal"):
        thresholds.pair(replayed(staged(ROWS), cascade))


# Choosing


def slowly(way, value, wrong, paid):
    """Kept and disagreeing cases and summed cost at each step, by looking at each case."""
    out = []
    for first, second in way:
        kept = bad = cost = 0
        for (a, b), (x, y), prices in zip(value, wrong, paid, strict=True):
            tier = 0 if a >= first else 1 if b >= second else 2
            kept, bad, cost = kept + (tier < 2), bad + (x, y, 0)[tier], cost + prices[tier]
        out.append((kept, bad, cost))
    return [list(column) for column in zip(*out, strict=True)]


LEVEL = st.sampled_from([0.0, 0.25, 0.5, 1.0, math.nan])


@settings(deadline=None)
@given(st.lists(st.tuples(LEVEL, LEVEL, st.booleans(), st.booleans()), min_size=1, max_size=12), st.data())
def test_running_totals_are_what_each_step_does(rows, data):
    """Counts along a path equal a loop over steps and cases, ties and missing values included."""
    value = np.array([row[:2] for row in rows])
    wrong = np.array([row[2:] for row in rows])
    paid = np.arange(3.0 * len(rows)).reshape(-1, 3)
    levels = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0, 1.5])
    size = data.draw(st.integers(1, 8))
    columns = [sorted(data.draw(st.lists(levels, min_size=size, max_size=size)), reverse=True) for _ in "ab"]
    way = np.array(columns).T
    kept, bad, cost = paths.tally(way, value, wrong, paid)
    assert [kept.tolist(), bad.tolist(), cost.tolist()] == slowly(way, value, wrong, paid)


def test_a_path_that_turns_back_is_refused():
    """Steps that keep less than the one before are no walk from strict to lax."""
    with pytest.raises(ValueError, match="from strict to lax"):
        thresholds.select_pair([[1, 1]], [[0, 0]], at_most=0.1, paths=[[(0.5, 0.5), (0.4, 0.6)]])


def test_paths_keep_ever_more_at_both_gates():
    """Every path goes from the surest values to the least sure, and looks at no label."""
    value = np.random.default_rng(0).random((500, 2))
    value[::7, 0] = math.nan
    ways = paths.lay(value)
    assert len(ways) == len(paths.LEANINGS)
    for way in ways:
        assert np.all(np.diff(way, axis=0) <= 0)
        assert way[0].tolist() == np.nanmax(value, axis=0).tolist()
        assert way[-1].tolist() == np.nanmin(value, axis=0).tolist()
    first, *_, last = ways
    assert first[70, 0] < last[70, 0], "the first path opens the first gate first"


def test_one_gate_alone_is_the_walk_of_a_single_threshold():
    """With a second gate that never settles, one path is the fixed sequence of `select`, step by step."""
    value = np.repeat([0.95, 0.90, 0.85, 0.80, 0.75], 40)
    wrong = np.concatenate([np.arange(40) < k for k in (0, 1, 1, 6, 12)])
    both = np.stack([value, np.full(200, math.nan)], axis=1)
    steps = [(t, 1.0) for t in (0.95, 0.90, 0.85, 0.80, 0.75)]
    found = thresholds.select_pair(both, np.stack([wrong, wrong], 1), at_most=0.1, starts=(), paths=[steps])
    assert found.thresholds == (0.8, 1.0)
    assert [round(step.p, 5) for step in found.paths[0]] == [0.01478, 0.00216, 0.00033, 0.01735, 0.55917]


def made(rng, size, kind):
    """Draw two values and whether each tier's answer disagrees; return the true risks as well."""
    value = rng.beta(2, 1, (size, 2))
    risk = {
        "flat, over the target": np.full((size, 2), 0.0505),
        "informative": np.stack([0.45 * (1 - value[:, 0]) ** 1.2, 0.20 * (1 - value[:, 1])], axis=1),
        "the second is blind": np.stack([0.45 * (1 - value[:, 0]) ** 1.2, np.full(size, 0.06)], axis=1),
    }[kind]
    return value, risk


def kept_risk(value, risk, pair):
    """Return the true disagreement of the cases a pair keeps."""
    one = value[:, 0] >= pair[0]
    two = ~one & (value[:, 1] >= pair[1])
    return (risk[one, 0].sum() + risk[two, 1].sum()) / max(one.sum() + two.sum(), 1)


@pytest.mark.parametrize("kind", ["flat, over the target", "informative", "the second is blind"])
def test_the_chosen_pair_is_over_the_target_no_more_often_than_promised(kind):
    """Over 150 seeded draws of 2,000 cases the true disagreement exceeds 5% in at most delta of them."""
    rng = np.random.default_rng(7)
    value, risk = made(rng, 20_000, kind)
    draws, over, certified, naive = 150, 0, 0, 0
    for _ in range(draws):
        picked = rng.integers(0, len(value), 2000)
        wrong = rng.random((2000, 2)) < risk[picked]
        found = thresholds.select_pair(value[picked], wrong, at_most=0.05)
        steps = [step for path in found.paths for step in path if step.kept and step.disagreeing <= 0.05 * step.kept]
        if steps:
            best = max(steps, key=lambda step: step.kept)
            naive += kept_risk(value, risk, best.thresholds) > 0.05
        if found.thresholds is not None:
            certified += 1
            over += kept_risk(value, risk, found.thresholds) > 0.05
    assert over <= draws * 0.1 + 3 * math.sqrt(draws * 0.09)
    assert naive > 3 * over + draws * 0.2, "the point estimate is over the target far more often"
    assert certified > draws / 2 or kind != "informative"


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.1, 0.3]))
@settings(max_examples=30, deadline=None)
def test_a_certified_pair_is_proven_by_its_own_exact_bound_and_is_the_cheapest(seed, target):
    """Whatever is chosen, its own upper bound at its walk's level lies within the target, and no certified one is cheaper."""
    rng = np.random.default_rng(seed)
    value = np.round(rng.random((600, 2)), 2)
    wrong = rng.random((600, 2)) < [0.5, 0.2] * (1 - value)
    prices = np.tile([1.0, 4.0, 20.0], (600, 1))
    found = thresholds.select_pair(value, wrong, at_most=target, costs=prices)
    steps = [step for path in found.paths for step in path if step.certified]
    assert (found.thresholds is None) == (not steps)
    if steps:
        level = 0.1 / (len(selection.STARTS) * len(paths.LEANINGS))
        _, high = bounds.rate(found.step.disagreeing, found.step.kept, confidence=1 - level)
        assert high <= target + 1e-9
        assert found.step.cost == min(step.cost for step in steps)
        assert found.escalation == pytest.approx(
            np.mean((value[:, 0] < found.thresholds[0]) & (value[:, 1] < found.thresholds[1]))
        )


def test_nothing_certified_is_no_pair():
    """A hopeless signal, too few cases and no values at all give None, and everything escalates."""
    rng = np.random.default_rng(3)
    hopeless = thresholds.select_pair(rng.random((800, 2)), rng.random((800, 2)) < 0.4, at_most=0.05)
    few = thresholds.select_pair(rng.random((20, 2)), np.zeros((20, 2)), at_most=0.05)
    none = thresholds.select_pair(np.full((9, 2), math.nan), np.zeros((9, 2)), at_most=0.5)
    for found in (hopeless, few, none):
        assert (found.thresholds, found.step, found.escalation) == (None, None, 1.0)
        assert "certify no pair" in found.reason


def test_lower_can_be_surer():
    """Negating a value and saying so changes nothing but the sign of its threshold."""
    rng = np.random.default_rng(5)
    value = rng.random((3000, 2))
    wrong = rng.random((3000, 2)) < [0.4, 0.15] * (1 - value)
    plain = thresholds.select_pair(value, wrong, at_most=0.1)
    mirrored = thresholds.select_pair(value * [1, -1], wrong, at_most=0.1, surer=("higher", "lower"))
    assert plain.thresholds is not None
    assert mirrored.thresholds == (plain.thresholds[0], -plain.thresholds[1])
