"""Sequences that stay valid: published numbers, laws, and what looking every week does to other tests."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import binom

from cascade_eval import sequential

BUDGET, AUDITS = 0.10, 60


@pytest.mark.parametrize(
    ("s", "f", "p0", "claim", "expected"),
    [(15, 45, 0.10, "above", 32.81), (6, 54, 0.10, "above", 0.0672), (5, 195, 0.10, "below", 1601.19)],
)
def test_the_evidence_of_some_counts_is_the_known_one(s, f, p0, claim, expected):
    """Worked values of the Beta mixture."""
    found = float(np.exp(sequential.log_e_process(s, f, p0, claim=claim)))
    assert found == pytest.approx(expected, rel=4e-4)


def slow_e(s, f, p0, a, b, *, above):
    """Average the likelihood ratio over the cut prior, by quadrature."""
    low, high = (p0, 1.0) if above else (0.0, p0)

    def prior(p):
        return p ** (a - 1) * (1 - p) ** (b - 1)

    def weighted(p):
        return prior(p) * (p / p0) ** s * ((1 - p) / (1 - p0)) ** f

    return quad(weighted, low, high, limit=400)[0] / quad(prior, low, high, limit=400)[0]


@given(
    st.integers(0, 40),
    st.integers(0, 80),
    st.floats(0.05, 0.6),
    st.sampled_from([(1.0, 1.0), (2.0, 8.0)]),
    st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_evidence_is_the_average_likelihood_ratio(s, f, p0, shape, above):
    """The closed form equals numerical integration."""
    found = sequential.log_e_process(s, f, p0, *shape, claim="above" if above else "below")
    assert float(found) == pytest.approx(math.log(slow_e(s, f, p0, *shape, above=above)), abs=1e-5)


@pytest.mark.parametrize("claim", ["above", "below"])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_under_the_budget_evidence_is_a_fair_bet(claim, n):
    """At the budget itself the mean of E is exactly 1: nobody earns by betting against the truth."""
    s = np.arange(n + 1)
    e = np.exp(sequential.log_e_process(s, n - s, 0.2, claim=claim))
    assert float(e @ binom.pmf(s, n, 0.2)) == pytest.approx(1.0)


def test_evidence_far_in_the_tail_is_finite_and_falls():
    """Where the tail of the Beta distribution underflows, the logarithm is still the right one."""
    f = np.array([2_000, 20_000, 200_000])
    found = sequential.log_e_process(0, f, 0.10)
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()
    # The same tail by its leading term: (1 - p0)^(b + f) cancels, and what is left falls as 1 / f^(1/2 + 1/2).
    assert np.diff(found).tolist() == pytest.approx([-math.log(10)] * 2, rel=0.03)


def log_of(ratio):
    """Logarithm of a fraction, however small."""
    return math.log(ratio.numerator) - math.log(ratio.denominator)


@pytest.mark.parametrize("claim", ["above", "below"])
@pytest.mark.parametrize(
    ("s", "f", "budget"),
    [
        (0, 5_000, Fraction(1, 2)), (3, 2_500, Fraction(1, 2)), (40, 3_000, Fraction(2, 5)), (7, 20, Fraction(1, 10)),
        (60, 90, Fraction(1, 50)), (80, 0, Fraction(1, 10)),
    ],
)  # fmt: skip
def test_evidence_is_exact_however_far_in_the_tail(claim, s, f, budget):
    """Under a flat prior the tail is a sum of binomial terms: added up in fractions it is the same to twelve digits."""
    if claim == "below":
        s, f, budget = f, s, 1 - budget
    n, wanted = s + f + 1, s if claim == "above" else f
    p = budget if claim == "above" else 1 - budget
    # P(Beta(s + 1, f + 1) > p) = P(Binomial(n, p) <= s), term by term from the last one.
    term = math.comb(n, wanted) * p**wanted * (1 - p) ** (n - wanted)
    tail = Fraction(0)
    for k in range(wanted, -1, -1):
        tail += term
        term *= Fraction(k, n - k + 1) * (1 - p) / p
    exact = (
        log_of(tail)
        - log_of(1 - p)
        - math.log(n)
        - log_of(Fraction(math.comb(n - 1, s)) * budget**s * (1 - budget) ** f)
    )
    found = sequential.log_e_process(s, f, float(budget), 1.0, 1.0, claim=claim)
    assert float(found) == pytest.approx(exact, rel=1e-9, abs=1e-9)


def test_nothing_seen_is_no_evidence():
    """Without cases E is 1."""
    assert float(sequential.log_e_process(0, 0, 0.1)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("s", "p0"), [(-1, 0.1), (1, 0.0), (1, 1.0)])
def test_impossible_counts_and_budgets_are_refused(s, p0):
    """Negative counts and budgets of 0 or 1 are errors, not numbers."""
    for counts, others, budget in ((s, 5, p0), ([1, s], [5, 5], [0.1, p0]), (5, [1, min(s, 0)], [0.1, p0])):
        with pytest.raises(ValueError, match=r"negative|between 0 and 1"):
            sequential.log_e_process(counts, others, budget)


def test_the_confidence_sequence_is_the_known_one():
    """15 of 300: the known bounds, which were found on a grid of half a thousandth; they enclose the fixed-n ones."""
    low, high = sequential.confidence_sequence(15, 300)
    assert 0.0175 <= low < 0.0180
    assert 0.0965 < high <= 0.0970
    assert low < 0.0311
    assert high > 0.0759


@given(st.integers(0, 50), st.integers(0, 200), st.floats(0.8, 0.99))
@settings(max_examples=25, deadline=None)
def test_the_confidence_sequence_inverts_the_evidence(count, others, confidence):
    """Just outside the bounds the evidence suffices, just inside it does not."""
    low, high = sequential.confidence_sequence(count, count + others, confidence=confidence)
    limit = -math.log(1 - confidence)
    assert 0 <= low <= high <= 1
    for end, claim, out in ((low, "above", -1e-6), (high, "below", 1e-6)):
        if 1e-4 < end < 1 - 1e-4:
            assert sequential.log_e_process(count, others, end + out, claim=claim) >= limit - 1e-3
            assert sequential.log_e_process(count, others, end - out, claim=claim) <= limit + 1e-3


@pytest.mark.parametrize("nobs", [2, 30, 300])
def test_none_and_all_have_open_ends_and_a_single_case_does_not(nobs):
    """Only where none was seen may the rate be 0, and only where all were, 1."""
    low, high = sequential.confidence_sequence([0, 1, nobs - 1, nobs], nobs)
    assert (low[0], high[-1]) == (0.0, 1.0)
    assert (low[1:] > 0).all()
    assert (high[:-1] < 1).all()


@pytest.mark.parametrize("budget", [0.01, 0.1, 0.25, 0.4])
def test_the_prior_expects_twice_the_budget(budget):
    """As long as that leaves room for more; of a larger budget it expects four in five."""
    a, b = sequential.prior(budget)
    assert (a, a / (a + b)) == (2.0, pytest.approx(2 * budget))
    assert sequential.prior(0.5) == sequential.prior(0.9) == (2.0, 0.5)


def test_the_restarted_likelihood_ratio_is_the_known_one():
    """Five weeks of 60 audits, .20 against .10."""
    x = np.array([4, 6, 9, 14, 15])
    weeks = sequential.log_likelihood_ratio(x, AUDITS - x, 0.10, 0.20)
    expected = [0.0219, 0.1106, 1.2604, 91.60, 14978.96]
    assert np.exp(sequential.cusum(weeks)) == pytest.approx(expected, rel=3e-3)


@given(st.lists(st.one_of(st.floats(-8, 8), st.just(math.nan)), min_size=1, max_size=20))
def test_restarted_sequences_equal_their_recursions(logs):
    """Shiryaev-Roberts and CUSUM, week by week in plain arithmetic; an unmeasured week changes nothing."""
    sr, cs = 0.0, 0.0
    for week, log in enumerate(logs):
        if not math.isnan(log):
            sr, cs = (sr + 1) * math.exp(log), max(cs, 1) * math.exp(log)
        if sr:
            assert sequential.shiryaev_roberts(logs)[week] == pytest.approx(math.log(sr))
            assert sequential.cusum(logs)[week] == pytest.approx(math.log(cs))


@given(st.lists(st.floats(-6, 6), min_size=1, max_size=25), st.floats(5, 500))
def test_an_alarm_is_raised_where_the_free_sequence_first_reaches_it(logs, at):
    """Holding the sequence at the alarm changes nothing before the first one."""
    free = sequential.shiryaev_roberts(logs) >= math.log(at)
    alarm = sequential.watch(logs, at=at).alarm
    assert alarm.any() == free.any()
    if free.any():
        assert alarm.argmax() == free.argmax()


def test_an_alarm_is_let_go_after_as_much_evidence_or_when_nothing_is_kept():
    """It stands through quiet weeks, falls under 1, and ends at once where there is nothing to be wrong about."""
    logs = np.log([200.0, 0.5, 0.5, 0.001, 200.0, 1.0])
    assert sequential.watch(logs).alarm.tolist() == [True, True, True, False, True, True]
    released = np.array([False, True, False, False, False, True])
    assert sequential.watch(logs, released=released).alarm.tolist() == [True, False, False, False, True, False]


def test_an_alarm_stands_while_the_evidence_is_even():
    """At exactly 1 it has not fallen under 1."""
    top = math.log(100.0)
    logs = np.array([top, -np.logaddexp(top, 0.0), -1e-9 - math.log(2.0)])
    found = sequential.watch(logs)
    assert found.log_m[1] == 0.0
    assert found.alarm.tolist() == [True, True, False]


# --- peeking: the tables, by simulation with a fixed seed; bench/peeking.py prints them from more runs ----------------


def audits(rate, weeks, runs, seed):
    """Draw weekly disagreements of so many runs."""
    return np.random.default_rng(seed).binomial(AUDITS, rate, (runs, weeks))


def weeks_to(hits, change):
    """Median and 90% quantile of the weeks from a change to the first alarm; runs that alarmed before are left out."""
    first = np.where(hits.any(axis=1), hits.argmax(axis=1) - change + 1, 10_000)
    return np.quantile(first[first > 0], [0.5, 0.9]).tolist()


def restarted(x, prior):
    """Where the e-SR sequence with a Beta prior stands at its alarm."""
    return sequential.shiryaev_roberts(sequential.log_e_process(x, AUDITS - x, BUDGET, *prior)) >= math.log(100)


def test_looking_every_week_fools_fixed_tests_and_not_the_e_process():
    """A cascade exactly at its budget, looked at 52 times: .835, .234 and .002 of the years have a false alarm."""
    x = audits(BUDGET, 52, 2_000, 1)
    so_far, n = np.cumsum(x, axis=1), AUDITS * np.arange(1, 53)
    weekly = (binom.sf(x - 1, AUDITS, BUDGET) <= 0.05).any(axis=1).mean()
    cumulative = (binom.sf(so_far - 1, n, BUDGET) <= 0.05).any(axis=1).mean()
    process = (sequential.log_e_process(so_far, n - so_far, BUDGET) >= math.log(20)).any(axis=1).mean()
    assert weekly == pytest.approx(0.835, abs=0.03)
    assert cumulative == pytest.approx(0.234, abs=0.035)
    assert process == pytest.approx(0.002, abs=0.005)


def test_looking_after_every_case_still_does_not_fool_the_e_process():
    """600 looks at 600 cases: .022 false alarms, never above .05."""
    x = np.random.default_rng(2).random((800, 600)) < BUDGET
    so_far, n = np.cumsum(x, axis=1), np.arange(1, 601)
    found = (sequential.log_e_process(so_far, n - so_far, BUDGET) >= math.log(20)).any(axis=1).mean()
    assert found == pytest.approx(0.022, abs=0.018)
    assert found <= 0.05


def test_weeks_to_alarm_after_a_large_change():
    """From 5% to 25% at week 30: 17/20 weeks since launch, 2/3 restarted, 1/3 by a corrected weekly test."""
    x = audits(np.where(np.arange(80) < 30, 0.05, 0.25), 80, 1_500, 3)
    so_far, n = np.cumsum(x, axis=1), AUDITS * np.arange(1, 81)
    launch = sequential.log_e_process(so_far, n - so_far, BUDGET) >= math.log(20)
    assert weeks_to(launch, 30) == pytest.approx([17, 20], abs=1)
    assert weeks_to(restarted(x, (0.5, 0.5)), 30) == pytest.approx([2, 3], abs=1)
    assert weeks_to(binom.sf(x - 1, AUDITS, BUDGET) <= 0.05 / 52, 30) == pytest.approx([1, 3], abs=1)


def test_weeks_to_alarm_after_a_small_change():
    """From 5% to 15% at week 10: 24/79 by a corrected weekly test, 8/21 by e-SR, 6/12 by e-CUSUM against 15%."""
    x = audits(np.where(np.arange(160) < 10, 0.05, 0.15), 160, 1_500, 4)
    ratio = sequential.log_likelihood_ratio(x, AUDITS - x, BUDGET, 0.15)
    assert weeks_to(binom.sf(x - 1, AUDITS, BUDGET) <= 0.05 / 52, 10) == pytest.approx([24, 79], abs=8)
    assert weeks_to(restarted(x, sequential.prior(BUDGET)), 10) == pytest.approx([8, 21], abs=2)
    assert weeks_to(sequential.cusum(ratio) >= math.log(100), 10) == pytest.approx([6, 12], abs=2)


def test_a_restarted_sequence_keeps_its_promise():
    """At the budget, at most one false alarm in 100 weeks on average: at most 40% of years have one."""
    x = audits(BUDGET, 52, 2_000, 5)
    found = sequential.watch(sequential.log_e_process(x, AUDITS - x, BUDGET, *sequential.prior(BUDGET))).alarm
    assert found.any(axis=1).mean() <= 52 / 100 * 0.8
