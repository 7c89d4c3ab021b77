"""Ratios of sums, means, paired differences and Holm's correction."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special

from cascade_eval import bounds

X = np.array([1, 1, 11, 1, 2, 12, 1, 1])
Y = np.array([10, 9, 10, 12, 20, 10, 8, 11])


def moments(x, y):
    """Count and sums as whole numbers or floats, as the data are."""
    return (
        len(x),
        sum(x),
        sum(y),
        sum(a * a for a in x),
        sum(a * b for a, b in zip(x, y, strict=True)),
        sum(b * b for b in y),
    )


PAIRS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=2, max_size=30)


def t_test(x, y, budget):
    """One-sided p-value of mean(x - budget y) below 0, straight from scipy."""
    from scipy import stats

    return stats.ttest_1samp(np.asarray(x) - budget * np.asarray(y), 0, alternative="less").pvalue


def test_the_cost_ratio_gives_the_worked_example():
    """Two-sided 95% of a heavy-tailed ratio: Fieller and log-delta, one-sided 97.5% each."""
    six = moments(X.tolist(), Y.tolist())
    assert sum(X) / sum(Y) == pytest.approx(0.3333, abs=5e-5)
    assert np.round(bounds.fieller(*six, confidence=0.975), 4).tolist() == [-0.0228, 0.7749]
    assert np.round(bounds.log_delta(*six, confidence=0.975), 4).tolist() == [0.1063, 1.0454]


def test_fieller_is_the_solution_of_its_quadratic():
    """The bounds are the roots of the equation in means and their variances, computed the plain way."""
    from scipy import stats

    q = stats.t.ppf(0.95, 7) ** 2
    cov = np.cov(X, Y) / 8
    mx, my = X.mean(), Y.mean()
    roots = np.roots([my**2 - q * cov[1, 1], -2 * (mx * my - q * cov[0, 1]), mx**2 - q * cov[0, 0]])
    assert bounds.fieller(*moments(X.tolist(), Y.tolist())) == pytest.approx(sorted(roots))


@settings(deadline=None)
@given(PAIRS, st.integers(1, 300))
def test_the_ratio_test_is_the_t_test_on_the_difference(pairs, hundredths):
    """The p-value from sums equals scipy's t-test on x - budget y, wherever the denominator is surely positive."""
    x, y = zip(*pairs, strict=True)
    budget = hundredths / 100
    exact = [a - Fraction(hundredths, 100) * b for a, b in pairs]
    assume(len(set(exact)) > 1 and len({Fraction(a, b) for a, b in pairs}) > 1)
    p = bounds.p_ratio_at_most(*moments(x, y), budget)
    plain = t_test(x, y, budget)
    guard = t_test([-b for b in y], y, 0) if len(set(y)) > 1 else 0.0
    assert p == pytest.approx(max(plain, guard), abs=1e-9)


@settings(deadline=None)
@given(PAIRS, st.integers(1, 300), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_the_ratio_test_rejects_exactly_where_fieller_does(pairs, hundredths, confidence):
    """``p <= alpha`` if and only if the Fieller set is finite and its bound on the right side of the budget."""
    six = moments(*zip(*pairs, strict=True))
    budget, alpha = hundredths / 100, bounds.alpha(confidence)
    low, high = bounds.fieller(*six, confidence=confidence)
    assume(abs(high - budget) > 1e-9 and abs(low - budget) > 1e-9)
    assert (bounds.p_ratio_at_most(*six, budget) <= alpha) == (high < budget)
    assert (bounds.p_ratio_at_least(*six, budget) <= alpha) == (low > budget)


def token_costs(rng, runs, n):
    """Draw costs of a cascade and of always-flagship: heavy-tailed tokens, of which the long ones escalate more.

    The cascade costs .642 of always-flagship; the mean of the ratios of single cases is .377.
    """
    z = rng.normal(size=(runs, n))
    flagship = np.exp(1.2 * z)
    escalated = rng.random((runs, n)) < special.ndtr(0.689 * z - 0.544)
    # Whole nano-dollars, as costs are recorded.
    return [np.rint(1e6 * cost).astype(np.int64) for cost in ((0.05 + escalated) * flagship, flagship)]


@pytest.mark.parametrize(
    ("n", "fieller", "log_delta"), [(100, 0.960, 0.938), (300, 0.947, 0.923), (1000, 0.928, 0.930)]
)
def test_bounds_of_a_heavy_tailed_ratio_cover_as_known(n, fieller, log_delta):
    """Two-sided 95%: Fieller covers about that from 100 cases on, the log scale less; a mean of ratios is elsewhere."""
    x, y = token_costs(np.random.default_rng(n), 1500, n)
    xf, yf = x.astype(np.float64), y.astype(np.float64)
    six = (n, x.sum(axis=1), y.sum(axis=1), *((a * b).sum(axis=1) for a, b in ((xf, xf), (xf, yf), (yf, yf))))
    covered = []
    for bound in (bounds.fieller, bounds.log_delta):
        low, high = bound(*six, confidence=0.975)
        covered.append(((low <= 0.642) & (high >= 0.642)).mean())
    assert covered == pytest.approx([fieller, log_delta], abs=0.03)
    assert covered[0] >= covered[1]
    assert np.median(x.sum(axis=1) / y.sum(axis=1)) == pytest.approx(0.642, abs=0.015)
    assert (xf / yf).mean() == pytest.approx(0.377, abs=0.01)


def test_a_denominator_near_zero_decides_nothing():
    """Where always-flagship may have cost nothing the set is unbounded and no p-value is small."""
    six = moments([5, 5, 6, 4], [100, -90, 80, -85])
    assert bounds.fieller(*six) == (-math.inf, math.inf)
    assert bounds.p_ratio_at_most(*six, 1e6) > 0.05
    assert bounds.p_ratio_at_least(*six, 0.0) > 0.05


def test_one_case_decides_nothing():
    """Fewer than two units give NaN, which compares as neither pass nor fail."""
    six = ([0, 1], [0, 3], [0, 9], [0, 9], [0, 27], [0, 81])
    assert np.isnan(bounds.fieller(*six)).all()
    assert np.isnan(bounds.p_ratio_at_most(*six, 0.9)).all()
    assert np.isnan(bounds.p_ratio_at_least(*six, 0.1)).all()
    assert np.isnan(bounds.log_delta(*six)).all()


@pytest.mark.parametrize("scale", [1, 10**9, 10**15])
@pytest.mark.parametrize(
    ("budget", "at_most", "strict", "at_least"), [(0.45, 0, 1, 0), (0.46, 0, 0, 1), (0.44, 1, 1, 0)]
)
def test_without_any_spread_the_sign_decides(scale, budget, at_most, strict, at_least):
    """Costs of .45 y in every case, at any magnitude: on the budget passes, beyond it fails, exactly."""
    y = [100 * scale, 300 * scale, 700 * scale + 200]
    x = [45 * b // 100 for b in y]
    six = moments(x, y)
    assert bounds.p_ratio_at_most(*six, budget) == at_most
    assert bounds.p_ratio_at_most(*six, budget, strict=True) == strict
    assert bounds.p_ratio_at_least(*six, budget) == at_least
    assert bounds.fieller(*six) == pytest.approx((0.45, 0.45), rel=1e-12)


def test_a_mean_without_any_spread_is_exactly_itself():
    """Three cases of 2.0: "at most 2" and "at least 2" pass, and neither fails by its strict test."""
    three = (3, 6, 12)
    assert [bounds.p_mean_at_most(*three, 2.0), bounds.p_mean_at_least(*three, 2.0)] == [0, 0]
    strict = [bounds.p_mean_at_most(*three, 2.0, strict=True), bounds.p_mean_at_least(*three, 2.0, strict=True)]
    assert strict == [1, 1]


def test_whole_numbers_of_any_size_keep_their_spread():
    """Nano-dollars near 1e15 whose spread is one part in 1e14: floats would lose it, whole numbers do not."""
    x = [10**15 + d for d in (1, 5, 9, 2, 7)]
    y = [2 * 10**15 + d for d in (3, 1, 8, 8, 4)]
    small = [1, 5, 9, 2, 7]
    n, total, square = 5, sum(x), sum(a * a for a in x)
    low, high = bounds.mean(n, total, square)
    shifted = bounds.mean(5, sum(small), sum(a * a for a in small))
    assert [low - 10**15, high - 10**15] == pytest.approx(np.array(shifted), abs=0.2)
    as_arrays = [np.array([m], dtype=object) for m in moments(x, y)]
    low, high = bounds.fieller(*as_arrays)
    assert low[0] < 0.5 < high[0]
    assert high[0] - low[0] < 1e-14


def test_float_sums_of_equal_costs_have_no_spread():
    """Rounding noise in sums of floats is not mistaken for a spread: equal costs settle on the budget."""
    x, y = [0.1] * 1000, [0.3] * 1000
    six = moments(x, y)
    assert bounds.p_ratio_at_most(*six, 0.34) == 0
    assert bounds.p_ratio_at_most(*six, 0.33) == 1
    assert bounds.mean(1000, six[1], six[3]) == pytest.approx((0.1, 0.1))


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=40))
def test_bounds_of_a_mean_are_students(values):
    """From sums alone, the t bounds and p-values of scipy."""
    from scipy import stats

    values = np.round(values, 3)
    assume(values.std() > 1e-2)
    n, total, square = len(values), values.sum(), (values**2).sum()
    half = stats.t.ppf(0.95, n - 1) * values.std(ddof=1) / math.sqrt(n)
    assert bounds.mean(n, total, square) == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-6)
    assert bounds.p_mean_at_most(n, total, square, 1.5) == pytest.approx(t_test(values, np.ones(n), 1.5), abs=1e-5)
    assert bounds.p_mean_at_least(n, total, square, 1.5) == pytest.approx(1 - t_test(values, np.ones(n), 1.5), abs=1e-5)


@settings(deadline=None)
@given(PAIRS)
def test_more_confidence_never_narrows_a_ratio(pairs):
    """Fieller, log-delta and t bounds widen with confidence."""
    six = moments(*zip(*pairs, strict=True))
    for make in (
        lambda c: bounds.fieller(*six, confidence=c),
        lambda c: bounds.mean(six[0], six[1], six[3], confidence=c),
    ):
        low, high = zip(*map(make, (0.8, 0.9, 0.95, 0.99)), strict=True)
        assert all(a >= b - 1e-9 for a, b in pairwise(low))
        assert all(a <= b + 1e-9 for a, b in pairwise(high))


def test_cohorts_are_computed_together_as_alone():
    """Arrays of sums, one entry per cohort, give what each cohort gives alone."""
    both = [np.array(pair) for pair in zip(moments([1, 2, 5], [3, 4, 9]), moments(X.tolist(), Y.tolist()), strict=True)]
    low, high = bounds.fieller(*both)
    assert (low[1], high[1]) == bounds.fieller(*moments(X.tolist(), Y.tolist()))
    assert bounds.p_ratio_at_most(*both, 0.7).shape == (2,)


def test_an_unknown_sum_is_refused():
    """A NaN among the sums is an error, not a bound."""
    with pytest.raises(ValueError, match="leave unknown values out before summing"):
        bounds.mean(2, math.nan, 3.0)


def test_paired_tests_give_the_worked_example():
    """28 cases against 12 of 1000: exact, mid-p and one-sided p-values, and Tango's two-sided 95%."""
    test = bounds.mcnemar(28, 12)
    assert np.round([test.exact, test.mid_p, test.regression], 4).tolist() == [0.0166, 0.0115, 0.0083]
    assert np.round(bounds.tango(28, 12, 1000, confidence=0.975), 4).tolist() == [0.0038, 0.0295]


def test_paired_tests_have_the_stated_size_and_power():
    """N = 500, 4% discordant: size .029 (exact) and .046 (mid-p), power .543 and .616 at 3 to 1; no simulation."""
    from scipy import stats

    found = {}
    for name, split in (("size", 0.5), ("power", 0.75)):
        exact = mid = 0.0
        for m in range(81):
            b = np.arange(m + 1)
            mass = stats.binom.pmf(m, 500, 0.04) * stats.binom.pmf(b, m, split)
            test = bounds.mcnemar(b, m - b)
            exact += mass[test.exact <= 0.05].sum()
            mid += mass[test.mid_p <= 0.05].sum()
        found[name] = exact, mid
    assert found["size"] == pytest.approx((0.029, 0.046), abs=0.002)
    assert found["power"] == pytest.approx((0.543, 0.616), abs=0.001)


def test_no_discordant_pair_is_no_difference():
    """Two equal cascades give p-values of 1 and bounds around 0; no pair at all gives the whole range."""
    assert bounds.mcnemar(0, 0) == (1, 1, 1)
    low, high = bounds.tango([0, 0], [0, 0], [100, 0])
    assert low[0] == pytest.approx(-high[0])
    assert 0.02 < high[0] < 0.03
    assert (low[1], high[1]) == (-1, 1)
    assert np.isnan(bounds.p_difference_at_most(0, 0, 0, 0.1))


DISCORDANT = st.integers(1, 300).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda b: st.tuples(st.just(b), st.integers(0, n - b), st.just(n)))
)


@settings(deadline=None)
@given(DISCORDANT, st.floats(-0.99, 0.99), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_difference_test_rejects_exactly_where_tango_does(pairs, margin, confidence):
    """``p <= alpha`` if and only if the Tango bound lies on the right side of the margin."""
    low, high = bounds.tango(*pairs, confidence=confidence)
    assume(abs(high - margin) > 1e-9 and abs(low - margin) > 1e-9)
    alpha = bounds.alpha(confidence)
    assert (bounds.p_difference_at_most(*pairs, margin) <= alpha) == (high < margin)
    assert (bounds.p_difference_at_least(*pairs, margin) <= alpha) == (low > margin)


@settings(deadline=None)
@given(DISCORDANT)
def test_tango_mirrors_and_holds_the_difference(pairs):
    """Swapping the cascades mirrors the bounds, which always enclose the observed difference."""
    b, c, n = pairs
    low, high = bounds.tango(b, c, n)
    assert bounds.tango(c, b, n) == pytest.approx((-high, -low), abs=1e-7)
    assert low - 1e-9 <= (b - c) / n <= high + 1e-9


@settings(deadline=None)
@given(DISCORDANT, st.floats(-0.95, 0.95))
def test_the_score_is_taken_at_the_most_likely_discordance(pairs, margin):
    """The nuisance share inside Tango's statistic maximises the likelihood under the margin, checked on a grid."""
    from scipy import special

    b, c, n = pairs
    p = float(bounds.p_difference_at_most(b, c, n, margin))
    shares = np.linspace(max(0.0, -margin), (1 - margin) / 2, 20001)
    with np.errstate(divide="ignore"):
        likelihood = (
            special.xlogy(b, shares + margin)
            + special.xlogy(c, shares)
            + special.xlogy(n - b - c, np.maximum(1 - 2 * shares - margin, 0))
        )
    share = shares[np.argmax(likelihood)]
    variance = n * (2 * share + margin * (1 - margin))
    assume(variance > 1e-3)
    assert p == pytest.approx(special.ndtr((b - c - n * margin) / math.sqrt(variance)), abs=5e-3)


def test_holm_gives_the_worked_example():
    """Four cohorts at a budget of 10%: p-values, their adjustment, and what it decides."""
    p = bounds.p_at_least([2, 4, 9, 25], [100, 120, 60, 100], 0.10)
    assert p == pytest.approx([0.99968, 0.99843, 0.14164, 0.00001], abs=5e-6)
    assert bounds.holm(p) == pytest.approx([1, 1, 0.42491, 0.00005], abs=5e-6)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_step_down_procedure(p):
    """A test is rejected by its adjusted p-value exactly where stepping down from the smallest p-value rejects it."""
    adjusted = bounds.holm(p)
    for alpha in (0.01, 0.05, 0.2):
        rejected = set()
        for step, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
            if p[index] * (len(p) - step) > alpha:
                break
            rejected.add(index)
        assert {i for i, a in enumerate(adjusted) if a <= alpha} == rejected


def test_what_cannot_be_tested_still_counts_in_its_family():
    """A NaN stays NaN and the others are corrected for it."""
    assert bounds.holm([0.02, math.nan]) == pytest.approx([0.04, math.nan], nan_ok=True)
    assert bounds.holm([]).shape == (0,)
