"""Bounds and p-values for rates, plain, weighted and stratified."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binomtest

from cascade_eval import bounds

COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
SMALL_COUNTS = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
BUDGETS = st.floats(0.001, 0.999)
CONFIDENCES = st.sampled_from([0.8, 0.9, 0.95, 0.99])


def binomial_tail(at_most, n, share):
    """P(Bin(n, share) <= at_most), by adding up fractions."""
    p = Fraction(share)
    return float(sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(at_most + 1)))


@pytest.mark.parametrize(
    ("count", "nobs", "low", "high"),
    [
        (0, 29, 0, 0.0981),
        (0, 28, 0, 0.1015),
        (5, 100, 0.0199, 0.1023),
        (3, 60, 0.0138, 0.1242),
        (8, 160, 0.0251, 0.0884),
        (15, 300, 0.0311, 0.0759),
        (60, 60, 0.9513, 1),
    ],
)
def test_clopper_pearson_gives_the_published_bounds(count, nobs, low, high):
    """One-sided 95% bounds to four digits."""
    assert np.round(bounds.rate(count, nobs), 4).tolist() == [low, high]


def worst_coverage(n, method):
    """Exact worst one-sided 95% coverage of upper and lower bounds over rates from .01 to .30.

    Coverage jumps where the rate crosses a bound and is monotone between, so the worst is at a bound: an upper bound
    that has just been passed, a lower bound that is about to be.
    """
    from scipy import stats

    x = np.arange(n + 1)
    low, high = bounds.rate(x, n, method=method)
    passed, ahead = (high >= 0.01) & (high < 0.30), (low > 0.01) & (low <= 0.30)
    upper = stats.binom.sf(x[passed], n, high[passed])
    lower = stats.binom.cdf(x[ahead] - 1, n, low[ahead])
    return upper.min(), lower.min()


@pytest.mark.parametrize(
    ("n", "method", "upper", "lower"),
    [
        (20, "clopper-pearson", 0.950, 0.950),
        (50, "clopper-pearson", 0.950, 0.950),
        (100, "clopper-pearson", 0.950, 0.950),
        (300, "clopper-pearson", 0.950, 0.950),
        (20, "jeffreys", 0.850, 0.885),
        (50, "jeffreys", 0.852, 0.886),
        (100, "jeffreys", 0.853, 0.903),
        (300, "jeffreys", 0.901, 0.924),
        (20, "wilson", 0.921, 0.798),
        (50, "wilson", 0.928, 0.857),
        (100, "wilson", 0.931, 0.879),
        (300, "wilson", 0.937, 0.905),
    ],
)
def test_worst_coverage_is_what_each_method_promises(n, method, upper, lower):
    """Clopper-Pearson never covers less than 95%; the others do, by known amounts. Computed, not simulated."""
    covered = worst_coverage(n, method)
    if method == "clopper-pearson":
        assert min(covered) >= 0.95 - 1e-12
    assert np.round(covered, 3) == pytest.approx((upper, lower), abs=0.0006)


@settings(deadline=None)
@given(SMALL_COUNTS, BUDGETS)
def test_p_values_are_the_binomial_tails(counts, budget):
    """P-values for whole counts equal the sums of binomial probabilities."""
    x, n = counts
    assert bounds.p_at_most(x, n, budget) == pytest.approx(binomial_tail(x, n, budget), rel=1e-9, abs=1e-300)
    above = 1 - binomial_tail(x - 1, n, budget) if x else 1.0
    assert bounds.p_at_least(x, n, budget) == pytest.approx(above, rel=1e-6, abs=1e-12)


@settings(deadline=None)
@given(COUNTS, BUDGETS, CONFIDENCES, st.floats(0.3, 1))
def test_a_p_value_rejects_exactly_where_the_bound_does(counts, budget, confidence, worth):
    """``p <= alpha`` if and only if the bound lies on the right side of the budget, for fractional counts too."""
    x, n = counts[0] * worth, counts[1] * worth
    alpha = bounds.alpha(confidence)
    low, high = bounds.rate(x, n, confidence=confidence)
    assume(abs(high - budget) > 1e-9 and abs(low - budget) > 1e-9)
    assert (bounds.p_at_most(x, n, budget) <= alpha) == (high <= budget)
    assert (bounds.p_at_least(x, n, budget) <= alpha) == (low >= budget)


@pytest.mark.parametrize(
    ("count", "nobs", "budget", "at_most", "at_least"),
    [
        (0, 10, 0.0, 1.0, 1.0),
        (1, 10, 0.0, 1.0, 0.0),
        (0.25, 10, 0.0, 1.0, 0.0),
        (9, 10, 1.0, 0.0, 1.0),
        (10, 10, 1.0, 1.0, 1.0),
        (0, 0, 0.1, 1.0, 1.0),
        (0, 0, 1.0, 1.0, 1.0),
    ],
)
def test_budgets_of_nothing_and_everything_are_exact(count, nobs, budget, at_most, at_least):
    """A budget of 0 or 1 gives p-values of exactly 0 or 1, and no case at all never proves anything."""
    assert bounds.p_at_most(count, nobs, budget) == at_most
    assert bounds.p_at_least(count, nobs, budget) == at_least


@settings(deadline=None)
@given(COUNTS, st.sampled_from(list(bounds.METHODS)))
def test_more_confidence_never_narrows(counts, method):
    """A higher confidence gives bounds at least as wide, around the observed rate."""
    low, high = zip(*(bounds.rate(*counts, confidence=c, method=method) for c in (0.8, 0.9, 0.95, 0.99)), strict=True)
    assert np.diff(low).max() <= 1e-12
    assert np.diff(high).min() >= -1e-12
    assert low[0] - 1e-12 <= counts[0] / counts[1] <= high[0] + 1e-12


@settings(deadline=None)
@given(COUNTS)
def test_bounds_mirror(counts):
    """The upper bound of a property is one minus the lower bound of its absence."""
    x, n = counts
    low, high = bounds.rate([x, n - x], n)
    assert 1 - low[::-1] == pytest.approx(high, abs=1e-12)


def test_repeated_pairs_are_the_same_as_one_by_one():
    """Whole arrays, in which pairs repeat, give what each pair gives alone, in any shape."""
    rng = np.random.default_rng(5)
    n = rng.integers(1, 30, (20, 50))
    x = rng.integers(0, n + 1)
    low, high = bounds.rate(x, n)
    p = bounds.p_at_most(x, n, 0.1)
    assert low.shape == high.shape == p.shape == (20, 50)
    for at in ((0, 0), (7, 13), (19, 49)):
        assert (low[at], high[at]) == tuple(bounds.rate(x[at], n[at]))
        assert p[at] == bounds.p_at_most(x[at], n[at], 0.1)
    assert bounds.p_at_most(x, n, np.full(n.shape, 0.1)) == pytest.approx(p, rel=1e-14)


def test_a_cohort_without_cases_is_unknown():
    """Nothing seen leaves the whole range, for every method, in an array with others."""
    for method in bounds.METHODS:
        low, high = bounds.rate([0, 3], [0, 10], method=method)
        assert (low[0], high[0]) == (0, 1)
        assert 0 < low[1] < high[1] < 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: bounds.rate(1, 2, method="wald"),
            "'wald' is not a method. Allowed: 'clopper-pearson', 'wilson', 'jeffreys'.",
        ),
        (lambda: bounds.rate(1, 2, confidence=95), "confidence is 95; it must lie between 0.5 and 1"),
        (lambda: bounds.rate(3, 2), "every count must lie between 0 and its number of cases"),
        (lambda: bounds.rate(-1, 2), "every count must lie between 0 and its number of cases"),
        (lambda: bounds.p_at_most(1, 2, 1.5), "a budget for a rate lies between 0 and 1, not 1.5."),
        (lambda: bounds.stratified([0.5, 0.5], [10, 10], [1, 11]), "every count must lie between 0 and its number"),
        (lambda: bounds.stratified([0.5, 0.5], [10, 10], [1, -1]), "every count must lie between 0 and its number"),
        (lambda: bounds.stratified([1.5, -0.5], [10, 10], [1, 1]), "shares must not be negative"),
        (lambda: bounds.tango(6, 5, 10), "discordant pairs must not be negative or more than all pairs"),
        (lambda: bounds.tango(-1, 5, 10), "discordant pairs must not be negative"),
        (lambda: bounds.tango(5, -1, 10), "discordant pairs must not be negative"),
        (lambda: bounds.p_difference_at_most(1, 1, 10, 5), "a difference of rates lies between -1 and 1, not 5."),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    """Impossible counts, budgets and confidences are errors that say what is allowed."""
    with pytest.raises(ValueError) as caught:
        call()
    assert message in str(caught.value)


@given(st.integers(0, 60), st.integers(0, 60), st.sampled_from([0.9, 0.95, 0.975]))
def test_bounds_for_drawing_are_scipys(count, others, confidence):
    """Wilson's are those of `binomtest`, Jeffreys' the quantiles of a Beta distribution, but for 0 and 1 at the ends."""
    nobs = count + others
    assume(nobs > 0)
    wilson = binomtest(count, nobs).proportion_ci(confidence_level=2 * confidence - 1, method="wilson")
    jeffreys = beta(count + 0.5, others + 0.5).ppf([1 - confidence, confidence])
    for method, low, high in (("wilson", wilson.low, wilson.high), ("jeffreys", *jeffreys)):
        found = np.array(bounds.rate(count, nobs, confidence=confidence, method=method))
        assert found == pytest.approx([low if count else 0.0, high if others else 1.0])


def test_a_stratified_audit_gives_the_worked_example():
    """Five strata, one small and bad: the weighted rate, its standard error, both sizes and both bounds."""
    audit = bounds.stratified([0.5, 0.2, 0.15, 0.1, 0.05], [60] * 5, [2, 3, 2, 1, 20])
    assert audit.value == pytest.approx(0.05)
    assert audit.se == pytest.approx(0.01390, abs=5e-6)
    assert audit.n_ht == pytest.approx(245.8, abs=0.05)
    assert audit.n_kish == pytest.approx(184.62, abs=0.005)
    assert (audit.low, audit.high) == pytest.approx((0.0266, 0.0851), abs=5e-5)
    assert bounds.stratified([0.5, 0.2, 0.15, 0.1, 0.05], [60] * 5, [0] * 5).high == pytest.approx(0.0161, abs=5e-5)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_bounds_of_strata_have_the_confidence_asked_for(confidence):
    """The bounds are those of the effective counts at that confidence, in one stratum and in several."""
    audit = bounds.stratified([[0.8, 0.2], [1, 0]], [[60, 40], [60, 0]], [[2, 9], [2, 0]], confidence=confidence)
    assert [audit.low, audit.high] == pytest.approx(
        np.array(bounds.rate(audit.count, audit.nobs, confidence=confidence))
    )
    assert [audit.low[1], audit.high[1]] == pytest.approx(np.array(bounds.rate(2, 60, confidence=confidence)))


@settings(deadline=None)
@given(COUNTS, st.floats(0.01, 100))
def test_one_stratum_is_the_plain_sample(counts, share):
    """A single stratum gives Clopper-Pearson, whatever its share is called, also beside strata without share."""
    x, n = counts
    plain = np.array(bounds.rate(x, n))
    one = bounds.stratified([share], [n], [x])
    beside = bounds.stratified([share, 0], [n, 0], [x, 0])
    assert [one.low, one.high] == pytest.approx(plain, abs=1e-9)
    assert [beside.low, beside.high] == pytest.approx(plain, abs=1e-9)


def test_a_stratum_without_cases_leaves_the_rate_unknown():
    """A share that nobody looked at cannot be part of a bound."""
    audit = bounds.stratified([[0.9, 0.1], [0.9, 0.1]], [[100, 0], [100, 20]], [[0, 0], [0, 0]])
    assert np.isnan(audit.value).tolist() == [True, False]
    assert (audit.low[0], audit.high[0]) == (0, 1)
    assert audit.high[1] < 0.1
    assert bounds.p_at_most(audit.count, audit.nobs, 0.1)[0] == 1.0


def test_a_stratum_of_one_case_widens_the_bounds():
    """One case shows no spread; it must not make the estimate surer than two like it."""
    one = bounds.stratified([0.7, 0.3], [100, 1], [5, 0])
    two = bounds.stratified([0.7, 0.3], [100, 2], [5, 0])
    assert one.se > two.se
    assert one.high > two.high


@settings(deadline=None)
@given(COUNTS, st.floats(0.01, 100))
def test_equal_weights_are_no_weights(counts, weight):
    """Cases that all weigh the same give their plain count back, exactly enough for the same bounds."""
    x, n = counts
    value = x / n
    variance = bounds.linearised_variance(n * weight, n * weight**2, x * weight**2, value, n)
    count, nobs = bounds.effective(value, variance, n * weight, n * weight**2, nobs=n)
    assert count == pytest.approx(x, rel=1e-9)
    assert nobs == n


def test_the_variance_of_a_weighted_rate_is_the_spread_of_its_parts():
    """Both variance formulas equal the textbook sum over cases, and each other for clusters of one."""
    rng = np.random.default_rng(3)
    w, d = rng.uniform(0.2, 3, 200), rng.random(200) < 0.1
    value = (w * d).sum() / w.sum()
    textbook = 200 / 199 * (w**2 * (d - value) ** 2).sum() / w.sum() ** 2
    by_case = bounds.linearised_variance(w.sum(), (w**2).sum(), (w**2 * d).sum(), value, 200)
    by_unit = bounds.ratio_variance((w**2 * d).sum(), (w**2 * d).sum(), (w**2).sum(), (w * d).sum(), w.sum(), 200)
    assert by_case == pytest.approx(textbook)
    assert by_unit == pytest.approx(textbook)


def test_without_variance_the_weights_are_the_guard():
    """Where no heavy case counts, or only one cluster exists, the effective size is Kish's and stays finite."""
    count, nobs = bounds.effective([0.0, 0.4, np.nan], [0.0, np.nan, np.nan], [10, 5, 0], [20, 25, 0])
    assert nobs.tolist() == [5, 1, 0]
    assert count.tolist() == [0, 0.4, 0]
    unknown = bounds.effective(np.nan, np.nan, 10, 20)
    assert [float(part) for part in unknown] == [0, 0]


def test_clustered_cases_are_covered_as_promised():
    """20 conversations of about 30 cases, half of the spread between them, rate .02: the guarded bound covers 95%."""
    rng = np.random.default_rng(11)
    runs, clusters, rate, within = 2000, 20, 0.02, 0.5
    sizes = rng.poisson(29, (runs, clusters)) + 1
    strength = (1 - within) / within
    share = rng.beta(rate * strength, (1 - rate) * strength, (runs, clusters))
    bad = rng.binomial(sizes, share).astype(float)
    a, b = bad.sum(axis=1), sizes.sum(axis=1)
    variance = bounds.ratio_variance(
        (bad**2).sum(axis=1), (bad * sizes).sum(axis=1), (sizes**2).sum(axis=1), a, b, clusters
    )
    guarded = bounds.rate(*bounds.effective(a / b, variance, b, (sizes**2).sum(axis=1)))[1]
    rows = bounds.rate(a, b)[1]
    assert (guarded >= rate).mean() >= 0.95
    assert (rows >= rate).mean() < 0.65


def test_stratified_bounds_cover_as_promised():
    """Over seeded random designs the guarded bounds miss no more than they may, up to simulation error."""
    rng = np.random.default_rng(23)
    runs, misses = 2000, []
    for _ in range(12):
        strata = rng.integers(2, 9)
        shares = rng.dirichlet(np.ones(strata))
        nobs = rng.integers(15, 301, strata)
        rates = rng.choice([0.01, 0.02, 0.05, 0.1, 0.3], strata)
        count = rng.binomial(nobs, rates, (runs, strata))
        audit = bounds.stratified(np.broadcast_to(shares, count.shape), np.broadcast_to(nobs, count.shape), count)
        truth = shares @ rates
        misses += [(audit.high < truth).mean(), (audit.low > truth).mean()]
    assert max(misses) <= 0.055 + 4 * math.sqrt(0.055 * 0.945 / runs)
    assert np.median(misses) <= 0.05
