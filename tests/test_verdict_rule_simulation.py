"""What the rule for verdicts over cohorts promises, by seeded simulation against a rule on point estimates.

PASS: every cohort's p-value for "within budget" is at most alpha. FAIL: any Holm-adjusted p-value for "over budget"
is. The frequencies are those of six cohorts judged against a budget of 10%.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from cascade_eval import bounds

BUDGET, ALPHA, RUNS = 0.10, 0.05, 100_000


def simulate(rates, nobs, seed):
    """Disagreements of each cohort in each run, shape (runs, cohorts)."""
    return np.random.default_rng(seed).binomial(nobs, rates, (RUNS, len(rates)))


def by_point_estimate(count, nobs):
    """Frequencies of pass and fail where the worst cohort's plain rate decides."""
    worst = count.max(axis=1) / nobs
    return (worst <= BUDGET).mean(), (worst > BUDGET).mean()


def by_rule(count, nobs):
    """Frequencies of pass and fail under the rule."""
    p_pass, p_fail = bounds.p_at_most(count, nobs, BUDGET), bounds.p_at_least(count, nobs, BUDGET)
    # Holm rejects something exactly where it rejects the smallest p-value.
    most = p_fail.argmin(axis=1)
    distinct, where = np.unique(p_fail[np.arange(len(most)), most], return_inverse=True)
    rejects = np.array([bounds.holm([p, *[1.0] * (count.shape[1] - 1)]).min() <= ALPHA for p in distinct])
    return (p_pass <= ALPHA).all(axis=1).mean(), rejects[where].mean()


SITUATIONS = {
    "all .05, 60 each": ([0.05] * 6, 60),
    "all .05, 300 each": ([0.05] * 6, 300),
    "all at .10, 300 each": ([0.10] * 6, 300),
    "five .04, one at .10, 300 each": ([0.04] * 5 + [0.10], 300),
    "five .04, one .30, 60 each": ([0.04] * 5 + [0.30], 60),
}


def close(found, stated):
    """Within four standard errors of the simulation, the stated figures being rounded simulations of 20,000 runs."""
    spread = [4 * math.sqrt(max(s * (1 - s), 1e-6) * (1 / RUNS + 1 / 20_000)) for s in stated]
    return all(abs(f - s) <= 0.0005 + error for f, s, error in zip(found, stated, spread, strict=True))


@pytest.mark.parametrize(
    ("situation", "point_estimate", "rule"),
    [
        ("all .05, 60 each", (0.836, 0.164), (0.000, 0.000)),
        ("all .05, 300 each", (0.999, 0.001), (0.741, 0.000)),
        ("all at .10, 300 each", (0.025, 0.975), (0.000, 0.041)),
        ("five .04, one at .10, 300 each", (0.552, 0.448), (0.044, 0.006)),
        ("five .04, one .30, 60 each", (0.000, 1.000), (0.000, 0.942)),
    ],
)
def test_verdicts_come_out_as_often_as_stated(situation, point_estimate, rule):
    """Frequencies of pass and fail of both rules."""
    rates, nobs = SITUATIONS[situation]
    count = simulate(rates, nobs, seed=7)
    assert close(by_point_estimate(count, nobs), point_estimate), by_point_estimate(count, nobs)
    assert close(by_rule(count, nobs), rule), by_rule(count, nobs)
