"""Mix against behaviour: exact splits, and trends that are not fooled by weeks that differ anyway."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm
from scipy.stats import t as student

from cascade_eval import bounds, drift

BEFORE, AFTER = ([1750, 875, 200], [7000, 2500, 500]), ([1375, 875, 400], [5500, 2500, 2000])


def test_kitagawa_is_the_known_one():
    """Total -.0175 = within -.0250 + mix +.0075, and 95% bounds of the first part."""
    split = drift.kitagawa(*BEFORE, *AFTER, confidence=0.975)
    assert [split.total, split.within, split.mix] == pytest.approx([-0.0175, -0.0250, 0.0075])
    assert [split.low, split.high] == pytest.approx([-0.0380, -0.0120], abs=5e-5)


CASES = st.one_of(st.just((0, 0)), st.tuples(st.integers(0, 50), st.integers(0, 50)))
PERIOD = st.lists(CASES, min_size=3, max_size=3)


@given(PERIOD, PERIOD)
def test_the_split_has_no_residual_and_an_absent_cohort_is_all_mix(before, after):
    """The parts add up to the change of the aggregate; a cohort without cases in one period changes nothing within."""
    (x0, n0), (x1, n1) = (
        (np.array([a for a, _ in period]), np.array([a + b for a, b in period])) for period in (before, after)
    )
    if not n0.sum() or not n1.sum():
        with pytest.raises(ValueError, match="without cases"):
            drift.kitagawa(x0, n0, x1, n1)
        return
    split = drift.kitagawa(x0, n0, x1, n1)
    assert split.total == pytest.approx(x1.sum() / n1.sum() - x0.sum() / n0.sum())
    assert split.within_each.sum() + split.mix_each.sum() == pytest.approx(split.total)
    assert (split.within_each[(n0 == 0) | (n1 == 0)] == 0).all()
    assert split.low <= split.within <= split.high


def test_an_absent_cohort_adds_no_spread():
    """What is all mix has no within-cohort change to be unsure of."""
    one = drift.kitagawa([30], [100], [40], [100])
    both = drift.kitagawa([30, 0], [100, 0], [40, 50], [100, 100], weight1=[1, 1])
    assert both.high - both.low == pytest.approx(0.75 * (one.high - one.low))


@given(PERIOD, PERIOD)
def test_going_back_undoes_the_split(before, after):
    """Exchanging the periods changes the sign of both parts."""
    (x0, n0), (x1, n1) = (
        (np.array([a for a, _ in period]), np.array([a + b + 1 for a, b in period])) for period in (before, after)
    )
    there, back = drift.kitagawa(x0, n0, x1, n1), drift.kitagawa(x1, n1, x0, n0)
    assert [there.within, there.mix] == pytest.approx([-back.within, -back.mix])


def test_weights_say_how_much_traffic_a_cohort_is():
    """Shares come from the weights, rates from the counts."""
    plain = drift.kitagawa([10, 30], [100, 100], [10, 30], [100, 100], weight0=[9, 1], weight1=[5, 5])
    assert [plain.within, plain.mix] == pytest.approx([0.0, 0.4 * 0.2])


def test_the_standardised_series_ignores_the_mix():
    """With rates that stay, the series is flat whatever the shares; a missing cohort leaves it to the others."""
    rates = np.array([[0.2, 0.2, 0.2], [0.6, 0.6, np.nan]])
    assert drift.standardised(rates, [3, 1]) == pytest.approx([0.3, 0.3, 0.2])
    assert np.isnan(drift.standardised([[np.nan]], [1])).all()


# --- trends --------------------------------------------------------------------------------------------------------


def slow_trend(x, n, weeks):
    """Fit one cohort by a general optimiser; slope, error, p-free dispersion."""

    def loss(at):
        eta = at[0] + at[1] * weeks
        return float(np.sum(n * np.logaddexp(0, eta) - x * eta))

    level, slope = minimize(loss, [0.0, 0.0], method="BFGS", options={"gtol": 1e-9}).x
    fitted = 1 / (1 + np.exp(-(level + slope * weeks)))
    design = np.stack([np.ones_like(weeks), weeks], axis=1)
    spread = n * fitted * (1 - fitted)
    dispersion = float(((x - n * fitted) ** 2 / spread).sum()) / (len(x) - 2)
    error = np.sqrt(dispersion * np.linalg.inv(design.T @ (design * spread[:, None]))[1, 1])
    return slope, error, dispersion


@given(st.integers(0, 10_000), st.integers(4, 14))
@settings(max_examples=40, deadline=None)
def test_the_fit_of_many_cohorts_equals_one_by_one(seed, weeks):
    """Slopes, errors and dispersions of the vectorised fit against a general optimiser."""
    rng = np.random.default_rng(seed)
    n = rng.integers(20, 400, (3, weeks))
    x = rng.binomial(n, rng.uniform(0.1, 0.9, (3, 1)))
    when = np.sort(rng.choice(40, weeks, replace=False)).astype(float)
    found = drift.trend(x, n, when)
    for i in range(3):
        slope, error, dispersion = slow_trend(x[i], n[i], when - when.mean())
        assert found.slope[i] == pytest.approx(slope, abs=2e-5)
        assert found.error[i] == pytest.approx(error, rel=1e-3, abs=1e-9)
        assert found.dispersion[i] == pytest.approx(dispersion, rel=1e-3, abs=1e-9)
        assert found.df[i] == weeks - 2


@pytest.mark.parametrize(
    ("x", "n"),
    [
        ([0, 0, 0, 0, 0], [50] * 5),
        ([50] * 5, [50] * 5),
        ([1, 2, 3], [50] * 3),
        ([5, 0, 0, 0, 6], [50, 0, 0, 0, 50]),
        ([0] * 5, [0] * 5),
    ],
    ids=["never", "always", "three weeks", "two weeks with cases", "no case"],
)
def test_what_has_no_slope_is_never_significant(x, n):
    """No movement, or too few weeks, give a p-value of 1 and no warning."""
    found = drift.trend([x], [n])
    assert found.p.tolist() == [1.0]


def test_a_cohort_that_stops_has_a_finite_fit():
    """Half of its weeks at zero: the slope is steep and finite."""
    found = drift.trend([[40, 41, 39, 40, 0, 0, 0, 0]], [[60] * 8])
    assert np.isfinite(found.slope).all()
    assert found.slope[0] < -0.5


SHARES, RATES = np.array([0.50, 0.20, 0.15, 0.10, 0.05]), np.array([0.25, 0.28, 0.30, 0.26, 0.10])


def weeks_of(kind, runs, seed, weeks=12, a_week=5_000):
    """Twelve weeks of five cohorts whose log odds vary by .12 from week to week."""
    t = np.linspace(0, 1, weeks)
    odds = np.repeat(np.log(RATES / (1 - RATES))[:, None], weeks, axis=1)
    shares = np.repeat(SHARES[:, None], weeks, axis=1)
    if kind == "mix":
        shares = SHARES[:, None] * (1 - t) + np.array([0.35, 0.20, 0.30, 0.10, 0.05])[:, None] * t
    if kind == "one cohort stops":
        rate = RATES[4] * (1 - t) + 0.005 * t
        odds[4] = np.log(rate / (1 - rate))
    if kind == "all fall":
        odds = odds - 0.38 * t
    rng = np.random.default_rng(seed)
    n = rng.poisson(a_week * shares, (runs, 5, weeks))
    x = rng.binomial(n, 1 / (1 + np.exp(-(odds + rng.normal(0, 0.12, (runs, 5, weeks))))))
    return x, n


def per_cohort(x, n):
    """Whether any cohort has a trend after Holm, by run."""
    p = drift.trend(x.reshape(-1, x.shape[2]), n.reshape(-1, x.shape[2])).p.reshape(len(x), -1)
    return np.array([bounds.holm(row).min() <= 0.05 for row in p])


@pytest.mark.parametrize(
    ("kind", "over_three", "over_five", "binomial", "cohorts"),
    [
        ("nothing", 0.133, 0.013, 0.380, 0.033),
        ("mix", 0.133, 0.020, 0.380, 0.073),
        ("one cohort stops", 0.167, 0.020, 0.373, 1.000),
        ("all fall", 0.973, 0.773, 1.000, 0.947),
    ],
)
def test_only_the_trend_of_each_cohort_tells_drift_from_noise(kind, over_three, over_five, binomial, cohorts):
    """Share of runs each rule flags, with the known figures to within the error of both simulations.

    The cohorts' rates and the size of the mix shift are ours, so a mix shift moves the aggregate less or more than in
    the published table; what has to hold is that the trend of each cohort does not see it.
    """
    x, n = weeks_of(kind, 600, 11)
    rate = x.sum(axis=1) / n.sum(axis=1)
    away = np.abs(rate[:, -1] - rate[:, 0])
    whole = drift.trend(x.sum(axis=1), n.sum(axis=1))
    naive = 2 * norm.sf(np.abs(whole.t) * np.sqrt(whole.dispersion)) <= 0.05
    assert (away > 0.03).mean() == pytest.approx(over_three, abs=0.11)
    assert (away > 0.05).mean() == pytest.approx(over_five, abs=0.10)
    assert naive.mean() == pytest.approx(binomial, abs=0.13)
    assert per_cohort(x, n).mean() == pytest.approx(cohorts, abs=0.06)


def test_few_decisions_move_without_any_drift():
    """At 500 decisions a week and a rate of .30, last and first week differ by over 3 points in 30% of series."""
    x = np.random.default_rng(12).binomial(500, 0.30, (20_000, 2)) / 500
    assert (np.abs(x[:, 1] - x[:, 0]) > 0.03).mean() == pytest.approx(0.30, abs=0.015)


# --- sudden shifts -------------------------------------------------------------------------------------------------


def test_a_sudden_stop_is_seen_at_once_and_hides_from_the_trend():
    """After six steady weeks a cohort stops escalating: the shift is beyond doubt, the trend is not."""
    x, n = [[52, 48, 50, 49, 51, 50, 0]], [[80] * 7]
    assert drift.shift(x, n).p[0] < 2e-4
    assert drift.trend(x, n).p[0] > 0.01


@pytest.mark.parametrize(("a_week", "noise"), [(300, 0.0), (1_500, 0.0), (1_500, 0.12)])
def test_a_year_of_weekly_looks_raises_few_false_alarms(a_week, noise):
    """Held to alpha over 52 looks, trend and shift flag at most 5% of quiet years (and the simulation's error)."""
    rng = np.random.default_rng(13)
    runs, year = 150, 52
    odds = np.log(RATES / (1 - RATES))[:, None] + rng.normal(0, noise, (runs, 5, year)) if noise else None
    n = rng.poisson(a_week * SHARES[:, None], (runs, 5, year))
    x = rng.binomial(n, RATES[:, None] if odds is None else 1 / (1 + np.exp(-odds)))
    for test in (drift.trend, drift.shift):
        flagged = np.zeros(runs, dtype=bool)
        for end in range(4, year + 1):
            near = slice(max(0, end - 12), end)
            p = test(x[:, :, near].reshape(runs * 5, -1), n[:, :, near].reshape(runs * 5, -1)).p.reshape(runs, 5)
            flagged |= p.min(axis=1) * 5 <= 0.05 / 52
        assert flagged.mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)


def slow_shift(x, n):
    """Compare one cohort's last week with the others, one week at a time; None where there is too little."""
    weeks = [(a, b) for a, b in zip(x[:-1], n[:-1], strict=True) if b]
    if len(weeks) < 3 or not n[-1]:
        return None
    past = sum(b for _, b in weeks)
    share = (sum(a for a, _ in weeks) + 0.5) / (past + 1)
    chance = share * (1 - share)
    dispersion = max(1.0, sum((a - b * share) ** 2 / (b * chance) for a, b in weeks) / (len(weeks) - 1))
    # The last week varies by itself, and so does the rate it is compared with.
    error = math.sqrt(dispersion * chance * (n[-1] + n[-1] ** 2 / past))
    away = max(abs(x[-1] - n[-1] * share) - 0.5, 0.0)
    return dispersion, 2 * student.sf(away / error, len(weeks) - 1)


WEEKS = st.lists(st.one_of(st.just((0, 0)), st.tuples(st.integers(0, 30), st.integers(1, 60))), min_size=2, max_size=9)


@given(WEEKS)
def test_a_shift_equals_the_comparison_week_by_week(weeks):
    """Rates, dispersion and p-value against plain arithmetic; weeks without cases count for nothing."""
    x, n = [a for a, _ in weeks], [a + b for a, b in weeks]
    found, expected = drift.shift([x], [n]), slow_shift(x, n)
    assert np.isnan(found.last[0]) if not n[-1] else found.last[0] == x[-1] / n[-1]
    assert np.isnan(found.before[0]) if not sum(n[:-1]) else found.before[0] == pytest.approx(sum(x[:-1]) / sum(n[:-1]))
    if expected is None:
        assert found.p.tolist() == [1.0]
        assert np.isnan(found.dispersion[0])
    else:
        assert [found.dispersion[0], found.p[0]] == pytest.approx(expected)


@pytest.mark.parametrize(("x", "n"), [([1, 2], [50, 50]), ([5, 5, 5, 0], [50, 50, 50, 0]), ([0] * 6, [0] * 6)])
def test_what_cannot_be_compared_has_not_shifted(x, n):
    """Too few weeks, or no case in the last one, give a p-value of 1."""
    assert drift.shift([x], [n]).p.tolist() == [1.0]
