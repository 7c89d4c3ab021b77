"""What looking every week does to tests and sequences: false alarms, and weeks until a change is noticed.

Run it with ``python bench/peeking.py [runs]``. The tests hold a smaller, seeded version of the same tables.
"""

from __future__ import annotations

import math
import sys

import numpy as np
from scipy.stats import binom, norm

from cascade_eval import bounds, drift, sequential

AUDITS, BUDGET, ALPHA, YEAR = 60, 0.10, 0.05, 52


def draw(rate, weeks, runs, seed):
    """Disagreements among each week's audits."""
    return np.random.default_rng(seed).binomial(AUDITS, rate, (runs, weeks))


def rules(x):
    """Where each rule would raise an alarm, week by week."""
    n = AUDITS * np.arange(1, x.shape[1] + 1)
    so_far = np.cumsum(x, axis=1)

    def restarted(log_e):
        return sequential.shiryaev_roberts(log_e) >= math.log(100)

    ratio = sequential.log_likelihood_ratio(x, AUDITS - x, BUDGET, 0.15)
    shape = sequential.prior(BUDGET)
    return {
        "weekly bound, 95%": binom.sf(x - 1, AUDITS, BUDGET) <= ALPHA,
        "weekly bound, 5% / 52": binom.sf(x - 1, AUDITS, BUDGET) <= ALPHA / YEAR,
        "cumulative bound, 95%": binom.sf(so_far - 1, n, BUDGET) <= ALPHA,
        "e-process since launch": sequential.log_e_process(so_far, n - so_far, BUDGET) >= -math.log(ALPHA),
        "e-SR, Beta(.5, .5), A=100": restarted(sequential.log_e_process(x, AUDITS - x, BUDGET)),
        "e-SR, Beta(2, 8), A=100": restarted(sequential.log_e_process(x, AUDITS - x, BUDGET, *shape)),
        "e-CUSUM, .15, A=100": sequential.cusum(ratio) >= math.log(100),
    }


def false_alarms(runs):
    print(f"\nAlarms within {YEAR} weeks of {AUDITS} audits, budget {BUDGET:.0%}, {runs:,} runs")
    print(f"{'':28}{'at the budget':>14}{'at 5%':>8}")
    at, under = (rules(draw(rate, YEAR, runs, seed)) for rate, seed in ((BUDGET, 1), (0.05, 2)))
    for name, hits in at.items():
        print(f"{name:28}{hits.any(axis=1).mean():>14.3f}{under[name].any(axis=1).mean():>8.3f}")
    x = np.random.default_rng(3).random((min(runs, 4_000), 600)) < BUDGET
    so_far, n = np.cumsum(x, axis=1), np.arange(1, 601)
    every = sequential.log_e_process(so_far, n - so_far, BUDGET) >= -math.log(ALPHA)
    print(f"{'e-process, after each of 600':28}{every.any(axis=1).mean():>14.3f}")


def delays(runs):
    print("\nWeeks from a change to the alarm, median / 90% (budget 10%, 5% before)")
    print(f"{'':28}{'25% from week 30':>18}{'15% from week 10':>18}")
    columns = []
    for change, to, weeks, seed in ((30, 0.25, 90, 4), (10, 0.15, 250, 5)):
        found = rules(draw(np.where(np.arange(weeks) < change, 0.05, to), weeks, runs, seed))
        columns.append({name: _delay(hits, change) for name, hits in found.items()})
    for name in columns[0]:
        print(f"{name:28}{columns[0][name]:>18}{columns[1][name]:>18}")


def _delay(hits, change):
    first = np.where(hits.any(axis=1), hits.argmax(axis=1) - change + 1, 10_000)
    after = first[first > 0]
    if len(after) < len(first) / 2:
        return "alarmed before"
    median, most = np.quantile(after, [0.5, 0.9])
    return f"{median:.0f} / {most:.0f}"


SHARES, RATES = np.array([0.50, 0.20, 0.15, 0.10, 0.05]), np.array([0.25, 0.28, 0.30, 0.26, 0.10])


def trends(runs):
    print(
        f"\nEscalation over 12 weeks of 5,000 decisions, five cohorts, week-to-week noise .12: share flagged, {runs:,} runs"
    )
    print(f"{'':28}{'> 3 points':>11}{'> 5 points':>11}{'binomial':>10}{'per cohort':>11}{'over a year':>12}")
    for name in ("nothing", "mix shift only", "one 5% cohort stops", "all fall"):
        x, n = _weeks(name, runs)
        rate = x.sum(axis=1) / n.sum(axis=1)
        away = np.abs(rate[:, -1] - rate[:, 0])
        whole = drift.trend(x.sum(axis=1), n.sum(axis=1))
        naive = 2 * norm.sf(np.abs(whole.t) * np.sqrt(whole.dispersion)) <= ALPHA
        p = drift.trend(x.reshape(-1, 12), n.reshape(-1, 12)).p.reshape(runs, 5)
        smallest = np.array([bounds.holm(row).min() for row in p])
        found = (away > 0.03, away > 0.05, naive, smallest <= ALPHA, smallest <= ALPHA / YEAR)
        widths = (11, 11, 10, 11, 12)
        print(f"{name:28}" + "".join(f"{hit.mean():>{width}.3f}" for hit, width in zip(found, widths, strict=True)))


def _weeks(name, runs):
    t = np.linspace(0, 1, 12)
    odds = np.repeat(np.log(RATES / (1 - RATES))[:, None], 12, axis=1)
    shares = np.repeat(SHARES[:, None], 12, axis=1)
    if name == "mix shift only":
        shares = SHARES[:, None] * (1 - t) + np.array([0.35, 0.20, 0.30, 0.10, 0.05])[:, None] * t
    if name == "one 5% cohort stops":
        rate = RATES[4] * (1 - t) + 0.005 * t
        odds[4] = np.log(rate / (1 - rate))
    if name == "all fall":
        odds = odds - 0.38 * t
    rng = np.random.default_rng(6)
    n = rng.poisson(5_000 * shares, (runs, 5, 12))
    return rng.binomial(n, 1 / (1 + np.exp(-(odds + rng.normal(0, 0.12, (runs, 5, 12)))))), n


if __name__ == "__main__":
    RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 4_000
    false_alarms(RUNS)
    delays(RUNS)
    trends(min(RUNS, 2_000))
