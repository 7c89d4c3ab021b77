"""How many calls each cohort gets; arrays of shape (n_cohorts,) in, integers out.

Two aims compete. The smallest variance of the overall rate asks most cases of the large cohorts (Neyman, Journal of the
Royal Statistical Society 97, 1934); deciding a small cohort takes as many cases as deciding a large one. So the calls
that decide a cohort, its *floor*, come first, and what is left is shared for the overall rate.

Where the calls do not pay every floor, the floors are paid that decide most: each cohort counts one, and once more for
each time its expected rate is its budget, so that a cohort expected far beyond its budget comes first. This is a
knapsack, and it is solved exactly.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cascade_eval import bounds

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]

PRESENCE = 2
"""Calls of a cohort whose floor is not paid: with fewer, the overall rate would be unknown or its variance would."""

_CELLS = 20_000_000
"""Cells of the knapsack's table; beyond it calls are counted in larger units, which never pays more than there is."""


class Allocation(NamedTuple):
    """Calls by cohort, and whether each cohort's floor was paid; arrays of shape (n_cohorts,)."""

    calls: Ints
    paid: Mask


def floors(prior: ArrayLike, limit: ArrayLike, *, alpha: float = 0.05, power: float = 0.8) -> Floats:
    """Cases from which a verdict always holds with this power, if the true rate is the prior.

    Below its budget a cohort is to pass, above it to fail, at the first step of Holm's correction for all of them. It
    is never fewer than the cases that prove the budget when none of them disagrees.

    Parameters
    ----------
    prior, limit : array-like of shape (n_cohorts,)
        Expected rate and budget "at most", as fractions.
    alpha, power : float
        Level and power of a verdict.

    Returns
    -------
    ndarray of shape (n_cohorts,)
        Infinite where over 100,000 cases would be needed.

    Examples
    --------
    >>> floors([0.05, 0.03, 0.0, 0.1, 0.25], [0.1] * 5).tolist()
    [203.0, 89.0, 29.0, inf, 66.0]
    """
    rates, limits = np.broadcast_arrays(np.asarray(prior, dtype=np.float64), np.asarray(limit, dtype=np.float64))
    needed = [_floor(float(p), float(b), alpha, power, len(rates)) for p, b in zip(rates, limits, strict=True)]
    return np.array(needed, dtype=np.float64)


def _floor(prior: float, limit: float, alpha: float, power: float, family: int) -> float:
    enough = bounds.cases_to_decide(prior, limit, alpha=alpha, power=power, family=family)
    return math.inf if enough is None else max(enough, bounds.zero_disagreement_minimum(limit, alpha))


def chance(nobs: ArrayLike, value: ArrayLike, limit: ArrayLike, *, alpha: float = 0.05, family: int = 1) -> Floats:
    """Chance that so many cases decide "at most limit" when the true rate is `value`: exact, nothing is simulated.

    Parameters
    ----------
    nobs : array-like of int
        Cases looked at.
    value, limit : array-like of float
        True rate and budget, broadcast against `nobs`. A rate above the budget is to fail, any other to pass.
    alpha : float, default=0.05
        Level of the verdict.
    family : int, default=1
        Cohorts judged together; failing takes alpha / family, the first step of Holm's correction, so that the chance
        is at least this whatever the other cohorts show.

    Examples
    --------
    >>> chance([15, 60], 0.25, 0.1).round(2), chance([15, 89], 0.03, 0.1).round(2)
    (array([0.31, 0.91]), array([0.  , 0.87]))
    """
    n, p, b = np.broadcast_arrays(
        np.asarray(nobs, dtype=np.int64), *(np.asarray(a, dtype=float) for a in (value, limit))
    )
    found = [_chance(*cell, alpha, family) for cell in zip(n.ravel().tolist(), p.ravel(), b.ravel(), strict=True)]
    return np.array(found, dtype=np.float64).reshape(n.shape)


def _chance(n: int, value: float, limit: float, alpha: float, family: int) -> float:
    counts = np.arange(n + 1)
    if n == 0:
        return 0.0
    if value > limit:
        rejects = np.flatnonzero(bounds.p_at_least(counts, n, limit) <= alpha / family)
        return float(bounds.p_at_least(rejects[0], n, value)) if len(rejects) else 0.0
    rejects = np.flatnonzero(bounds.p_at_most(counts, n, limit) <= alpha)
    return float(bounds.p_at_most(rejects[-1], n, value)) if len(rejects) else 0.0


def proportional(shares: ArrayLike, cases: int) -> Ints:
    """Share calls out by traffic alone.

    Examples
    --------
    >>> proportional([0.5, 0.2, 0.15, 0.1, 0.05], 300).tolist()
    [150, 60, 45, 30, 15]
    """
    return apportion(np.asarray(shares, dtype=np.float64), cases)


def neyman(shares: ArrayLike, prior: ArrayLike, cases: int, most: ArrayLike | None = None) -> Ints:
    """Share calls out for the smallest variance of the overall rate: by share times sqrt(p (1 - p)).

    Parameters
    ----------
    shares, prior : array-like of shape (n_cohorts,)
        Shares of the unescalated traffic, or anything proportional to them, and expected rates.
    cases : int
        Calls to share out.
    most : array-like of shape (n_cohorts,), optional
        Most calls each may get.

    Examples
    --------
    >>> neyman([0.5, 0.2, 0.15, 0.1, 0.05], [0.03, 0.05, 0.03, 0.02, 0.33], 300).tolist()
    [133, 68, 40, 22, 37]
    """
    w, p = np.asarray(shares, dtype=np.float64), np.asarray(prior, dtype=np.float64)
    spread = w * np.sqrt(p * (1 - p))
    given = apportion(spread, cases, most)
    # Cohorts that expect no disagreement at all have no spread: what nobody else can take is theirs by traffic.
    left = cases - int(given.sum())
    room = None if most is None else np.asarray(most, dtype=np.int64) - given
    return given + apportion(np.where(spread > 0, 0.0, w), left, room) if left else given


def apportion(weights: Floats, cases: int, most: ArrayLike | None = None) -> Ints:
    """Share whole calls out in proportion to weights, the largest remainders rounded up, nobody above its most.

    Examples
    --------
    >>> apportion(np.array([5.0, 3.0, 2.0]), 7).tolist(), apportion(np.array([5.0, 3.0, 2.0]), 7, [1, 9, 9]).tolist()
    ([4, 2, 1], [1, 4, 2])
    """
    given = np.zeros(len(weights), dtype=np.int64)
    room = np.full(len(weights), cases) if most is None else np.asarray(most, dtype=np.int64)
    open_ = (weights > 0) & (room > 0)
    left = cases
    while left > 0 and open_.any():
        quota = np.where(open_, weights, 0.0) * (left / weights[open_].sum())
        full = open_ & (quota >= room)
        if not full.any():
            return given + _largest_remainders(quota, left)
        given[full] = room[full]
        left = cases - int(given.sum())
        open_ &= ~full
    return given


def _largest_remainders(quota: Floats, cases: int) -> Ints:
    whole = np.floor(quota + 1e-9).astype(np.int64)
    order = np.argsort(-(quota - whole), kind="stable")
    whole[order[: cases - int(whole.sum())]] += 1
    return whole


def allocate(population: ArrayLike, prior: ArrayLike, limit: ArrayLike, floor: ArrayLike, cases: int) -> Allocation:
    """Share calls out: floors first, the rest by Neyman.

    Parameters
    ----------
    population : array-like of shape (n_cohorts,)
        Unescalated cases of each cohort; none gets more calls than it has.
    prior, limit, floor : array-like of shape (n_cohorts,)
        Expected rates, budgets "at most", and from `floors` the calls that decide.
    cases : int
        Calls to share out.

    Returns
    -------
    Allocation

    Examples
    --------
    >>> shares, prior = [5000, 2000, 1500, 1000, 500], [0.03, 0.05, 0.03, 0.02, 0.33]
    >>> allocate(shares, prior, [0.1] * 5, [30] * 5, 300).calls.tolist()
    [97, 64, 50, 41, 48]
    """
    size, p, b, f = (np.asarray(a, dtype=np.float64) for a in (population, prior, limit, floor))
    cases = min(cases, int(size.sum()))
    presence = np.minimum(PRESENCE, size)
    paid = _paid(size, p / b, f, presence, cases)
    if not paid.any():
        # Two calls for each of many cohorts may be all there is. Then it is better to decide one.
        presence = np.zeros_like(size)
        paid = _paid(size, p / b, f, presence, cases)
    if presence.sum() > cases:
        return Allocation(neyman(size, p, cases, size), paid)
    base = np.where(paid, np.where(np.isfinite(f), f, 0.0), presence).astype(np.int64)
    rest = neyman(size, p, cases - int(base.sum()), size.astype(np.int64) - base)
    return Allocation(base + rest, paid)


def _paid(size: Floats, risk: Floats, floor: Floats, presence: Floats, cases: int) -> Mask:
    """Cohorts whose floor is paid."""
    room = cases - int(presence.sum())
    if room < 0:
        return np.zeros(len(size), dtype=np.bool_)
    extra = np.where(floor <= size, np.maximum(floor - presence, 0.0), np.inf)
    # Among equals the larger cohort.
    return choose(extra, 1.0 + risk + 1e-6 * size / max(size.sum(), 1.0), room)


def choose(costs: ArrayLike, values: ArrayLike, room: int) -> Mask:
    """Choose what is worth most of what fits: the knapsack, exactly (Bellman, Dynamic Programming, 1957).

    Parameters
    ----------
    costs, values : array-like of shape (n_items,)
        An infinite cost is never chosen.
    room : int
        Most the chosen may cost together.

    Examples
    --------
    >>> choose([60, 40, 50, np.inf], [3.0, 2.0, 2.0, 9.0], 100).tolist()
    [True, True, False, False]
    """
    cost, value = np.asarray(costs, dtype=np.float64), np.asarray(values, dtype=np.float64)
    finite = np.isfinite(cost)
    room = int(min(room, cost[finite].sum()))
    unit = max(1, math.ceil(len(cost) * (room + 1) / _CELLS))
    steps = np.where(finite, np.ceil(np.where(finite, cost, 0.0) / unit), room + 1).astype(np.int64)
    size = room // unit + 1
    best, taken = np.zeros(size), np.zeros((len(cost), size), dtype=np.bool_)
    for item in np.flatnonzero(steps < size).tolist():
        step = int(steps[item])
        with_it = best[: size - step] + value[item]
        taken[item, step:] = with_it > best[step:]
        best[step:] = np.maximum(with_it, best[step:])
    return _traced(taken, steps)


def _traced(taken: Mask, steps: Ints) -> Mask:
    """Follow the table back from its last column."""
    chosen = np.zeros(len(steps), dtype=np.bool_)
    at = taken.shape[1] - 1
    for item in reversed(range(len(steps))):
        if taken[item, at]:
            chosen[item] = True
            at -= int(steps[item])
    return chosen
