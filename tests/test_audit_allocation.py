"""How calls are shared out, and what so many calls decide."""

from __future__ import annotations

from itertools import product

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats

from cascade_eval import audit, bounds
from cascade_eval.audit import allocation

SHARES = [5000, 2000, 1500, 1000, 500]
PRIOR = [0.03, 0.05, 0.03, 0.02, 0.33]
LIMITS = [0.1] * 5


def slow_chance(n, value, limit, alpha):
    """Add up the chances of every count that decides, one by one."""
    chance = 0.0
    for x in range(n + 1):
        p = stats.binom.cdf(x, n, limit) if value <= limit else stats.binom.sf(x - 1, n, limit)
        chance += stats.binom.pmf(x, n, value) if p <= alpha else 0.0
    return chance


def test_known_allocations():
    """300 calls over cohorts of 50/20/15/10/5%: by traffic, by Neyman, and by Neyman above a floor of 30."""
    assert allocation.proportional(SHARES, 300).tolist() == [150, 60, 45, 30, 15]
    assert allocation.neyman(SHARES, PRIOR, 300).tolist() == [133, 68, 40, 22, 37]
    assert allocation.allocate(SHARES, PRIOR, LIMITS, [30] * 5, 300).calls.tolist() == [97, 64, 50, 41, 48]


@pytest.mark.parametrize(
    ("prior", "limit", "floor"),
    [
        (0.01, 0.10, 46),
        (0.03, 0.10, 89),
        (0.05, 0.10, 203),
        (0.075, 0.10, 869),
        (0.02, 0.05, 286),
        (0.0, 0.10, 29),
        (0.0, 0.05, 59),
        (0.0, 0.25, 11),
        (0.25, 0.10, 44),
        (0.45, 0.10, 29),
        (0.10, 0.10, np.inf),
    ],
)
def test_known_floors(prior, limit, floor):
    """The floor is the number from which the verdict always holds, and never below what none of them could prove."""
    assert allocation.floors([prior], [limit]).tolist() == [floor]


def test_failing_among_others_takes_more():
    """With six cohorts a failure needs the first step of Holm's correction; a pass needs no correction."""
    assert allocation.floors([0.25, *[0.03] * 5], [0.1] * 6).tolist() == [71.0, *[89.0] * 5]


@pytest.mark.parametrize(("n", "value"), list(product([0, 1, 15, 29, 60, 89], [0.0, 0.03, 0.1, 0.25, 1.0])))
def test_chance_equals_the_sum_over_counts(n, value):
    """The chance of a verdict is the total chance of the counts that give it."""
    assert float(allocation.chance(n, value, 0.1)) == pytest.approx(slow_chance(n, value, 0.1, 0.05), abs=1e-12)
    failing = 0.05 / 5 if value > 0.1 else 0.05
    assert float(allocation.chance(n, value, 0.1, family=5)) == pytest.approx(
        slow_chance(n, value, 0.1, failing), abs=1e-12
    )


def test_fifteen_cases_decide_little():
    """A proportional audit of 300 gives a 5% cohort 15 cases: it cannot pass, and fails at 25% with .31; sixty with .91."""
    assert allocation.chance([15, 60], 0.25, 0.1).round(2).tolist() == [0.31, 0.91]
    assert float(allocation.chance(15, 0.0, 0.1)) == 0.0


DECIDED = {
    # calls: (rule, (chance of a PASS at a true 3% by cohort), (chance of a FAIL at a true 25% by cohort))
    100: (
        ("proportional", (0.56, 0.0, 0.0, 0.0, 0.0), (0.74, 0.21, 0.15, 0.08, 0.1)),
        ("neyman", (0.6, 0.0, 0.0, 0.0, 0.0), (0.62, 0.33, 0.26, 0.17, 0.16)),
        ("floors", (0.0, 0.0, 0.0, 0.0, 0.66), (0.26, 0.07, 0.04, 0.05, 0.85)),
    ),
    300: (
        ("proportional", (0.96, 0.46, 0.25, 0.4, 0.0), (0.99, 0.77, 0.59, 0.49, 0.15)),
        ("neyman", (0.94, 0.5, 0.28, 0.0, 0.34), (0.99, 0.78, 0.63, 0.4, 0.53)),
        ("floors", (0.87, 0.82, 0.0, 0.0, 0.63), (0.97, 0.96, 0.17, 0.07, 0.83)),
    ),
    1000: (
        ("proportional", (1.0, 0.99, 0.96, 0.82, 0.56), (1.0, 1.0, 0.99, 0.94, 0.74)),
        ("neyman", (1.0, 0.99, 0.94, 0.85, 0.93), (1.0, 1.0, 0.99, 0.92, 0.98)),
        ("floors", (1.0, 0.99, 0.99, 0.97, 0.95), (1.0, 1.0, 1.0, 0.99, 0.99)),
    ),
}
"""Exact, budget 10%, prior 3% in four cohorts and 25% in the smallest; a FAIL at the first step of Holm's correction."""


@pytest.mark.parametrize("cases", DECIDED)
def test_what_each_allocation_decides(cases):
    """The table of docs/audit.md, computed from binomials."""
    prior = [0.03] * 4 + [0.25]
    floor = allocation.floors(prior, LIMITS)
    calls = {
        "proportional": allocation.proportional(SHARES, cases),
        "neyman": allocation.neyman(SHARES, prior, cases, SHARES),
        "floors": allocation.allocate(SHARES, prior, LIMITS, floor, cases).calls,
    }
    for rule, passes, fails in DECIDED[cases]:
        assert int(calls[rule].sum()) == cases
        assert allocation.chance(calls[rule], 0.03, 0.1).round(2).tolist() == list(passes)
        assert allocation.chance(calls[rule], 0.25, 0.1, family=5).round(2).tolist() == list(fails)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_laws_of_an_allocation(data):
    """Every call is given where there is room, nobody gets more than it has, and a paid floor is reached."""
    k = data.draw(st.integers(1, 6))
    lists = lambda element: data.draw(st.lists(element, min_size=k, max_size=k))  # noqa: E731  a short name for one line
    size, prior = lists(st.integers(1, 400)), lists(st.floats(0, 1))
    floor = np.array(lists(st.one_of(st.integers(1, 300), st.just(np.inf))), dtype=float)
    cases = data.draw(st.integers(1, 900))
    calls, paid = allocation.allocate(size, prior, [0.1] * k, floor, cases)
    assert int(calls.sum()) == min(cases, sum(size))
    assert (calls >= 0).all()
    assert (calls <= size).all()
    assert (calls[paid] >= floor[paid]).all()
    assert not paid[floor > np.array(size)].any()


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30)), min_size=1, max_size=7), st.integers(0, 120))
def test_the_choice_is_the_best_there_is(items, room):
    """The knapsack is worth as much as the best of all subsets, and fits."""
    costs, values = (np.array(column, dtype=float) for column in zip(*items, strict=True))
    chosen = allocation.choose(costs, values, room)
    assert costs[chosen].sum() <= room
    subsets = (np.array(mask) for mask in product([False, True], repeat=len(items)))
    assert values[chosen].sum() == max(values[mask].sum() for mask in subsets if costs[mask].sum() <= room)


def test_a_large_choice_is_counted_in_larger_units():
    """With more calls than a table holds the choice still fits."""
    costs = np.full(2000, 89.0)
    chosen = allocation.choose(costs, np.ones(2000), 100_000)
    assert costs[chosen].sum() <= 100_000
    assert chosen.sum() > 900


def test_the_riskiest_cohort_comes_first():
    """Where one floor is paid, it is that of the cohort expected farthest beyond its budget."""
    floor = allocation.floors([0.03, 0.03, 0.25], [0.1] * 3)
    assert allocation.allocate([900, 900, 900], [0.03, 0.03, 0.25], [0.1] * 3, floor, 95).paid.tolist() == [
        False,
        False,
        True,
    ]


def test_one_cohort_is_decided_rather_than_none():
    """Where two calls for each of many cohorts leave too little for a floor, one floor is paid and others get none."""
    calls, paid = allocation.allocate([100] * 60, [0.0] * 60, [0.1] * 60, [29] * 60, 40)
    assert paid.sum() == 1
    assert calls.sum() == 40


def test_priors_without_spread_are_shared_by_traffic():
    """Cohorts that expect no disagreement share the calls by traffic."""
    assert allocation.neyman([300, 100], [0.0, 0.0], 40).tolist() == [30, 10]


# --- the weighted estimate ----------------------------------------------------------------------------------------


def test_known_estimates():
    """The worked example of a stratified audit, and none of them disagreeing."""
    found = audit.estimate([0.5, 0.2, 0.15, 0.1, 0.05], [60] * 5, [[2, 3, 2, 1, 20], [0] * 5])
    assert found.value.round(5).tolist() == [0.05, 0.0]
    assert found.low.round(4).tolist() == [0.0266, 0.0]
    assert found.high.round(4).tolist() == [0.0851, 0.0161]
    assert found.below.round(2).tolist() == [184.62, 184.62]


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 80), st.data())
def test_one_stratum_is_clopper_pearson(n, data):
    """With a single stratum, small or not, the bounds are the exact ones."""
    x = data.draw(st.integers(0, n))
    found = audit.estimate([1.0], [n], [x])
    low, high = bounds.rate(x, n)
    assert (float(found.low), float(found.high)) == pytest.approx((float(low), float(high)))


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_care_for_small_strata_only_widens(data):
    """The bounds contain those without that care, and the sizes for p-values say what the bounds say."""
    k = data.draw(st.integers(2, 5))
    n = np.array(data.draw(st.lists(st.integers(2, 120), min_size=k, max_size=k)))
    x = np.array([data.draw(st.integers(0, int(m))) for m in n])
    w = np.array(data.draw(st.lists(st.floats(0.01, 1), min_size=k, max_size=k)))
    found, plain = audit.estimate(w, n, x), bounds.stratified(w, n, x)
    assert found.high >= plain.high - 1e-12
    assert found.low <= plain.low + 1e-12
    if (n >= 30).all():
        assert (found.high, found.low) == (plain.high, plain.low)
    _, high = bounds.rate(found.value * found.below, found.below)
    low, _ = bounds.rate(found.value * found.above, found.above)
    assert float(high) == pytest.approx(float(found.high), abs=1e-4)
    assert float(low) == pytest.approx(float(found.low), abs=1e-9)


def test_bounds_of_random_designs_cover():
    """Over 20 random designs of 5,000 audits each, both one-sided 95% bounds hold in at least 94%."""
    rng = np.random.default_rng(20260105)
    for _ in range(20):
        k = int(rng.integers(2, 9))
        rates = np.where(rng.random(k) < 0.2, rng.uniform(0.1, 0.5, k), rng.beta(1.5, 30, k))
        calls = np.exp(rng.uniform(np.log(15), np.log(300), k)).astype(int)
        shares = rng.dirichlet(np.ones(k))
        count = rng.binomial(calls, rates, (5000, k))
        found = _bounds(shares, calls, count)
        truth = float(shares @ rates)
        assert (found[1] >= truth).mean() >= 0.94
        assert (found[0] <= truth).mean() >= 0.94


def _bounds(shares, calls, count):
    unique, inverse = np.unique(count, axis=0, return_inverse=True)
    found = audit.estimate(shares, calls, unique)
    return found.low[inverse], found.high[inverse]


def test_a_lopsided_design_needs_the_care():
    """A fifth of the traffic seen through 19 cases: Korn and Graubard's bound covers .93, this one .95."""
    shares = np.array([0.214, 0.078, 0.356, 0.16, 0.01, 0.067, 0.115])
    rates = np.array([0.163, 0.015, 0.028, 0.024, 0.29, 0.214, 0.009])
    calls = np.array([19, 55, 296, 107, 139, 114, 27])
    count = np.random.default_rng(3).binomial(calls, rates, (5000, 7))
    truth = shares @ rates
    assert (bounds.stratified(shares, calls, count).high >= truth).mean() < 0.935
    assert (audit.estimate(shares, calls, count).high >= truth).mean() >= 0.945
