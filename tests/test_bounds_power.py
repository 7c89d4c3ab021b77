"""How many cases decide a budget, and what a number of cases could have noticed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_eval import bounds


def power_by_n(value, budget, alpha, upto):
    """Power of the exact test at every number of cases up to a limit, the slow way: all counts tried."""
    from scipy import stats

    power = np.zeros(upto + 1)
    for n in range(1, upto + 1):
        x = np.arange(n + 1)
        p = stats.binom.cdf(x, n, budget) if value < budget else stats.binom.sf(x - 1, n, budget)
        power[n] = stats.binom.pmf(x[p <= alpha], n, value).sum()
    return power


@pytest.mark.parametrize(
    ("value", "budget", "power", "first", "always"),
    [
        (0.01, 0.10, 0.8, 46, 46),
        (0.02, 0.10, 0.8, 61, 61),
        (0.03, 0.10, 0.8, 76, 89),
        (0.05, 0.10, 0.8, 179, 203),
        (0.06, 0.10, 0.8, 286, 333),
        (0.075, 0.10, 0.8, 803, 869),
        (0.01, 0.10, 0.9, 46, 61),
        (0.02, 0.10, 0.9, 76, 89),
        (0.03, 0.10, 0.9, 103, 116),
        (0.05, 0.10, 0.9, 239, 263),
        (0.06, 0.10, 0.9, 402, 436),
        (0.075, 0.10, 0.9, 1096, 1161),
        (0.01, 0.05, 0.8, 124, 124),
        (0.02, 0.05, 0.8, 234, 286),
        (0.03, 0.05, 0.8, 601, 694),
        (0.05, 0.15, 0.8, 59, 68),
        (0.15, 0.10, 0.8, 270, 299),
        (0.20, 0.10, 0.8, 78, 89),
        (0.25, 0.10, 0.8, 40, 44),
        (0.45, 0.10, 0.8, 11, 11),
    ],
)
def test_the_published_numbers_of_cases_come_back(value, budget, power, first, always):
    """First number of cases with the power, and the number from which it always holds."""
    assert bounds.power_needed(value, budget, power=power) == (first, always)


@pytest.mark.parametrize(
    ("value", "first", "always"), [(0.15, 446, 474), (0.20, 127, 138), (0.25, 62, 71), (0.45, 16, 16)]
)
def test_failing_one_of_six_cohorts_takes_more_cases(value, first, always):
    """Holm's first step divides alpha by six; passing takes no correction."""
    assert bounds.power_needed(value, 0.10, alpha=0.05 / 6) == (first, always)
    assert bounds.cases_to_decide(value, 0.10, family=6) == always
    assert bounds.cases_to_decide(0.05, 0.10, family=6) == 203


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(-40, 60), st.sampled_from([0.05, 0.01]), st.sampled_from([0.8, 0.9]))
def test_the_search_finds_what_trying_every_number_finds(percent, away, alpha, power):
    """First and always equal those of a plain scan over every number of cases up to 400."""
    budget, value = percent / 100, (percent + away) / 100
    if not 0 <= value <= 1 or away == 0:
        return
    enough = power_by_n(value, budget, alpha, 400) >= power
    first, always = bounds.power_needed(value, budget, alpha=alpha, power=power, limit=400)
    assert first == (int(np.argmax(enough)) if enough.any() else None)
    if always is None:
        assert not enough[-40:].all() or not enough.any() or away * away < 100
    else:
        assert enough[always:].all()
        assert not enough[always - 1]


@pytest.mark.parametrize(
    ("value", "budget"), [(0.455, 0.5), (0.083, 0.1), (0.55, 0.5), (0.118, 0.1), (0.94, 0.96), (0.0025, 0.01)]
)
def test_near_its_budget_a_rate_takes_thousands(value, budget):
    """Where the teeth of the saw are many and close the search still ends on the last one."""
    first, always = bounds.power_needed(value, budget)
    enough = power_by_n(value, budget, 0.05, always + 150) >= 0.8
    assert first == np.argmax(enough)
    assert enough[always:].all()
    assert not enough[always - 1]


@pytest.mark.parametrize(
    ("value", "budget", "needed"),
    [
        (0.1, 0.1, None),
        (0.0999, 0.1, None),
        (0.0, 0.1, 29),
        (1.0, 0.1, 2),
        (0.2, 0.0, 8),
        (1.0, 0.0, 1),
        (0.0, 1.0, 1),
        (0.3, 1.0, 2),
    ],
)
def test_the_ends_of_the_range_are_answered(value, budget, needed):
    """A rate on its budget is never decided; budgets of 0 and 1 are broken or kept by single cases."""
    assert bounds.cases_to_decide(value, budget) == needed


def test_at_least_is_the_mirror_of_at_most():
    """A budget "at least 90%" at a rate of 95% takes as many cases as "at most 10%" at 5%, correction included."""
    assert bounds.cases_to_decide(0.95, 0.90, at="least") == 203
    assert bounds.cases_to_decide(0.80, 0.90, at="least", family=6) == 138
    assert bounds.cases_to_decide(0.80, 0.90, at="most", family=6) == 89


@pytest.mark.parametrize(("nobs", "power"), [(15, 0.31), (60, 0.91)])
def test_a_small_cohort_cannot_fail(nobs, power):
    """A cohort of 15 cases at 25% against a budget of 10% fails in 31% of audits, one of 60 in 91%."""
    assert power_by_n(0.25, 0.10, 0.05, nobs)[nobs] == pytest.approx(power, abs=0.005)
    assert (bounds.smallest_excess(nobs, 0.10) <= 0.25) == (power >= 0.8)


@given(st.integers(1, 300), st.integers(1, 90), st.sampled_from([0.05, 0.01]))
@settings(max_examples=60, deadline=None)
def test_the_smallest_excess_has_exactly_the_power(nobs, percent, alpha):
    """At the smallest noticeable rate the exact test has power .8; None only where nothing can reject."""
    from scipy import stats

    budget = percent / 100
    excess = bounds.smallest_excess(nobs, budget, alpha=alpha)
    rejecting = [x for x in range(nobs + 1) if stats.binom.sf(x - 1, nobs, budget) <= alpha]
    assert (excess is None) == (not rejecting)
    if excess is not None:
        assert excess > budget
        assert stats.binom.sf(rejecting[0] - 1, nobs, excess) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("budget", "alpha", "needed"), [(0.10, 0.05, 29), (0.05, 0.05, 59), (0.25, 0.05, 11), (0.10, 0.01, 44)]
)
def test_the_fewest_clean_cases_that_prove_a_budget(budget, alpha, needed):
    """So many cases without a disagreement prove it, one fewer does not."""
    assert bounds.zero_disagreement_minimum(budget, alpha) == needed
    assert bounds.p_at_most(0, needed, budget) <= alpha < bounds.p_at_most(0, needed - 1, budget)


@settings(deadline=None)
@given(st.integers(1, 10**6), st.sampled_from([0.2, 0.05, 0.01]))
def test_the_smallest_provable_budget_is_the_bound_of_no_disagreement(nobs, alpha):
    """It equals the upper bound at 0 of n; without cases nothing below 1 is provable."""
    high = bounds.rate(0, nobs, confidence=1 - alpha)[1]
    assert bounds.smallest_provable(nobs, alpha) == pytest.approx(high, rel=1e-9)
    assert bounds.smallest_provable([nobs, 0], alpha)[1] == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: bounds.power_needed(1.5, 0.1),
        lambda: bounds.power_needed(0.5, 10),
        lambda: bounds.power_needed(0.5, 0.1, power=1),
        lambda: bounds.smallest_excess(10, 10),
        lambda: bounds.zero_disagreement_minimum(0),
        lambda: bounds.zero_disagreement_minimum(1),
    ],
)
def test_impossible_rates_are_refused(call):
    """Percentages where fractions belong are errors, not answers."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        call()


@pytest.mark.parametrize(("odds", "power", "n"), [(0.5, 0.5, 1), (0.5, 0.75, 2), (0.5, 0.875, 3), (0.2, 0.8, 8)])
def test_one_case_refutes_never_and_always(odds, power, n):
    """Against a budget of 0 or 1 the power is the chance to meet a single case of the other side, also on the dot."""
    assert bounds.power_needed(odds, 0.0, power=power) == (n, n)
    assert bounds.power_needed(1 - odds, 1.0, power=power) == (n, n)
    assert 1 - (1 - odds) ** n >= power > 1 - (1 - odds) ** (n - 1)


def test_a_limit_hides_larger_numbers():
    """Beyond the limit there is no number, at the limit there is."""
    assert bounds.power_needed(0.05, 0.10, limit=202) == (179, None)
    assert bounds.power_needed(0.05, 0.10, limit=203) == (179, 203)
    assert bounds.power_needed(0.05, 0.10, limit=179) == (179, None)
    assert bounds.power_needed(0.05, 0.10, limit=178) == (None, None)
    assert math.isclose(bounds.cases_to_decide(0.495, 0.5), 62186)
